// Pictures of cells that come into view while the grid scrolls. Each is read and decoded before it is shown: the browser
// holds a frame back for every picture in it that is not decoded yet.
"use strict";
(function (V) {
  // More at a time would take the processor from the frames.
  const MOST_AT_ONCE = 2;

  class Pictures {
    /** @param {function(number, number): boolean} isInView - Whether the cell at a row and column is on the screen. */
    constructor(isInView) {
      this.isInView = isInView;
      this.waiting = [];
      this.busy = 0;
      this.heldUntil = 0;
    }

    /**
     * Shows a picture when it is decoded. Until then it takes no place.
     * @param {HTMLImageElement} picture - Without a source.
     * @param {string} url - Its source.
     */
    add(picture, url, row, column) {
      picture.classList.add("waiting");
      this.waiting.push({ picture, url, row, column });
    }

    /** Starts with nothing for a while: what is passed by so fast is not seen anyway. */
    hold(milliseconds) {
      this.heldUntil = performance.now() + milliseconds;
    }

    next() {
      this.waiting = this.waiting.filter(({ picture }) => picture.isConnected);
      clearTimeout(this.timer);
      const held = this.heldUntil - performance.now();
      if (held > 0) {
        this.timer = setTimeout(() => this.next(), held);
        return;
      }
      while (this.busy < MOST_AT_ONCE && this.waiting.length) this.start(this.take());
    }

    /** The first that is on the screen, else the first. */
    take() {
      const seen = this.waiting.findIndex(({ row, column }) => this.isInView(row, column));
      return this.waiting.splice(Math.max(0, seen), 1)[0];
    }

    async start({ picture, url }) {
      this.busy++;
      picture.src = url;
      try {
        await picture.decode();
      } catch (error) {
        // The picture has a listener that shows another file, or says that there is none.
      }
      this.busy--;
      picture.classList.remove("waiting");
      this.next();
    }
  }

  V.Pictures = Pictures;
})(window.Viewer);

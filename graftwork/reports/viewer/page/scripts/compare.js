// Two pictures over each other: slider, blink, difference, or side by side. No pixel is read: CSS does all of it, since a page
// from a disk may not read the pixels of its own images.
"use strict";
(function (V) {
  const BLINK_MS = 700;

  V.VIEW_NAMES = { single: "Image", slider: "Slider", blink: "Blink", difference: "Difference", side: "Side by side" };
  V.OTHER_NAMES = { baseline: "text alone", reference: "reference", pinned: "pinned image" };

  /** What a picture is compared with, in words: "text alone", "reference", "reference 2". */
  V.otherName = function (kind) {
    return V.OTHER_NAMES[kind] || `reference ${V.referenceNumber(kind)}`;
  };

  /** Which of the references of a cell "reference", "reference2", ... is, from 1. */
  V.referenceNumber = function (kind) {
    return Number(kind.slice("reference".length) || 1);
  };

  V.referenceKinds = function (model, cell) {
    return model.references(cell).map((_, at) => (at ? `reference${at + 1}` : "reference"));
  };

  class Stage {
    constructor(model) {
      this.model = model;
      this.frame = V.el("div.stage-frame");
      this.second = V.el("div.stage-frame");
      this.label = V.el("span.stage-label", { "aria-live": "off", dir: "auto" });
      this.secondLabel = V.el("span.stage-label.right", { dir: "auto" });
      this.slider = V.el("input.stage-slider", { type: "range", min: 0, max: 100, value: 50, "aria-label": "How much of the first image is shown", on: { input: () => this.setShare(Number(this.slider.value)) } });
      this.gain = V.el("input.stage-slider", { type: "range", min: 1, max: 16, value: 3, "aria-label": "How much differences are brightened", on: { input: () => this.setGain(Number(this.gain.value)) } });
      this.picture = V.el("div.stage-picture", {}, this.frame, this.second);
      this.node = V.el("div.stage", {}, this.picture, this.label, this.secondLabel, V.el("div.stage-controls", {}, this.slider, this.gain));
      this.isActual = false;
      this.setShare(50);
      this.setGain(3);
      this.picture.addEventListener("pointerdown", (event) => this.drag(event));
    }

    setShare(share) {
      this.slider.value = share;
      this.node.style.setProperty("--share", `${share}%`);
    }

    setGain(gain) {
      this.gain.value = gain;
      this.node.style.setProperty("--gain", gain);
    }

    /**
     * Shows a picture, and another one in the way that `view` says.
     * @param {{image: number, label: string}} first - The picture; `message` instead of an image says why there is none.
     * @param {?{image: number, label: string}} other - What it is compared with.
     */
    show(first, other, view) {
      this.stop();
      const hasBoth = other && other.image !== V.NONE && first.image !== V.NONE;
      this.view = hasBoth ? view : "single";
      this.first = first;
      this.other = other;
      this.node.dataset.view = this.view;
      this.slider.hidden = this.view !== "slider";
      this.gain.hidden = this.view !== "difference";
      this.fillFrame(this.frame, first, hasBoth && view !== "side" && view !== "single" ? other : null);
      this.second.hidden = this.view !== "side";
      this.secondLabel.hidden = this.view !== "side" && this.view !== "slider";
      if (this.view === "side") this.fillFrame(this.second, other, null);
      this.secondLabel.textContent = other ? other.label : "";
      this.label.textContent = this.view === "difference" ? this.differenceLabel(first, other) : first.label;
      if (this.view === "blink") this.blink();
    }

    differenceLabel(first, other) {
      if (first.image === other.image) return `no difference: ${other.label} is the same image`;
      return `difference to ${other.label}, brightened`;
    }

    fillFrame(frame, picture, over) {
      const { model } = this;
      if (picture.image === V.NONE) {
        V.fill(frame, V.el("span.no-picture", { dir: "auto" }, picture.message || "no image"));
        return;
      }
      const [width, height] = model.imageSize(picture.image);
      frame.style.setProperty("--ratio", width / height);
      frame.style.setProperty("--natural", `${width}px`);
      const images = [V.picture(model, picture.image, picture.label, true)];
      if (over) {
        const other = V.picture(model, over.image, over.label, true);
        other.classList.add("other");
        images.push(other);
      }
      frame.classList.toggle("pixelated", width <= 256);
      V.fill(frame, images);
    }

    /** Shows the other picture in turn. Those who asked for less motion turn it over by hand. */
    blink() {
      this.turn(true);
      if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) return;
      this.timer = setInterval(() => this.turn(), BLINK_MS);
    }

    turn(isOther) {
      if (this.view !== "blink") return;
      const shown = isOther ?? !this.node.classList.contains("shows-other");
      this.node.classList.toggle("shows-other", shown);
      this.label.textContent = shown ? this.other.label : this.first.label;
    }

    /** Stops or goes on. */
    pause() {
      if (this.timer) this.stop();
      else if (this.view === "blink") this.timer = setInterval(() => this.turn(), BLINK_MS);
    }

    stop() {
      clearInterval(this.timer);
      this.timer = null;
    }

    toggleActualSize() {
      this.isActual = !this.isActual;
      this.node.classList.toggle("actual-size", this.isActual);
    }

    drag(event) {
      if (this.view === "blink") {
        this.stop();
        this.turn();
      }
      if (this.view !== "slider") return;
      event.preventDefault();
      const move = (at) => {
        const box = this.frame.getBoundingClientRect();
        this.setShare(Math.round(Math.min(100, Math.max(0, (100 * (at.clientX - box.left)) / box.width))));
      };
      const end = () => {
        window.removeEventListener("pointermove", move);
        window.removeEventListener("pointerup", end);
      };
      move(event);
      window.addEventListener("pointermove", move);
      window.addEventListener("pointerup", end);
    }
  }

  V.Stage = Stage;
})(window.Viewer);

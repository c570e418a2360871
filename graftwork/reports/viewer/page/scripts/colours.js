// From a number to a colour: how far a value is from the least, or from 0 where there are both signs.
"use strict";
(function (V) {
  const STARS = "stars";

  /** One numeric column of the cells, as values between the ends of a scale. */
  class Heat {
    /**
     * @param {string} name - Column, "stars", or "" for none.
     * @param {boolean} minus - Whether the value of the baseline is taken away.
     */
    constructor(model, ratings, name, minus) {
      this.model = model;
      this.ratings = ratings;
      this.name = name;
      this.minus = minus && name !== V.DIFFERENCE;
      this.low = Infinity;
      this.high = -Infinity;
      if (!name) return;
      for (let cell = 0; cell < model.count; cell++) {
        if (model.role(cell) === "baseline" && this.minus) continue;
        const value = this.value(cell);
        if (value === null) continue;
        this.low = Math.min(this.low, value);
        this.high = Math.max(this.high, value);
      }
      this.isSigned = this.low < 0 && this.high > 0;
    }

    get isEmpty() {
      return !this.name || this.low > this.high;
    }

    get title() {
      if (!this.name) return "";
      return this.minus ? `${this.name} − baseline` : this.name;
    }

    value(cell) {
      if (!this.name || cell === V.NONE) return null;
      if (this.name === STARS) return this.ratings.stars(cell) || null;
      const value = this.model.value(this.name, cell);
      if (!this.minus || value === null) return value;
      const other = this.model.value(this.name, this.model.baseline(cell));
      return other === null ? null : value - other;
    }

    text(cell) {
      const value = this.value(cell);
      return value === null ? "" : V.number(value, this.minus);
    }

    /** -1 to 1 for columns of both signs, else 0 to 1; null without a value. */
    strength(cell) {
      const value = this.value(cell);
      if (value === null || this.isEmpty) return null;
      if (this.isSigned) return value / Math.max(-this.low, this.high);
      const range = this.high - this.low;
      if (range === 0) return 0;
      return this.high <= 0 ? (value - this.high) / range : (value - this.low) / range;
    }

    /** Colours a node: CSS does the mixing, so that it fits light and dark. */
    paint(node, cell) {
      V.paint(node, this.strength(cell));
    }
  }

  /** Sets --heat (0 to 1) and whether the value is negative. */
  V.paint = function (node, strength) {
    node.classList.toggle("heated", strength !== null);
    if (strength === null) return;
    node.classList.toggle("negative", strength < 0);
    node.style.setProperty("--heat", `${Math.round(100 * Math.min(1, Math.abs(strength)))}%`);
  };

  V.Heat = Heat;
})(window.Viewer);

// What is shown at present, and the link that brings it back.
"use strict";
(function (V) {
  const MODES = ["grid", "rate", "choose"];
  const VIEWS = ["single", "slider", "blink", "difference", "side"];
  const OTHERS = ["baseline", "reference", "pinned"];
  // Of several references, all but the first have their number.
  const OTHER = /^(baseline|pinned|reference([2-9]|[1-9][0-9])?)$/;
  const STYLES = ["outline", "fill", "none"];

  /** The view that a page opens with: the first grid of the experiment file. */
  function initialState(model) {
    const grid = model.data.grids[0] || {};
    const names = [...model.varying, ...model.axes].map((axis) => axis.name);
    const x = model.axisIndex.has(grid.x) ? grid.x : names.findLast((name) => model.axis(name).labels.length > 1) || names[names.length - 1];
    const y = model.axisIndex.has(grid.y) && grid.y !== x ? grid.y : names.find((name) => name !== x) || "";
    const heat = model.columns.has(V.DIFFERENCE) ? V.DIFFERENCE : "";
    return {
      x, y, superX: "", superY: "",
      fixed: {}, hidden: {},
      heat, minus: false, style: "outline", size: 0,
      over: "", how: "slider", share: 50,
      cycle: "", only: "", from: "",
      mode: "grid", cell: "", view: "single", other: "baseline", pin: "", seed: 0, axis: "",
    };
  }

  class State {
    constructor(model) {
      this.model = model;
      this.listeners = [];
      this.values = initialState(model);
      this.read(window.location.hash);
    }

    get(name) {
      return this.values[name];
    }

    /** Index of the value shown of an axis that is not on the grid. */
    fixedIndex(axis) {
      const index = this.values.fixed[axis] || 0;
      const hidden = this.values.hidden[axis];
      if (!hidden || !hidden.has(index)) return index;
      const shown = this.shownIndices(axis);
      return shown.length ? shown[0] : index;
    }

    /** Indices of the values of an axis that are not hidden. */
    shownIndices(axis) {
      const hidden = this.values.hidden[axis];
      return this.model.axis(axis).labels.map((_, index) => index).filter((index) => !hidden || !hidden.has(index));
    }

    get gridAxes() {
      return [this.values.superY, this.values.y, this.values.superX, this.values.x].filter(Boolean);
    }

    get freeAxes() {
      return this.model.varying.filter((axis) => !this.gridAxes.includes(axis.name));
    }

    /** The axis that the keys [ and ] step along. */
    get cycleAxis() {
      const free = this.freeAxes.map((axis) => axis.name);
      const names = [...free, ...this.model.varying.map((axis) => axis.name)];
      return names.includes(this.values.cycle) ? this.values.cycle : names[0] || "";
    }

    set(changes) {
      const before = this.values;
      this.values = { ...before, ...changes };
      const changed = new Set(Object.keys(changes).filter((name) => before[name] !== this.values[name]));
      if (!changed.size) return;
      for (const listener of this.listeners) listener(changed);
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.write(), 120);
    }

    /** Puts an axis to a place of the grid. What was there goes where the axis was. */
    place(slot, axis) {
      const slots = ["x", "y", "superX", "superY"];
      const changes = { [slot]: axis };
      const from = slots.find((name) => name !== slot && axis && this.values[name] === axis);
      if (from) changes[from] = this.values[slot];
      if (from === "x" && !changes.x) changes.x = this.model.varying.find((other) => other.name !== axis)?.name || axis;
      this.set(changes);
    }

    hide(axis, index, isHidden) {
      const hidden = new Set(this.values.hidden[axis]);
      if (isHidden) hidden.add(index);
      else hidden.delete(index);
      if (hidden.size >= this.model.axis(axis).labels.length) return;
      this.setHidden(axis, hidden);
    }

    setHidden(axis, hidden) {
      this.set({ hidden: { ...this.values.hidden, [axis]: hidden } });
    }

    onChange(listener) {
      this.listeners.push(listener);
    }

    /**
     * The view as the text of a link, without "#". Labels stand for values: they outlive a changed experiment.
     * @param {Object} [more] - What only this link says.
     */
    toHash(more) {
      const { model } = this;
      const values = { ...this.values, ...more };
      const first = initialState(model);
      const parameters = new URLSearchParams();
      const plain = { x: "x", y: "y", superX: "sx", superY: "sy", heat: "heat", style: "style", size: "size", over: "over", how: "how", share: "share", cycle: "cycle", only: "only", from: "from", mode: "mode", cell: "cell", view: "view", other: "with", pin: "pin", seed: "shuffle", axis: "axis" };
      for (const [name, key] of Object.entries(plain)) {
        if (values[name] !== first[name]) parameters.set(key, values[name]);
      }
      if (values.minus) parameters.set("minus", "1");
      for (const [axis, index] of Object.entries(values.fixed)) if (index) parameters.set(`at.${axis}`, model.axis(axis).labels[index]);
      for (const [axis, hidden] of Object.entries(values.hidden)) {
        for (const index of hidden) parameters.append(`hide.${axis}`, model.axis(axis).labels[index]);
      }
      return parameters.toString();
    }

    /** Takes the view from a link. What the experiment does not have is left out. */
    read(hash) {
      const { model } = this;
      const values = initialState(model);
      const parameters = new URLSearchParams(hash.replace(/^#/, ""));
      const text = (key, allowed, fallback) => {
        const value = parameters.get(key);
        return value !== null && allowed(value) ? value : fallback;
      };
      const isAxis = (value) => model.axisIndex.has(value);
      const isAxisOrNone = (value) => value === "" || isAxis(value);
      const isCell = (value) => model.cellOfId.has(value);
      const whole = (key, low, high, fallback) => {
        const value = Number.parseInt(parameters.get(key) || "", 10);
        return Number.isInteger(value) ? Math.min(high, Math.max(low, value)) : fallback;
      };
      values.x = text("x", isAxis, values.x);
      values.y = text("y", isAxisOrNone, values.y === values.x ? "" : values.y);
      values.superX = text("sx", isAxisOrNone, "");
      values.superY = text("sy", isAxisOrNone, "");
      const seen = new Set([values.x]);
      for (const slot of ["y", "superX", "superY"]) {
        if (seen.has(values[slot])) values[slot] = "";
        seen.add(values[slot]);
      }
      values.heat = text("heat", (value) => value === "" || value === "stars" || Boolean(model.columns.get(value)?.numbers), values.heat);
      values.minus = parameters.get("minus") === "1";
      values.style = text("style", (value) => STYLES.includes(value), "outline");
      values.size = whole("size", 40, 768, 0);
      values.over = text("over", (value) => OTHERS.includes(value), "");
      values.how = text("how", (value) => VIEWS.includes(value), "slider");
      values.share = whole("share", 0, 100, 50);
      values.cycle = text("cycle", isAxis, "");
      values.only = text("only", (value) => Boolean(values.y) && model.axis(values.y).labels.includes(value), "");
      values.from = text("from", isCell, "");
      values.mode = text("mode", (value) => MODES.includes(value), "grid");
      values.cell = text("cell", isCell, "");
      values.view = text("view", (value) => VIEWS.includes(value), "single");
      values.other = text("with", (value) => OTHER.test(value), "baseline");
      values.pin = text("pin", isCell, "");
      values.seed = whole("shuffle", 0, 4294967295, 0);
      values.axis = text("axis", isAxis, "");
      for (const axis of model.axes) {
        const index = axis.labels.indexOf(parameters.get(`at.${axis.name}`));
        if (index > 0) values.fixed = { ...values.fixed, [axis.name]: index };
        const hidden = parameters.getAll(`hide.${axis.name}`).map((label) => axis.labels.indexOf(label)).filter((at) => at >= 0);
        if (hidden.length && hidden.length < axis.labels.length) values.hidden = { ...values.hidden, [axis.name]: new Set(hidden) };
      }
      this.values = values;
    }

    write() {
      const hash = `#${this.toHash()}`;
      if (hash === (window.location.hash || "#")) return;
      this.written = hash;
      try {
        window.history.replaceState(null, "", hash);
      } catch (error) {
        window.location.replace(hash);
      }
    }

    /** Takes over a link that was typed or pasted into the address bar. */
    followAddress() {
      if (window.location.hash === this.written) return;
      const before = this.values;
      this.read(window.location.hash);
      const after = this.values;
      this.values = before;
      this.set(after);
    }
  }

  V.VIEWS = VIEWS;
  V.State = State;
})(window.Viewer);

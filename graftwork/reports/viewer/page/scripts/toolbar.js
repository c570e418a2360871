// Controls above the grid: axes, values, colours, comparison, size.
"use strict";
(function (V) {
  const SLOTS = [["x", "Columns"], ["y", "Rows"], ["superX", "Outer columns"], ["superY", "Outer rows"]];
  const GROUP_NAMES = { image: "Images", score: "Scores", conditioning: "Conditioning", parameter: "Parameters" };

  class Toolbar {
    constructor(app) {
      this.app = app;
      this.node = V.el("section.toolbar", { "aria-label": "View" });
      this.isOpen = window.innerWidth >= 700;
      this.openMenu = "";
    }

    /** Draws the controls again; the focus stays where it was. */
    draw() {
      const focused = this.node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      const scrolled = [...this.node.querySelectorAll(".menu-body")].map((node) => node.scrollTop);
      const toggle = V.button(this.isOpen ? "Hide controls" : "Axes, colours, compare", () => {
        this.isOpen = !this.isOpen;
        this.draw();
      }, { className: "small toggle narrow-only", "aria-expanded": String(this.isOpen), "data-key": "toggle" });
      V.fill(this.node, toggle, this.isOpen ? [this.axes(), this.fixedAxes(), this.colours(), this.comparison(), this.size()] : null);
      this.node.querySelectorAll(".menu-body").forEach((node, index) => (node.scrollTop = scrolled[index] || 0));
      if (focused) this.node.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    }

    axes() {
      const { state, model } = this.app;
      const names = model.varying.length ? model.varying : model.axes;
      const field = ([slot, label]) => {
        const options = names.map((axis) => [axis.name, axis.name]);
        if (slot !== "x") options.unshift(["", "none"]);
        else if (!names.some((axis) => axis.name === state.get("x"))) options.unshift([state.get("x"), state.get("x")]);
        const select = V.select(label, options, state.get(slot), (value) => state.place(slot, value), { "data-key": slot });
        select.classList.add("axis-field");
        return select;
      };
      const isLarge = names.length > 2;
      return V.el("div.group", { role: "group", "aria-label": "Axes" }, SLOTS.slice(0, isLarge ? 4 : 2).map(field),
        V.button("⇄", () => this.swap(), { className: "icon", "aria-label": "Swap rows and columns", title: "Swap rows and columns", "data-key": "swap" }), this.values());
    }

    swap() {
      const { state } = this.app;
      const { x, y, superX, superY } = state.values;
      if (y) state.set({ x: y, y: x, superX: superY, superY: superX });
    }

    /** Which values of each axis are shown. */
    values() {
      const { state, model } = this.app;
      const hiddenCount = Object.values(state.get("hidden")).reduce((sum, hidden) => sum + hidden.size, 0);
      const list = (axis) => {
        const hidden = state.get("hidden")[axis.name] || new Set();
        const box = (label, index) => {
          const key = `hide:${axis.name}:${index}`;
          const input = V.el("input", { type: "checkbox", checked: !hidden.has(index), "data-key": key, on: { change: (event) => state.hide(axis.name, index, !event.target.checked) } });
          return V.el("div.value-row", {}, V.el("label", { dir: "auto", title: axis.details[index] || label }, input, label), V.button("only", () => state.setHidden(axis.name, new Set(axis.labels.map((_, other) => other).filter((other) => other !== index))), { className: "link", "aria-label": `Only ${axis.name} ${label}`, "data-key": `only:${axis.name}:${index}` }));
        };
        return V.el("fieldset", {}, V.el("legend", {}, axis.name, " ", hidden.size ? V.button("all", () => state.setHidden(axis.name, new Set()), { className: "link", "aria-label": `Show all values of ${axis.name}` }) : null), axis.labels.map(box));
      };
      const menu = V.el("details.menu", { open: this.openMenu === "values" }, V.el("summary", { "data-key": "values" }, hiddenCount ? `Values (${hiddenCount} hidden)` : "Values"), V.el("div.menu-body.values", {}, model.varying.map(list)));
      return this.asMenu(menu, "values");
    }

    asMenu(menu, name) {
      menu.addEventListener("toggle", () => {
        if (!menu.isConnected) return;
        if (menu.open) this.openMenu = name;
        else if (this.openMenu === name) this.openMenu = "";
      });
      return menu;
    }

    /** The axes that are not on the grid: one value each. */
    fixedAxes() {
      const { app } = this;
      const { state } = app;
      const axes = state.freeAxes;
      if (!axes.length) return null;
      const field = (axis) => {
        const index = state.fixedIndex(axis.name);
        const shown = state.shownIndices(axis.name);
        const step = (by) => app.stepAxis(axis.name, by);
        return V.el("div.stepper", {},
          V.button("‹", () => step(-1), { className: "icon", "aria-label": `${axis.name}: value before`, "data-key": `before:${axis.name}` }),
          V.select(axis.name, shown.map((at) => [String(at), axis.labels[at]]), String(index), (value) => state.set({ fixed: { ...state.get("fixed"), [axis.name]: Number(value) } }), { "data-key": `at:${axis.name}` }),
          V.button("›", () => step(1), { className: "icon", "aria-label": `${axis.name}: next value`, "data-key": `next:${axis.name}` }),
        );
      };
      return V.el("div.group", { role: "group", "aria-label": "Fixed axes" }, axes.map(field));
    }

    colours() {
      const { state, model, heat } = this.app;
      const groups = Object.entries(GROUP_NAMES)
        .map(([group, name]) => ({ group: name, options: model.numericColumns.filter((column) => column.group === group).map((column) => [column.name, column.name.replaceAll("_", " ")]) }))
        .filter((entry) => entry.options.length);
      const options = [["", "nothing"], ["stars", "my ratings"], ...groups];
      const canSubtract = state.get("heat") && state.get("heat") !== V.DIFFERENCE && state.get("heat") !== "stars";
      const legend = heat.isEmpty ? null : V.el("span.legend", { title: `${heat.title}: from ${V.number(heat.low)} to ${V.number(heat.high)}` }, V.number(heat.low, heat.minus), V.el(`span.ramp${heat.isSigned ? ".signed" : heat.high <= 0 && heat.low < 0 ? ".negative" : ""}`, { "aria-hidden": "true" }), V.number(heat.high, heat.minus));
      return V.el("div.group", { role: "group", "aria-label": "Colour" },
        V.select("Colour by", options, state.get("heat"), (value) => state.set({ heat: value }), { "data-key": "heat" }),
        canSubtract ? V.el("label.check", {}, V.el("input", { type: "checkbox", checked: state.get("minus"), "data-key": "minus", on: { change: (event) => state.set({ minus: event.target.checked }) } }), "minus baseline") : null,
        V.select("As", [["outline", "outline"], ["fill", "heat map"], ["none", "number only"]], state.get("style"), (value) => state.set({ style: value }), { "data-key": "style" }),
        legend);
    }

    /** Lays another picture over every image of the grid, with one slider for all. */
    comparison() {
      const { app } = this;
      const { state } = app;
      const others = [["", "nothing"], ["baseline", "text alone"], ["reference", "reference"]];
      if (app.pinnedCell !== V.NONE) others.push(["pinned", "pinned image"]);
      const over = state.get("over");
      const how = state.get("how");
      const slider = V.el("input", { type: "range", min: 0, max: 100, value: state.get("share"), "aria-label": "Slider of all images", "data-key": "share", on: { input: (event) => app.setShare(Number(event.target.value)) } });
      return V.el("div.group", { role: "group", "aria-label": "Compare all" },
        V.select("Compare all with", others, over, (value) => state.set({ over: value }), { "data-key": "over" }),
        over ? V.select("By", ["slider", "blink", "difference"].map((name) => [name, V.VIEW_NAMES[name].toLowerCase()]), how, (value) => state.set({ how: value }), { "data-key": "how" }) : null,
        over && how === "slider" ? slider : null);
    }

    size() {
      const { state, grid } = this.app;
      const slider = V.el("input", { type: "range", min: 48, max: 512, step: 8, value: state.get("size") || grid.side || 160, "aria-label": "Size of the images in pixels", "data-key": "size", on: { input: (event) => state.set({ size: Number(event.target.value) }) } });
      this.sizeSlider = slider;
      this.fitButton = V.button("Fit", () => state.set({ size: 0 }), { "aria-pressed": String(!state.get("size")), title: "As large as the window allows", "data-key": "fit" });
      return V.el("div.group", { role: "group", "aria-label": "Size" }, V.el("label.field", {}, V.el("span.field-name", {}, "Size"), slider),
        this.fitButton);
    }

    /** Only this is drawn while the slider is moved: a slider that is replaced would be let go. */
    showSize() {
      const { state, grid } = this.app;
      if (!this.sizeSlider) return;
      this.sizeSlider.value = state.get("size") || grid.side;
      this.fitButton.setAttribute("aria-pressed", String(!state.get("size")));
    }
  }

  V.Toolbar = Toolbar;
})(window.Viewer);

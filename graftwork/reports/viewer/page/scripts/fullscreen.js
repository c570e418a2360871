// One cell as large as the window, with what it is compared with and what is known of it.
"use strict";
(function (V) {
  const PLAY_MS = 900;

  class FullScreen {
    constructor(app) {
      this.app = app;
      this.stage = new V.Stage(app.model);
      this.title = V.el("h2.full-title", { dir: "auto" });
      this.panel = V.el("aside.panel", { "aria-label": "About this image" });
      this.bar = V.el("div.full-bar", { role: "toolbar", "aria-label": "Compare" });
      this.foot = V.el("div.full-foot");
      this.node = V.el(
        "dialog.full",
        { "aria-label": "Image" },
        V.el("div.full-head", {}, this.title, V.button("✕", () => this.close(), { className: "icon", "aria-label": "Close", title: "Close (Escape)" })),
        this.bar,
        V.el("div.full-body", {}, this.stage.node, this.panel),
        this.foot,
      );
      this.node.addEventListener("cancel", (event) => {
        event.preventDefault();
        this.close();
      });
      this.node.addEventListener("keydown", (event) => this.onKey(event));
      this.cell = V.NONE;
    }

    get isOpen() {
      return this.node.open;
    }

    /** Shows the cell that the view says, or closes. */
    follow() {
      const { state, model } = this.app;
      const id = state.get("cell");
      if (!id || state.get("mode") !== "grid") {
        if (this.isOpen) this.node.close();
        this.stop();
        this.stage.stop();
        this.cell = V.NONE;
        return;
      }
      this.cell = model.cellOfId.get(id);
      if (!this.isOpen) {
        this.node.showModal();
        this.stage.node.tabIndex = -1;
        this.stage.node.focus();
      }
      this.draw();
    }

    close() {
      const { state, grid } = this.app;
      const cell = this.cell;
      state.set({ cell: "" });
      const place = cell === V.NONE ? null : grid.positionOf(cell);
      if (place) grid.activate(...place, true);
      else grid.activate(...grid.active, true);
    }

    pictureOf(cell, label) {
      const { model } = this.app;
      const image = model.image(cell);
      const status = model.status(cell) === "failed" ? model.error(cell) || "failed" : "not made yet";
      return { image, label, message: status };
    }

    /** "this image"; beside the pinned one, with what tells it from that: which of the two is seen is known while they blink. */
    ownLabel() {
      const { app, cell } = this;
      const { model, state } = app;
      if (!model.placeOf(cell)) return "text alone";
      const isBesidePinned = state.get("other") === "pinned" && state.get("view") !== "single" && ![V.NONE, cell].includes(app.pinnedCell);
      return isBesidePinned ? `this image: ${model.difference(app.pinnedCell, cell)}` : "this image";
    }

    /** What the cell is compared with: {image, label}, or null. */
    otherPicture() {
      const { app, cell } = this;
      const kind = app.state.get("other");
      const image = app.otherImage(cell, kind);
      if (image === V.NONE) return null;
      const label = kind === "pinned" ? `pinned: ${app.model.difference(cell, app.pinnedCell)}` : V.otherName(kind);
      return { image, label };
    }

    draw() {
      const { app, cell } = this;
      const { model, state } = app;
      const label = model.describe(cell);
      this.title.textContent = label;
      this.stage.show(this.pictureOf(cell, this.ownLabel()), this.otherPicture(), state.get("view"));
      this.drawBar();
      V.refill(this.panel, this.stage.node, V.inspector(app, cell));
      this.drawFoot();
      this.preload();
    }

    drawBar() {
      const { app } = this;
      const { state } = app;
      const view = state.get("view");
      const other = state.get("other");
      const has = (kind) => app.otherImage(this.cell, kind) !== V.NONE;
      const tool = (key, text, isPressed, isPossible, action) =>
        V.el("button.tool", { type: "button", "data-key": key, disabled: !isPossible, "aria-pressed": String(isPressed), title: `${text} (key ${key})`, on: { click: action } }, text, V.el("kbd", { "aria-hidden": "true" }, key));
      const compare = (name) => () => this.toggleView(name);
      const kinds = ["baseline", ...V.referenceKinds(app.model, this.cell), "pinned"].filter((kind) => has(kind) || kind === other);
      const with_ = V.select("Compare with", [...new Set([...kinds, other])].map((kind) => [kind, V.otherName(kind)]), other, (value) => state.set({ other: value }), { "data-key": "with" });
      const hasOther = has(other);
      V.refill(
        this.bar,
        this.stage.node,
        V.el("div.tools", {},
          tool("b", "Blink: text alone", view === "blink" && other === "baseline", has("baseline"), () => this.blinkWith("baseline")),
          tool("r", "Blink: reference", view === "blink" && other.startsWith("reference"), has("reference"), () => this.blinkWithReference()),
          app.pinnedCell !== V.NONE && app.pinnedCell !== this.cell ? tool("v", "Blink: pinned", view === "blink" && other === "pinned", true, () => this.blinkWith("pinned")) : null,
          tool("s", "Slider", view === "slider", hasOther, compare("slider")),
          tool("d", "Difference", view === "difference", hasOther, compare("difference")),
          tool("x", "Side by side", view === "side", hasOther, compare("side")),
        ),
        with_,
        V.el("div.tools", {},
          tool("p", app.pinnedCell === this.cell ? "Unpin" : "Pin", app.pinnedCell === this.cell, true, () => app.togglePin(this.cell)),
          tool("m", "Differs most", false, app.pairs.length > 0, () => app.showPair(1)),
          tool("z", "Actual size", this.stage.isActual, true, () => this.toggleSize()),
          tool("i", "Facts", !this.node.classList.contains("without-panel"), true, () => this.togglePanel()),
        ),
      );
    }

    drawFoot() {
      const { app } = this;
      const { state, model } = app;
      const rating = V.ratingControls(app, this.cell);
      const steps = [["←", "Image to the left", 0, -1], ["→", "Image to the right", 0, 1], ["↑", "Image above", -1, 0], ["↓", "Image below", 1, 0]];
      const axis = state.cycleAxis;
      const place = model.placeOf(this.cell);
      const position = axis && place ? model.axis(axis).labels[place[model.axisIndex.get(axis)]] : "";
      V.refill(
        this.foot,
        this.stage.node,
        V.el("div.tools", {}, steps.map(([text, name, row, column]) => V.button(text, () => this.step(row, column), { className: "icon", "aria-label": name, title: `${name} (arrow key)` }))),
        rating,
        axis && place
          ? V.el("div.tools.cycle", {},
              V.select("Walk along", model.varying.map(({ name }) => [name, name]), axis, (value) => state.set({ cycle: value })),
              V.button("[", () => app.cycle(-1), { className: "icon", "aria-label": "Value before", title: "Value before (key [)" }),
              V.el("output.cycle-value", { dir: "auto" }, position),
              V.button("]", () => app.cycle(1), { className: "icon", "aria-label": "Next value", title: "Next value (key ])" }),
              V.button(this.player ? "Stop" : "Play", () => this.togglePlay(), { title: "Walk through the values by itself (key c)" }),
            )
          : null,
        V.button("Copy link", () => app.copyLink(), { title: "A link to this view" }),
      );
    }

    /** Neighbours are loaded ahead, so that arrow keys show them at once. */
    preload() {
      const { app } = this;
      const place = app.grid.positionOf(this.cell);
      if (!place) return;
      for (const [row, column] of [[0, 1], [0, -1], [1, 0], [-1, 0]]) {
        const at = [place[0] + row, place[1] + column];
        if (at[0] < 0 || at[1] < 0 || at[0] >= app.grid.lines.length || at[1] >= app.grid.stacks.length) continue;
        const image = app.model.image(app.grid.cellAt(...at));
        if (image !== V.NONE) new Image().src = app.model.imageUrl(image);
      }
    }

    /** Goes to a neighbour in the grid. */
    step(rows, columns) {
      const { grid, state, model } = this.app;
      const place = grid.positionOf(this.cell);
      if (!place) return;
      const row = place[0] + rows;
      const column = place[1] + columns;
      if (row < 0 || column < 0 || row >= grid.lines.length || column >= grid.stacks.length) {
        V.say("This is the edge of the grid.");
        return;
      }
      const cell = grid.cellAt(row, column);
      if (cell === V.NONE) return;
      grid.activate(row, column, false);
      state.set({ cell: model.id(cell) });
    }

    toggleView(view) {
      const { state } = this.app;
      state.set({ view: state.get("view") === view ? "single" : view });
    }

    blinkWith(kind) {
      const { app } = this;
      if (app.otherImage(this.cell, kind) === V.NONE) {
        V.say(`There is no ${V.otherName(kind)} for this image.`);
        return;
      }
      const isOn = app.state.get("view") === "blink" && app.state.get("other") === kind;
      app.state.set({ other: kind, view: isOn ? "single" : "blink" });
    }

    /** The references in turn, and after the last one no comparison. */
    blinkWithReference() {
      const { model, state } = this.app;
      const kinds = V.referenceKinds(model, this.cell);
      const at = state.get("view") === "blink" ? kinds.indexOf(state.get("other")) : -1;
      this.blinkWith(kinds[at + 1] || kinds[at] || "reference");
    }

    togglePanel() {
      this.node.classList.toggle("without-panel");
      this.drawBar();
    }

    toggleSize() {
      this.stage.toggleActualSize();
      this.drawBar();
    }

    togglePlay() {
      if (this.player) this.stop();
      else this.player = setInterval(() => this.app.cycle(1), PLAY_MS);
      this.drawFoot();
    }

    stop() {
      clearInterval(this.player);
      this.player = null;
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { target } = event;
      if (target.matches("select, textarea, input")) return;
      if (event.key === " " && target.closest("button, summary")) return;
      if (target.closest("pre, .panel") && event.key.startsWith("Arrow")) return;
      const { app, cell } = this;
      const actions = {
        ArrowLeft: () => this.step(0, -1), ArrowRight: () => this.step(0, 1), ArrowUp: () => this.step(-1, 0), ArrowDown: () => this.step(1, 0),
        b: () => this.blinkWith("baseline"), r: () => this.blinkWithReference(), v: () => this.blinkWith("pinned"), d: () => this.toggleView("difference"), s: () => this.toggleView("slider"), x: () => this.toggleView("side"),
        " ": () => this.stage.pause(), p: () => app.togglePin(cell), m: () => app.showPair(1), M: () => app.showPair(-1), z: () => this.toggleSize(), i: () => this.togglePanel(),
        "[": () => app.cycle(-1), "]": () => app.cycle(1), c: () => this.togglePlay(), f: () => app.ratings.toggleFavourite(cell), 0: () => app.ratings.rate(cell, { stars: null }),
        "?": () => app.showHelp(),
      };
      for (const stars of [1, 2, 3, 4, 5]) actions[stars] = () => app.ratings.rateStars(cell, stars);
      if (!actions[event.key]) return;
      event.preventDefault();
      event.stopPropagation();
      actions[event.key]();
    }
  }

  V.FullScreen = FullScreen;
})(window.Viewer);

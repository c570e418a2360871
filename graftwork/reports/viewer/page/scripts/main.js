// Puts the parts together, and hands keys to them.
"use strict";
(function (V) {
  const KEYS = [
    ["Arrows", "move in the grid, and from image to image in full screen"],
    ["Enter", "full screen"], ["Escape", "back to the grid"],
    ["m, M", "the pair that differs most from its baseline; the next, the one before"],
    ["b", "blink with the text alone (baseline)"], ["r", "blink with the reference; once more, with the next one"],
    ["s", "slider"], ["d", "difference"], ["x", "side by side"], ["Space", "stop blinking, or go on"],
    ["p", "pin an image, to compare others with it"], ["v", "blink with the pinned image"],
    ["[ and ]", "step along an axis that is not on the grid"], ["c", "walk along that axis by itself (full screen)"],
    ["1 to 5, 0", "rate; take the rating away"], ["f", "favourite"],
    ["z", "actual size (full screen)"], ["i", "facts beside the images"], ["?", "this list"],
  ];
  const THEMES = ["auto", "light", "dark"];
  const THEME_PLACE = "graftwork-theme";

  class App {
    constructor(data) {
      this.model = new V.Model(data);
      this.ratings = new V.Ratings(this.model);
      this.state = new V.State(this.model);
      this.inspected = V.NONE;
      this.pairAt = -1;
      this.makeHeat();
      this.grid = new V.Grid(this);
      this.overview = new V.Overview(this);
      this.toolbar = new V.Toolbar(this);
      this.full = new V.FullScreen(this);
      this.blind = new V.Blind(this);
      this.panel = V.el("aside.panel.beside", { "aria-label": "About the chosen image" });
      this.help = this.helpDialog();
      this.build();
      this.state.onChange((changed) => this.update(changed));
      this.ratings.onChange(() => this.updateRatings());
      window.addEventListener("hashchange", () => this.state.followAddress());
      document.addEventListener("keydown", (event) => this.onKey(event));
      document.addEventListener("click", (event) => this.closeMenus(event));
      this.update(new Set(["x", "mode", "cell", "over", "how", "share", "style"]));
      this.grid.scrollToCell(this.state.get("from"));
    }

    build() {
      const { model } = this;
      document.title = `${model.data.title} · graftwork`;
      const inFrame = window.top !== window.self;
      this.header = V.el("header.top");
      this.themeButton = V.button("", () => this.nextTheme(), { className: "icon" });
      this.showTheme(V.storage.read(THEME_PLACE) || "auto");
      this.modes = V.el("div.modes", { role: "group", "aria-label": "Mode" });
      // A report takes in the folder of the viewer and nothing beside it, and who moves the folder may move it alone.
      const isInPlace = !inFrame && window.location.pathname.includes(`/${model.data.experiment}/viewer/`);
      const links = (!isInPlace ? [] : Object.entries(model.data.links)).map(([text, path]) => V.el("a", { href: path, target: "_blank", rel: "noopener" }, text));
      V.fill(this.header,
        V.el("h1", { dir: "auto", title: model.data.title }, model.data.title),
        V.el("span.dim.count", {}, `${model.data.experiment} · ${model.count} cells`),
        this.modes,
        V.button("Differs most", () => this.showPair(1), { title: "The pair that differs most (key m)", disabled: !this.pairs.length, className: "primary" }),
        this.saveMenu(links),
        V.button("Copy link", () => this.copyLink(), { title: "A link to this view" }),
        inFrame ? V.el("a.button", { href: window.location.href, target: "_blank", rel: "noopener", on: { click: (event) => (event.currentTarget.href = this.link()) } }, "Open in a tab") : null,
        this.themeButton,
        V.button("?", () => this.showHelp(), { className: "icon", "aria-label": "Keys and help", title: "Keys and help (key ?)" }),
      );
      this.main = V.el("main", {}, this.overview.node, this.toolbar.node, V.el("div.work", {}, this.grid.node, this.panel));
      const messages = V.el("div", { id: "messages", role: "status", "aria-live": "polite" });
      V.fill(document.getElementById("app"), this.header, this.main, this.blind.node, this.full.node, this.help, messages);
      V.fill(this.panel, V.inspector(this, V.NONE));
    }

    saveMenu(links) {
      const input = V.el("input", { type: "file", accept: ".json,.csv", hidden: true, "aria-label": "File of ratings", on: { change: async () => {
        if (input.files[0]) await V.loadRatings(this, input.files[0]);
        input.value = "";
      } } });
      const item = (text, action) => V.el("li", {}, V.button(text, () => {
        menu.open = false;
        action();
      }, { className: "link" }));
      const menu = V.el("details.menu.right", {}, V.el("summary", {}, "Save"), V.el("div.menu-body", {}, V.el("ul", {},
        item("This view as a picture (PNG)", () => V.savePicture(this)),
        item("This view as rows (CSV)", () => V.saveRows(this)),
        item("This view as a table of the coloured number (CSV)", () => V.savePivot(this)),
        item("My ratings (JSON)", () => V.saveRatings(this)),
        item("My ratings (CSV)", () => V.saveRatings(this, true)),
        item("Load ratings from a file", () => input.click()),
        item("Remove all my ratings", () => window.confirm("Remove all ratings and choices of this experiment from this browser?") && this.ratings.clear()),
      ), this.nameField(), input, links.length ? V.el("p.links", {}, links) : null));
      return menu;
    }

    /** Who rates: with a name, files of several people can be told apart. */
    nameField() {
      const { ratings } = this;
      const input = V.el("input", { type: "text", value: ratings.rater, maxLength: 60, autocomplete: "name", on: { change: () => {
        ratings.rater = input.value.trim();
        ratings.keep();
      } } });
      return V.el("label.field.rater", {}, V.el("span.field-name", {}, "My name, in the file of ratings"), input);
    }

    helpDialog() {
      const close = V.button("Close", () => dialog.close());
      const mark = (word, text) => V.el("tr", {}, V.el("th", { scope: "row" }, V.el("span.mark", {}, word)), V.el("td", {}, text));
      const dialog = V.el("dialog.plain.help", { "aria-label": "Keys and help", tabIndex: -1 },
        V.el("h2", {}, "Keys"),
        V.el("table.facts", {}, V.el("tbody", {}, KEYS.map(([key, text]) => V.el("tr", {}, V.el("th", { scope: "row" }, V.el("kbd", {}, key)), V.el("td", {}, text))))),
        V.el("h2", {}, "Marks"),
        V.el("table.facts", {}, V.el("tbody", {},
          mark("= same image", "an earlier cell has the same image, byte for byte"),
          mark("≈ same but for scale", "the generator cannot tell its conditioning from that of an earlier cell"),
          mark("∅ no-op", "the setting does nothing for any prompt, reference and seed"),
          mark("! warning", "point at it to read it"),
          mark("✕ failed", "the image could not be made; the reason is in its place"))),
        V.el("p.hint", {}, "Ratings stay in this browser until you save them as a file. An experiment names such a file as a score: see docs/viewer.md."),
        close);
      return dialog;
    }

    showHelp() {
      this.help.showModal();
      this.help.focus();
      this.help.scrollTop = 0;
    }

    makeHeat() {
      this.heat = new V.Heat(this.model, this.ratings, this.state.get("heat"), this.state.get("minus"));
    }

    /** Cells and how much they differ from their baseline, the largest first; each image once. */
    get pairs() {
      if (!this.knownPairs) {
        const { model } = this;
        const differences = model.columns.get(V.DIFFERENCE)?.numbers || [];
        const seen = new Set();
        const cells = [];
        for (let cell = 0; cell < differences.length; cell++) if (differences[cell] && model.placeOf(cell)) cells.push(cell);
        cells.sort((first, second) => differences[second] - differences[first]);
        this.knownPairs = cells.filter((cell) => {
          const key = `${model.image(cell)},${model.image(model.baseline(cell))}`;
          const isNew = !seen.has(key);
          seen.add(key);
          return isNew;
        });
      }
      return this.knownPairs;
    }

    showPair(step) {
      const { pairs, model } = this;
      if (!pairs.length) return;
      this.pairAt = Math.min(pairs.length - 1, Math.max(0, this.pairAt + step));
      const cell = pairs[this.pairAt];
      this.state.set({ ...this.revealing(cell), mode: "grid", cell: model.id(cell), other: "baseline", view: "slider" });
      V.say(`Pair ${this.pairAt + 1} of ${pairs.length}: difference ${V.number(model.value(V.DIFFERENCE, cell))}.`);
    }

    /** What has to change for a cell to be in the view. */
    revealing(cell) {
      const { model, state } = this;
      const place = model.placeOf(cell);
      if (!place) return {};
      const changes = {};
      model.axes.forEach((axis, index) => {
        const { name } = axis;
        const hidden = (changes.hidden || state.get("hidden"))[name];
        if (!state.gridAxes.includes(name) && (state.get("fixed")[name] || 0) !== place[index]) {
          changes.fixed = { ...(changes.fixed || state.get("fixed")), [name]: place[index] };
        }
        if (hidden?.has(place[index])) {
          const others = new Set(hidden);
          others.delete(place[index]);
          changes.hidden = { ...(changes.hidden || state.get("hidden")), [name]: others };
        }
      });
      return changes;
    }

    /** Opens a cell in full screen; with `kind`, beside what it is compared with. */
    open(cell, kind) {
      const { state, model } = this;
      const isPlaced = this.grid.positionOf(cell) !== null;
      const compared = kind ? { other: kind, view: "side" } : {};
      if (!kind && !this.full.isOpen) compared.view = "single";
      if (!kind && this.pinnedCell !== V.NONE && this.pinnedCell !== cell) compared.other = "pinned";
      else if (!kind && state.get("other") === "pinned") compared.other = "baseline";
      state.set({ ...(isPlaced ? {} : this.revealing(cell)), ...compared, cell: model.id(cell) });
    }

    /** Opens two cells beside each other. */
    openPair(cell, other) {
      this.state.set({ ...this.revealing(cell), pin: this.model.id(other), cell: this.model.id(cell), other: "pinned", view: "side" });
    }

    get pinnedCell() {
      const id = this.state.get("pin");
      return id ? this.model.cellOfId.get(id) : V.NONE;
    }

    togglePin(cell) {
      if (cell === V.NONE) return;
      const isPinned = this.pinnedCell === cell;
      this.state.set({ pin: isPinned ? "" : this.model.id(cell), ...(isPinned && this.state.get("over") === "pinned" ? { over: "" } : {}), other: isPinned ? "baseline" : this.state.get("other") });
      V.say(isPinned ? "Unpinned." : "Pinned. Go to another image and press v to blink between the two, s for a slider, d for their difference, x for both beside each other.");
    }

    /** The image that a cell is compared with. */
    otherImage(cell, kind) {
      const { model } = this;
      if (kind.startsWith("reference")) return model.references(cell)[V.referenceNumber(kind) - 1] ?? V.NONE;
      if (kind === "pinned") return this.pinnedCell === V.NONE ? V.NONE : model.image(this.pinnedCell);
      return model.image(model.baseline(cell));
    }

    stepAxis(name, by) {
      const { state } = this;
      const shown = state.shownIndices(name);
      const at = shown.indexOf(state.fixedIndex(name));
      state.set({ fixed: { ...state.get("fixed"), [name]: shown[(at + by + shown.length) % shown.length] } });
    }

    /** Steps along the axis of the keys [ and ]: the grid, or the image in full screen. */
    cycle(by) {
      const { state, model } = this;
      const axis = state.cycleAxis;
      if (!axis) return;
      if (!this.full.isOpen) {
        if (state.freeAxes.some(({ name }) => name === axis)) {
          this.stepAxis(axis, by);
          V.say(`${axis} ${model.axis(axis).labels[state.fixedIndex(axis)]}`);
        }
        return;
      }
      const place = model.placeOf(this.full.cell);
      if (!place) return;
      const at = model.axisIndex.get(axis);
      const shown = state.shownIndices(axis);
      const cell = model.cellAt(place.with(at, shown[(shown.indexOf(place[at]) + by + shown.length) % shown.length]));
      if (cell !== V.NONE) state.set({ ...this.revealing(cell), cell: model.id(cell) });
    }

    setShare(share) {
      this.grid.node.style.setProperty("--share", `${share}%`);
      this.state.set({ share });
    }

    link() {
      const from = this.state.get("mode") === "grid" ? this.grid.firstInView : "";
      return `${window.location.href.replace(/#.*/, "")}#${this.state.toHash({ from })}`;
    }

    copyLink() {
      const isOnDisk = window.location.protocol === "file:";
      V.copy(this.link(), "the link to this view", isOnDisk ? "It leads to this disk: who has the folder elsewhere puts the part from # behind the address of their own index.html." : "");
    }

    inspect(cell) {
      if (this.inspected === cell) return;
      this.inspected = cell;
      if (!this.panel.offsetParent) return;
      cancelAnimationFrame(this.inspecting);
      this.inspecting = requestAnimationFrame(() => V.fill(this.panel, V.inspector(this, this.inspected)));
    }

    update(changed) {
      const any = (...names) => names.some((name) => changed.has(name));
      const { state, grid } = this;
      if (any("heat", "minus")) this.makeHeat();
      const isGrid = state.get("mode") === "grid";
      if (changed.has("mode")) {
        this.main.hidden = !isGrid;
        this.drawModes();
      }
      grid.node.dataset.over = state.get("over") ? state.get("how") : "";
      grid.node.dataset.style = state.get("style");
      grid.node.style.setProperty("--share", `${state.get("share")}%`);
      if (isGrid) {
        const moves = any("x", "y", "superX", "superY", "hidden", "fixed", "size", "mode");
        if (moves) grid.layout();
        else if (any("heat", "minus", "style", "over", "pin")) grid.refresh();
        if (any("x", "y", "heat", "mode", "only")) this.overview.draw();
        if (any("x", "y", "superX", "superY", "hidden", "fixed", "heat", "minus", "style", "over", "how", "pin", "mode")) this.toolbar.draw();
        else if (changed.has("size")) this.toolbar.showSize();
      }
      if (any("cell", "view", "other", "pin", "mode", "fixed", "cycle")) this.full.follow();
      if (isGrid && any("x", "y", "mode")) this.inspect(grid.activeCell);
      if (changed.has("cell") && this.full.isOpen) {
        const place = grid.positionOf(this.full.cell);
        if (place) grid.activate(...place, false);
      }
      this.blind.follow(changed);
    }

    updateRatings() {
      const { state, grid } = this;
      if (state.get("heat") === "stars") {
        this.makeHeat();
        this.toolbar.draw();
      }
      if (state.get("mode") === "grid") grid.refresh();
      if (this.full.isOpen) this.full.drawFoot();
      if (state.get("mode") === "rate") document.querySelector(".blind .rating")?.redraw();
    }

    drawModes() {
      const mode = this.state.get("mode");
      const names = [["grid", "Grid"], ["rate", "Rate blind"], ["choose", "A or B"]];
      V.fill(this.modes, names.map(([key, text]) => V.button(text, () => this.state.set({ mode: key, cell: "" }), { "aria-pressed": String(mode === key) })));
    }

    nextTheme() {
      const theme = THEMES[(THEMES.indexOf(this.theme) + 1) % THEMES.length];
      V.storage.write(THEME_PLACE, theme);
      this.showTheme(theme);
      V.say(`Colours: ${theme}.`);
    }

    showTheme(theme) {
      this.theme = THEMES.includes(theme) ? theme : "auto";
      document.documentElement.dataset.theme = this.theme;
      this.themeButton.textContent = { auto: "◐", light: "☀", dark: "☾" }[this.theme];
      this.themeButton.setAttribute("aria-label", `Colours: ${this.theme}`);
      this.themeButton.title = `Colours: ${this.theme}`;
    }

    closeMenus(event) {
      for (const menu of document.querySelectorAll("details.menu[open]")) {
        // A control that draws itself again is out of the page by now, and was in the menu.
        if (event.target.isConnected && !menu.contains(event.target)) menu.open = false;
      }
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      if (document.querySelector("dialog[open]")) return;
      if (event.key === "Escape") {
        for (const menu of document.querySelectorAll("details.menu[open]")) {
          menu.open = false;
          menu.querySelector("summary").focus();
        }
        return;
      }
      if (event.target.matches("select, textarea, input:not([type=checkbox])")) return;
      if (event.key === "?") {
        event.preventDefault();
        this.showHelp();
        return;
      }
      if (this.state.get("mode") !== "grid") {
        this.blind.onKey(event);
        return;
      }
      this.onGridKey(event);
    }

    onGridKey(event) {
      const { grid, state, ratings } = this;
      const cell = grid.activeCell;
      const view = (name, other) => () => {
        if (cell === V.NONE) return;
        this.open(cell);
        if (other) state.set({ other });
        if (this.otherImage(cell, state.get("other")) !== V.NONE) state.set({ view: name });
      };
      const actions = {
        m: () => this.showPair(1), M: () => this.showPair(-1), p: () => this.togglePin(cell),
        b: view("blink", "baseline"), r: view("blink", "reference"), v: view("blink", "pinned"), d: view("difference"), s: view("slider"), x: view("side"),
        "[": () => this.cycle(-1), "]": () => this.cycle(1),
        i: () => document.body.classList.toggle("without-panel"),
        f: () => cell !== V.NONE && ratings.toggleFavourite(cell), 0: () => cell !== V.NONE && ratings.rate(cell, { stars: null }),
      };
      for (const stars of [1, 2, 3, 4, 5]) actions[stars] = () => cell !== V.NONE && ratings.rateStars(cell, stars);
      if (!actions[event.key]) return;
      event.preventDefault();
      actions[event.key]();
    }
  }

  if (!window.VIEWER_DATA) {
    V.fill(document.getElementById("app"), V.el("p.fatal", {}, "data.js is missing: copy the whole folder of the viewer, not index.html alone."));
  } else {
    V.app = new App(window.VIEWER_DATA);
  }
})(window.Viewer);

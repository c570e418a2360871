// On top of the page: the question, what does nothing, and how the scores change along the columns.
"use strict";
(function (V) {
  const FIRST_SCORES = 4;

  /**
   * Means of the numeric scores at each value of an axis: the difference to the baseline where the baseline has the score,
   * else the score itself.
   */
  V.scoreSummary = function (model, axisName, only) {
    const axis = model.axis(axisName);
    const at = model.axisIndex.get(axisName);
    const stride = model.strides[at];
    const filter = only ? [model.axisIndex.get(only.axis), only.index] : null;
    return model.scoreColumns
      .map((column) => {
        const sums = axis.labels.map(() => ({ difference: 0, differences: 0, value: 0, values: 0 }));
        model.data.places.forEach((cell, place) => {
          if (cell === V.NONE) return;
          if (filter && Math.floor(place / model.strides[filter[0]]) % model.axes[filter[0]].labels.length !== filter[1]) return;
          const value = column.numbers[cell];
          if (value === null) return;
          const sum = sums[Math.floor(place / stride) % axis.labels.length];
          sum.value += value;
          sum.values++;
          const baseline = model.baseline(cell);
          const other = baseline === V.NONE || column.name === V.DIFFERENCE ? null : column.numbers[baseline];
          if (other === null) return;
          sum.difference += value - other;
          sum.differences++;
        });
        const isDifference = sums.every((sum) => sum.differences === sum.values) && column.name !== V.DIFFERENCE;
        const cells = sums.map((sum) => (sum.values ? { mean: isDifference ? sum.difference / sum.differences : sum.value / sum.values, count: sum.values } : null));
        return { name: column.name, meaning: column.meaning || "", isDifference, cells };
      })
      .filter((row) => row.cells.some(Boolean));
  };

  class Overview {
    constructor(app) {
      this.app = app;
      this.isOpen = window.innerWidth >= 900 && window.innerHeight >= 700;
      this.showsAll = false;
      this.node = V.el("section.overview", { "aria-label": "Overview" });
    }

    draw() {
      const { model } = this.app;
      const { headline } = model.data.no_ops;
      const toggle = V.button(this.isOpen ? "Hide overview" : "Show overview", () => {
        this.isOpen = !this.isOpen;
        this.draw();
        this.node.querySelector(".toggle").focus();
      }, { className: "small toggle", "aria-expanded": String(this.isOpen) });
      const question = V.el("p.question", { dir: "auto" }, model.data.question || model.data.title);
      const lookFor = model.data.look_for ? V.el("p.look-for", { dir: "auto" }, V.el("strong", {}, "Look for: "), model.data.look_for) : null;
      this.node.classList.toggle("open", this.isOpen);
      if (this.isOpen) {
        V.refill(this.node, null, toggle, V.el("div.overview-parts", {}, V.el("div.answer", {}, question, lookFor, this.noOps(headline)), this.scores()));
        return;
      }
      const count = model.data.no_ops.settings.length;
      const summary = count ? V.el("span.mark.no-op", {}, count === 1 ? "1 setting does nothing" : `${count} settings do nothing`) : null;
      V.fill(this.node, V.el("div.overview-line", {}, question, summary, toggle));
    }

    noOps(headline) {
      const { app } = this;
      const settings = app.model.data.no_ops.settings;
      const item = (setting) => {
        const [cell, other] = setting.pairs[0];
        return V.el("li", { dir: "auto" }, V.el("strong", {}, setting.setting), " = ", setting.equals, V.el("span.dim", {}, ` · ${setting.meaning} `), V.button("Show", () => app.openPair(cell, other), { className: "small", "aria-label": `Show ${setting.setting} beside ${setting.equals}` }));
      };
      return V.el("div.no-ops", {},
        V.el("h2", {}, "Settings that do nothing"),
        V.el("p.headline", {}, headline[0]?.toUpperCase() + headline.slice(1), "."),
        settings.length ? V.el("ul", {}, settings.slice(0, 200).map(item)) : null,
        settings.length > 200 ? V.el("p.hint", {}, `and ${settings.length - 200} more; all are in no_ops.csv.`) : null,
        app.model.data.notes.length ? [V.el("h2", {}, "Notes"), V.el("ul.notes", {}, app.model.data.notes.map((note) => V.el("li", { dir: "auto" }, note)))] : null,
      );
    }

    /** The means are kept until other ones are asked for: of ten thousand cells they take a moment. */
    summary(x, only) {
      const key = JSON.stringify([x, only]);
      if (this.known?.key !== key) this.known = { key, rows: V.scoreSummary(this.app.model, x, only) };
      return this.known.rows;
    }

    /** Takes the means over one value of the rows, and brings its images into view. */
    choose(only) {
      const { state, grid, model } = this.app;
      state.set({ only });
      const row = grid.lines.findIndex(([, index]) => index === model.axis(state.get("y")).labels.indexOf(only));
      if (!only || row < 0) return;
      grid.activate(row, 0, false);
      this.app.inspect(grid.activeCell);
    }

    scores() {
      const { app } = this;
      const { model, state } = app;
      const x = state.get("x");
      const y = state.get("y");
      const axis = model.axis(x);
      // A link that says a value has it by its label, and another axis may not have it.
      const index = y && state.get("only") ? model.axis(y).labels.indexOf(state.get("only")) : -1;
      const only = index >= 0 ? { axis: y, index } : null;
      const rows = this.summary(x, only);
      if (!rows.length) return V.el("div.score-changes", {}, V.el("h2", {}, "Scores"), V.el("p.hint", {}, "This experiment has no scores: add `scores:` to its file."));
      const shown = this.showsAll ? rows : rows.slice(0, FIRST_SCORES);
      const line = (row) => {
        const means = row.cells.filter(Boolean).map((cell) => cell.mean);
        const [low, high] = [Math.min(...means), Math.max(...means)];
        const largest = Math.max(Math.abs(low), Math.abs(high)) || 1;
        const isSigned = low < 0;
        const isChosen = state.get("heat") === row.name;
        return V.el("tr", {},
          V.el("th", { scope: "row" }, V.button(row.name, () => state.set({ heat: row.name, minus: row.isDifference }), { className: "link", "aria-pressed": String(isChosen), title: `${row.meaning || row.name}. Colour the images by it.` }), V.el("span.dim", {}, row.isDifference ? " − baseline" : " mean")),
          row.cells.map((cell) => {
            const node = V.el("td", { title: cell ? `mean over ${cell.count} cells` : "" }, cell ? V.number(cell.mean, row.isDifference) : "–");
            if (cell) V.paint(node, isSigned ? cell.mean / largest : high === low ? 0 : (cell.mean - Math.min(0, low)) / largest);
            return node;
          }),
        );
      };
      const choices = y ? V.select("Over", [["", `every ${y}`], ...model.axis(y).labels.map((label, at) => [String(at), label])], only ? String(index) : "", (value) => this.choose(value === "" ? "" : model.axis(y).labels[Number(value)]), { "data-key": "only" }) : null;
      return V.el("div.score-changes", {},
        V.el("div.part-head", {}, V.el("h2", {}, `Change along ${x}`), choices, rows.length > FIRST_SCORES ? V.button(this.showsAll ? "Fewer" : `All ${rows.length}`, () => {
          this.showsAll = !this.showsAll;
          this.draw();
        }, { className: "small", "aria-label": this.showsAll ? "Show fewer scores" : `Show all ${rows.length} scores` }) : null),
        V.el("div.table-box", { tabIndex: 0, role: "region", "aria-label": `Scores along ${x}` },
          V.el("table.scores", {}, V.el("thead", {}, V.el("tr", {}, V.el("th", { scope: "col" }, "mean of"), axis.labels.map((label) => V.el("th", { scope: "col", dir: "auto", title: label }, label)))), V.el("tbody", {}, shown.map(line)))),
      );
    }
  }

  V.Overview = Overview;
})(window.Viewer);

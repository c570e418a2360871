// Blind mode: settings are hidden and the order is shuffled, so that nobody rates what they expect.
"use strict";
(function (V) {
  const COUNTS = [10, 20, 50, 100];
  const ANY = "";

  class Blind {
    constructor(app) {
      this.app = app;
      this.node = V.el("section.blind", { "aria-label": "Blind rating", tabIndex: -1 });
      this.at = 0;
      this.count = 20;
      this.revealed = false;
      this.showsReference = false;
    }

    /** Begins anew when the mode or the order has changed. */
    follow(changed) {
      const { state } = this.app;
      const mode = state.get("mode");
      this.node.hidden = mode === "grid";
      if (mode === "grid") return;
      if (!state.get("seed")) {
        state.set({ seed: 1 + Math.floor(Math.random() * 2 ** 31) });
        return;
      }
      if (!this.queue || ["mode", "seed", "axis", "hidden"].some((name) => changed.has(name))) {
        this.queue = mode === "rate" ? this.imagesToRate() : this.pairsToChoose();
        this.at = 0;
        this.chosen = 0;
        this.revealed = false;
        this.draw();
        this.node.focus();
        return;
      }
      this.draw();
    }

    get total() {
      return Math.min(this.count, this.queue.length);
    }

    /** One cell for each different image, shuffled. */
    imagesToRate() {
      const { model, state } = this.app;
      const first = new Map();
      for (const cell of model.shownCells(state.get("hidden"))) {
        const image = model.image(cell);
        if (image !== V.NONE && !first.has(image)) first.set(image, cell);
      }
      return V.shuffled([...first.values()], V.random(state.get("seed")));
    }

    get axis() {
      const { state, model } = this.app;
      const names = model.varying.map((axis) => axis.name).filter((name) => name !== "prompt");
      const axis = state.get("axis");
      if (names.includes(axis)) return axis;
      return names.includes(state.get("x")) ? state.get("x") : names[names.length - 1] || ANY;
    }

    /** Pairs of different images that differ by the value of one axis alone, left and right by chance. */
    pairsToChoose() {
      const { model, state } = this.app;
      const axis = this.axis;
      if (!axis) return [];
      const random = V.random(state.get("seed"));
      const at = model.axisIndex.get(axis);
      const cells = [...model.shownCells(state.get("hidden"))];
      const values = state.shownIndices(axis);
      const pairs = [];
      const seen = new Set();
      for (let tries = 0; tries < 4000 && pairs.length < 200 && cells.length; tries++) {
        const cell = cells[Math.floor(random() * cells.length)];
        const place = model.placeOf(cell);
        const other = model.cellAt(place.with(at, values[Math.floor(random() * values.length)]));
        const images = [model.image(cell), model.image(other)];
        const key = [...images].sort((a, b) => a - b).join();
        if (other === V.NONE || images.includes(V.NONE) || images[0] === images[1] || seen.has(key)) continue;
        seen.add(key);
        pairs.push([cell, other]);
      }
      return pairs;
    }

    draw() {
      const isRating = this.app.state.get("mode") === "rate";
      const head = V.el(
        "div.blind-head",
        {},
        V.el("h2", {}, isRating ? "Rate images blind" : "Choose the better of two, blind"),
        V.el("p.hint", {}, isRating ? "Settings are hidden, the order is shuffled. Press 1 to 5." : "Settings are hidden, sides are drawn by chance. Press ← or →, or = where you see no difference."),
        isRating ? this.countField() : this.axisField(),
        V.button("New order", () => this.app.state.set({ seed: 1 + Math.floor(Math.random() * 2 ** 31) })),
        V.button("Back to the grid", () => this.app.state.set({ mode: "grid" })),
      );
      let body;
      if (!this.queue.length) body = V.el("p.hint", {}, "There is nothing to compare in this view: show more values.");
      else if (this.revealed || this.at >= this.total) body = this.results(isRating);
      else body = isRating ? this.ratingBody() : this.choiceBody();
      V.fill(this.node, head, body);
    }

    countField() {
      const counts = [...COUNTS.filter((count) => count < this.queue.length), this.queue.length];
      const chosen = counts.includes(this.count) ? this.count : counts[counts.length - 1];
      this.count = Math.min(this.count, this.queue.length);
      return V.select("How many", counts.map((count) => [String(count), count === this.queue.length ? `all ${count}` : String(count)]), String(chosen), (value) => {
        this.count = Number(value);
        this.draw();
      });
    }

    axisField() {
      const { model, state } = this.app;
      const names = model.varying.map((axis) => axis.name).filter((name) => name !== "prompt");
      return V.select("Compare values of", names.map((name) => [name, name]), this.axis, (value) => state.set({ axis: value }));
    }

    progress() {
      return V.el("div.blind-progress", {},
        V.el("progress", { max: this.total, value: this.at, "aria-label": "Progress" }),
        V.el("span", {}, `${this.at + 1} of ${this.total}`),
        V.button("Finish and reveal", () => this.reveal()),
      );
    }

    prompt(cell) {
      const { model } = this.app;
      const references = this.showsReference ? model.references(cell).map((image) => V.picture(model, image, "reference")) : [];
      return V.el("div.blind-prompt", {}, V.el("p.prompt", { dir: "auto" }, model.prompt(cell)), references,
        model.references(cell).length ? V.button(this.showsReference ? "Hide the reference (r)" : "Show the reference (r)", () => this.toggleReference(), { className: "small" }) : null);
    }

    pictureOf(cell, name) {
      const { model } = this.app;
      const image = model.image(cell);
      const picture = V.picture(model, image, name, true);
      const [width, height] = model.imageSize(image);
      const frame = V.el("div.blind-picture", { style: { "--ratio": width / height } }, picture);
      frame.classList.toggle("pixelated", width <= 256);
      return frame;
    }

    ratingBody() {
      const cell = this.queue[this.at];
      return [
        this.prompt(cell),
        V.el("div.blind-images", {}, this.pictureOf(cell, "image to rate")),
        V.el("div.blind-controls", {},
          V.button("←", () => this.go(-1), { className: "icon", "aria-label": "Image before", disabled: this.at === 0 }),
          V.ratingControls(this.app, cell, true),
          V.button("→", () => this.go(1), { className: "icon", "aria-label": "Next image" }),
        ),
        this.progress(),
      ];
    }

    choiceBody() {
      const [left, right] = this.queue[this.at];
      const choice = (cell, key, name, chosen) =>
        V.el("button.blind-choice", { type: "button", "aria-label": `${name} is better`, on: { click: () => this.choose(chosen) } }, this.pictureOf(cell, name), V.el("kbd", { "aria-hidden": "true" }, key));
      return [
        this.prompt(left),
        V.el("div.blind-images.two", {}, choice(left, "←", "left image", "a"), choice(right, "→", "right image", "b")),
        V.el("div.blind-controls", {},
          V.button("No difference (=)", () => this.choose("tie")),
          V.button("Take back", () => this.takeBack(), { disabled: !this.chosen, title: "Take the last choice back (Backspace)" }),
        ),
        this.progress(),
      ];
    }

    rate(stars) {
      const cell = this.queue[this.at];
      this.app.ratings.rate(cell, { stars }, true);
      this.go(1);
    }

    go(step) {
      this.at = Math.max(0, this.at + step);
      this.draw();
      this.node.focus();
    }

    choose(chosen) {
      const [left, right] = this.queue[this.at];
      this.app.ratings.choose(left, right, chosen, this.axis);
      this.chosen++;
      this.go(1);
    }

    takeBack() {
      if (!this.chosen) return;
      this.chosen--;
      this.app.ratings.removeLastChoice();
      this.revealed = false;
      this.go(-1);
    }

    reveal() {
      this.revealed = true;
      this.draw();
      this.node.focus();
    }

    toggleReference() {
      this.showsReference = !this.showsReference;
      this.draw();
      this.node.focus();
    }

    results(isRating) {
      const { app } = this;
      const parts = [V.el("h3", {}, "Revealed")];
      if (isRating) {
        const rated = this.queue.slice(0, this.total).filter((cell) => app.ratings.stars(cell));
        parts.push(V.el("p", {}, `${rated.length} of ${this.total} images are rated.`), V.el("div.blind-tables", {}, this.meansByAxis(rated).filter(Boolean)));
      } else {
        const choices = app.ratings.choices.filter((choice) => choice.axis === this.axis);
        parts.push(V.el("p", {}, `${choices.length} choices between values of ${this.axis}, this and earlier ones.`), this.winsTable(choices));
        parts.push(V.el("p.hint", {}, "Strengths with intervals (Bradley-Terry) are in the summary once the file of ratings is named as a score."));
      }
      const keep = V.storage.kept ? "They stay in this browser." : "This browser keeps nothing here: save the file before you leave.";
      parts.push(V.el("p", {}, keep), V.el("div.tools", {}, V.button("Save ratings", () => V.saveRatings(app), { className: "primary" }), V.button("Go on", () => this.goOn())));
      return V.el("div.blind-results", {}, parts);
    }

    goOn() {
      this.revealed = false;
      if (this.at >= this.total) this.count = Math.min(this.queue.length, this.count + 20);
      this.draw();
      this.node.focus();
    }

    meansByAxis(cells) {
      const { model, ratings } = this.app;
      return model.varying.map((axis) => {
        const at = model.axisIndex.get(axis.name);
        const rows = axis.labels.map((label, index) => {
          const stars = cells.filter((cell) => model.placeOf(cell)[at] === index).map((cell) => ratings.stars(cell));
          return [label, stars];
        });
        const known = rows.filter(([, stars]) => stars.length);
        if (known.length < 2) return null;
        return V.el("table.facts", {}, V.el("caption", {}, axis.name), V.el("tbody", {}, known.map(([label, stars]) =>
          V.el("tr", {}, V.el("th", { scope: "row", dir: "auto" }, label), V.el("td", {}, `${V.number(stars.reduce((sum, count) => sum + count, 0) / stars.length)} ★ (${stars.length} rated)`)))));
      });
    }

    winsTable(choices) {
      const { model } = this.app;
      const axis = model.axis(this.axis);
      const at = model.axisIndex.get(this.axis);
      const valueOf = (side) => {
        const cell = model.cellOfId.get(side.cell);
        return cell === undefined ? undefined : model.placeOf(cell)?.[at];
      };
      const tally = axis.labels.map(() => ({ points: 0, count: 0 }));
      for (const choice of choices) {
        const [first, second] = [valueOf(choice.a), valueOf(choice.b)];
        if (first === undefined || second === undefined) continue;
        const points = { a: 1, b: 0, tie: 0.5 }[choice.chosen];
        tally[first].points += points;
        tally[second].points += 1 - points;
        tally[first].count++;
        tally[second].count++;
      }
      return V.el("table.facts", {}, V.el("caption", {}, `How often each value of ${this.axis} was preferred`), V.el("tbody", {}, axis.labels.map((label, index) => {
        const { points, count } = tally[index];
        return V.el("tr", {}, V.el("th", { scope: "row", dir: "auto" }, label), V.el("td", {}, count ? `${Math.round((100 * points) / count)} % of ${count}` : "never shown"));
      })));
    }

    onKey(event) {
      if (event.target.matches("select, input, textarea")) return;
      const isRating = this.app.state.get("mode") === "rate";
      const isDone = this.revealed || !this.queue.length || this.at >= this.total;
      if (isDone) return;
      const actions = isRating
        ? { ArrowLeft: () => this.go(-1), ArrowRight: () => this.go(1), f: () => this.app.ratings.toggleFavourite(this.queue[this.at], true), r: () => this.toggleReference() }
        : { ArrowLeft: () => this.choose("a"), ArrowRight: () => this.choose("b"), "=": () => this.choose("tie"), r: () => this.toggleReference(), Backspace: () => this.takeBack() };
      if (isRating) for (const stars of [1, 2, 3, 4, 5]) actions[stars] = () => this.rate(stars);
      if (!actions[event.key]) return;
      event.preventDefault();
      actions[event.key]();
    }
  }

  V.Blind = Blind;
})(window.Viewer);

// One cell: its picture, its marks, and what is known of it.
"use strict";
(function (V) {
  // From this size of a picture its mark is written out, and with so much more for each further one.
  const ROOM_FOR_WORDS = 150;
  const ROOM_FOR_MORE = 110;

  /**
   * An <img> of an image: the thumbnail, or where there is none, the image itself.
   * @param {function(HTMLImageElement, string)} [show] - Gives it its source; by default at once.
   */
  V.picture = function (model, image, alt, isFull, show) {
    const full = model.imageUrl(image);
    const picture = V.el("img", { alt, decoding: "async", draggable: false });
    picture.addEventListener("error", () => {
      if (picture.getAttribute("src") !== full) picture.src = full;
      else picture.replaceWith(V.el("span.no-picture", {}, "image file not found"));
    });
    const url = isFull ? full : model.thumbnailUrl(image);
    if (show) show(picture, url);
    else picture.src = url;
    return picture;
  };

  /** Whether a picture is enlarged so much that its pixels should stay sharp. */
  V.isPixelated = function (model, image, width) {
    return image !== V.NONE && width >= 1.5 * model.imageSize(image)[0];
  };

  /** What should be known before a cell is compared with others: [{kind, symbol, word, text}]. */
  V.marks = function (model, cell) {
    const marks = [];
    if (model.status(cell) === "failed") marks.push({ kind: "failed", symbol: "✕", word: "failed", text: model.error(cell) || "could not be made" });
    if (model.status(cell) === "missing") marks.push({ kind: "missing", symbol: "…", word: "not made", text: "has not been made yet" });
    const same = model.sameAs(cell);
    if (same !== V.NONE) {
      const what = model.role(same) === "baseline" ? "the text alone" : model.describe(same);
      marks.push({ kind: "same", symbol: "=", word: "same image", text: `same image as ${what}`, other: same });
    }
    const alike = model.sameUpToScale(cell);
    if (alike !== V.NONE && same === V.NONE) {
      const what = model.role(alike) === "baseline" ? "the text alone" : model.describe(alike);
      marks.push({ kind: "same", symbol: "≈", word: "same but for scale", text: `the generator sees the same as for ${what}, but for a scale`, other: alike });
    }
    const noOp = model.noOps.get(cell);
    if (noOp) marks.push({ kind: "no-op", symbol: "∅", word: "no-op", text: `this setting does nothing: it equals ${noOp.equals} (${noOp.meaning})`, other: noOp.other });
    const warnings = model.value("warnings", cell);
    if (warnings) marks.push({ kind: "warning", symbol: "!", word: "warning", text: String(warnings) });
    return marks;
  };

  /** The inside of a cell of the grid; `show` as for `V.picture`. */
  V.cellContent = function (app, cell, width, show) {
    const { model, ratings, heat, state } = app;
    if (cell === V.NONE) return [V.el("div.frame.empty", {}, V.el("span.no-picture", {}, "not in the experiment"))];
    const image = model.image(cell);
    const frame = V.el("div.frame");
    if (image === V.NONE) {
      frame.classList.add(model.status(cell));
      const error = model.error(cell);
      frame.append(V.el("span.no-picture", { title: error, dir: "auto" }, model.status(cell) === "failed" ? error || "failed" : "not made yet"));
    } else {
      frame.append(V.picture(model, image, "", false, show));
      const other = state.get("over") ? app.otherImage(cell, state.get("over")) : V.NONE;
      if (other !== V.NONE) {
        const picture = V.picture(model, other, "", false, show);
        picture.classList.add("other");
        frame.append(picture);
      }
      frame.classList.toggle("pixelated", V.isPixelated(model, image, width));
    }
    const value = heat.text(cell);
    if (state.get("style") === "fill" && value) frame.append(V.el("span.fill-value", { "aria-hidden": "true" }, value));
    const found = V.marks(model, cell);
    const hasWords = width >= ROOM_FOR_WORDS + ROOM_FOR_MORE * (found.length - 1);
    const marks = found.map((mark) => V.el(`span.mark.${mark.kind}`, { title: mark.text }, hasWords ? mark.word : mark.symbol));
    if (ratings.stars(cell)) marks.push(V.el("span.mark.stars", { title: `rated ${ratings.stars(cell)} of 5` }, `★${ratings.stars(cell)}`));
    if (ratings.isFavourite(cell)) marks.push(V.el("span.mark.favourite", { title: "favourite" }, "♥"));
    if (state.get("pin") === model.id(cell)) marks.push(V.el("span.mark.pinned", { title: "pinned for comparison" }, "pinned"));
    return [frame, V.el("div.caption", {}, V.el("span.value", {}, value), V.el("span.marks", {}, marks))];
  };

  /** What a screen reader says of a cell. */
  V.cellName = function (app, cell) {
    if (cell === V.NONE) return "not in the experiment";
    const { model, heat, ratings } = app;
    const parts = [model.describe(cell)];
    if (heat.text(cell)) parts.push(`${heat.title} ${heat.text(cell)}`);
    parts.push(...V.marks(model, cell).map((mark) => mark.text));
    if (ratings.stars(cell)) parts.push(`rated ${ratings.stars(cell)} of 5`);
    if (ratings.isFavourite(cell)) parts.push("favourite");
    return parts.join("; ");
  };

  function table(rows, caption) {
    return V.el(
      "table.facts",
      {},
      V.el("caption", {}, caption),
      V.el("tbody", {}, rows.map(([name, value, meaning]) => V.el("tr", {}, V.el("th", { scope: "row", title: meaning || name }, V.name(name)), V.el("td", { dir: "auto" }, V.name(String(value)))))),
    );
  }

  /** Stars and a heart to click on; the keys are named for those who prefer them. */
  V.ratingControls = function (app, cell, blind) {
    const { ratings } = app;
    const node = V.el("div.rating", { role: "group", "aria-label": "Rating" });
    const draw = () => {
      const stars = ratings.stars(cell);
      const star = (count) =>
        V.button(count <= stars ? "★" : "☆", () => ratings.rateStars(cell, count, blind), {
          className: "star", "aria-label": `${count} of 5`, "aria-pressed": String(count === stars), title: `Rate ${count} of 5 (key ${count})`,
        });
      const focused = [...node.children].indexOf(document.activeElement);
      V.fill(node, [1, 2, 3, 4, 5].map(star), V.button(ratings.isFavourite(cell) ? "♥" : "♡", () => ratings.toggleFavourite(cell, blind), {
        className: "star heart", "aria-label": "Favourite", "aria-pressed": String(ratings.isFavourite(cell)), title: "Favourite (key f)",
      }));
      if (focused >= 0) node.children[focused].focus();
    };
    draw();
    node.redraw = draw;
    return node;
  };

  /**
   * Small pictures of what a cell is compared with. A click on one shows the two side by side.
   * @param {string[]} kinds - "reference" and "baseline".
   * @param {function} [show] - as for `V.picture`.
   */
  V.companions = function (app, cell, kinds, tabIndex, show) {
    const { model } = app;
    if (cell === V.NONE) return [];
    const all = kinds.flatMap((kind) => (kind === "reference" ? V.referenceKinds(model, cell) : [kind]));
    return all
      .map((kind) => [kind, app.otherImage(cell, kind)])
      .filter(([, image]) => image !== V.NONE)
      .map(([kind, image]) => {
        const text = V.otherName(kind);
        const name = model.data.images.names[model.imageKey(image)] || text;
        const picture = V.picture(model, image, `${text}: ${name}`, false, show);
        picture.classList.toggle("pixelated", V.isPixelated(model, image, 80));
        return V.el("button.companion", { type: "button", tabIndex, title: `${text}: ${name}`, on: { click: () => app.open(cell, kind) } }, picture, V.el("span", {}, text));
      });
  };

  /** Everything that is known of a cell, for the panel beside the grid and in full screen. */
  V.inspector = function (app, cell) {
    const { model } = app;
    if (cell === V.NONE) return [V.el("p.hint", {}, "Point at an image, or move with the arrow keys, to see what it was made of.")];
    const yaml = model.yaml(cell);
    const marks = V.marks(model, cell);
    const markRow = (mark) =>
      V.el(`li.${mark.kind}`, { dir: "auto" }, mark.text, mark.other !== undefined && model.image(mark.other) !== V.NONE ? [" ", V.button("Show it", () => app.open(mark.other), { className: "small" })] : null);
    const coordinates = model.coordinates(cell).map(([name, label, detail]) => [name, label, detail]);
    if (!coordinates.length) coordinates.push(["role", model.role(cell) === "baseline" ? "baseline: the text alone" : model.role(cell)], ["seed", String(model.value("seed", cell))]);
    const image = model.image(cell);
    const links = image === V.NONE ? [] : [V.el("a", { href: model.imageUrl(image), target: "_blank", rel: "noopener" }, model.imageFile(image)), V.el("span.dim", {}, model.imageSize(image).join(" × "))];
    const sections = model.facts(cell).map((section, index) =>
      V.el("details", { open: section.name === "Conditioning" || (section.name === "Scores" && section.rows.length <= 8) }, V.el("summary", {}, `${section.name} (${section.rows.length})`), table(section.rows, section.name)),
    );
    return [
      V.el("p.prompt", { dir: "auto" }, model.prompt(cell)),
      V.el("div.companions", {}, V.companions(app, cell, ["reference", "baseline"], 0)),
      marks.length ? V.el("ul.mark-list", {}, marks.map(markRow)) : null,
      table(coordinates, "Settings"),
      V.el("p.links", {}, links, V.el("code", { title: "name of the cell" }, model.id(cell))),
      ...sections,
      V.el(
        "details",
        { open: true },
        V.el("summary", {}, "Experiment file of this cell"),
        V.el("div.yaml", {}, V.button("Copy", () => V.copy(yaml, "the experiment file"), { className: "small copy", "aria-label": "Copy the experiment file of this cell" }), V.el("pre", { tabIndex: 0, dir: "ltr", "aria-label": "Experiment file of this cell" }, yaml)),
      ),
    ];
  };
})(window.Viewer);

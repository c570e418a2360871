// What leaves the page: a picture of the view, rows as CSV, ratings.
"use strict";
(function (V) {
  const MOST_PICTURES = 600;
  const MOST_PIXELS = 12000;

  // A canvas with an image file from a disk may not be read back. Thumbnails therefore also exist as scripts that bring their
  // bytes as data: those may be drawn and saved.
  const waiting = new Map();
  const known = new Map();
  window.VIEWER_THUMBNAIL = function (key, url) {
    known.set(key, url);
    waiting.get(key)?.();
  };

  function thumbnailData(key) {
    if (known.has(key)) return Promise.resolve(known.get(key));
    return new Promise((resolve) => {
      const script = V.el("script", { src: `thumbnails/${encodeURIComponent(key)}.js` });
      const end = () => {
        script.remove();
        waiting.delete(key);
        resolve(known.get(key) || null);
      };
      waiting.set(key, end);
      script.addEventListener("error", end);
      document.head.append(script);
    });
  }

  async function drawable(key) {
    const url = await thumbnailData(key);
    if (!url) return null;
    const image = new Image();
    image.src = url;
    try {
      await image.decode();
      return image;
    } catch (error) {
      return null;
    }
  }

  /** Breaks text into lines that fit; the last one ends with "..." where there is more. */
  function wrap(context, text, width, most) {
    const lines = [];
    let line = "";
    for (let word of text.split(/\s+/).filter(Boolean)) {
      while (context.measureText(word).width > width && word.length > 1) {
        const share = Math.max(1, Math.floor((word.length * width) / context.measureText(word).width));
        lines.push(...(line ? [line] : []), word.slice(0, share));
        line = "";
        word = word.slice(share);
        if (lines.length > most) break;
      }
      const longer = line ? `${line} ${word}` : word;
      if (context.measureText(longer).width > width && line) {
        lines.push(line);
        line = word;
      } else line = longer;
      if (lines.length > most) break;
    }
    if (line) lines.push(line);
    return lines.length > most ? [...lines.slice(0, most - 1), `${lines[most - 1].slice(0, -1)}…`] : lines;
  }

  /** Rows and columns of the picture: the whole view, or what is on the screen where that is too much. */
  function extent(grid) {
    if (grid.lines.length * grid.stacks.length <= MOST_PICTURES) return { firstRow: 0, lastRow: grid.lines.length - 1, firstColumn: 0, lastColumn: grid.stacks.length - 1, isWhole: true };
    return { ...grid.visible, isWhole: false };
  }

  /** Returns a function from a colour of the page, as CSS says it, to the colour that it is in the light or dark that is shown. */
  function colours() {
    const probe = V.el("span", { hidden: true });
    document.body.append(probe);
    const look = (css) => {
      probe.style.color = css.startsWith("--") ? `var(${css})` : css;
      return getComputedStyle(probe).color;
    };
    look.end = () => probe.remove();
    return look;
  }

  /** The colour of a cell's number: the same mixture as in the style sheet, or null where it has none. */
  function heatColour(app, cell, colour) {
    const style = app.state.get("style");
    const strength = app.heat.strength(cell);
    if (strength === null || style === "none") return null;
    const end = strength < 0 ? "--negative" : "--positive";
    const [start, share] = style === "fill" ? ["--surface", 60] : ["--line", 100];
    return colour(`color-mix(in oklab, var(${start}), var(${end}) ${Math.round(share * Math.min(1, Math.abs(strength)))}%)`);
  }

  /** A canvas with title, labels, images and values of the present view. */
  async function paintView(app) {
    const { model, state, grid, heat } = app;
    const { firstRow, lastRow, firstColumn, lastColumn, isWhole } = extent(grid);
    const side = Math.max(128, Math.min(384, grid.side));
    const height = Math.round((side * grid.pictureHeight) / grid.side);
    const [margin, gap, caption, labelWidth] = [24, 8, 22, 190];
    const columns = lastColumn - firstColumn + 1;
    const rows = lastRow - firstRow + 1;
    const colour = colours();
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("2d");
    const font = (size, weight = 400) => (context.font = `${weight} ${size}px system-ui, sans-serif`);
    const width = 2 * margin + labelWidth + columns * (side + gap);
    font(20, 600);
    const title = wrap(context, model.data.title, width - 2 * margin, 3);
    font(13);
    const fixed = state.freeAxes.map((axis) => `${axis.name} ${axis.labels[state.fixedIndex(axis.name)]}`).join(", ");
    const more = [model.data.question, fixed, heat.title ? `number under each image: ${heat.title}` : ""].filter(Boolean).flatMap((text) => wrap(context, text, width - 2 * margin, 3));
    const top = margin + title.length * 26 + more.length * 18 + 14 + (state.get("superX") ? 20 : 0) + 24;
    const total = top + rows * (height + caption + gap) + margin;
    const scale = Math.min(1, MOST_PIXELS / Math.max(width, total)) * (Math.max(width, total) < 2500 ? 2 : 1);
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(total * scale);
    context.scale(scale, scale);
    context.fillStyle = colour("--page");
    context.fillRect(0, 0, width, total);
    context.textBaseline = "top";
    context.fillStyle = colour("--text");
    font(20, 600);
    title.forEach((line, index) => context.fillText(line, margin, margin + index * 26));
    font(13);
    context.fillStyle = colour("--dim");
    more.forEach((line, index) => context.fillText(line, margin, margin + title.length * 26 + 4 + index * 18));
    for (let column = firstColumn; column <= lastColumn; column++) {
      const left = margin + labelWidth + (column - firstColumn) * (side + gap);
      const [outer, inner] = grid.stacks[column];
      context.fillStyle = colour("--text");
      font(13, 600);
      context.fillText(wrap(context, `${state.get("x")} ${model.axis(state.get("x")).labels[inner]}`, side, 1)[0] || "", left, top - 22);
      if (outer !== null) context.fillText(wrap(context, `${state.get("superX")} ${model.axis(state.get("superX")).labels[outer]}`, side, 1)[0] || "", left, top - 42);
    }
    const text = { y: state.get("y"), superY: state.get("superY") };
    const jobs = [];
    for (let row = firstRow; row <= lastRow; row++) {
      const at = top + (row - firstRow) * (height + caption + gap);
      const [outer, inner] = grid.lines[row];
      const words = [outer === null ? "" : `${text.superY} ${model.axis(text.superY).labels[outer]}`, inner === null ? "" : `${text.y} ${model.axis(text.y).labels[inner]}`, inner === null ? "" : model.axis(text.y).details[inner] || ""];
      font(13);
      context.fillStyle = colour("--text");
      const lines = words.filter(Boolean).flatMap((word) => wrap(context, word, labelWidth - 16, 5)).slice(0, Math.floor(height / 17));
      lines.forEach((line, index) => context.fillText(line, margin, at + index * 17));
      for (let column = firstColumn; column <= lastColumn; column++) {
        const cell = grid.cellAt(row, column);
        if (cell !== V.NONE) jobs.push(paintCell(app, context, cell, { left: margin + labelWidth + (column - firstColumn) * (side + gap), top: at, width: side, height }, colour));
      }
    }
    await Promise.all(jobs);
    colour.end();
    return { canvas, isWhole };
  }

  async function paintCell(app, context, cell, box, colour) {
    const { model, state, heat } = app;
    const image = model.image(cell);
    const over = state.get("over") ? app.otherImage(cell, state.get("over")) : V.NONE;
    const [picture, other] = await Promise.all([image, over].map((at) => (at === V.NONE ? null : drawable(model.imageKey(at)))));
    const heated = heatColour(app, cell, colour);
    const isFilled = heated && state.get("style") === "fill";
    if (isFilled) {
      context.fillStyle = heated;
      context.fillRect(box.left, box.top, box.width, box.height);
      context.fillStyle = colour("--text");
      context.font = `600 ${Math.round(Math.min(28, box.width / 6))}px system-ui, sans-serif`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText(heat.text(cell), box.left + box.width / 2, box.top + box.height / 2, box.width - 8);
      context.textBaseline = "top";
    } else if (picture) {
      // Contained in the box, as on the page.
      const scale = Math.min(box.width / picture.width, box.height / picture.height);
      const [width, height] = [picture.width * scale, picture.height * scale];
      const [left, top] = [box.left + (box.width - width) / 2, box.top + (box.height - height) / 2];
      context.imageSmoothingEnabled = !V.isPixelated(model, image, box.width);
      context.drawImage(picture, left, top, width, height);
      if (other) {
        context.save();
        if (state.get("how") === "difference") context.globalCompositeOperation = "difference";
        else {
          context.beginPath();
          context.rect(left + (width * state.get("share")) / 100, top, width, height);
          context.clip();
        }
        context.drawImage(other, left, top, width, height);
        context.restore();
      }
    } else {
      context.strokeStyle = colour("--line");
      context.strokeRect(box.left + 0.5, box.top + 0.5, box.width - 1, box.height - 1);
      context.fillStyle = colour("--dim");
      context.font = "12px system-ui, sans-serif";
      wrap(context, model.error(cell) || model.status(cell), box.width - 16, 6).forEach((line, index) => context.fillText(line, box.left + 8, box.top + 8 + index * 16));
    }
    if (heated && !isFilled) {
      context.strokeStyle = heated;
      context.lineWidth = 3;
      context.strokeRect(box.left - 1.5, box.top - 1.5, box.width + 3, box.height + 3);
      context.lineWidth = 1;
    }
    context.fillStyle = colour("--text");
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "left";
    const marks = V.marks(model, cell).map((mark) => mark.word).join(", ");
    context.fillText(wrap(context, [heat.text(cell), marks].filter(Boolean).join("   "), box.width, 1)[0] || "", box.left, box.top + box.height + 5);
  }

  V.savePicture = async function (app) {
    V.say("Drawing …");
    try {
      const { canvas, isWhole } = await paintView(app);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
      if (!blob) throw new Error("the picture is too large for this browser");
      V.download(`${app.model.data.experiment}_view.png`, blob);
      V.say(isWhole ? "Saved the whole view." : "The view is too large for one picture: saved what is on the screen.");
    } catch (error) {
      V.say(`This browser does not allow it (${error.message}). Use its own "Print" or a screenshot instead.`);
    }
  };

  /** All columns of the cells of this view, one row each. */
  V.saveRows = function (app) {
    const { model, grid, ratings } = app;
    const columns = model.data.columns.filter((column) => column.numbers || column.codes);
    const rows = [["cell", "status", "error", ...columns.map((column) => column.name), "rating", "favourite"]];
    for (let row = 0; row < grid.lines.length; row++) {
      for (let column = 0; column < grid.stacks.length; column++) {
        const cell = grid.cellAt(row, column);
        if (cell === V.NONE) continue;
        rows.push([model.id(cell), model.status(cell), model.error(cell), ...columns.map(({ name }) => model.value(name, cell)), ratings.stars(cell) || "", ratings.isFavourite(cell) ? 1 : 0]);
      }
    }
    V.download(`${model.data.experiment}_rows.csv`, V.csv(rows), "text/csv");
    V.say(`Saved ${rows.length - 1} rows.`);
  };

  /** One number per cell, rows and columns as on the page. */
  V.savePivot = function (app) {
    const { model, grid, heat, state } = app;
    const label = ([outer, inner], outerAxis, innerAxis) => [outer === null ? "" : `${outerAxis} ${model.axis(outerAxis).labels[outer]}`, inner === null ? "" : `${innerAxis} ${model.axis(innerAxis).labels[inner]}`].filter(Boolean).join(", ");
    const rows = [[heat.title, ...grid.stacks.map((stack) => label(stack, state.get("superX"), state.get("x")))]];
    grid.lines.forEach((line, row) => rows.push([label(line, state.get("superY"), state.get("y")), ...grid.stacks.map((_, column) => heat.value(grid.cellAt(row, column)))]));
    V.download(`${model.data.experiment}_${heat.name || "table"}.csv`, V.csv(rows), "text/csv");
    V.say("Saved the table.");
  };

  V.saveRatings = function (app, asCsv) {
    const { ratings, model } = app;
    if (asCsv) V.download(`${model.data.experiment}_ratings.csv`, ratings.toCsv(), "text/csv");
    else V.download(`${model.data.experiment}_ratings.json`, `${JSON.stringify(ratings.toJson(), null, 1)}\n`, "application/json");
    V.say(`Saved ${ratings.count} ratings and ${ratings.choices.length} choices.`);
  };

  V.loadRatings = async function (app, file) {
    try {
      V.say(`Loaded ${app.ratings.load(await file.text())} ratings and choices.`);
      app.ratings.keep();
    } catch (error) {
      V.say(`${file.name} cannot be read: ${error.message}`);
    }
  };
})(window.Viewer);

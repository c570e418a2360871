// The grid: only what is in view is in the page, so that ten thousand cells scroll like ten.
"use strict";
(function (V) {
  const GAP = 8;
  const CAPTION = 24;
  const NARROW = 640;
  const OVERSCAN = 1;
  const MOST = 384;
  // A grid that leapt, and did not again for so many milliseconds, rests.
  const REST = 100;
  // In the place of a column: the label of a row, which is in view wherever the grid is.
  const LABEL = -1;
  // Letters from which a name has smaller ones, and those at its end that are always shown.
  const LONG_LABEL = 18;
  const LAST_LETTERS = 8;
  // As in viewer.css.
  const TEXT_GAP = 2;

  class Grid {
    constructor(app) {
      this.app = app;
      this.head = V.el("div.grid-head", { role: "rowgroup" });
      this.body = V.el("div.grid-body", { role: "rowgroup" });
      this.node = V.el("div.grid", { role: "grid", "aria-label": "Images", id: "grid-start" }, this.head, this.body);
      this.rows = new Map();
      this.pictures = new V.Pictures((row, column) => this.isInView(row, column));
      this.active = [0, 0];
      this.node.addEventListener("scroll", () => this.schedule(), { passive: true });
      this.node.addEventListener("click", (event) => this.onClick(event));
      this.node.addEventListener("focusin", (event) => this.onFocus(event));
      this.node.addEventListener("mouseover", (event) => this.onPoint(event));
      this.node.addEventListener("keydown", (event) => this.onKey(event));
      new ResizeObserver(() => this.layout()).observe(this.node);
    }

    /** Works out rows, columns and sizes from the view, and draws again. */
    layout() {
      const { state, model } = this.app;
      const width = this.node.clientWidth;
      const height = this.node.clientHeight;
      if (!width) return;
      this.base = model.axes.map((axis) => state.fixedIndex(axis.name));
      this.lines = this.combinations(state.get("superY"), state.get("y"));
      this.stacks = this.combinations(state.get("superX"), state.get("x"));
      this.findCompanions();
      this.isNarrow = width < NARROW;
      const hasHead = Boolean(state.get("y") || state.get("superY") || this.companions.row.length);
      const headWidth = this.isNarrow || !hasHead ? 0 : Math.round(Math.min(260, Math.max(150, width * 0.15)));
      this.headHeight = this.isNarrow && hasHead ? 46 : 0;
      this.headWidth = headWidth;
      this.side = state.get("size") || this.fit(width - headWidth, height);
      this.pictureHeight = Math.round(this.side * this.aspect());
      this.cellWidth = this.side + GAP;
      this.rowHeight = this.pictureHeight + CAPTION + GAP + this.headHeight;
      this.totalWidth = headWidth + this.stacks.length * this.cellWidth + GAP;
      this.node.style.setProperty("--side", `${this.side}px`);
      this.node.style.setProperty("--picture-height", `${this.pictureHeight}px`);
      this.node.style.setProperty("--head-width", `${headWidth}px`);
      this.node.style.setProperty("--head-height", `${this.headHeight}px`);
      this.node.style.setProperty("--view-width", `${width}px`);
      this.node.classList.toggle("narrow", this.isNarrow);
      this.node.classList.toggle("low", this.pictureHeight < 132);
      this.node.classList.toggle("tiny", this.pictureHeight < 100);
      this.node.setAttribute("aria-rowcount", this.lines.length + 1);
      this.node.setAttribute("aria-colcount", this.stacks.length + 1);
      this.body.style.height = `${this.lines.length * this.rowHeight}px`;
      this.body.style.width = this.head.style.width = `${Math.max(this.totalWidth, width)}px`;
      const [row, column] = this.active;
      this.active = [Math.min(row, this.lines.length - 1), Math.min(column, this.stacks.length - 1)];
      this.drawHead();
      this.clear();
      this.atOnce(() => this.render());
    }

    /** Index pairs of two axes of which either may be missing. */
    combinations(outer, inner) {
      const { state } = this.app;
      const indices = (axis) => (axis ? state.shownIndices(axis) : [null]);
      return indices(outer).flatMap((first) => indices(inner).map((second) => [first, second]));
    }

    cellAt(row, column) {
      const { state, model } = this.app;
      const indices = [...this.base];
      const put = (axis, index) => {
        if (axis) indices[model.axisIndex.get(axis)] = index;
      };
      put(state.get("superY"), this.lines[row][0]);
      put(state.get("y"), this.lines[row][1]);
      put(state.get("superX"), this.stacks[column][0]);
      put(state.get("x"), this.stacks[column][1]);
      return model.cellAt(indices);
    }

    /** Row and column of a cell in the present view, or null. */
    positionOf(cell) {
      const { state, model } = this.app;
      const place = model.placeOf(cell);
      if (!place) return null;
      const at = (axis) => (axis ? place[model.axisIndex.get(axis)] : null);
      const find = (pairs, outer, inner) => pairs.findIndex(([first, second]) => first === at(outer) && second === at(inner));
      const row = find(this.lines, state.get("superY"), state.get("y"));
      const column = find(this.stacks, state.get("superX"), state.get("x"));
      if (row < 0 || column < 0) return null;
      if (this.cellAt(row, column) === cell) return [row, column];
      return null;
    }

    /** Reference and baseline: beside a row that shares them, else above a column that does. */
    findCompanions() {
      const { model } = this.app;
      const kinds = [
        ["reference", (cell) => model.references(cell).join()],
        ["baseline", (cell) => (model.baseline(cell) === V.NONE ? "" : String(model.image(model.baseline(cell))))],
      ];
      this.companions = { row: [], column: [] };
      const constant = (outerCount, innerCount, at, look) => {
        let found = false;
        for (let outer = 0; outer < outerCount; outer++) {
          let first = null;
          for (let inner = 0; inner < innerCount; inner++) {
            const cell = at(outer, inner);
            if (cell === V.NONE) continue;
            const own = look(cell);
            if (first === null) first = own;
            else if (own !== first) return false;
          }
          found = found || Boolean(first) && first !== "-1";
        }
        return found;
      };
      for (const [kind, look] of kinds) {
        const rows = this.lines.length;
        const columns = this.stacks.length;
        if (constant(rows, columns, (row, column) => this.cellAt(row, column), look)) this.companions.row.push(kind);
        else if (constant(columns, rows, (column, row) => this.cellAt(row, column), look)) this.companions.column.push(kind);
      }
    }

    fit(width, height) {
      const space = Math.floor((width - GAP) / this.stacks.length) - GAP;
      const most = Math.min(MOST, Math.max(140, Math.floor(height * 0.62)));
      if (space >= 72) return Math.min(most, space);
      return this.isNarrow ? 88 : 112;
    }

    aspect() {
      const { model } = this.app;
      const image = model.data.cells.images.find((at) => at !== V.NONE);
      if (image === undefined) return 1;
      const [width, height] = model.imageSize(image);
      return Math.min(2, Math.max(0.4, height / width));
    }

    drawHead() {
      const { state, model } = this.app;
      const [x, y, superX, superY] = ["x", "y", "superX", "superY"].map((name) => state.get(name));
      const corner = V.el("div.corner", { role: "columnheader" }, V.el("span", {}, [superY, y].filter(Boolean).join(" · ") || " ", y ? " ↓" : ""), V.el("span", {}, [superX, x].filter(Boolean).join(" · "), " →"));
      const left = (column) => `${this.headWidth + column * this.cellWidth}px`;
      const band = [];
      if (superX) {
        const inner = state.shownIndices(x).length;
        for (let column = 0; column < this.stacks.length; column += inner) {
          const label = model.axis(superX).labels[this.stacks[column][0]];
          band.push(V.el("div.band", { style: { left: left(column), width: `${inner * this.cellWidth - GAP}px` } }, V.el("span", { dir: "auto" }, V.el("span.dim", {}, `${superX} `), label)));
        }
      }
      const labels = this.stacks.map(([, index], column) => {
        const axis = model.axis(x);
        return V.el(
          "div.column-label",
          { role: "columnheader", "aria-colindex": column + 2, title: axis.details[index] || `${x} ${axis.labels[index]}`, style: { left: left(column) } },
          V.el("span.label-text", { dir: "auto" }, V.el("span.dim", {}, `${x} `), axis.labels[index]),
          this.companions.column.length ? V.el("div.companions", {}, V.companions(this.app, this.cellAt(0, column), this.companions.column, -1)) : null,
        );
      });
      this.head.classList.toggle("with-companions", this.companions.column.length > 0);
      this.head.classList.toggle("with-band", Boolean(superX));
      V.fill(this.head, superX ? V.el("div.bands", { "aria-hidden": "true" }, band) : null, V.el("div.labels", { role: "row", "aria-rowindex": 1 }, corner, labels));
    }

    clear() {
      this.body.replaceChildren();
      this.rows.clear();
    }

    schedule() {
      if (this.frame) return;
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.render();
      });
    }

    /** Puts rows and columns into the page that came into view, and takes out those that left it. */
    render() {
      if (!this.lines || !this.node.clientWidth) return;
      const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.node;
      const range = (start, length, size, count) => [Math.max(0, Math.floor(start / size) - OVERSCAN), Math.min(count - 1, Math.ceil((start + length) / size) + OVERSCAN)];
      const [firstRow, lastRow] = range(scrollTop, clientHeight, this.rowHeight, this.lines.length);
      const [firstColumn, lastColumn] = range(scrollLeft, clientWidth - this.headWidth, this.cellWidth, this.stacks.length);
      this.visible = { firstRow, lastRow, firstColumn, lastColumn };
      this.follow(scrollTop, scrollLeft);
      for (const [row, entry] of this.rows) {
        if (row < firstRow || row > lastRow) {
          if (entry.node.contains(document.activeElement)) this.node.focus({ preventScroll: true });
          entry.node.remove();
          this.rows.delete(row);
        }
      }
      const added = [];
      for (let row = firstRow; row <= lastRow; row++) {
        let entry = this.rows.get(row);
        if (!entry) {
          entry = { node: this.rowNode(row), cells: new Map() };
          this.rows.set(row, entry);
          this.body.append(entry.node);
          added.push(entry.node);
        }
        for (const [column, node] of entry.cells) {
          if (column < firstColumn || column > lastColumn) {
            node.remove();
            entry.cells.delete(column);
          }
        }
        for (let column = firstColumn; column <= lastColumn; column++) {
          if (entry.cells.has(column)) continue;
          const node = this.cellNode(row, column);
          entry.cells.set(column, node);
          entry.node.append(node);
        }
      }
      this.fitLabels(added);
      this.pictures.next();
    }

    /** Notes where the grid is. Where it leaps, its pictures wait until it rests. */
    follow(top, left) {
      const [oldTop, oldLeft] = this.place || [top, left];
      const isLeap = Math.abs(top - oldTop) > this.node.clientHeight / 2 || Math.abs(left - oldLeft) > this.node.clientWidth / 2;
      if (isLeap) this.pictures.hold(REST);
      this.place = [top, left];
    }

    isInView(row, column) {
      const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.node;
      const [top, left] = [row * this.rowHeight - scrollTop, column * this.cellWidth - scrollLeft];
      if (top <= -this.rowHeight || top >= clientHeight) return false;
      return column === LABEL || (left > -this.cellWidth && left < clientWidth - this.headWidth);
    }

    rowNode(row) {
      const { state, model } = this.app;
      const [outer, inner] = this.lines[row];
      const texts = V.el("div.label-texts");
      const head = V.el("div.row-label", { role: "rowheader" }, texts);
      const [y, superY] = [state.get("y"), state.get("superY")];
      if (superY) texts.append(V.el("span.super-label", { dir: "auto" }, V.el("span.dim", {}, `${superY} `), V.name(model.axis(superY).labels[outer])));
      if (y) {
        const axis = model.axis(y);
        const [label, detail] = [axis.labels[inner], axis.details[inner]];
        texts.append(V.el(`span.label-text${label.length > LONG_LABEL ? ".long" : ""}`, { dir: "auto", title: detail ? `${label}: ${detail}` : label }, V.el("span.dim", {}, `${y} `), V.el("span.name", {}, V.name(label))));
        if (detail) texts.append(V.el("span.detail", { dir: "auto", title: detail }, detail.slice(0, 400)));
      }
      const cell = this.companions.row.length ? this.firstCellOf(row) : V.NONE;
      if (cell !== V.NONE) head.append(V.el("div.companions", {}, V.companions(this.app, cell, this.companions.row, -1, this.showing(row, LABEL))));
      return V.el(
        "div.grid-row",
        { role: "row", "aria-rowindex": row + 2, style: { transform: `translateY(${row * this.rowHeight}px)`, height: `${this.rowHeight}px` } },
        head,
      );
    }

    /** Cuts the texts of row labels to whole lines: first the name, then the text in what is left of the height. */
    fitLabels(rows) {
      // All are read before the first is changed: the browser works out the page once.
      const measured = rows.map((row) => {
        const texts = row.querySelector(".label-texts");
        const [outer, name, detail] = [".super-label", ".label-text", ".detail"].map((selector) => texts.querySelector(selector));
        const height = (node) => (node ? node.offsetHeight : 0);
        const line = (node) => (node ? parseFloat(getComputedStyle(node).lineHeight) : 1);
        const room = texts.clientHeight - (this.isNarrow || !outer ? 0 : height(outer) + TEXT_GAP);
        return { name, detail, room, nameLine: line(name), nameHeight: name ? name.scrollHeight : 0, detailLine: line(detail) };
      });
      for (const { name, detail, room, nameLine, nameHeight, detailLine } of measured) {
        if (!name) continue;
        const fitting = Math.max(1, Math.floor(room / nameLine));
        const needed = Math.round(nameHeight / nameLine);
        name.style.setProperty("--lines", fitting);
        if (needed > fitting) this.cutName(name.querySelector(".name"), fitting / needed);
        if (!detail) continue;
        const left = this.isNarrow ? room : room - Math.min(fitting, needed) * nameLine - TEXT_GAP;
        const lines = Math.floor(left / detailLine);
        detail.hidden = lines < 1;
        detail.style.setProperty("--lines", lines);
      }
    }

    /** Takes letters out of the middle: names such as text_tokens_alpha_0.5 differ in their last ones. */
    cutName(node, share) {
      const letters = [...node.textContent];
      const kept = Math.max(2 * LAST_LETTERS, Math.floor(letters.length * share) - 3);
      if (kept < letters.length) V.fill(node, V.name(letters.slice(0, kept - LAST_LETTERS).join("")), "…", V.name(letters.slice(-LAST_LETTERS).join("")));
    }

    firstCellOf(row) {
      for (let column = 0; column < this.stacks.length; column++) {
        const cell = this.cellAt(row, column);
        if (cell !== V.NONE) return cell;
      }
      return V.NONE;
    }

    cellNode(row, column) {
      const isActive = row === this.active[0] && column === this.active[1];
      const node = V.el("div.cell", {
        role: "gridcell", tabIndex: isActive ? 0 : -1, "aria-colindex": column + 2, "data-row": row, "data-column": column,
        style: { left: `${this.headWidth + column * this.cellWidth}px` },
      });
      this.drawCell(node, row, column);
      return node;
    }

    drawCell(node, row, column) {
      const cell = this.cellAt(row, column);
      V.fill(node, V.cellContent(this.app, cell, this.side, this.showing(row, column)));
      node.setAttribute("aria-label", V.cellName(this.app, cell));
      node.classList.toggle("pinned", cell !== V.NONE && this.app.state.get("pin") === this.app.model.id(cell));
      if (cell !== V.NONE) this.app.heat.paint(node, cell);
    }

    /** Draws again the cells that are in the page, without moving anything. */
    refresh() {
      this.atOnce(() => {
        for (const [row, entry] of this.rows) for (const [column, node] of entry.cells) this.drawCell(node, row, column);
      });
    }

    /** How a picture at a row and column gets its source: at once, or when its turn comes. */
    showing(row, column) {
      return this.isFilledIn ? (picture, url) => this.pictures.add(picture, url, row, column) : undefined;
    }

    /** Another view of the same cells comes with its pictures; where the grid scrolls, they are filled in. */
    atOnce(draw) {
      this.isFilledIn = false;
      draw();
      this.isFilledIn = true;
    }

    nodeOf(row, column) {
      return this.rows.get(row)?.cells.get(column);
    }

    /** Makes a cell the one that keys act on, and scrolls it into view. */
    activate(row, column, hasFocus) {
      const old = this.nodeOf(...this.active);
      if (old) old.tabIndex = -1;
      this.active = [row, column];
      const head = this.head.offsetHeight;
      const view = { top: this.node.scrollTop, left: this.node.scrollLeft, height: this.node.clientHeight - head, width: this.node.clientWidth - this.headWidth };
      const top = row * this.rowHeight;
      const left = column * this.cellWidth;
      if (top < view.top) this.node.scrollTop = top;
      else if (top + this.rowHeight > view.top + view.height) this.node.scrollTop = top + this.rowHeight - view.height;
      if (left < view.left) this.node.scrollLeft = left;
      else if (left + this.cellWidth > view.left + view.width) this.node.scrollLeft = left + this.cellWidth + GAP - view.width;
      this.render();
      const node = this.nodeOf(row, column);
      if (node) node.tabIndex = 0;
      if (node && hasFocus) node.focus({ preventScroll: true });
    }

    /** The cell in the upper left corner of what is in view, or "" where nothing is scrolled away. */
    get firstInView() {
      const { scrollTop, scrollLeft } = this.node;
      const row = Math.min(Math.round(scrollTop / this.rowHeight), this.lines.length - 1);
      const column = Math.min(Math.round(scrollLeft / this.cellWidth), this.stacks.length - 1);
      const cell = row || column ? this.cellAt(row, column) : V.NONE;
      return cell === V.NONE ? "" : this.app.model.id(cell);
    }

    /** Scrolls a cell into the upper left corner. */
    scrollToCell(id) {
      const place = id && this.lines ? this.positionOf(this.app.model.cellOfId.get(id)) : null;
      if (!place) return;
      this.node.scrollTop = place[0] * this.rowHeight;
      this.node.scrollLeft = place[1] * this.cellWidth;
      this.render();
    }

    get activeCell() {
      return this.lines && this.lines.length && this.stacks.length ? this.cellAt(...this.active) : V.NONE;
    }

    placeOfEvent(event) {
      const node = event.target.closest(".cell");
      return node ? [Number(node.dataset.row), Number(node.dataset.column)] : null;
    }

    onClick(event) {
      const place = this.placeOfEvent(event);
      if (!place) return;
      this.activate(...place, true);
      const cell = this.cellAt(...place);
      if (cell !== V.NONE) this.app.open(cell);
    }

    onFocus(event) {
      const place = this.placeOfEvent(event);
      if (!place) return;
      const old = this.nodeOf(...this.active);
      if (old) old.tabIndex = -1;
      this.active = place;
      event.target.closest(".cell").tabIndex = 0;
      this.app.inspect(this.cellAt(...place));
    }

    onPoint(event) {
      const place = this.placeOfEvent(event);
      if (place) this.app.inspect(this.cellAt(...place));
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || !event.target.closest(".cell, .grid")) return;
      const [row, column] = this.active;
      const page = Math.max(1, Math.floor(this.node.clientHeight / this.rowHeight));
      const moves = {
        ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
        Home: [row, 0], End: [row, this.stacks.length - 1], PageUp: [row - page, column], PageDown: [row + page, column],
      };
      if (moves[event.key]) {
        event.preventDefault();
        this.move(...moves[event.key], true);
      } else if (event.key === "Enter" || event.key === " ") {
        if (event.target.closest("button")) return;
        event.preventDefault();
        if (this.activeCell !== V.NONE) this.app.open(this.activeCell);
      }
    }

    move(row, column, hasFocus) {
      const clamp = (value, count) => Math.min(count - 1, Math.max(0, value));
      this.activate(clamp(row, this.lines.length), clamp(column, this.stacks.length), hasFocus);
    }
  }

  V.Grid = Grid;
})(window.Viewer);

// What the page knows of the experiment: cells, axes, columns and images. Cells are numbers: rows of the table of cells.
"use strict";
(function (V) {
  const NONE = -1;
  const DIFFERENCE = "difference_to_baseline";

  class Model {
    constructor(data) {
      this.data = data;
      this.axes = data.axes;
      this.count = data.cells.ids.length;
      this.axisIndex = new Map(this.axes.map((axis, index) => [axis.name, index]));
      this.strides = this.axes.map(() => 1);
      for (let axis = this.axes.length - 2; axis >= 0; axis--) {
        this.strides[axis] = this.strides[axis + 1] * this.axes[axis + 1].labels.length;
      }
      this.columns = new Map(data.columns.map((column) => [column.name, column]));
      this.cellOfId = new Map(data.cells.ids.map((id, cell) => [id, cell]));
      this.noOps = new Map();
      for (const setting of data.no_ops.settings) {
        for (const [cell, other] of setting.pairs) this.noOps.set(cell, { ...setting, other });
      }
      this.recipeRow = new Map(data.recipe.cells.map((id, row) => [id, row]));
      this.firstPlaces = null;
    }

    /** Axes with more than one value. */
    get varying() {
      return this.axes.filter((axis) => axis.labels.length > 1);
    }

    axis(name) {
      return this.axes[this.axisIndex.get(name)];
    }

    /** The cell at one index for each axis. */
    cellAt(indices) {
      let place = 0;
      for (let axis = 0; axis < indices.length; axis++) place += indices[axis] * this.strides[axis];
      return this.data.places[place];
    }

    /** One index for each axis: the first place where a cell is, or null for a baseline. */
    placeOf(cell) {
      if (!this.firstPlaces) {
        this.firstPlaces = new Int32Array(this.count).fill(NONE);
        const places = this.data.places;
        for (let place = places.length - 1; place >= 0; place--) if (places[place] !== NONE) this.firstPlaces[places[place]] = place;
      }
      const place = this.firstPlaces[cell];
      if (place === NONE) return null;
      return this.axes.map((axis, index) => Math.floor(place / this.strides[index]) % axis.labels.length);
    }

    id(cell) {
      return this.data.cells.ids[cell];
    }

    role(cell) {
      const { texts, codes } = this.data.cells.roles;
      return texts[codes[cell]];
    }

    status(cell) {
      const { texts, codes } = this.data.cells.statuses;
      return texts[codes[cell]];
    }

    error(cell) {
      const { texts, codes } = this.data.cells.errors;
      return texts[codes[cell]];
    }

    image(cell) {
      return cell === NONE ? NONE : this.data.cells.images[cell];
    }

    baseline(cell) {
      return this.data.cells.baselines[cell];
    }

    sameAs(cell) {
      return this.data.cells.same_as[cell];
    }

    sameUpToScale(cell) {
      return this.data.cells.same_up_to_scale[cell];
    }

    /** Images of the references of a cell. */
    references(cell) {
      const { sets, codes } = this.data.cells.references;
      return sets[codes[cell]];
    }

    imageKey(image) {
      return this.data.images.keys[image];
    }

    thumbnailUrl(image) {
      return `thumbnails/${encodeURIComponent(this.imageKey(image))}.webp`;
    }

    imageFile(image) {
      const key = this.imageKey(image);
      return this.data.images.files[key] || `${key}.png`;
    }

    imageUrl(image) {
      return `images/${encodeURIComponent(this.imageFile(image))}`;
    }

    imageSize(image) {
      return [this.data.images.widths[image] || 1, this.data.images.heights[image] || 1];
    }

    /** The value of a column: a number, text, or null where the cell has none. */
    value(name, cell) {
      const column = this.columns.get(name);
      if (!column || cell === NONE) return null;
      if (column.numbers) return column.numbers[cell];
      return column.texts[column.codes ? column.codes[cell] : 0] || null;
    }

    get numericColumns() {
      return this.data.columns.filter((column) => column.numbers);
    }

    get scoreColumns() {
      return this.numericColumns.filter((column) => column.group === "score" || column.name === DIFFERENCE);
    }

    /** Values of the axes at a cell, as [axis, label, detail], for axes with more than one value. */
    coordinates(cell) {
      const place = this.placeOf(cell);
      if (!place) return [];
      return this.axes
        .map((axis, index) => [axis, place[index]])
        .filter(([axis]) => axis.labels.length > 1 || axis.name === "prompt")
        .map(([axis, index]) => [axis.name, axis.labels[index], axis.details[index] || ""]);
    }

    /** A cell in words: "red_circle, alpha 0.5, seed 42". */
    describe(cell) {
      if (cell === NONE) return "no cell";
      const coordinates = this.coordinates(cell);
      const words = coordinates.map(([name, label]) => (name === "prompt" || name === "setting" ? label : `${name} ${label}`));
      if (words.length) return words.join(", ");
      const prompt = this.value("prompt_name", cell) || this.value("prompt", cell) || "";
      const role = this.role(cell) === "baseline" ? "text alone" : this.role(cell);
      return [role, prompt, `seed ${this.value("seed", cell)}`].filter(Boolean).join(", ");
    }

    /** What tells another cell from this one: "hidden_layer -6". */
    difference(cell, other) {
      const own = new Map(this.coordinates(cell).map(([name, label]) => [name, label]));
      const theirs = this.coordinates(other);
      if (!own.size || !theirs.length) return this.describe(other);
      const words = theirs.filter(([name, label]) => own.get(name) !== label).map(([name, label]) => `${name} ${label}`);
      return words.join(", ") || this.describe(other);
    }

    prompt(cell) {
      return this.value("prompt", cell) || "";
    }

    /** Cells with a place in the experiment, without those whose values are hidden. */
    *shownCells(hidden) {
      const places = this.data.places;
      const masks = this.axes.map((axis) => hidden[axis.name]);
      for (let place = 0; place < places.length; place++) {
        if (places[place] === NONE) continue;
        const isHidden = masks.some((mask, axis) => mask && mask.has(Math.floor(place / this.strides[axis]) % this.axes[axis].labels.length));
        if (!isHidden) yield places[place];
      }
    }

    /** The content of an experiment file that makes exactly this cell. */
    yaml(cell) {
      const row = this.recipeRow.get(this.id(cell));
      const lines = [];
      const beside = [];
      for (const { key, texts, codes, top } of this.data.recipe.lines) {
        const text = texts[codes ? codes[row] : 0];
        if (text) (top ? beside : lines).push(`${top ? "" : "  "}${key}: ${text}\n`);
      }
      const title = JSON.stringify(`One cell of ${this.data.experiment}: ${this.id(cell)}`);
      return `title: ${title}\nbase:\n${lines.join("")}${beside.join("")}`;
    }

    /**
     * What is known of a cell, as [{name, rows: [[key, value, meaning]]}].
     * Parameters that are equal for all cells come last.
     */
    facts(cell) {
      const sections = [
        { name: "Conditioning", group: "conditioning", rows: [] },
        { name: "Scores", group: "score", rows: [] },
        { name: "Parameters", group: "parameter", rows: [] },
        { name: "The same for all cells", group: "constant", rows: [] },
      ];
      const baseline = this.baseline(cell);
      for (const column of this.data.columns) {
        const value = this.value(column.name, cell);
        if (value === null || column.name === "warnings") continue;
        const isConstant = !column.numbers && !column.codes;
        const group = column.group === "image" ? "conditioning" : isConstant && column.group === "parameter" ? "constant" : column.group;
        let text = column.numbers ? V.number(value) : value;
        const other = this.value(column.name, baseline);
        if (column.group === "score" && column.numbers && other !== null && baseline !== cell) text += ` (${V.number(value - other, true)})`;
        sections.find((section) => section.group === group).rows.push([column.name, text, column.meaning || ""]);
      }
      return sections.filter((section) => section.rows.length);
    }
  }

  V.DIFFERENCE = DIFFERENCE;
  V.NONE = NONE;
  V.Model = Model;
})(window.Viewer);

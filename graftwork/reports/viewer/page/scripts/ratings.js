// Ratings, favourites and choices: kept in the browser, written to a file that the workflow reads as a score.
"use strict";
(function (V) {
  const CSV_COLUMNS = ["kind", "image", "cell", "stars", "favourite", "blind", "at", "rater", "axis", "other_image", "other_cell", "chosen"];

  /** Ratings belong to images, not to cells: cells with the same image share them. */
  class Ratings {
    constructor(model) {
      this.model = model;
      this.place = `graftwork-ratings:${model.data.experiment}`;
      this.rater = "";
      this.ratings = new Map();
      this.choices = [];
      this.listeners = [];
      const kept = V.storage.read(this.place);
      if (kept) {
        try {
          this.take(JSON.parse(kept));
        } catch (error) {
          // Of another program, or damaged.
        }
      }
    }

    onChange(listener) {
      this.listeners.push(listener);
    }

    stars(cell) {
      return this.ratings.get(this.digest(cell))?.stars || 0;
    }

    isFavourite(cell) {
      return Boolean(this.ratings.get(this.digest(cell))?.favourite);
    }

    get count() {
      return [...this.ratings.values()].filter((rating) => rating.stars || rating.favourite).length;
    }

    /** What an image is known by, in the file too: the digest of its bytes. */
    digest(cell) {
      const image = this.model.image(cell);
      if (image === V.NONE) return "";
      return this.model.data.images.sha256[image] || this.model.imageKey(image);
    }

    rate(cell, change, blind) {
      const digest = this.digest(cell);
      if (!digest) return;
      const known = this.ratings.get(digest) || { image: digest, cell: this.model.id(cell), stars: null, favourite: false };
      const rating = { ...known, ...change, blind: Boolean(blind), at: new Date().toISOString() };
      if (!rating.stars && !rating.favourite) this.ratings.delete(digest);
      else this.ratings.set(digest, rating);
      this.keep();
    }

    /** One to five stars; the same number again takes them away. */
    rateStars(cell, stars, blind) {
      this.rate(cell, { stars: this.stars(cell) === stars ? null : stars }, blind);
      V.say(this.stars(cell) ? `Rated ${stars} of 5.` : "Rating removed.");
    }

    toggleFavourite(cell, blind) {
      this.rate(cell, { favourite: !this.isFavourite(cell) }, blind);
      V.say(this.isFavourite(cell) ? "Favourite." : "No longer a favourite.");
    }

    choose(first, second, chosen, axis) {
      const side = (cell) => ({ image: this.digest(cell), cell: this.model.id(cell) });
      this.choices.push({ a: side(first), b: side(second), chosen, axis, blind: true, at: new Date().toISOString() });
      this.keep();
    }

    removeLastChoice() {
      this.choices.pop();
      this.keep();
    }

    clear() {
      this.ratings.clear();
      this.choices = [];
      this.keep();
    }

    keep() {
      V.storage.write(this.place, JSON.stringify(this.toJson()));
      for (const listener of this.listeners) listener();
    }

    toJson() {
      return {
        format: "graftwork-ratings",
        version: 1,
        experiment: this.model.data.experiment,
        rater: this.rater,
        ratings: [...this.ratings.values()],
        choices: this.choices,
      };
    }

    toCsv() {
      const rows = [CSV_COLUMNS];
      for (const item of this.ratings.values()) {
        rows.push(["rating", item.image, item.cell, item.stars || "", item.favourite ? 1 : 0, item.blind ? 1 : 0, item.at, this.rater, "", "", "", ""]);
      }
      for (const item of this.choices) {
        rows.push(["choice", item.a.image, item.a.cell, "", "", item.blind ? 1 : 0, item.at, this.rater, item.axis, item.b.image, item.b.cell, item.chosen]);
      }
      return V.csv(rows);
    }

    /** Adds the ratings of a file. Returns how many there were. */
    load(text) {
      const trimmed = text.trimStart();
      return this.take(trimmed.startsWith("{") ? JSON.parse(text) : this.fromCsv(text));
    }

    fromCsv(text) {
      const [header, ...rows] = V.parseCsv(text);
      if (!header || header.join() !== CSV_COLUMNS.join()) throw new Error(`the first line is not ${CSV_COLUMNS.join(",")}`);
      const file = { format: "graftwork-ratings", version: 1, rater: rows[0]?.[7] || "", ratings: [], choices: [] };
      for (const row of rows) {
        const item = Object.fromEntries(header.map((name, index) => [name, row[index] || ""]));
        const more = { blind: item.blind === "1", at: item.at };
        if (item.kind === "rating") file.ratings.push({ image: item.image, cell: item.cell, stars: Number(item.stars) || null, favourite: item.favourite === "1", ...more });
        else file.choices.push({ a: { image: item.image, cell: item.cell }, b: { image: item.other_image, cell: item.other_cell }, chosen: item.chosen, axis: item.axis, ...more });
      }
      return file;
    }

    take(file) {
      if (file.format !== "graftwork-ratings" || file.version !== 1) throw new Error("this is no file of ratings of this version");
      const known = new Set(this.choices.map((choice) => JSON.stringify(choice)));
      this.rater = this.rater || String(file.rater || "");
      for (const rating of file.ratings) this.ratings.set(String(rating.image), rating);
      for (const choice of file.choices) if (!known.has(JSON.stringify(choice))) this.choices.push(choice);
      for (const listener of this.listeners) listener();
      return file.ratings.length + file.choices.length;
    }
  }

  V.Ratings = Ratings;
})(window.Viewer);

// Elements, files and storage. Every text becomes a text node: nothing here parses markup.
"use strict";
window.Viewer = window.Viewer || {};
(function (V) {
  /**
   * Makes an element.
   * @param {string} tag - Name, with classes after dots: "button.primary".
   * @param {Object} [props] - Properties (textContent, value, ...). `on` has listeners, `style` CSS properties, and names with
   *   a hyphen, `role` and `for` are attributes.
   * @param {...(Node|string|null|Array)} children - Text becomes text nodes.
   */
  V.el = function (tag, props, ...children) {
    const [name, ...classes] = tag.split(".");
    const node = document.createElement(name);
    if (classes.length) node.className = classes.join(" ");
    for (const [key, value] of Object.entries(props || {})) {
      if (value === undefined || value === null) continue;
      if (key === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
      else if (key === "style") for (const [rule, text] of Object.entries(value)) node.style.setProperty(rule, text);
      else if (key.includes("-") || key === "role" || key === "for") node.setAttribute(key, value);
      else node[key] = value;
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return node;
  };

  /** Replaces what is in a node. */
  V.fill = function (node, ...children) {
    node.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return node;
  };

  /**
   * Puts new controls in the place of old ones. The focus stays on its control: where it is lost, keys do nothing.
   * @param {?Element} fallback - What gets the focus where its control is gone.
   */
  V.refill = function (node, fallback, ...children) {
    const nameOf = (control) => control.dataset.key || control.getAttribute("aria-label") || control.textContent;
    const name = node.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    V.fill(node, ...children);
    if (name === null) return;
    const same = [...node.querySelectorAll("button, select, summary, [tabindex]")].find((control) => nameOf(control) === name && !control.disabled);
    (same || fallback)?.focus({ preventScroll: true });
  };

  /** A name such as follows_prompt_shape, that may break after each underscore. */
  V.name = function (text) {
    return text.split("_").flatMap((part, index) => (index ? ["_", document.createElement("wbr"), part] : [part]));
  };

  V.button = function (text, onClick, props) {
    return V.el("button", { type: "button", on: { click: onClick }, ...props }, text);
  };

  /** A labelled <select>. Options are [value, text] or {group, options}. */
  V.select = function (label, options, value, onChange, props) {
    const option = ([key, text]) => V.el("option", { value: key, textContent: text, selected: key === value });
    const select = V.el(
      "select",
      { on: { change: (event) => onChange(event.target.value) }, ...props },
      options.map((entry) => (Array.isArray(entry) ? option(entry) : V.el("optgroup", { label: entry.group }, entry.options.map(option)))),
    );
    return V.el("label.field", {}, V.el("span.field-name", {}, label), select);
  };

  /** Tells people, and screen readers, what has happened. */
  V.say = function (text) {
    const place = document.getElementById("messages");
    if (!place) return;
    // Behind an open dialog it would neither be seen nor read out.
    const host = [...document.querySelectorAll("dialog[open]")].pop() || document.body;
    if (place.parentNode !== host) host.append(place);
    place.textContent = text;
    place.classList.add("shown");
    clearTimeout(V.say.timer);
    V.say.timer = setTimeout(() => place.classList.remove("shown"), 4000);
  };

  /** Hands a file to the browser to save. */
  V.download = function (name, content, type) {
    const blob = content instanceof Blob ? content : new Blob([content], { type });
    const url = URL.createObjectURL(blob);
    const link = V.el("a", { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  };

  /**
   * Copies text; where the browser refuses, shows it selected in a dialog to copy by hand.
   * @param {string} [hint] - What else to know of it.
   */
  V.copy = async function (text, what, hint) {
    const said = [`Copied ${what}.`, hint].filter(Boolean).join(" ");
    try {
      await navigator.clipboard.writeText(text);
      V.say(said);
      return;
    } catch (error) {
      // Not allowed in an iframe or from a disk: the old way, then by hand.
    }
    const area = V.el("textarea.copy-area", { value: text, readOnly: true, "aria-label": what });
    const host = document.querySelector("dialog[open]") || document.body;
    host.append(area);
    area.select();
    let copied = false;
    try {
      copied = document.execCommand("copy");
    } catch (error) {
      copied = false;
    }
    if (copied) {
      area.remove();
      V.say(said);
      return;
    }
    const done = V.button("Close", () => dialog.close());
    const dialog = V.el("dialog.plain", { "aria-label": `Copy ${what}` }, V.el("p", {}, [`Copy ${what} with Ctrl+C.`, hint].filter(Boolean).join(" ")), area, done);
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    area.select();
  };

  // In an iframe of a report, even to look at localStorage may throw.
  V.storage = {
    kept: true,
    read(key) {
      try {
        return window.localStorage.getItem(key);
      } catch (error) {
        this.kept = false;
        return null;
      }
    },
    write(key, text) {
      try {
        window.localStorage.setItem(key, text);
      } catch (error) {
        this.kept = false;
      }
      return this.kept;
    },
  };

  V.csv = function (rows) {
    const field = (value) => {
      const text = value === null || value === undefined ? "" : String(value);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return rows.map((row) => row.map(field).join(",") + "\n").join("");
  };

  /** Reads CSV (RFC 4180) into rows of text. */
  V.parseCsv = function (text) {
    const rows = [];
    let row = [];
    let field = "";
    let quoted = false;
    for (let at = 0; at < text.length; at++) {
      const char = text[at];
      if (quoted) {
        if (char === '"' && text[at + 1] === '"') {
          field += '"';
          at++;
        } else if (char === '"') quoted = false;
        else field += char;
      } else if (char === '"') quoted = true;
      else if (char === ",") {
        row.push(field);
        field = "";
      } else if (char === "\n") {
        row.push(field.replace(/\r$/, ""));
        rows.push(row);
        row = [];
        field = "";
      } else field += char;
    }
    if (field || row.length) rows.push([...row, field]);
    return rows;
  };

  /** Numbers that follow from a seed (mulberry32): a shuffled order that a link can repeat. */
  V.random = function (seed) {
    let state = seed >>> 0;
    return function () {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  };

  V.shuffled = function (items, random) {
    const shuffled = [...items];
    for (let last = shuffled.length - 1; last > 0; last--) {
      const other = Math.floor(random() * (last + 1));
      [shuffled[last], shuffled[other]] = [shuffled[other], shuffled[last]];
    }
    return shuffled;
  };

  /** A number in at most four digits, with a real minus sign. */
  V.number = function (value, signed) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    let text;
    if (Number.isInteger(value) && size < 1e6) text = String(size);
    else if (size !== 0 && (size < 0.001 || size >= 1e6)) text = size.toExponential(1);
    else text = String(Number(size.toPrecision(3)));
    if (value < 0) return `−${text}`;
    return signed && value > 0 ? `+${text}` : text;
  };
})(window.Viewer);

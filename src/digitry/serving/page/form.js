// Draws a template: fields on a picture of a form, with names and patterns, as TOML.

import { make } from "./marks.js";

const STEP = 0.005;
const LEAST = 0.01;
const LONG_SIDE = 1600;

const quoted = (text) => JSON.stringify(text).replaceAll("\u007f", "\\u007f");
const rounded = (share) => Number(share.toFixed(4));

/** The template as TOML, as `digitry.reading.template` writes it. */
export function tomlOf({ name, fields }, reference) {
  const lines = [`name = ${quoted(name)}`];
  if (reference) lines.push(`reference = ${quoted(reference)}`);
  for (const field of fields) {
    lines.push("", "[[fields]]", `name = ${quoted(field.name)}`, `box = [${field.box.map(rounded).join(", ")}]`);
    if (field.pattern) lines.push(`pattern = ${quoted(field.pattern)}`);
    if (field.empty) lines.push("empty = true");
  }
  return `${lines.join("\n")}\n`;
}

/** A picture as an upright JPEG that is no larger than a template needs. */
export async function reduced(image) {
  const scale = Math.min(1, LONG_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = make("canvas", {
    width: Math.max(1, Math.round(image.naturalWidth * scale)),
    height: Math.max(1, Math.round(image.naturalHeight * scale)),
  });
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

function within([x, y, w, h]) {
  const [wide, high] = [Math.min(Math.max(w, LEAST), 1), Math.min(Math.max(h, LEAST), 1)];
  return [Math.min(Math.max(x, 0), 1 - wide), Math.min(Math.max(y, 0), 1 - high), wide, high];
}

/** The fields of a form: boxes over its picture, and a list to name them in. */
export class Designer {
  /** @param {HTMLElement} overlay @param {HTMLElement} list @param {() => void} changed */
  constructor(overlay, list, changed) {
    this.overlay = overlay;
    this.list = list;
    this.changed = changed;
    this.fields = [];
    this.drag = null;
    overlay.addEventListener("pointerdown", (event) => this.down(event));
    // Else the browser selects the text of the page on the way. `down` sets the focus.
    overlay.addEventListener("mousedown", (event) => event.preventDefault());
    overlay.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) overlay.addEventListener(name, () => this.up());
  }

  add(box) {
    let number = this.fields.length + 1;
    const taken = new Set(this.fields.map(({ name }) => name.toLowerCase()));
    while (taken.has(`field${number}`)) number += 1;
    const field = { name: `field${number}`, pattern: "", empty: false, box: within(box) };
    this.fields.push(field);
    this.draw();
    return field;
  }

  /** Add a field below the last one: what the button does, for those who cannot drag. */
  addBelow() {
    const [x, y, w, h] = this.fields.at(-1)?.box ?? [0.3, 0.3, 0.4, 0.06];
    this.focusName(this.add([x, this.fields.length ? y + 1.5 * h : y, w, h]));
  }

  remove(field) {
    const index = this.fields.indexOf(field);
    this.fields.splice(index, 1);
    this.draw();
    const next = this.list.children[Math.min(index, this.fields.length - 1)];
    next?.querySelector("input").focus();
  }

  focusName(field) {
    const input = this.list.children[this.fields.indexOf(field)].querySelector("input");
    input.focus({ preventScroll: true });
    input.select();
  }

  point(event) {
    const area = this.overlay.getBoundingClientRect();
    return [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height]
      .map((share) => Math.min(Math.max(share, 0), 1));
  }

  down(event) {
    if (event.button !== 0) return;
    const box = event.target.closest(".field-box");
    const field = box && this.fields[Number(box.dataset.index)];
    const how = !field ? "draw" : event.target.closest(".handle") ? "size" : "move";
    event.preventDefault();
    box?.focus({ preventScroll: true });
    this.drag = { how, field, from: this.point(event), box: field && [...field.box] };
    this.overlay.setPointerCapture(event.pointerId);
  }

  move(event) {
    if (!this.drag) return;
    const { how, from, box } = this.drag;
    const [x, y] = this.point(event);
    const [dx, dy] = [x - from[0], y - from[1]];
    if (how === "draw") {
      // A click that trembles draws no field.
      if (!this.drag.field && Math.min(Math.abs(dx), Math.abs(dy)) < LEAST) return;
      this.drag.field ||= this.add([...from, LEAST, LEAST]);
      this.drag.drawn = true;
      this.drag.field.box = within([Math.min(x, from[0]), Math.min(y, from[1]), Math.abs(dx), Math.abs(dy)]);
    } else if (how === "move") this.drag.field.box = within([box[0] + dx, box[1] + dy, box[2], box[3]]);
    else this.drag.field.box = this.sized(box, dx, dy);
    this.place(this.drag.field);
  }

  up() {
    const { drag } = this;
    this.drag = null;
    if (!drag?.field) return;
    this.changed();
    if (drag.drawn) this.focusName(drag.field);
  }

  sized([x, y, w, h], dx, dy) {
    return [x, y, Math.min(Math.max(w + dx, LEAST), 1 - x), Math.min(Math.max(h + dy, LEAST), 1 - y)];
  }

  key(event, field) {
    const way = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (way) {
      event.preventDefault();
      const [x, y, w, h] = field.box;
      field.box = event.shiftKey ? this.sized(field.box, ...way) : within([x + way[0], y + way[1], w, h]);
      this.place(field);
      this.changed();
    } else if (event.key === "Delete") {
      event.preventDefault();
      this.remove(field);
    }
  }

  describe({ name, box }) {
    const [x, y, w, h] = box.map((share) => Math.round(100 * share));
    return `Field ${name}: ${x}% from the left, ${y}% from the top, ${w}% wide, ${h}% high`;
  }

  place(field) {
    const element = this.overlay.children[this.fields.indexOf(field)];
    ["left", "top", "width", "height"].forEach((side, index) => { element.style[side] = `${100 * field.box[index]}%`; });
    element.setAttribute("aria-label", this.describe(field));
    element.querySelector(".field-name").textContent = field.name;
    element.classList.toggle("high", field.box[1] < 0.05);
  }

  draw() {
    this.overlay.replaceChildren(...this.fields.map((field, index) => {
      const box = make("button", { type: "button", className: "field-box" },
        make("span", { className: "field-name" }), make("span", { className: "handle" }));
      box.dataset.index = String(index);
      box.addEventListener("keydown", (event) => this.key(event, field));
      return box;
    }));
    this.fields.forEach((field) => this.place(field));
    this.list.replaceChildren(...this.fields.map((field, index) => this.row(field, index + 1)));
    this.changed();
  }

  row(field, number) {
    const text = (key, label, properties) => {
      const input = make("input", { type: "text", value: field[key], spellcheck: false, autocomplete: "off", ...properties });
      input.setAttribute("autocapitalize", "off");
      input.addEventListener("input", () => {
        field[key] = input.value.trim();
        this.place(field);
        this.changed();
      });
      return make("label", {}, make("span", {}, label, make("span", { className: "hidden" }, ` of field ${number}`)), input);
    };
    const pattern = text("pattern", "Pattern", { placeholder: "\\d{5}", maxLength: 200 });
    pattern.querySelector("input").setAttribute("list", "patterns");
    const empty = make("input", { type: "checkbox", checked: field.empty });
    empty.addEventListener("change", () => { field.empty = empty.checked; this.changed(); });
    const away = make("button", { type: "button", "aria-label": `Remove field ${number}` }, "Remove");
    away.addEventListener("click", () => this.remove(field));
    return make("li", {}, text("name", "Name", { maxLength: 64 }), pattern,
      make("label", { className: "check" }, empty, " May be empty",
        make("span", { className: "hidden" }, ` (field ${number})`)), away);
  }
}

// Shows a reading: boxes over a picture, digits as buttons with marks between them, confidences in percent.

export const SURE = 0.9;

export function make(tag, properties = {}, ...children) {
  const { className, data, ...rest } = properties;
  const element = document.createElement(tag);
  if (className) element.className = className;
  for (const [name, value] of Object.entries(rest)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Never rounded up to 100%.
export function percent(share) {
  if (share >= 0.9995 && share < 1) return "99.9%";
  return `${(100 * share).toFixed(share >= 0.995 || share < 0.1 ? 1 : 0)}%`;
}

export function kindOf(digit, corrected) {
  if (corrected !== undefined) return "corrected";
  if (digit.value === null) return "refused";
  return digit.confidence >= SURE ? "sure" : "unsure";
}

export function textOf(digit, corrected) {
  if (corrected !== undefined) return corrected.label === "not a digit" ? "–" : corrected.label;
  return digit.value === null ? "?" : String(digit.value);
}

export function describe(digit, index, total, corrected) {
  const place = `Digit ${index + 1} of ${total}`;
  if (corrected) return `${place}: corrected to ${corrected.label}`;
  if (digit.value === null) return `${place}: refused, ${digit.reason}`;
  return `${place}: ${digit.value}, ${percent(digit.confidence)} sure`;
}

const MARKS = ".,-/:";

/**
 * The words of a reading, each { line, characters }; a character is { digit, index } or { mark }.
 * The characters of the words, in order, are the digits and the marks of the reading.
 */
export function wordsOf(reading) {
  let digits = 0;
  let marks = 0;
  return reading.words.map(({ line, text }) => ({
    line,
    characters: [...text].map((character) => {
      if (MARKS.includes(character)) return { mark: reading.marks[marks++] };
      const index = digits++;
      return { digit: reading.digits[index], index };
    }),
  }));
}

/** A box of the turned picture on the picture as it was sent. */
export function unturned([x, y, w, h], { width, height, turned }) {
  if (turned === 90) return [height - y - h, x, h, w];
  if (turned === 180) return [width - x - w, height - y - h, w, h];
  if (turned === 270) return [y, width - x - w, h, w];
  return [x, y, w, h];
}

/** Draw boxes over a picture. `item.place` maps a box [x, y, w, h] to percent of the overlay. */
export function drawBoxes(overlay, item, chosen, choose) {
  const { reading, corrected } = item;
  const { clientWidth: width, clientHeight: height } = overlay;
  const heights = reading.digits.map(({ box }) => (item.place(box)[3] * height) / 100).sort((a, b) => a - b);
  const middle = heights[heights.length >> 1];
  overlay.classList.toggle("small-boxes", middle < 44);
  overlay.classList.toggle("tiny-boxes", middle < 22);
  const framed = (className, [x, y, w, h]) => {
    const frame = make("div", { className });
    frame.style.left = `${x}%`;
    frame.style.top = `${y}%`;
    frame.style.width = `${w}%`;
    frame.style.height = `${h}%`;
    return frame;
  };
  const words = reading.words.filter(({ text }) => text.length > 1).map(({ box }) => framed("word-frame", item.place(box)));
  const marks = reading.marks.map((mark) => framed(
    `mark-frame ${mark.confidence >= SURE ? "" : "unsure"}`, item.place(mark.box)));
  overlay.replaceChildren(...outlines(item), ...words, ...marks, ...reading.digits.map((digit, index) => {
    const [x, y, w, h] = item.place(digit.box);
    const kind = kindOf(digit, corrected.get(index));
    const tag = make("button", { type: "button", className: "tag", tabIndex: -1, title: digit.reason || "" },
      textOf(digit, corrected.get(index)));
    // Hidden from screen readers: the reading has the same digits as buttons.
    tag.setAttribute("aria-hidden", "true");
    if (kind !== "corrected") tag.append(make("small", {}, percent(digit.confidence)));
    const box = framed(`box ${kind}`, [x, y, w, h]);
    box.append(tag);
    box.addEventListener("click", () => choose(index));
    box.classList.toggle("low", y * height < 2600);
    box.classList.toggle("narrow", (w * width) / 100 < 62);
    box.classList.toggle("chosen", index === chosen);
    return box;
  }));
}

/** The fields of a form, as they lie on its picture. */
function outlines({ reading, place }) {
  if (!reading.fields) return [];
  const drawn = (tag, properties) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
    return element;
  };
  const svg = drawn("svg", { class: "outlines", viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(...reading.fields.map(({ corners, rejected }) => drawn("polygon", {
    class: rejected ? "rejected" : "",
    points: corners.map(([x, y]) => place([x, y, 0, 0]).slice(0, 2).join(",")).join(" "),
  })));
  return [svg];
}

/** Show the digits as lines of buttons, word by word, with the marks between them. */
export function drawDigits(place, item, chosen, choose) {
  const { reading, corrected } = item;
  const total = reading.digits.length;
  place.classList.toggle("many", total > 24 || reading.lines.length > 3);
  const words = wordsOf(reading);
  const shown = ({ digit, index, mark }) => {
    if (mark) return make("span", { className: "mark", title: percent(mark.confidence) }, mark.text);
    const button = make("button", {
      type: "button", className: `digit ${kindOf(digit, corrected.get(index))}`,
      "aria-label": describe(digit, index, total, corrected.get(index)),
      "aria-pressed": String(index === chosen), title: digit.reason || percent(digit.confidence),
    }, textOf(digit, corrected.get(index)));
    button.addEventListener("click", () => choose(index));
    return button;
  };
  const wordsIn = (lines) => words.filter(({ line }) => lines.includes(line))
    .map(({ characters }) => make("span", { className: "word" }, ...characters.map(shown)));
  if (reading.fields) {
    place.classList.add("many");
    place.replaceChildren(...reading.fields.map((field) => make("div", {
      className: "digits in-field", role: "group", "aria-label": `Field ${field.name}`,
    }, make("span", { className: "field-title" }, field.name), ...wordsIn(field.lines),
    ...(field.reason ? [make("span", { className: `why ${field.rejected ? "bad" : ""}` }, field.reason)] : []))));
    return;
  }
  place.replaceChildren(...reading.lines.map((_, number) => make("div", {
    className: "digits", role: "group", "aria-label": `Line ${number + 1}`,
  }, ...wordsIn([number]))));
}

function saidOf(item) {
  return ({ digit, index, mark }) => {
    if (mark) return mark.text;
    const correction = item.corrected.get(index);
    return correction?.label === "not a digit" ? "" : textOf(digit, correction);
  };
}

/** The current text of a field of a form, with corrections. */
export function fieldNow(item, field) {
  const words = wordsOf(item.reading).filter(({ line }) => field.lines.includes(line));
  const touched = words.some(({ characters }) => characters.some(({ index }) => item.corrected.has(index)));
  if (!touched) return field.text;
  return words.map(({ characters }) => characters.map(saidOf(item)).join("")).join(field.text.includes(" ") ? " " : "");
}

/** The current text, with corrections. */
export function textNow(item) {
  if (item.reading.fields) {
    return item.reading.fields.map((field) => `${field.name}: ${fieldNow(item, field)}`).join("\n");
  }
  const words = wordsOf(item.reading);
  return item.reading.lines.map((_, number) => words.filter(({ line }) => line === number)
    .map(({ characters }) => characters.map(saidOf(item)).join("")).filter((word) => word).join(" ")).join("\n");
}

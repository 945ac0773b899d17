// Shows a reading: boxes over a picture, digits as buttons, confidences in percent.

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

/** Draw boxes over a picture. `item.place` maps a box [x, y, w, h] to percent of the overlay. */
export function drawBoxes(overlay, item, chosen, choose) {
  const { reading, corrected } = item;
  const { clientWidth: width, clientHeight: height } = overlay;
  const heights = reading.digits.map(({ box }) => (item.place(box)[3] * height) / 100).sort((a, b) => a - b);
  const middle = heights[heights.length >> 1];
  overlay.classList.toggle("small-boxes", middle < 44);
  overlay.classList.toggle("tiny-boxes", middle < 22);
  overlay.replaceChildren(...reading.digits.map((digit, index) => {
    const [x, y, w, h] = item.place(digit.box);
    const kind = kindOf(digit, corrected.get(index));
    const tag = make("button", { type: "button", className: "tag", tabIndex: -1, title: digit.reason || "" },
      textOf(digit, corrected.get(index)));
    // Hidden from screen readers: the reading has the same digits as buttons.
    tag.setAttribute("aria-hidden", "true");
    if (kind !== "corrected") tag.append(make("small", {}, percent(digit.confidence)));
    const box = make("div", { className: `box ${kind}` }, tag);
    box.addEventListener("click", () => choose(index));
    box.style.left = `${x}%`;
    box.style.top = `${y}%`;
    box.style.width = `${w}%`;
    box.style.height = `${h}%`;
    box.classList.toggle("low", y * height < 2600);
    box.classList.toggle("narrow", (w * width) / 100 < 62);
    box.classList.toggle("chosen", index === chosen);
    return box;
  }));
}

/** Show the digits as lines of buttons. */
export function drawDigits(place, item, chosen, choose) {
  const { reading, corrected } = item;
  const total = reading.digits.length;
  place.classList.toggle("many", total > 24 || reading.lines.length > 3);
  place.replaceChildren(...reading.lines.map((line, number) => make("div", {
    className: "digits", role: "group", "aria-label": `Line ${number + 1}`,
  }, ...reading.digits.flatMap((digit, index) => {
    if (digit.line !== number) return [];
    const button = make("button", {
      type: "button", className: `digit ${kindOf(digit, corrected.get(index))}`,
      "aria-label": describe(digit, index, total, corrected.get(index)),
      "aria-pressed": String(index === chosen), title: digit.reason || percent(digit.confidence),
    }, textOf(digit, corrected.get(index)));
    button.addEventListener("click", () => choose(index));
    return [button];
  }))));
}

/** The current text, with corrections. */
export function textNow(item) {
  return item.reading.lines.map((_, number) => item.reading.digits
    .map((digit, index) => {
      if (digit.line !== number) return "";
      const said = item.corrected.get(index);
      return said?.label === "not a digit" ? "" : textOf(digit, said);
    }).join("")).join("\n");
}

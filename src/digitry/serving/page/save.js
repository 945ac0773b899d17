// Downloads: JSON and CSV as on the command line, and a picture with boxes.

import { fieldNow, kindOf, percent, SURE, textNow, textOf } from "./marks.js";

const COLOURS = { sure: "#0072b2", unsure: "#a85a00", refused: "#be1e3c", corrected: "#14683c" };
const WORD = "#6e747c";

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function stem(name) {
  return name.replace(/\.[^.]*$/, "") || "reading";
}

function plain(item) {
  const digits = item.reading.digits.map(({ glyph, ...digit }) => digit);
  const corrections = [...item.corrected].map(([digit, { label }]) => ({ digit, label }));
  const { picture, ...reading } = item.reading;
  return { ...reading, digits, ...(corrections.length ? { corrections } : {}) };
}

export function saveJson(items) {
  const content = { readings: items.map(plain) };
  const name = items.length === 1 ? stem(items[0].name) : "readings";
  download(new Blob([`${JSON.stringify(content, null, 2)}\n`], { type: "application/json" }), `${name}.json`);
}

function cell(value) {
  let text = value === null || value === undefined ? "" : String(value);
  // Prevents a spreadsheet from running a name as a formula.
  if (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function formRows(items) {
  const names = [...new Set(items.flatMap(({ reading }) => reading.fields.map(({ name }) => name)))];
  const rows = [["source", "status", "rejected", "reason", "confidence", ...names]];
  for (const item of items) {
    const { reading } = item;
    const texts = new Map(reading.fields.map((field) => [field.name, fieldNow(item, field)]));
    rows.push([reading.source, "ok", reading.rejected, reading.reason, reading.confidence, ...names.map((name) => texts.get(name))]);
  }
  return rows;
}

export function saveCsv(items) {
  const rows = items.every(({ reading }) => reading.fields) ? formRows(items) : lineRows(items);
  const name = items.length === 1 ? stem(items[0].name) : "readings";
  const text = `${rows.map((row) => row.map(cell).join(",")).join("\n")}\n`;
  download(new Blob([text], { type: "text/csv" }), `${name}.csv`);
}

function lineRows(items) {
  const rows = [["source", "status", "line", "text", "confidence", "rejected", "reason", "x", "y", "w", "h", "turned"]];
  for (const item of items) {
    const { reading } = item;
    const texts = textNow(item).split("\n");
    if (!reading.lines.length) rows.push([reading.source, "ok", "", "", 0, true, reading.reason, "", "", "", "", reading.turned]);
    reading.lines.forEach((line, number) => {
      const reasons = reading.digits.filter((digit, index) => digit.line === number && digit.reason
        && !item.corrected.has(index)).map((digit) => digit.reason);
      rows.push([reading.source, "ok", number, texts[number], line.confidence, reasons.length > 0, reasons[0] || "", ...line.box, reading.turned]);
    });
  }
  return rows;
}

async function decoded(item) {
  try {
    if (!item.reading.picture) return await createImageBitmap(item.blob);
    const image = new Image();
    image.src = item.reading.picture;
    await image.decode();
    return image;
  } catch {
    return null;
  }
}

export async function savePicture(item) {
  const { reading } = item;
  const image = await decoded(item);
  const longest = Math.max(reading.width, reading.height);
  const factor = Math.min(Math.max(480 / longest, 1), 2000 / longest);
  const [width, height] = [Math.round(reading.width * factor), Math.round(reading.height * factor)];
  const size = Math.max(15, Math.min(28, Math.round(width / 30)));
  const bar = Math.round(2.2 * size);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(width, 320);
  canvas.height = height + bar;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (image) {
    const [across, down] = reading.turned % 180 ? [height, width] : [width, height];
    context.save();
    context.translate(width / 2, height / 2);
    context.rotate((-reading.turned * Math.PI) / 180);
    context.drawImage(image, -across / 2, -down / 2, across, down);
    context.restore();
  }
  context.lineWidth = 1;
  context.strokeStyle = WORD;
  for (const { text, box } of reading.words) {
    const [x, y, w, h] = box.map((length) => length * factor);
    if (text.length > 1) context.strokeRect(x - 4, y - 4, w + 8, h + 8);
  }
  context.lineWidth = 2;
  for (const { box, confidence } of reading.marks) {
    const [x, y, w, h] = box.map((length) => length * factor);
    context.strokeStyle = confidence >= SURE ? COLOURS.sure : COLOURS.unsure;
    context.strokeRect(x - 1, y - 1, w + 2, h + 2);
  }
  context.textBaseline = "middle";
  reading.digits.forEach((digit, index) => {
    const said = item.corrected.get(index);
    const [x, y, w, h] = digit.box.map((length) => length * factor);
    context.strokeStyle = COLOURS[kindOf(digit, said)];
    context.fillStyle = context.strokeStyle;
    context.lineWidth = 2;
    context.strokeRect(x - 1, y - 1, w + 2, h + 2);
    context.font = `700 ${size}px monospace`;
    const roomy = w > 3.4 * size;
    const tag = roomy && !said ? `${textOf(digit, said)} ${percent(digit.confidence)}` : textOf(digit, said);
    const room = context.measureText(tag).width + 10;
    const top = y - 1.3 * size >= 0 ? y - 1.3 * size : y + h + 1;
    context.fillRect(x - 2, top, room, 1.3 * size);
    context.fillStyle = "#fff";
    context.fillText(tag, x + 3, top + 0.68 * size);
  });
  context.fillStyle = "#181c22";
  context.fillRect(0, height, canvas.width, bar);
  context.fillStyle = "#fff";
  context.font = `700 ${size}px monospace`;
  const text = textNow(item).replaceAll("\n", " · ") || "nothing read";
  context.fillText(text, 12, height + bar / 2, canvas.width - 24);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  download(blob, `${stem(item.name)}.annotated.png`);
}

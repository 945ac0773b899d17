// The web page: each drawing or image is an item; it is read, shown and corrected.
//
// An item is { name, blob, page, reading, corrected, place, error }: `page` is set for the pages of a
// document, of which each is an item; `corrected` maps the index of a digit to
// its correction, `place` maps a box of the reading to percent of the picture on the screen.

import * as api from "./api.js";
import { Designer, reduced, tomlOf } from "./form.js";
import { drawBoxes, drawDigits, make, percent, SURE, textNow, unturned } from "./marks.js";
import { Pen } from "./pen.js";
import { download, saveCsv, saveJson, savePicture } from "./save.js";

const $ = (id) => document.getElementById(id);
const TABS = ["write", "image", "form"];
const LABELS = [..."0123456789", "not a digit"];
const WAIT_MS = 8;
const WAIT_DRAWING_MS = 300;
const AT_ONCE = 2;
const LISTED = 24;
const DRAWN = "*";

const state = { tab: "write", drawn: null, images: [], image: null, chosen: null, kept: [], stop: null };

const current = () => ({ write: state.drawn, image: state.image, form: null })[state.tab];

function options() {
  const form = state.tab === "write" ? "" : $("form").value;
  // A template says itself how its fields look.
  if (form) return { max_error: $("strictness").value, form: form === DRAWN ? drawnTemplate() : form };
  return { layout: $("layout").value, max_error: $("strictness").value, pattern: $("pattern").value.trim() };
}

// --- input ----------------------------------------------------------------------------------------

const pen = new Pen($("pad"), $("cursor"), (drawing) => {
  $("pad-hint").hidden = !pen.empty;
  $("undo").disabled = $("clear").disabled = pen.empty;
  schedule(drawing ? WAIT_DRAWING_MS : WAIT_MS);
});

let timer = 0;
let underway = null;

function schedule(wait) {
  clearTimeout(timer);
  timer = setTimeout(readDrawing, wait);
}

async function readDrawing() {
  underway?.abort();
  const control = new AbortController();
  underway = control;
  const drawn = await pen.picture();
  if (control.signal.aborted) return;
  if (!drawn) {
    state.drawn = null;
    state.chosen = null;
    show();
    return;
  }
  const item = newItem("drawing.png", drawn.blob);
  try {
    [item.reading] = await api.read(drawn.blob, item.name, item.options, control.signal);
  } catch (error) {
    if (error.name === "AbortError" || control.signal.aborted) return;
    // The service is busy: read the drawing again later.
    if (error.status === 503) schedule(700);
    fail(item, error);
  }
  if (item.reading) {
    const { reading } = item;
    const pad = $("pad");
    // The pad is never turned: boxes are taken back to where the digits were written.
    const [, , width, height] = unturned([0, 0, reading.width, reading.height], reading);
    item.place = (box) => {
      const [x, y, w, h] = unturned(box, reading);
      return [
        (100 * (drawn.left + (x * drawn.width) / width)) / pad.clientWidth,
        (100 * (drawn.top + (y * drawn.height) / height)) / pad.clientHeight,
        (100 * w * drawn.width) / width / pad.clientWidth,
        (100 * h * drawn.height) / height / pad.clientHeight,
      ];
    };
  }
  state.drawn = item;
  if (state.tab === "write") {
    state.chosen = null;
    show();
  }
}

function newItem(name, blob) {
  return { name, blob, reading: null, corrected: new Map(), lines: new Map(), place: null, error: null, options: options() };
}

function fail(item, error) {
  item.error = wordsFor(error);
  item.badPattern = error.kind === "invalid-option" && error.message.startsWith("pattern");
}

function wordsFor(error) {
  if (error.kind === "unreadable-image") return `This file ${error.message}`;
  return error.message[0].toUpperCase() + error.message.slice(1);
}

async function readImages(files) {
  const images = [...files].filter((file) => file.size > 0);
  if (!images.length) return;
  state.stop?.abort();
  const control = new AbortController();
  state.stop = control;
  selectTab("image");
  state.images = images.map((file) => newItem(file.name || "pasted.png", file));
  $("drop").hidden = true;
  $("batch").hidden = images.length === 1;
  $("stop").hidden = false;
  $("rows").replaceChildren(...state.images.map((item) => batchRow(item)));
  openImage(state.images[0]);
  const waiting = [...state.images];
  async function work() {
    while (waiting.length && !control.signal.aborted) {
      const item = waiting.shift();
      const others = await readItem(item, control.signal);
      if (control.signal.aborted) return;
      addPages(item, others);
      fillRow(rowOf(item), item);
      if (state.image === item) openImage(item);
      progress();
    }
  }
  progress();
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (state.stop === control) {
    $("stop").hidden = true;
    if (state.images.length > 1) speak($("batch-summary").textContent);
  }
}

// Reads an item; returns the readings of further pages, if it is a document.
async function readItem(item, signal) {
  item.error = null;
  try {
    const [first, ...others] = await api.readPatiently(item.blob, item.name, item.options, signal);
    take(item, first);
    return others;
  } catch (error) {
    if (error.name !== "AbortError") fail(item, error);
    return [];
  }
}

function take(item, reading) {
  const { width, height } = reading;
  item.reading = reading;
  item.page = reading.source.match(/#page=(\d+)$/)?.[1];
  item.place = ([x, y, w, h]) => [(100 * x) / width, (100 * y) / height, (100 * w) / width, (100 * h) / height];
}

const rowOf = (item) => [...$("rows").rows].find((row) => row.item === item);

function addPages(item, readings) {
  if (!item.page) return;
  const name = item.name;
  item.name = `${name}, page ${item.page}`;
  rowOf(item).cells[0].firstChild.textContent = item.name;
  let before = item;
  for (const reading of readings) {
    const next = newItem(name, item.blob);
    take(next, reading);
    next.name = `${name}, page ${next.page}`;
    next.said = true;
    state.images.splice(state.images.indexOf(before) + 1, 0, next);
    rowOf(before).after(batchRow(next));
    fillRow(rowOf(next), next);
    before = next;
  }
  $("batch").hidden = state.images.length === 1;
}

function progress() {
  const done = state.images.filter((item) => item.reading || item.error);
  const failed = done.filter((item) => item.error).length;
  const refused = done.filter((item) => item.reading?.rejected).length;
  $("progress").value = done.length / state.images.length;
  $("batch-summary").textContent = `${done.length} of ${state.images.length} done: `
    + `${done.length - failed - refused} read, ${refused} with refusals, ${failed} failed`;
}

function batchRow(item) {
  const open = make("button", { type: "button" }, item.name);
  open.addEventListener("click", () => openImage(item));
  const row = make("tr", {}, make("td", {}, open), make("td", { className: "text" }, "…"), make("td", { className: "number" }));
  row.item = item;
  return row;
}

function fillRow(row, item) {
  const [, text, sure] = row.cells;
  const empty = !item.reading?.digits.length && !item.reading?.fields;
  text.classList.toggle("bad", Boolean(item.error) || empty);
  text.textContent = item.error || textNow(item) || item.reading.reason;
  sure.textContent = item.reading?.digits.length ? percent(item.reading.confidence) : "";
}

let shownUrl = null;

function openImage(item) {
  state.image = item;
  state.chosen = null;
  for (const row of $("rows").rows) row.classList.toggle("chosen", row.item === item);
  $("shown").hidden = false;
  $("image-name").textContent = item.name;
  if (shownUrl) URL.revokeObjectURL(shownUrl);
  shownUrl = URL.createObjectURL(item.blob);
  $("image").alt = `The image ${item.name}`;
  $("image").src = item.reading?.picture || shownUrl;
  show();
}

function fitImage() {
  const item = state.image;
  const image = $("image");
  const width = item?.reading?.width || image.naturalWidth;
  const height = item?.reading?.height || image.naturalHeight;
  $("picture").hidden = !width;
  if (!width) return;
  // As large as possible; tiny images are enlarged.
  const room = $("picture").clientWidth - 24;
  const most = Math.max(240, window.innerHeight * 0.58);
  const scale = Math.min(room / width, most / height, Math.max(1, 320 / Math.max(width, height)));
  $("frame").style.width = `${Math.round(width * scale)}px`;
  $("frame").style.height = `${Math.round(height * scale)}px`;
  // The picture is shown as it was read: turned about its middle.
  const turned = item?.reading?.turned || 0;
  image.style.width = `${Math.round((turned % 180 ? height : width) * scale)}px`;
  image.style.height = `${Math.round((turned % 180 ? width : height) * scale)}px`;
  image.style.transform = `translate(-50%, -50%) rotate(${-turned}deg)`;
  $("frame").classList.toggle("small", scale > 2);
}

// --- output ---------------------------------------------------------------------------------------

function show() {
  const item = current();
  const reading = item?.reading;
  if (state.tab === "image") fitImage();
  const overlay = state.tab === "write" ? $("pad-marks") : $("image-marks");
  const has = Boolean(reading?.digits.length || reading?.fields);
  if (has) {
    drawBoxes(overlay, item, state.chosen, choose);
    drawDigits($("answer"), item, state.chosen, choose);
  } else {
    overlay.replaceChildren();
    $("answer").classList.remove("many");
    $("answer").replaceChildren(make("p", { className: "empty" }, emptyText(item)));
  }
  $("facts").textContent = reading
    ? `${reading.turned ? `turned by ${reading.turned}° · ` : ""}${reading.model} · ${Math.round(reading.ms)} ms` : "";
  $("actions").hidden = !reading;
  $("copy").disabled = $("save-png").disabled = !has;
  showCertainty(item, has);
  showInspector(item);
  $("pattern").setAttribute("aria-invalid", String(Boolean(item?.badPattern)));
  if (reading && !item.said) {
    item.said = true;
    if (reading.fields) speak(`Read ${textNow(item).replaceAll("\n", ", ")}`);
    else speak(has ? `Read ${reading.text.replaceAll("?", " refused ")}, ${percent(reading.confidence)} sure` : "No digits found");
  }
}

function emptyText(item) {
  if (item?.error) return "Not read.";
  if (item?.reading) return "No digits found.";
  if (item) return "Reading…";
  if (state.tab === "form") return "Draw the fields of a form, then try them. The fields of each picture appear here.";
  return "Write digits or choose an image. The reading appears here.";
}

function showCertainty(item, has) {
  const reading = item?.reading;
  $("sure").hidden = !has;
  const refused = has ? reading.digits.filter((digit, index) => digit.value === null && !item.corrected.has(index)) : [];
  if (has) {
    // A corrected digit counts as certain.
    const confidence = reading.digits.reduce((p, digit, index) => p * (item.corrected.has(index) ? 1 : digit.confidence),
      reading.marks.reduce((p, mark) => p * mark.confidence, 1));
    $("sure-bar").style.width = `${100 * confidence}%`;
    $("sure-bar").parentElement.className = `meter ${refused.length ? "refused" : confidence >= SURE ? "" : "unsure"}`;
    const count = reading.digits.length + reading.marks.length;
    const all = refused.length ? `the best guess${count === 1 ? " is" : `es are all`} right`
      : count === 1 ? "it is right" : `all ${count} are right`;
    $("sure").hidden = !count;
    $("sure-text").textContent = confidence === 1 && item.corrected.size ? "Corrected by you" : `${percent(confidence)} sure that ${all}`;
  }
  const notice = $("notice");
  const fields = reading?.fields?.filter(({ rejected }) => rejected) ?? [];
  notice.hidden = !(item?.error || refused.length || fields.length);
  notice.className = `notice ${item?.error ? "bad" : ""}`;
  if (item?.error) notice.textContent = `${item.error}.`;
  else if (fields.length) {
    notice.textContent = `${fields.length} of ${reading.fields.length} fields refused: ${reading.reason}.`;
  } else if (refused.length) {
    const reasons = [...new Set(refused.map((digit) => digit.reason))].join(", ");
    notice.textContent = `${refused.length === 1 ? "One digit" : `${refused.length} digits`} refused: ${reasons}.`;
  }
}

function choose(index) {
  state.chosen = state.chosen === index ? null : index;
  $("why").checked = false;
  show();
  $("answer").querySelectorAll(".digit")[index]?.focus({ preventScroll: true });
}

function showInspector(item) {
  const digit = item?.reading?.digits[state.chosen ?? -1];
  $("inspector").hidden = !digit;
  if (!digit) return;
  const said = item.corrected.get(state.chosen);
  $("inspector-title").textContent = `Digit ${state.chosen + 1} of ${item.reading.digits.length}`;
  $("glyph").src = digit.glyph || "";
  const [best] = digit.alternatives;
  $("verdict").textContent = said ? `Corrected to ${said.label}`
    : digit.value === null ? `Refused: ${digit.reason}` : `Read as ${digit.value}, ${percent(digit.confidence)} sure`;
  $("alternatives").replaceChildren(...digit.alternatives.map(([value, p]) => {
    const bar = make("span");
    bar.style.width = `${Math.max(1, 100 * p)}%`;
    return make("li", {}, make("b", {}, String(value)), make("span", { className: "meter" }, bar), make("span", {}, percent(p)));
  }));
  for (const key of $("keys").children) {
    key.setAttribute("aria-pressed", String(said?.label === key.value));
  }
  const line = item.reading.lines[digit.line];
  $("line-form").hidden = !line;
  const typed = item.lines.get(digit.line)?.text;
  if (line) $("line-text").value = typed ?? line.text;
  $("line-help").textContent = typed === undefined
    ? "All that is written in it: digits, spaces and . , - / :"
    : `Saved as ${typed}. Only the picture of this line is stored, for training.`;
  showWeights(digit, best[0]);
}

async function showWeights(digit, value) {
  const on = $("why").checked;
  $("weights").hidden = $("legend").hidden = true;
  if (!on) return;
  try {
    digit.weights ??= await api.explain(await pixelsOf(digit.glyph), value);
  } catch (error) {
    toast(error.message);
    return;
  }
  if (current()?.reading?.digits[state.chosen ?? -1] !== digit) return;
  const context = $("weights").getContext("2d");
  const picture = context.createImageData(28, 28);
  digit.weights.flat().forEach((weight, index) => {
    picture.data.set([255, 116, 40, Math.round(235 * weight ** 0.7)], 4 * index);
  });
  context.putImageData(picture, 0, 0);
  $("weights").hidden = $("legend").hidden = false;
}

async function pixelsOf(glyph) {
  const image = new Image();
  image.src = glyph;
  await image.decode();
  const canvas = make("canvas", { width: 28, height: 28 });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return Array.from({ length: 784 }, (_, index) => index)
    .map(((data) => (index) => data[4 * index])(context.getImageData(0, 0, 28, 28).data));
}

// --- corrections ----------------------------------------------------------------------------------

async function correct(label) {
  const item = current();
  const index = state.chosen;
  const digit = item?.reading?.digits[index ?? -1];
  if (!digit) return;
  try {
    const author = $("author").value.trim();
    const kept = await api.correct(item.blob, item.name, item.options, digit.box, { label }, author, item.page);
    item.corrected.set(index, kept);
    changed(item);
    await listCorrections();
    toast(`Correction saved: ${label}`, "Undo", () => undo(kept.id));
  } catch (error) {
    toast(`Correction not saved: ${error.message}`);
  }
}

// The line of the chosen digit, typed as a whole.
async function correctLine(event) {
  event.preventDefault();
  const item = current();
  const digit = item?.reading?.digits[state.chosen ?? -1];
  const text = $("line-text").value.trim();
  if (!digit || !text) return;
  try {
    const author = $("author").value.trim();
    const { box } = item.reading.lines[digit.line];
    const kept = await api.correct(item.blob, item.name, item.options, box, { text }, author, item.page);
    item.lines.set(digit.line, kept);
    changed(item);
    await listCorrections();
    toast(`Line saved: ${kept.text}`, "Undo", () => undo(kept.id));
  } catch (error) {
    toast(`Line not saved: ${error.message}`);
  }
}

async function undo(id) {
  try {
    await api.undoCorrection(id);
  } catch (error) {
    toast(`Correction not undone: ${error.message}`);
    return;
  }
  for (const item of [state.drawn, ...state.images]) {
    for (const made of item ? [item.corrected, item.lines] : []) {
      for (const [index, kept] of made) {
        if (kept.id === id) {
          made.delete(index);
          changed(item);
        }
      }
    }
  }
  await listCorrections();
  toast("Correction undone");
}

function changed(item) {
  const row = rowOf(item);
  if (row) fillRow(row, item);
  show();
}

async function listCorrections(more = false) {
  try {
    const wanted = Math.max(LISTED, state.kept.length + (more ? LISTED : 0));
    const asked = Math.min(wanted, 1000);
    const both = await Promise.all([false, true].map((lines) => api.corrections(0, asked, lines)));
    const all = both.flat().sort((a, b) => (a.created < b.created ? 1 : -1));
    state.kept = all.slice(0, wanted);
    $("more").hidden = all.length < wanted;
  } catch (error) {
    $("kept-empty").hidden = false;
    $("kept-empty").textContent = error.message;
    return;
  }
  const known = new Map([...$("kept").children].map((row) => [row.dataset.id, row]));
  $("kept").replaceChildren(...state.kept.map((one) => known.get(one.id) || keptRow(one)));
  $("kept-empty").hidden = state.kept.length > 0;
  $("count").hidden = !state.kept.length;
  $("count").textContent = `${state.kept.length}${$("more").hidden ? "" : "+"}`;
}

function keptRow(one) {
  const isLine = one.text !== undefined;
  const image = make("img", { alt: "", className: isLine ? "strip" : "" });
  const label = isLine ? one.text : one.label;
  api.picture(one.id, isLine ? "strip" : "crop").then((url) => { image.src = url; }).catch(() => {});
  const read = isLine ? `read as ${one.read_text}`
    : one.read_value === null ? `refused (${one.reason})` : `read as ${one.read_value}`;
  const when = new Date(one.created).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
  const button = make("button", { type: "button", "aria-label": `Undo: ${label}` }, "Undo");
  button.addEventListener("click", () => undo(one.id));
  const row = make("li", {}, image, make("div", {},
    make("p", {}, make("b", {}, label), ` – ${read}`),
    make("p", { className: "help" }, one.author ? `${one.author}, ${when}` : when)), button);
  row.dataset.id = one.id;
  return row;
}

// --- forms ----------------------------------------------------------------------------------------

const designer = new Designer($("form-fields"), $("form-list"), changedForm);
const form = { picture: null, name: "", url: null };

async function listTemplates() {
  try {
    const found = await api.templates();
    $("form").append(...found.map(({ name }) => make("option", { value: name }, name)));
  } catch {
    // Without the list there are the templates that are drawn here.
  }
  showForms();
}

function showForms() {
  $("form-choice").hidden = state.tab === "write" || $("form").options.length < 2;
  const taken = !$("form-choice").hidden && Boolean($("form").value);
  $("layout").disabled = $("pattern").disabled = taken;
}

function changedForm() {
  const any = designer.fields.length > 0;
  for (const id of ["form-try", "form-try-this", "form-toml"]) $(id).disabled = !any;
  let drawn = [...$("form").options].find(({ value }) => value === DRAWN);
  if (any && !drawn) {
    drawn = make("option", { value: DRAWN }, "drawn here");
    $("form").append(drawn);
  } else if (!any && drawn) drawn.remove();
}

async function openForm(file) {
  if (!file) return;
  $("form-fault").hidden = true;
  if (form.url) URL.revokeObjectURL(form.url);
  form.url = URL.createObjectURL(file);
  const image = $("form-image");
  try {
    image.src = form.url;
    await image.decode();
  } catch {
    try {
      // The service shows what the browser cannot: a PDF, HEIC or TIFF.
      const [reading] = await api.read(file, file.name, { layout: "page", picture: true });
      image.src = reading.picture;
      await image.decode();
    } catch (error) {
      $("form-fault").hidden = false;
      $("form-fault").textContent = error instanceof api.Refusal ? `${wordsFor(error)}.` : "This file is no picture.";
      return;
    }
  }
  form.picture = await reduced(image);
  form.name = (file.name || "form").replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}_ .-]/gu, "_").replace(/^[^\p{L}\p{N}]+/u, "").slice(0, 60).trim() || "form";
  $("form-name").value = form.name;
  $("form-drop").hidden = true;
  $("designer").hidden = false;
  fitForm();
  changedForm();
}

function fitForm() {
  const { naturalWidth: width, naturalHeight: height } = $("form-image");
  if (!width || $("designer").hidden) return;
  const room = $("form-frame").parentElement.clientWidth - 24;
  const scale = Math.min(room / width, Math.max(280, window.innerHeight * 0.7) / height, Math.max(1, 480 / Math.max(width, height)));
  for (const element of [$("form-frame"), $("form-image")]) {
    element.style.width = `${Math.round(width * scale)}px`;
    element.style.height = `${Math.round(height * scale)}px`;
  }
}

function drawnTemplate() {
  const reference = $("form-reference").checked ? form.picture : null;
  const name = $("form-name").value.trim() || "form";
  return { toml: tomlOf({ name, fields: designer.fields }, reference && `${name}.jpg`), reference };
}

function tryForm(files) {
  if (!files.length) return;
  $("form").value = DRAWN;
  readImages(files);
  $("reading").scrollIntoView({ block: "nearest" });
}

$("form-open").addEventListener("click", () => $("form-file").click());
$("form-other").addEventListener("click", () => $("form-file").click());
$("form-file").addEventListener("change", () => { openForm($("form-file").files[0]); $("form-file").value = ""; });
$("form-add").addEventListener("click", () => designer.addBelow());
$("form-try").addEventListener("click", () => $("form-files").click());
$("form-files").addEventListener("change", () => { tryForm([...$("form-files").files]); $("form-files").value = ""; });
$("form-try-this").addEventListener("click", () => tryForm([new File([form.picture], `${form.name}.jpg`, { type: "image/jpeg" })]));
$("form-toml").addEventListener("click", () => {
  const { toml } = drawnTemplate();
  download(new Blob([toml], { type: "application/toml" }), `${$("form-name").value.trim() || "form"}.toml`);
});
$("form-picture").addEventListener("click", () => download(form.picture, `${$("form-name").value.trim() || "form"}.jpg`));

// --- messages, tabs, theme, events ----------------------------------------------------------------

let toastTimer = 0;

function toast(text, action, run) {
  const parts = [make("span", {}, text)];
  if (action) {
    const button = make("button", { type: "button" }, action);
    button.addEventListener("click", () => { $("toast").replaceChildren(); run(); });
    parts.push(button);
  }
  $("toast").replaceChildren(...parts);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => $("toast").replaceChildren(), action ? 10_000 : 5_000);
}

let spoken = 0;

function speak(text) {
  // Delayed, so that a screen reader is not interrupted after every stroke.
  clearTimeout(spoken);
  spoken = setTimeout(() => { $("spoken").textContent = text; }, 600);
}

function selectTab(name, focus = false) {
  state.tab = name;
  for (const one of TABS) {
    const tab = $(`tab-${one}`);
    tab.setAttribute("aria-selected", String(one === name));
    tab.tabIndex = one === name ? 0 : -1;
    $(`panel-${one}`).hidden = one !== name;
    if (focus && one === name) tab.focus();
  }
  state.chosen = null;
  $("options").hidden = $("pattern-help").hidden = name === "form";
  showForms();
  if (name === "write") pen.draw();
  if (name === "form") fitForm();
  show();
}

function theme(next) {
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("theme", next);
  } catch {
    // Without local storage the theme lasts until the page is closed.
  }
  pen.draw();
}

for (const label of LABELS) {
  const key = make("button", { type: "button", value: label }, label === "not a digit" ? "Not a digit" : label);
  key.addEventListener("click", () => correct(label));
  $("keys").append(key);
}

for (const name of TABS) $(`tab-${name}`).addEventListener("click", () => selectTab(name));
document.querySelector(".tabs").addEventListener("keydown", (event) => {
  const way = { ArrowLeft: TABS.length - 1, ArrowRight: 1 }[event.key];
  if (way) selectTab(TABS[(TABS.indexOf(state.tab) + way) % TABS.length], true);
});
$("undo").addEventListener("click", () => pen.undo());
$("clear").addEventListener("click", () => pen.clear());
$("choose").addEventListener("click", () => $("files").click());
$("another").addEventListener("click", () => $("files").click());
$("photograph").addEventListener("click", () => $("camera").click());
for (const id of ["files", "camera"]) {
  $(id).addEventListener("change", () => { readImages($(id).files); $(id).value = ""; });
}
$("stop").addEventListener("click", () => { state.stop?.abort(); $("stop").hidden = true; });
$("image").addEventListener("load", () => { $("frame").classList.remove("blind"); show(); });
// The service reads formats that the browser cannot show, such as TIFF: then boxes are drawn on white.
$("image").addEventListener("error", () => $("frame").classList.add("blind"));
$("close-inspector").addEventListener("click", () => choose(state.chosen));
$("why").addEventListener("change", show);
$("line-form").addEventListener("submit", correctLine);
$("more").addEventListener("click", () => listCorrections(true));
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(textNow(current()));
    toast("Copied");
  } catch {
    toast("The browser does not allow copying");
  }
});
const saved = () => (state.tab === "image" && state.images.length > 1 ? state.images.filter((item) => item.reading) : [current()]);
$("save-json").addEventListener("click", () => saveJson(saved()));
$("save-csv").addEventListener("click", () => saveCsv(saved()));
$("save-png").addEventListener("click", () => savePicture(current()));
for (const id of ["layout", "strictness", "pattern", "form"]) {
  $(id).addEventListener("change", () => {
    showForms();
    if (!pen.empty) schedule(0);
    if (state.tab === "image") readImages(state.images.map((item) => item.blob));
  });
}
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  theme(dark ? "light" : "dark");
});
$("author").addEventListener("change", () => {
  try {
    localStorage.setItem("author", $("author").value);
  } catch {
    // Without local storage the name lasts until the page is closed.
  }
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (typing) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && state.tab === "write" && !pen.empty) {
    event.preventDefault();
    pen.undo();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || state.chosen === null) return;
  if (event.key === "Escape") choose(state.chosen);
  else if (/^[0-9]$/.test(event.key)) correct(event.key);
  else if (event.key === "x" || event.key === "X") correct("not a digit");
  else if (event.target.closest(".digit") && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
    const next = state.chosen + (event.key === "ArrowRight" ? 1 : -1);
    if (current().reading.digits[next]) choose(next);
  }
});

let depth = 0;
addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; $("over").hidden = false; });
addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) { depth = 0; $("over").hidden = true; } });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  $("over").hidden = true;
  if (state.tab === "form") openForm(event.dataTransfer.files[0]);
  else readImages(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) readImages(event.clipboardData.files);
});
addEventListener("resize", () => { fitForm(); show(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => pen.draw());

try {
  const kept = localStorage.getItem("theme");
  if (kept) theme(kept);
  $("author").value = localStorage.getItem("author") || "";
} catch {
  // No local storage: keep the defaults.
}
pen.draw();
show();
listTemplates();
listCorrections();

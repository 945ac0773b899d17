// The drawing area: strokes from pointer or keyboard, shown on the canvas, and as an image to read.

const WIDTH = 7;
const MARGIN = 28;
const STEP = 6;
const LARGEST = 1600;

export class Pen {
  /** @param {HTMLCanvasElement} canvas @param {(drawing: boolean) => void} changed */
  constructor(canvas, cursor, changed) {
    this.canvas = canvas;
    this.cursor = cursor;
    this.changed = changed;
    this.strokes = [];
    this.active = new Map();
    this.place = null;
    this.penDown = false;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.up(event));
    }
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.lift());
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  get empty() {
    return this.strokes.length === 0;
  }

  point(event) {
    const area = this.canvas.getBoundingClientRect();
    // A mouse always reports 0.5 and a finger often 0 or 1; only a pen measures pressure.
    const pressure = event.pointerType === "pen" && event.pressure > 0 ? event.pressure : 0.5;
    return [event.clientX - area.left, event.clientY - area.top, 0.45 + 1.1 * pressure];
  }

  down(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.lift();
    try {
      this.canvas.setPointerCapture(event.pointerId);
    } catch {
      // The pointer is already up; its stroke is a dot.
    }
    const stroke = [this.point(event)];
    this.active.set(event.pointerId, stroke);
    this.strokes.push(stroke);
    this.draw();
    this.changed(true);
  }

  move(event) {
    const stroke = this.active.get(event.pointerId);
    if (!stroke) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) stroke.push(this.point(one));
    this.draw();
    this.changed(true);
  }

  up(event) {
    if (!this.active.delete(event.pointerId)) return;
    this.changed(this.active.size > 0);
  }

  key(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) {
      event.preventDefault();
      const { clientWidth: width, clientHeight: height } = this.canvas;
      this.place ??= [width / 2, height / 3];
      const far = event.shiftKey ? 4 * STEP : STEP;
      this.place = [
        Math.min(Math.max(this.place[0] + far * way[0], 4), width - 4),
        Math.min(Math.max(this.place[1] + far * way[1], 4), height - 4),
      ];
      if (this.penDown) {
        this.strokes.at(-1).push([...this.place, 1]);
        this.draw();
        this.changed(true);
      }
      this.showCursor();
    } else if (event.key === " ") {
      event.preventDefault();
      this.place ??= [this.canvas.clientWidth / 2, this.canvas.clientHeight / 3];
      this.penDown = !this.penDown;
      if (this.penDown) this.strokes.push([[...this.place, 1]]);
      this.draw();
      this.changed(this.penDown);
      this.showCursor();
    }
  }

  lift() {
    if (this.penDown) {
      this.penDown = false;
      this.changed(false);
    }
    this.cursor.hidden = true;
  }

  showCursor() {
    this.cursor.hidden = false;
    this.cursor.classList.toggle("down", this.penDown);
    this.cursor.style.left = `${this.place[0]}px`;
    this.cursor.style.top = `${this.place[1]}px`;
  }

  undo() {
    this.strokes.pop();
    this.active.clear();
    this.penDown = false;
    this.draw();
    this.changed(false);
  }

  clear() {
    this.strokes = [];
    this.active.clear();
    this.penDown = false;
    this.draw();
    this.changed(false);
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
    // Setting the size is slow, so only if it has changed.
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    paint(context, this.strokes, getComputedStyle(this.canvas).getPropertyValue("--ink").trim());
  }

  /** The strokes as a PNG, black on white, cropped to the ink: a small image is sent and read faster. */
  async picture() {
    if (this.empty) return null;
    let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const [x, y] of this.strokes.flat()) {
      [left, top] = [Math.min(left, x), Math.min(top, y)];
      [right, bottom] = [Math.max(right, x), Math.max(bottom, y)];
    }
    left = Math.floor(left - MARGIN);
    top = Math.floor(top - MARGIN);
    const [width, height] = [Math.ceil(right + MARGIN) - left, Math.ceil(bottom + MARGIN) - top];
    const scale = Math.min(1, LARGEST / Math.max(width, height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    const context = canvas.getContext("2d", { alpha: false });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.setTransform(scale, 0, 0, scale, -left * scale, -top * scale);
    paint(context, this.strokes, "#000");
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    return { blob, left, top, width, height };
  }
}

function paint(context, strokes, ink) {
  context.strokeStyle = ink;
  context.fillStyle = ink;
  context.lineCap = "round";
  context.lineJoin = "round";
  for (const stroke of strokes) {
    const [x, y, weight] = stroke[0];
    if (stroke.length === 1) {
      context.beginPath();
      context.arc(x, y, (WIDTH * weight) / 2, 0, 2 * Math.PI);
      context.fill();
      continue;
    }
    // Quadratic curves through the midpoints, with the points as control points; width by pressure.
    let from = [x, y];
    for (let i = 1; i < stroke.length; i += 1) {
      const [px, py] = stroke[i - 1];
      const [qx, qy, w] = stroke[i];
      const to = i === stroke.length - 1 ? [qx, qy] : [(px + qx) / 2, (py + qy) / 2];
      context.beginPath();
      context.lineWidth = WIDTH * w;
      context.moveTo(...from);
      context.quadraticCurveTo(px, py, ...to);
      context.stroke();
      from = to;
    }
  }
}

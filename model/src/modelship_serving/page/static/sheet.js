// The sheet that a person draws on or puts a picture on: pointer, touch, keyboard, file, drop and paste.
import { centred, fitted, inkOf, paint, planes, planesOf } from "./pixels.js";

const BIGGEST = 1024; // pixels of a picture's longer side that are looked at

export class Sheet {
  /** changed(planes or null): called with the model's input whenever it changes. */
  constructor(picture, changed) {
    this.picture = picture;
    this.changed = changed;
    this.canvas = document.getElementById("ink");
    this.hint = document.getElementById("hint");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.strokes = [];
    this.shown = null; // planes of a picture that is shown instead of a drawing
    this.cursor = null;
    this.waiting = false;
    document.getElementById("sheet").hidden = document.getElementById("tools").hidden = false;
    document.getElementById("sheet").classList.toggle("upload", !picture.draw);
    // As the model's input is shaped, but never a strip.
    const shape = Math.min(2, Math.max(0.5, picture.width / picture.height));
    this.canvas.width = Math.round(560 * Math.min(1, shape));
    this.canvas.height = Math.round(560 * Math.min(1, 1 / shape));
    this.hint.textContent = picture.draw
      ? "Draw here\nor drop a picture"
      : "Drop or paste a picture here,\nor choose one";
    this.canvas.setAttribute("aria-label", picture.draw
      ? "Sheet to draw on. By keyboard: arrow keys move the pen, the space bar puts it down and up, Backspace takes the last stroke back, Escape clears."
      : "Picture. Press Enter to choose one.");
    if (picture.draw) this.listenToPen();
    else this.canvas.addEventListener("click", () => this.choose());
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.listenToFiles();
    this.button("clear", () => this.clear());
    this.button("undo", () => this.undo());
    document.getElementById("undo").hidden = !picture.draw;
    this.takeInk();
  }

  button(id, action) { document.getElementById(id).addEventListener("click", action); }

  takeInk() {
    const side = this.canvas.width;
    Object.assign(this.context, { lineWidth: side / 14, lineCap: "round", lineJoin: "round" });
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const colour = () => { this.colour = getComputedStyle(document.body).color; this.draw(); };
    dark.addEventListener("change", colour);
    colour();
  }

  listenToPen() {
    const place = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * this.canvas.width / box.width, (event.clientY - box.top) * this.canvas.height / box.height];
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      event.preventDefault();
      this.canvas.focus({ preventScroll: true, focusVisible: false });
      try { this.canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
      this.cursor = null;
      this.begin(place(event));
      this.drawing = true;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.drawing || !event.isPrimary) return;
      const all = event.getCoalescedEvents?.() ?? [];
      for (const each of all.length ? all : [event]) this.extend(place(each));
    });
    for (const name of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(name, () => { if (this.drawing) { this.drawing = false; this.tell(); } });
    }
  }

  begin(point) {
    if (this.shown) this.clear(false);
    this.strokes.push([point]);
    this.draw();
    this.soon();
  }

  extend(point) {
    this.strokes.at(-1).push(point);
    this.draw();
    this.soon();
  }

  key(event) {
    const step = this.canvas.width / 28;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key.toLowerCase() === "z" && !event.altKey) { this.undo(); event.preventDefault(); }
      return;
    }
    if (event.key === "Escape") this.clear();
    else if (!this.picture.draw) { if (event.key === "Enter" || event.key === " ") this.choose(); else return; }
    else if (event.key === "Backspace") this.undo();
    else if (event.key === " ") {
      this.cursor ??= { x: this.canvas.width / 2, y: this.canvas.height / 4, down: false };
      this.cursor.down = !this.cursor.down;
      if (this.cursor.down) this.begin([this.cursor.x, this.cursor.y]);
      else { this.draw(); this.tell(); }
    } else if (moves[event.key]) {
      this.cursor ??= { x: this.canvas.width / 2, y: this.canvas.height / 4, down: false };
      const inside = (value, side) => Math.max(step, Math.min(side - step, value));
      this.cursor.x = inside(this.cursor.x + moves[event.key][0], this.canvas.width);
      this.cursor.y = inside(this.cursor.y + moves[event.key][1], this.canvas.height);
      if (this.cursor.down) this.extend([this.cursor.x, this.cursor.y]);
      else this.draw();
    } else return;
    event.preventDefault();
  }

  draw() {
    const { context, canvas } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    this.hint.hidden = this.strokes.length > 0 || this.shown !== null;
    document.getElementById("clear").disabled = this.hint.hidden === false;
    document.getElementById("undo").disabled = this.strokes.length === 0;
    if (this.shown) {
      const small = document.createElement("canvas");
      paint(small, this.shown);
      const scale = Math.min(canvas.width / small.width, canvas.height / small.height);
      context.imageSmoothingEnabled = small.width > 100;
      context.drawImage(small, (canvas.width - small.width * scale) / 2, (canvas.height - small.height * scale) / 2, small.width * scale, small.height * scale);
      return;
    }
    context.strokeStyle = context.fillStyle = this.colour;
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      // Curves through the middles of what the pointer told; a dot needs a line of some length to be drawn at all.
      for (let i = 1; i < stroke.length - 1; i++) {
        const [[x, y], [nextX, nextY]] = [stroke[i], stroke[i + 1]];
        context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
      }
      context.lineTo(stroke.at(-1)[0] + 0.1, stroke.at(-1)[1]);
      context.stroke();
    }
    if (this.cursor && !this.cursor.down) {
      context.globalAlpha = 0.35;
      context.beginPath();
      context.arc(this.cursor.x, this.cursor.y, context.lineWidth / 2, 0, 7);
      context.fill();
      context.globalAlpha = 1;
    }
  }

  /** Tell of a drawing while it is made, a few times a second. */
  soon() {
    if (this.waiting) return;
    this.waiting = true;
    setTimeout(() => { this.waiting = false; if (this.drawing || this.cursor?.down) this.tell(); }, 150);
  }

  tell() {
    if (this.shown || !this.strokes.length) return this.changed(this.shown);
    const kept = this.cursor;
    this.cursor = null;
    this.draw();
    const { width, height } = this.canvas;
    const { data } = this.context.getImageData(0, 0, width, height);
    const ink = { width, height, data: Float32Array.from({ length: width * height }, (none, i) => data[4 * i + 3] / 255) };
    this.cursor = kept;
    this.draw();
    const plane = centred(ink, this.picture.width, this.picture.height);
    this.changed(plane && [plane]);
  }

  clear(tell = true) {
    this.strokes = [];
    this.shown = null;
    if (this.cursor) this.cursor.down = false;
    this.draw();
    if (tell) this.changed(null);
  }

  undo() {
    if (!this.strokes.length) return;
    this.strokes.pop();
    if (this.cursor) this.cursor.down = false;
    this.draw();
    this.tell();
  }

  /** Show an input of the signature's shape. */
  show(values) { this.put(planesOf(values, this.picture)); }

  put(list) {
    this.clear(false);
    this.shown = list;
    this.draw();
    this.changed(list);
  }

  choose() { document.getElementById("file").click(); }

  listenToFiles() {
    const file = document.getElementById("file");
    const sheet = document.getElementById("sheet");
    this.button("choose", () => this.choose());
    file.addEventListener("change", () => { this.read(file.files[0]); file.value = ""; });
    addEventListener("dragover", (event) => { event.preventDefault(); sheet.classList.add("over"); });
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) sheet.classList.remove("over"); });
    addEventListener("drop", (event) => {
      event.preventDefault();
      sheet.classList.remove("over");
      this.read(event.dataTransfer.files[0]);
    });
    addEventListener("paste", (event) => this.read([...event.clipboardData.files].find((each) => each.type.startsWith("image/"))));
  }

  async read(file) {
    if (!file) return;
    let bitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      this.changed(null, `${file.name || "The clipboard"}: this browser cannot read it as a picture`);
      return;
    }
    const scale = Math.min(1, BIGGEST / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const context = canvas.getContext("2d");
    if (this.picture.channels < 4) { context.fillStyle = "#fff"; context.fillRect(0, 0, canvas.width, canvas.height); }
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const list = planes(context.getImageData(0, 0, canvas.width, canvas.height), this.picture.channels);
    this.put(this.prepare(list));
  }

  prepare(list) {
    const { width, height, draw } = this.picture;
    const exact = list[0].width === width && list[0].height === height;
    if (!draw) return exact ? list : list.map((plane) => fitted(plane, width, height));
    // Only ink counts: a photograph of a digit on paper is made what a drawing of it would be.
    if (!exact) return [centred(inkOf(list[0]), width, height) ?? fitted(list[0], width, height)];
    const corner = list[0].data[0];
    return [{ ...list[0], data: corner > 0.5 ? list[0].data.map((value) => 1 - value) : list[0].data }];
  }
}

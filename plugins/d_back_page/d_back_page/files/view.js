// What part of the island is seen: zoom and pan, by mouse, fingers and keys.
//
// `zoom` is 1 and `x`, `y` are 0 if the island fills the box. `x` and `y` are px by which its
// middle is moved from the middle of the box.

import { mayMove } from "./motion.js";

const STEP = 1.5; // of a button or a key
const PAN = 70; // px, of a key
const DRAG = 5; // px from which a press is no click
const GLIDE = 600; // ms
const CLOSE = 52; // half the width of a cell, in px, at the largest zoom
const BEYOND = 0.2; // of the box, by which a zoomed island can be moved out of it

export class View {
  /** `moved()` is called after each change. */
  constructor(box, moved) {
    this.box = box;
    this.moved = moved;
    this.zoom = 1;
    this.x = this.y = 0;
    this.most = 1.6;
    this.pointers = new Map(); // pointerId → [x, y]
    this.dragged = false; // since the last press
    this.glide = null;
    const button = (id, act) => document.querySelector(id).addEventListener("click", act);
    button("#zoom-in", () => this.#zoomBy(STEP));
    button("#zoom-out", () => this.#zoomBy(1 / STEP));
    button("#zoom-all", () => this.showAll());
    box.addEventListener("keydown", (event) => this.#key(event));
    box.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    box.addEventListener("pointerdown", (event) => this.#press(event));
    box.addEventListener("pointermove", (event) => this.#drag(event));
    for (const type of ["pointerup", "pointercancel"]) {
      box.addEventListener(type, ({ pointerId }) => this.pointers.delete(pointerId));
    }
  }

  /** Show the island, laid out in the whole box, as it is seen now. */
  apply(island, whole) {
    const [middleX, middleY] = [this.box.clientWidth / 2, this.box.clientHeight / 2];
    this.most = Math.max(1.6, CLOSE / whole.w);
    island.w = whole.w * this.zoom;
    island.cx = middleX + (whole.cx - middleX) * this.zoom + this.x;
    island.cy = middleY + (whole.cy - middleY) * this.zoom + this.y;
  }

  /** Bring a point of the whole island to the middle. */
  goTo([x, y], zoom) {
    const [middleX, middleY] = [this.box.clientWidth / 2, this.box.clientHeight / 2];
    const to = Math.min(Math.max(zoom, 1), this.most);
    this.#glideTo(to, (middleX - x) * to, (middleY - y) * to + this.box.clientHeight * 0.12);
  }

  showAll() {
    this.#glideTo(1, 0, 0);
  }

  #glideTo(zoom, x, y) {
    const from = { zoom: this.zoom, x: this.x, y: this.y };
    const glide = (this.glide = {});
    let began = null;
    const step = (now) => {
      if (this.glide !== glide) return; // a gesture, or another glide
      began ??= now;
      const done = mayMove() ? Math.min(1, (now - began) / GLIDE) : 1;
      const eased = done * done * (3 - 2 * done);
      const between = (a, b) => a + (b - a) * eased;
      this.#set(between(from.zoom, zoom), between(from.x, x), between(from.y, y));
      if (done < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #set(zoom, x, y) {
    this.zoom = Math.min(Math.max(zoom, 1), this.most);
    const bound = (value, size) => {
      const most = this.zoom === 1 ? 0 : (size * (this.zoom - 1)) / 2 + size * BEYOND;
      return Math.min(Math.max(value, -most), most);
    };
    this.x = bound(x, this.box.clientWidth);
    this.y = bound(y, this.box.clientHeight);
    this.moved();
  }

  /** Zoom, and keep the point at (x, y), from the middle of the box, where it is. */
  #zoomBy(factor, x = 0, y = 0) {
    this.glide = null;
    const zoom = Math.min(Math.max(this.zoom * factor, 1), this.most);
    const real = zoom / this.zoom;
    this.#set(zoom, x + (this.x - x) * real, y + (this.y - y) * real);
  }

  #fromMiddle(x, y) {
    const box = this.box.getBoundingClientRect();
    return [x - box.left - box.width / 2, y - box.top - box.height / 2];
  }

  #wheel(event) {
    event.preventDefault();
    const speed = event.ctrlKey ? 0.01 : event.deltaMode ? 0.05 : 0.0016; // fingers; lines; px
    const factor = Math.exp(-event.deltaY * speed);
    this.#zoomBy(factor, ...this.#fromMiddle(event.clientX, event.clientY));
  }

  #press(event) {
    if (event.target.closest("button") || event.button) return;
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.dragged = this.pointers.size > 1;
  }

  #drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    if (!this.dragged && Math.hypot(dx, dy) < DRAG) return;
    if (!this.dragged) this.box.setPointerCapture(event.pointerId);
    this.dragged = true;
    this.glide = null;
    const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (!other) return this.#set(this.zoom, this.x + dx, this.y + dy);
    const [, [x, y]] = other;
    const [was, is] = [before, [event.clientX, event.clientY]].map(
      (at) => Math.hypot(at[0] - x, at[1] - y) || 1,
    );
    // Each of two fingers moves the middle between them by half.
    this.#set(this.zoom, this.x + dx / 2, this.y + dy / 2);
    this.#zoomBy(is / was, ...this.#fromMiddle((event.clientX + x) / 2, (event.clientY + y) / 2));
  }

  #key(event) {
    if (event.target !== this.box || event.ctrlKey || event.metaKey || event.altKey) return;
    const ways = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const way = ways[event.key];
    if (way) {
      this.glide = null;
      this.#set(this.zoom, this.x + way[0] * PAN, this.y + way[1] * PAN);
    } else if (event.key === "+" || event.key === "=") this.#zoomBy(STEP);
    else if (event.key === "-") this.#zoomBy(1 / STEP);
    else if (event.key === "0") this.showAll();
    else return;
    event.preventDefault();
  }
}

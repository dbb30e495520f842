// The plaza: an island on which every member is a cube. The earth and those who stand still are
// drawn once; with each frame only what has changed, and who hops or walks.

import { Bubbles } from "./bubbles.js";
import { drawCell, drawCube, drawSky, heightOf, themes } from "./cubes.js";
import { Island } from "./island.js";
import { frames, mayMove } from "./motion.js";

const AMBIENT = 650; // ms between two little things that happen by themselves
const LIVELY = 20_000; // ms after an event or a look during which they do
const DOZE = 12; // after that only one in so many
const VILLAGE = 60; // members up to whose number they sit where they like
const MOVING = 60; // cubes that move at once; more are simply drawn where they are
const SLICE = 2500; // cells that are drawn in one frame
const HOP = 420; // ms
const WALK = 560;
const BLINK = 130;
const AROUND = [];
for (let x = -2; x <= 2; x += 1) for (let y = -2; y <= 2; y += 1) AROUND.push([x, y]);
AROUND.sort((a, b) => a[0] + a[1] - (b[0] + b[1]) || a[0] - b[0]);

const night = matchMedia("(prefers-color-scheme: dark)");

export class Plaza {
  /** `chosen(uid or null)` is called when a cube is clicked. */
  constructor(world, chosen) {
    this.world = world;
    this.box = document.querySelector("#plaza");
    this.canvases = [...this.box.querySelectorAll("canvas")];
    [this.earth, this.crowd, this.air] = this.canvases.map((canvas) => canvas.getContext("2d"));
    this.cellOf = new Map(); // uid → cell
    this.moves = new Map(); // uid → {from, to, began, lasts, kind}
    this.changed = new Set(); // cells
    this.stirred = Date.now(); // the last event or look
    this.beats = 0;
    this.building = null; // a generator that draws the crowd anew
    this.ask = frames((now) => this.#frame(now));
    this.bubbles = new Bubbles(this, world);
    new ResizeObserver(() => this.#resize()).observe(this.box);
    night.addEventListener("change", () => this.#build());
    world.addEventListener("whole", () => this.#settle());
    world.addEventListener("change", ({ detail }) => this.#change(detail));
    this.box.addEventListener("click", (event) => {
      if (event.target.closest("button")) return;
      const uid = this.#under(event)?.who ?? null;
      chosen(uid);
    });
    this.box.addEventListener("pointermove", (event) => {
      this.stirred = Date.now();
      if (event.pointerType === "mouse") this.bubbles.point(this.#under(event)?.who ?? null);
    });
    this.box.addEventListener("pointerleave", () => this.bubbles.point(null));
    setInterval(() => this.#live(), AMBIENT);
    this.#settle();
  }

  get w() {
    return this.island.w;
  }

  /** Where the top of somebody's cube is, in px; null where they have none. */
  topOf(uid) {
    const cell = this.cellOf.get(uid);
    const member = this.world.members.get(uid);
    if (!cell || !member) return null;
    const [x, y] = this.island.point(cell);
    return [x, y - heightOf(member) * this.w - this.w * 0.32];
  }

  /** Draw attention to somebody. */
  nudge(uid) {
    this.stirred = Date.now();
    this.#move(uid, "hop");
  }

  #theme() {
    return night.matches ? themes.dark : themes.light;
  }

  // Where they stand

  #settle() {
    this.cellOf.clear();
    this.moves.clear();
    const { groups, members } = this.world;
    this.island = new Island(members.size + Math.ceil(members.size / 10) + 4);
    this.next = 0;
    let seat = 0;
    for (const group of groups.values()) {
      const seats = this.island.seats.slice(seat, (seat += group.length));
      const order = members.size > VILLAGE ? byColour(seats) : (a, b) => mixed(a.uid) - mixed(b.uid);
      [...group].sort(order).forEach((member, at) => this.#seat(member, seats[at]));
    }
    this.#resize();
  }

  #seat(member, cell) {
    cell.who = member.uid;
    this.cellOf.set(member.uid, cell);
  }

  /** A seat for somebody new. Where to look goes around: what is full stays so for a while. */
  #free() {
    const { seats } = this.island;
    for (let tried = 0; tried < seats.length; tried += 1) {
      const cell = seats[this.next % seats.length];
      if (cell.who === null) return cell;
      this.next += 1;
    }
    this.#grow();
    return this.#free();
  }

  #grow() {
    const before = this.island;
    const island = new Island(Math.ceil(this.world.members.size * 1.3) + 8);
    for (const cell of before.cells) {
      const same = island.neighbour({ x: 0, y: 0 }, cell.x, cell.y);
      if (cell.who === null) continue;
      same.who = cell.who;
      this.cellOf.set(cell.who, same);
    }
    this.moves.clear();
    this.island = island;
    this.next = 0;
    this.#resize();
  }

  #change({ member, was }) {
    this.stirred = Date.now();
    if (!member) {
      const cell = this.cellOf.get(was.uid);
      this.cellOf.delete(was.uid);
      this.moves.delete(was.uid);
      if (cell) cell.who = null;
      this.#touch(cell);
    } else if (!was) {
      this.#seat(member, this.#free());
      this.#move(member.uid, "drop");
    } else if (was.status !== member.status || was.colour !== member.colour) {
      this.#move(member.uid, "hop");
    }
    this.bubbles.dirty();
  }

  // What moves

  #move(uid, kind, to = null) {
    const cell = this.cellOf.get(uid);
    if (!cell) return;
    this.#touch(cell);
    const dull = !mayMove() || this.moves.size >= MOVING || this.w < 4;
    if (dull || this.moves.has(uid)) return;
    const lasts = { walk: WALK, blink: BLINK }[kind] ?? HOP;
    this.moves.set(uid, { from: cell, to: to ?? cell, began: null, lasts, kind });
    if (to) {
      cell.who = null;
      to.who = uid;
      this.cellOf.set(uid, to);
      this.#touch(to);
      this.bubbles.dirty();
    }
  }

  #touch(cell) {
    if (cell) this.changed.add(cell);
    this.ask();
  }

  /** Little things that happen by themselves. */
  #live() {
    if (!mayMove() || this.w < 4 || document.body.dataset.link !== "live") return;
    const awake = this.world.groups.get("online");
    if (!awake.length) return;
    this.beats += 1;
    if (Date.now() - this.stirred > LIVELY) {
      // Each frame costs, also in a page that nobody looks at: let one of them blink now and then.
      const dozing = awake[Math.floor(Math.random() * awake.length)];
      if (this.beats % DOZE === 0) this.#move(dozing.uid, "blink");
      return;
    }
    const many = Math.min(5, Math.ceil(awake.length / 14));
    for (let each = 0; each < many; each += 1) {
      const member = awake[Math.floor(Math.random() * awake.length)];
      const dice = Math.random();
      if (dice < 0.35) this.#move(member.uid, "blink");
      else if (dice < 0.55) this.#move(member.uid, "hop");
      else if (dice < 0.9) this.#walk(member.uid);
    }
  }

  #walk(uid) {
    const cell = this.cellOf.get(uid);
    const ways = [[1, 0], [-1, 0], [0, 1], [0, -1]];
    const free = ways
      .map(([x, y]) => this.island.neighbour(cell, x, y))
      .filter((to) => to && to.who === null && (to.seat || to.wild > 0.3));
    if (free.length) this.#move(uid, "walk", free[Math.floor(Math.random() * free.length)]);
  }

  // Drawing

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (!width || !height) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    for (const canvas of this.canvases) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    for (const ctx of [this.earth, this.crowd, this.air]) ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.ratio = ratio;
    const narrow = width < 560;
    this.island.fit(width, height, { top: narrow ? 74 : 84, bottom: 14 });
    this.#build();
    this.bubbles.dirty();
  }

  #build() {
    this.changed.clear();
    this.building = this.#draw();
    this.ask();
  }

  /** Draws earth and crowd on canvases of their own, in slices, and shows them when whole. */
  *#draw() {
    const theme = this.#theme();
    const [earth, crowd] = [this.#blank(), this.#blank()];
    drawSky(earth, this.box.clientWidth, this.box.clientHeight, theme);
    let count = 0;
    for (const cell of this.island.byDepth) {
      drawCell(earth, this.island, cell, theme);
      this.#stander(crowd, cell, theme);
      count += 1;
      if (count % SLICE === 0) yield;
    }
    for (const [shown, drawn] of [[this.earth, earth], [this.crowd, crowd]]) {
      shown.save();
      shown.setTransform(1, 0, 0, 1, 0, 0);
      shown.clearRect(0, 0, shown.canvas.width, shown.canvas.height);
      shown.drawImage(drawn.canvas, 0, 0);
      shown.restore();
    }
  }

  #blank() {
    const canvas = document.createElement("canvas");
    canvas.width = this.canvases[0].width;
    canvas.height = this.canvases[0].height;
    const ctx = canvas.getContext("2d");
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    return ctx;
  }

  #stander(ctx, cell, theme) {
    if (cell.who === null || this.moves.has(cell.who)) return;
    const member = this.world.members.get(cell.who);
    const [x, y] = this.island.point(cell);
    drawCube(ctx, member, x, y, this.w, theme);
  }

  #frame(now) {
    if (this.building) {
      if (!this.building.next().done) return true;
      this.building = null;
    }
    for (const [uid, move] of this.moves) {
      move.began ??= now;
      if (now - move.began < move.lasts) continue;
      this.moves.delete(uid);
      this.changed.add(move.to).add(move.from);
    }
    this.#redraw();
    this.#lift(now);
    return this.moves.size > 0;
  }

  /** Draw anew where something changed, with all that overlaps it. */
  #redraw() {
    if (this.changed.size > SLICE) return this.#build();
    const { crowd: ctx, w } = this;
    const theme = this.#theme();
    for (const cell of this.changed) {
      const [x, y] = this.island.point(cell);
      ctx.save();
      ctx.beginPath();
      // Whole pixels: at an edge within one, the cubes that it crosses would get a seam.
      const [left, top] = [Math.floor(x - w * 1.3), Math.floor(y - w * 1.3)];
      const box = [left, top, Math.ceil(w * 2.6) + 1, Math.ceil(w * 2) + 1];
      ctx.rect(...box);
      ctx.clip();
      ctx.clearRect(...box);
      for (const [dx, dy] of AROUND) {
        const near = this.island.neighbour(cell, dx, dy);
        if (near) this.#stander(ctx, near, theme);
      }
      ctx.restore();
    }
    this.changed.clear();
  }

  #lift(now) {
    const { air: ctx, w } = this;
    ctx.clearRect(0, 0, this.box.clientWidth, this.box.clientHeight);
    const theme = this.#theme();
    for (const [uid, move] of this.moves) {
      const member = this.world.members.get(uid);
      const done = Math.min(1, Math.max(0, (now - move.began) / move.lasts));
      const [x1, y1] = this.island.point(move.from);
      const [x2, y2] = this.island.point(move.to);
      const eased = done * done * (3 - 2 * done);
      const lift = { hop: 0.75, walk: 0.35, drop: 0, blink: 0 }[move.kind];
      let high = Math.sin(done * Math.PI) * lift * w;
      if (move.kind === "drop") high = (1 - done) ** 2 * 3 * w;
      const [x, y] = [x1 + (x2 - x1) * eased, y1 + (y2 - y1) * eased];
      drawCube(ctx, member, x, y, w, theme, move.kind === "blink", high);
    }
  }

  #under(event) {
    const box = this.box.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    // A cube stands on its cell and hides what is behind: look a little lower first.
    const low = this.island.pick(x, y + this.w * 0.45);
    return low?.who ? low : this.island.pick(x, y);
  }
}

/** An order by colour for a crowd. It also sorts these seats, which are a ring of the island, so
 * that members of one colour sit together: a crowd in which everybody sits anywhere is confetti. */
function byColour(seats) {
  seats.sort((a, b) => Math.atan2(a.y, a.x) - Math.atan2(b.y, b.x));
  return (a, b) => hueOf(a.colour) - hueOf(b.colour) || (a.colour < b.colour ? -1 : 1);
}

const hues = new Map(); // colour → its hue in degrees; greys come first

function hueOf(colour) {
  let hue = hues.get(colour);
  if (hue === undefined) {
    const [r, g, b] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
    const grey = Math.max(r, g, b) - Math.min(r, g, b) < 16;
    hue = grey ? -1 : (Math.atan2(Math.sqrt(3) * (g - b), 2 * r - g - b) * 180) / Math.PI + 180;
    hues.set(colour, hue);
  }
  return hue;
}

function mixed(text) {
  let hash = 0;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619);
  return hash >>> 0;
}

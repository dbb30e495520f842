// The plaza: an island on which every member is a cube. The earth and those who stand still are
// drawn once; with each frame only what has changed, and who hops or walks.
//
// While the view is zoomed or moved, the earth and the crowd stay as they were drawn (`drawn`), and
// the browser scales and moves their canvases. They are drawn again in slices after that.
//
// In a crowd no face can be seen. Who speaks then stands in front of it, on one of a few tiles.

import { Bubbles } from "./bubbles.js";
import { drawCell, drawCube, drawSky, drawTile, faceOf, FACED, heightOf, themes } from "./cubes.js";
import { Island } from "./island.js";
import { frames, mayMove } from "./motion.js";
import { View } from "./view.js";

const AMBIENT = 650; // ms between two little things that happen by themselves
const LIVELY = 20_000; // ms after an event or a look during which they do
const DOZE = 12; // after that only one in so many
const VILLAGE = 60; // members up to whose number they sit where they like
const FRONT = 24; // half the width of a tile in front of a crowd, in px
const FRONT_HIGH = 66; // px
const FRONT_WIDE = 190; // px for each who speaks there
const NEAR = 36; // half the width of a cell, in px, when a speaker is followed
const REST = 9000; // ms after the last word, until everything is shown again
const PAUSE = 120; // ms without a change of the view, before a large island is drawn again
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
    [this.sky, this.earth, this.crowd, this.air] = this.canvases.map((each) => each.getContext("2d"));
    this.cellOf = new Map(); // uid → cell
    this.moves = new Map(); // uid → {from, to, began, lasts, kind}
    this.changed = new Set(); // cells
    this.front = new Map(); // uid of who speaks in front of the crowd → {slot, began}
    this.whole = { w: 1, cx: 0, cy: 0 }; // how the island fills the box
    this.drawn = null; // how earth and crowd were drawn: {w, cx, cy}
    this.stirred = Date.now(); // the last event or look
    this.beats = 0;
    this.building = null; // a generator that draws earth and crowd
    this.waiting = null; // until they are drawn
    this.following = false;
    this.resting = null;
    this.ask = frames((now) => this.#frame(now));
    this.view = new View(this.box, () => this.#look());
    this.bubbles = new Bubbles(this, world);
    new ResizeObserver(() => this.#resize()).observe(this.box);
    // Chromium does not always tell of a change that was read before: it is read here only.
    night.addEventListener("change", ({ matches }) => this.#light(matches));
    this.#light(night.matches);
    world.addEventListener("whole", () => this.#settle());
    world.addEventListener("change", ({ detail }) => this.#change(detail));
    this.box.addEventListener("click", (event) => {
      if (event.target.closest("button") || this.view.dragged) return;
      chosen(this.#under(event)?.who ?? null);
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

  /** True if the cubes are too small for faces: who speaks comes to the front. */
  get isCrowd() {
    return this.w < FACED;
  }

  /** How many can speak at once. */
  get slots() {
    return Math.max(1, Math.min(5, Math.floor(this.box.clientWidth / FRONT_WIDE)));
  }

  /** Where the top of the cube of a member who speaks is, in px. */
  speakerAt(uid) {
    const stand = this.isCrowd ? this.front.get(uid) : null;
    if (!stand) return this.topOf(uid);
    const [x, y] = this.#standAt(stand.slot);
    return [x, y - FRONT * 1.1];
  }

  #standAt(slot) {
    const { clientWidth: width, clientHeight: height } = this.box;
    const wide = width / this.slots;
    return [wide * (slot + 0.5), height - FRONT * 1.05];
  }

  /** A member begins to speak. */
  bringForward(uid) {
    const taken = new Set([...this.front.values()].map((each) => each.slot));
    const order = [...Array(this.slots).keys()].sort(
      (a, b) => Math.abs(a - (this.slots - 1) / 2) - Math.abs(b - (this.slots - 1) / 2),
    );
    const slot = this.front.get(uid)?.slot ?? order.find((each) => !taken.has(each)) ?? 0;
    this.front.set(uid, { slot, began: null });
    this.#attend(uid);
    this.ask();
  }

  /** A member has spoken. */
  sendBack(uid) {
    if (this.front.delete(uid)) this.ask();
  }

  /** Follow who speaks, or not. */
  follow(on) {
    this.following = on;
    clearTimeout(this.resting);
    if (!on) this.view.showAll();
  }

  #attend(uid) {
    const cell = this.cellOf.get(uid);
    if (!this.following || !cell) return;
    const { w, cx, cy } = this.whole;
    const at = [cx + (cell.x - cell.y) * w, cy + ((cell.x + cell.y) * w) / 2];
    this.view.goTo(at, NEAR / w);
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.view.showAll(), REST);
  }

  /** Where the cubes with faces are that can be seen, and where their faces are: boxes in px. */
  faces() {
    const [cubes, faces] = [[], []];
    if (this.isCrowd) return { cubes, faces };
    const { clientWidth: width, clientHeight: height } = this.box;
    for (const [uid, cell] of this.cellOf) {
      const [x, y] = this.island.point(cell);
      if (x < 0 || y < 0 || x > width || y > height) continue;
      const member = this.world.members.get(uid);
      if (member.status === "offline") continue;
      faces.push(faceOf(member, x, y, this.w));
      const [half, high] = [this.w * 0.64, heightOf(member) * this.w];
      cubes.push({ left: x - half, right: x + half, top: y - high, bottom: y + half / 2 });
    }
    return { cubes, faces };
  }

  /** Where the top of a member's cube is, in px; null if there is none. */
  topOf(uid) {
    const cell = this.cellOf.get(uid);
    const member = this.world.members.get(uid);
    if (!cell || !member) return null;
    const [x, y] = this.island.point(cell);
    return [x, y - heightOf(member) * this.w - this.w * 0.32];
  }

  /** Draw attention to a member. */
  nudge(uid) {
    this.stirred = Date.now();
    this.#move(uid, "hop");
  }

  #light(isNight) {
    this.theme = isNight ? themes.dark : themes.light;
    if (this.island) this.#build();
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
      const order = members.size > VILLAGE ? byColour(seats, group) : (a, b) => mixed(a.uid) - mixed(b.uid);
      [...group].sort(order).forEach((member, at) => this.#seat(member, seats[at]));
    }
    this.#resize();
  }

  #seat(member, cell) {
    cell.who = member.uid;
    this.cellOf.set(member.uid, cell);
  }

  /** A seat for a new member. Where to look goes around: what is full stays so for a while. */
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
    const dull = !mayMove() || this.moves.size >= MOVING || this.isCrowd;
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
    if (!mayMove() || this.isCrowd || document.body.dataset.link !== "live") return;
    const online = this.world.groups.get("online");
    if (!online.length) return;
    this.beats += 1;
    if (Date.now() - this.stirred > LIVELY) {
      // Each frame costs, also if no one looks at the page: let one of them blink now and then.
      const dozing = online[Math.floor(Math.random() * online.length)];
      if (this.beats % DOZE === 0) this.#move(dozing.uid, "blink");
      return;
    }
    const many = Math.min(5, Math.ceil(online.length / 14));
    for (let each = 0; each < many; each += 1) {
      const member = online[Math.floor(Math.random() * online.length)];
      const dice = Math.random();
      if (dice < 0.35) this.#move(member.uid, "blink");
      else if (dice < 0.55) this.#move(member.uid, "hop");
      else if (dice < 0.9) this.#walk(member.uid);
    }
  }

  #walk(uid) {
    const cell = this.cellOf.get(uid);
    if (!cell || this.bubbles.speaking.has(uid)) return;
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
    for (const ctx of [this.sky, this.earth, this.crowd, this.air]) {
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.ratio = ratio;
    const top = height < 300 ? 52 : width < 560 ? 74 : 84;
    this.island.fit(width, height, { top, bottom: 14 });
    if (this.island.w < FACED) this.island.fit(width, height, { top, bottom: FRONT_HIGH });
    const { w, cx, cy } = this.island;
    this.whole = { w, cx, cy };
    this.view.apply(this.island, this.whole);
    this.#build();
    this.bubbles.dirty();
  }

  /** The view has changed. */
  #look() {
    this.stirred = Date.now();
    const wasCrowd = this.isCrowd;
    this.view.apply(this.island, this.whole);
    this.box.classList.add("looking"); // without easing
    clearTimeout(this.waiting);
    this.building = null;
    this.waiting = setTimeout(() => {
      this.box.classList.remove("looking");
      this.#build();
    }, PAUSE);
    if (this.island.cells.length <= SLICE) this.building = this.#draw();
    if (wasCrowd !== this.isCrowd) this.moves.clear();
    this.bubbles.dirty();
    this.ask();
  }

  #build() {
    this.building = this.#draw();
    this.ask();
  }

  /** Draws earth and crowd on canvases of their own, in slices, and shows them when whole. */
  *#draw() {
    this.changed.clear();
    const { theme } = this;
    const { clientWidth: width, clientHeight: height } = this.box;
    const { w, cx, cy } = this.island;
    const [earth, crowd] = [this.#blank(), this.#blank()];
    let count = 0;
    for (const cell of this.island.byDepth) {
      const [x, y] = this.island.point(cell);
      if (x < -2 * w || x > width + 2 * w || y < -2 * w || y > height + 3 * w) continue;
      drawCell(earth, this.island, cell, theme);
      this.#stander(crowd, cell, theme);
      count += 1;
      if (count % SLICE === 0) yield;
    }
    this.sky.clearRect(0, 0, width, height);
    drawSky(this.sky, width, height, theme);
    for (const [shown, drawn] of [[this.earth, earth], [this.crowd, crowd]]) {
      shown.save();
      shown.setTransform(1, 0, 0, 1, 0, 0);
      shown.clearRect(0, 0, shown.canvas.width, shown.canvas.height);
      shown.drawImage(drawn.canvas, 0, 0);
      shown.restore();
    }
    this.drawn = { w, cx, cy };
  }

  /** Let the browser show earth and crowd as the view is now. True if they are drawn like that. */
  #align() {
    const { w, cx, cy } = this.island;
    const { drawn } = this;
    const same = drawn && drawn.w === w && drawn.cx === cx && drawn.cy === cy;
    const by = drawn ? w / drawn.w : 1;
    const moved = drawn && [cx - drawn.cx * by, cy - drawn.cy * by];
    const transform = same || !drawn ? "" : `translate(${moved[0]}px, ${moved[1]}px) scale(${by})`;
    for (const { canvas } of [this.earth, this.crowd]) {
      if (canvas.style.transform !== transform) canvas.style.transform = transform;
    }
    return same;
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
    drawCube(ctx, member, x, y, this.w, theme, false, 0, this.isCrowd);
  }

  #frame(now) {
    if (this.building?.next().done) this.building = null;
    for (const [uid, move] of this.moves) {
      move.began ??= now;
      if (now - move.began < move.lasts) continue;
      this.moves.delete(uid);
      this.changed.add(move.to).add(move.from);
    }
    if (this.#align() && !this.building) this.#redraw();
    const arriving = this.#lift(now);
    return this.building !== null || this.moves.size > 0 || arriving;
  }

  /** Draw again where something has changed, with all that overlaps it. */
  #redraw() {
    if (this.changed.size > SLICE) return this.#build();
    const { crowd: ctx, w } = this;
    const { theme } = this;
    const { clientWidth: width, clientHeight: height } = this.box;
    for (const cell of this.changed) {
      const [x, y] = this.island.point(cell);
      if (x < -2 * w || x > width + 2 * w || y < -2 * w || y > height + 2 * w) continue;
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

  /** Draws who moves, and who speaks in front. True if one of the latter is still arriving. */
  #lift(now) {
    const { air: ctx, w } = this;
    ctx.clearRect(0, 0, this.box.clientWidth, this.box.clientHeight);
    const { theme } = this;
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
    let arriving = false;
    for (const [uid, stand] of this.isCrowd ? this.front : []) {
      const member = this.world.members.get(uid);
      if (!member) continue;
      stand.began ??= now;
      const done = mayMove() ? Math.min(1, (now - stand.began) / HOP) : 1;
      if (done < 1) arriving = true;
      const [x, y] = this.#standAt(stand.slot);
      drawTile(ctx, x, y, FRONT, theme);
      drawCube(ctx, member, x, y, FRONT, theme, false, (1 - done) ** 2 * FRONT * 2);
    }
    return arriving;
  }

  #under(event) {
    const box = this.box.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    for (const [who, { slot }] of this.isCrowd ? this.front : []) {
      const [standX, standY] = this.#standAt(slot);
      if (Math.abs(x - standX) < FRONT && Math.abs(y - standY) < FRONT * 1.1) return { who };
    }
    // A cube stands on its cell and hides what is behind: look a little lower first.
    const low = this.island.pick(x, y + this.w * 0.45);
    return low?.who ? low : this.island.pick(x, y);
  }
}

/** An order by the colour of the role for a crowd. It also sorts these seats, which are a ring of the
 * island, so that members of one role sit together. */
function byColour(seats, members) {
  // Around the middle; those with a role in front.
  const share = members.filter((each) => each.hasRole).length / members.length;
  const start = Math.PI * (0.25 - share);
  const angle = ({ x, y }) => (Math.atan2(y, x) - start + 4 * Math.PI) % (2 * Math.PI);
  seats.sort((a, b) => angle(a) - angle(b));
  const role = (member) => (member.hasRole ? hueOf(member.colour) : 400); // the others come last
  return (a, b) => role(a) - role(b) || (a.colour < b.colour ? -1 : 1);
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

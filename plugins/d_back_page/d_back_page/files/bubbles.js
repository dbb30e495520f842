// What floats above the plaza: names, messages, and the picked member. No label covers another one
// or a face; a name without room is not shown, and of two bubbles that have not, the newer one is.

import { cut, foreign, made, split } from "./text.js";
import { isFree, placeFor } from "./places.js";
import { isAbout, WORDS } from "./world.js";
import { mayMove } from "./motion.js";

const SPEAKING = 5; // bubbles at once
const LONGEST = 120; // letters in a bubble
const LETTER = 28; // ms for each letter that is typed
const STAYS = 4200; // ms after the last one
const NAMED = 60; // members up to whose number all names are shown
const GAP = 10; // px between a bubble and the cube
const EDGE = 6; // px between a label and the edge of the plaza
const NICE = 260; // px that a bubble may be away to cover no cube at all
const TAG = 200; // px that the name of a picked member may be away

export class Bubbles {
  constructor(plaza, world) {
    this.plaza = plaza;
    this.world = world;
    this.tags = document.querySelector(".tags");
    this.box = document.querySelector(".bubbles");
    this.speaking = new Map(); // uid → {element, text, letters, typed, timer}
    this.named = new Map(); // uid → element
    this.picked = null;
    this.pointed = null;
    this.due = false;
    world.addEventListener("said", ({ detail }) => this.#say(detail));
    world.addEventListener("edited", ({ detail }) => this.#edit(detail));
    world.addEventListener("deleted", ({ detail }) => this.#delete(detail));
    world.addEventListener("whole", () => this.#clear());
  }

  /** A member is picked (null: none). */
  pick(uid) {
    this.picked = uid;
    this.dirty();
  }

  /** The pointer is over a member (null: none). */
  point(uid) {
    if (uid === this.pointed) return;
    this.pointed = uid;
    document.querySelector("#plaza").classList.toggle("over", uid !== null);
    this.dirty();
  }

  /** Something moved. */
  dirty() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.#place();
    });
  }

  #clear() {
    for (const uid of [...this.speaking.keys()]) this.#hush(uid);
    this.picked = this.pointed = null;
    this.dirty();
  }

  #place() {
    const { members, groups } = this.world;
    const wanted = new Set();
    if (members.size <= NAMED && !this.plaza.isCrowd) {
      for (const [status, group] of groups) {
        if (status !== "offline") for (const member of group) wanted.add(member.uid);
      }
    }
    for (const uid of [this.picked, this.pointed]) if (members.has(uid)) wanted.add(uid);
    // The bubble names them; in a crowd it is not where they are.
    if (!this.plaza.isCrowd) for (const uid of this.speaking.keys()) wanted.delete(uid);
    for (const [uid, tag] of this.named) {
      if (wanted.has(uid)) continue;
      tag.remove();
      this.named.delete(uid);
    }
    const isLoud = (uid) => uid === this.picked || uid === this.pointed;
    const front = [...wanted].sort(
      (a, b) => isLoud(b) - isLoud(a) || this.plaza.topOf(b)[1] - this.plaza.topOf(a)[1],
    );
    const { cubes, faces } = this.plaza.faces();
    const taken = [...this.#title(), ...faces];
    const bubbles = this.#bubbles(taken, cubes);
    taken.push(...bubbles);
    for (const uid of front) this.#tag(uid, members.get(uid), taken, isLoud(uid));
  }

  /** The title of the plaza. */
  #title() {
    const title = this.plaza.box.querySelector(".title");
    return [...title.children].map((each) => {
      const [left, top] = [title.offsetLeft + each.offsetLeft, title.offsetTop + each.offsetTop];
      return boxAt(left, top, [textWidth(each), each.offsetHeight]);
    });
  }

  get #room() {
    const { clientWidth: right, clientHeight: bottom } = this.plaza.box;
    return { left: EDGE, top: EDGE, right: right - EDGE, bottom: bottom - EDGE };
  }

  /** Place all bubbles; one that covers nothing stays where it is. Returns their boxes. */
  #bubbles(taken, cubes) {
    const room = this.#room;
    const speaking = [...this.speaking].filter(([uid]) => this.plaza.speakerAt(uid));
    const placed = [];
    // The newest ones first: if there is no room for all, the older ones go.
    for (const [uid, speech] of speaking.reverse()) {
      const { size } = speech;
      const [x, y] = this.plaza.speakerAt(uid);
      const inTheWay = [...taken, ...placed];
      const kept = speech.step && boxAt(x + speech.step[0], y + speech.step[1], size);
      const isKept = kept && isFree(kept, room, inTheWay);
      const at = [x, y - GAP];
      let box = isKept ? kept : placeFor(size, at, room, [...inTheWay, ...cubes], NICE);
      box ??= placeFor(size, at, room, inTheWay);
      // Alone it is shown in any case, and over as little as possible.
      if (!box && !placed.length) box = within(boxAt(x - size[0] / 2, at[1] - size[1], size), room);
      speech.element.classList.toggle("behind", !box);
      if (!box) continue;
      speech.step = [box.left - x, box.top - y];
      placed.push(box);
      speech.element.style.transform = `translate(${Math.round(box.left)}px, ${Math.round(box.top)}px)`;
      this.#stem(speech.element, box, [x, y]);
    }
    return placed;
  }

  /** The line from a bubble to who says it. */
  #stem(element, box, [x, y]) {
    const wide = box.right - box.left;
    const fromX = Math.min(Math.max(x - box.left, 14), wide - 14);
    const above = (box.top + box.bottom) / 2 < y;
    const fromY = above ? box.bottom - box.top - 2 : 2;
    const [dx, dy] = [x - box.left - fromX, y + (above ? -1 : 12) - box.top - fromY];
    element.style.setProperty("--from-x", `${fromX}px`);
    element.style.setProperty("--from-y", `${fromY}px`);
    element.style.setProperty("--long", `${Math.hypot(dx, dy)}px`);
    element.style.setProperty("--turn", `${Math.atan2(dy, dx)}rad`);
  }

  #tag(uid, member, taken, isLoud) {
    let tag = this.named.get(uid);
    if (!tag) {
      tag = made("span", {}, made("bdi"), made("small"));
      this.named.set(uid, tag);
      this.tags.append(tag);
    }
    const name = cut(member.name, isLoud ? 40 : 14);
    const words = isLoud ? WORDS[member.status] : "";
    if (tag.firstChild.textContent !== name || tag.lastChild.textContent !== words) {
      tag.firstChild.textContent = name;
      tag.lastChild.textContent = words;
      tag.size = null;
    }
    const kind = uid === this.picked ? "picked" : isLoud ? "pointed" : "";
    if (tag.className !== kind) tag.className = kind;
    tag.hidden = false;
    tag.size ??= [tag.offsetWidth, tag.offsetHeight];
    const [x, y] = this.plaza.topOf(uid);
    const at = [x, y - 2];
    let box = boxAt(x - tag.size[0] / 2, at[1] - tag.size[1], tag.size);
    const room = this.#room;
    if (isLoud) box = placeFor(tag.size, at, room, taken, TAG) ?? within(box, room);
    else if (!isFree(box, room, taken)) box = null;
    tag.hidden = !box; // a name that would cover something waits until there is room
    if (!box) return;
    taken.push(box);
    tag.style.transform = `translate(${Math.round(box.left)}px, ${Math.round(box.top)}px)`;
  }

  #edit(edited) {
    for (const [uid, speech] of this.speaking) {
      if (!isAbout(edited, speech.said)) continue;
      clearTimeout(speech.timer);
      speech.element.classList.remove("leaving");
      speech.letters = lettersOf(edited.message);
      this.#measure(speech);
      this.#finish(uid, speech);
    }
  }

  #delete(deleted) {
    for (const [uid, { said }] of [...this.speaking]) if (isAbout(deleted, said)) this.#hush(uid);
  }

  #say({ member, message, channel, id }) {
    if (document.hidden) return; // no one looks; the log has it
    this.#hush(member.uid);
    const most = this.plaza.isCrowd ? this.plaza.slots : SPEAKING;
    while (this.speaking.size >= most) this.#hush(this.speaking.keys().next().value);
    const letters = lettersOf(message);
    const words = made("bdi");
    const body = made("div", { class: "said" }, made("b", {}, foreign(member.name, 24)), words);
    const element = made("div", { class: "bubble" }, body);
    element.style.setProperty("--role", member.colour);
    this.box.append(element);
    const said = { channel, id };
    const speech = { said, element, words, letters, typed: 0, timer: null };
    this.speaking.set(member.uid, speech);
    this.#measure(speech);
    this.dirty();
    this.plaza.nudge(member.uid);
    this.plaza.bringForward(member.uid);
    if (mayMove()) this.#type(member.uid, speech);
    else this.#finish(member.uid, speech);
  }

  /** Give a bubble the size of its whole text, so that it stays where it is while that is typed. */
  #measure(speech) {
    const { element, words, letters } = speech;
    const wide = this.plaza.box.clientWidth;
    const most = this.plaza.isCrowd ? wide / this.plaza.slots - 12 : Math.min(250, wide * 0.8);
    element.style.width = element.style.height = "";
    element.style.maxWidth = `${Math.floor(most)}px`;
    words.textContent = letters.join("");
    speech.size = [element.offsetWidth + 1, element.offsetHeight];
    speech.step = null; // from the top of the cube to the bubble, once it is placed
    [element.style.width, element.style.height] = speech.size.map((each) => `${each}px`);
  }

  #type(uid, speech) {
    speech.typed += 1;
    speech.words.textContent = speech.letters.slice(0, speech.typed).join("");
    if (speech.typed >= speech.letters.length) return this.#finish(uid, speech);
    speech.timer = setTimeout(() => this.#type(uid, speech), LETTER);
  }

  #finish(uid, speech) {
    speech.words.textContent = speech.letters.join("");
    speech.timer = setTimeout(() => {
      speech.element.classList.add("leaving");
      speech.timer = setTimeout(() => this.#hush(uid), 300);
    }, STAYS + speech.letters.length * 20);
  }

  #hush(uid) {
    const speech = this.speaking.get(uid);
    if (!speech) return;
    clearTimeout(speech.timer);
    speech.element.remove();
    this.speaking.delete(uid);
    this.plaza.sendBack(uid);
    this.dirty();
  }
}

function lettersOf(message) {
  return split(cut(message, LONGEST), LONGEST + 1);
}

function boxAt(left, top, [wide, high]) {
  return { left, top, right: left + wide, bottom: top + high };
}

/** The box, moved into the room as far as it fits. */
function within(box, room) {
  const [wide, high] = [box.right - box.left, box.bottom - box.top];
  const left = Math.max(room.left, Math.min(box.left, room.right - wide));
  const top = Math.max(room.top, Math.min(box.top, room.bottom - high));
  return boxAt(left, top, [wide, high]);
}

const measure = document.createRange();

function textWidth(element) {
  measure.selectNodeContents(element);
  return Math.min(measure.getBoundingClientRect().width, element.offsetWidth);
}

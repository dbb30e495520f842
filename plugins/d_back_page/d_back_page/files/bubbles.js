// What floats above the plaza: names, what is said, and who is picked.

import { cut, foreign, made, split } from "./text.js";
import { isAbout, WORDS } from "./world.js";
import { mayMove } from "./motion.js";

const SPEAKING = 5; // bubbles at once
const COVERED = 0.15; // of a bubble
const LONGEST = 120; // letters in a bubble
const LETTER = 28; // ms for each letter that is typed
const STAYS = 4200; // ms after the last one
const NAMED = 60; // members up to whose number everybody's name is shown

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

  /** Somebody is picked (null: nobody). */
  pick(uid) {
    this.picked = uid;
    this.dirty();
  }

  /** The pointer is over somebody (null: nobody). */
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
    if (members.size <= NAMED && this.plaza.w > 15) {
      for (const [status, group] of groups) {
        if (status !== "offline") for (const member of group) wanted.add(member.uid);
      }
    }
    for (const uid of this.speaking.keys()) wanted.delete(uid); // the bubble names them
    for (const uid of [this.picked, this.pointed]) if (members.has(uid)) wanted.add(uid);
    for (const [uid, tag] of this.named) {
      if (wanted.has(uid)) continue;
      tag.remove();
      this.named.delete(uid);
    }
    const taken = [];
    const loud = (uid) => uid === this.picked || uid === this.pointed;
    const front = [...wanted].sort(
      (a, b) => loud(b) - loud(a) || this.plaza.topOf(b)[1] - this.plaza.topOf(a)[1],
    );
    for (const uid of front) this.#tag(uid, members.get(uid), taken);
    for (const [uid, { element }] of this.speaking) this.#move(element, uid, true);
    this.#overlap();
  }

  /** Older bubbles fade where newer ones cover a good part of them. */
  #overlap() {
    const newer = [];
    for (const { element, at } of [...this.speaking.values()].reverse()) {
      const { offsetWidth: wide, offsetHeight: high } = element;
      const box = { left: at[0] - wide / 2, right: at[0] + wide / 2, top: at[1] - high, bottom: at[1] };
      const covered = newer.some((other) => {
        const across = Math.min(other.right, box.right) - Math.max(other.left, box.left);
        const down = Math.min(other.bottom, box.bottom) - Math.max(other.top, box.top);
        return across > 0 && down > 0 && across * down > wide * high * COVERED;
      });
      element.classList.toggle("behind", covered);
      newer.push(box);
    }
  }

  #tag(uid, member, taken) {
    let tag = this.named.get(uid);
    if (!tag) {
      tag = made("span", {}, made("bdi"), made("small"));
      this.named.set(uid, tag);
      this.tags.append(tag);
    }
    const name = cut(member.name, uid === this.picked || uid === this.pointed ? 40 : 14);
    if (tag.firstChild.textContent !== name) tag.firstChild.textContent = name;
    const loud = uid === this.picked || uid === this.pointed;
    tag.lastChild.textContent = loud ? WORDS[member.status] : "";
    tag.className = uid === this.picked ? "picked" : loud ? "pointed" : "";
    this.#move(tag, uid, false);
    // A name that would cover another one waits until there is room.
    const [x, y] = this.plaza.topOf(uid);
    // A rough width will do: measuring each would cost a layout.
    const half = 4 * name.length + 6;
    const free = loud || !taken.some(([tx, ty, th]) => Math.abs(tx - x) < th + half && Math.abs(ty - y) < 19);
    tag.hidden = !free;
    if (free) taken.push([x, y, half]);
  }

  #move(element, uid, inside) {
    const at = this.plaza.topOf(uid);
    element.hidden = at === null;
    if (at === null) return;
    let [x, y] = at;
    if (inside) {
      const half = element.offsetWidth / 2 + 8;
      const wide = this.plaza.box.clientWidth;
      const kept = Math.min(Math.max(x, half), Math.max(half, wide - half));
      element.style.setProperty("--tail", `${x - kept}px`);
      x = kept;
      y = Math.max(y - (this.named.has(uid) ? 40 : 0), element.offsetHeight + 14);
      this.speaking.get(uid).at = [x, y];
    }
    element.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
  }

  #edit(edited) {
    for (const [uid, speech] of this.speaking) {
      if (!isAbout(edited, speech.said)) continue;
      clearTimeout(speech.timer);
      speech.element.classList.remove("leaving");
      speech.letters = lettersOf(edited.message);
      this.#finish(uid, speech);
    }
  }

  #delete(deleted) {
    for (const [uid, { said }] of [...this.speaking]) if (isAbout(deleted, said)) this.#hush(uid);
  }

  #say({ member, message, channel, id }) {
    if (document.hidden) return; // nobody looks; the log has it
    this.#hush(member.uid);
    while (this.speaking.size >= SPEAKING) this.#hush(this.speaking.keys().next().value);
    const letters = lettersOf(message);
    const words = made("bdi");
    const body = made("div", { class: "said" }, made("b", {}, foreign(member.name, 24)), words);
    const element = made("div", { class: "bubble" }, body);
    element.style.setProperty("--role", member.colour);
    this.box.append(element);
    const said = { channel, id };
    const speech = { said, element, words, letters, typed: 0, timer: null, at: [0, 0] };
    this.speaking.set(member.uid, speech);
    this.dirty();
    this.plaza.nudge(member.uid);
    if (mayMove()) this.#type(member.uid, speech);
    else this.#finish(member.uid, speech);
  }

  #type(uid, speech) {
    speech.typed += 1;
    speech.words.textContent = speech.letters.slice(0, speech.typed).join("");
    this.#move(speech.element, uid, true);
    if (speech.typed >= speech.letters.length) return this.#finish(uid, speech);
    speech.timer = setTimeout(() => this.#type(uid, speech), LETTER);
  }

  #finish(uid, speech) {
    speech.words.textContent = speech.letters.join("");
    this.#move(speech.element, uid, true);
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
    this.dirty();
  }
}

function lettersOf(message) {
  return split(cut(message, LONGEST), LONGEST + 1);
}

// What floats above the plaza: names, what is said, and who is picked.

import { cut, foreign, made, split } from "./text.js";
import { isAbout, WORDS } from "./world.js";
import { mayMove } from "./motion.js";

const SPEAKING = 5; // bubbles at once
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
    const spoken = this.#stack();
    const taken = [];
    const loud = (uid) => uid === this.picked || uid === this.pointed;
    const front = [...wanted].sort(
      (a, b) => loud(b) - loud(a) || this.plaza.topOf(b)[1] - this.plaza.topOf(a)[1],
    );
    const faces = members.size <= NAMED ? this.#faces(wanted) : [];
    for (const uid of front) this.#tag(uid, members.get(uid), taken, [...spoken, ...faces]);
  }

  /** Where the faces are that a name must not hide. */
  #faces(uids) {
    const { w } = this.plaza;
    const faces = [];
    for (const uid of uids) {
      const [x, y] = this.plaza.topOf(uid);
      const box = { left: x - w * 0.35, right: x + w * 0.35, top: y + w * 0.6, bottom: y + w * 0.9 };
      faces.push({ uid, ...box });
    }
    return faces;
  }

  /** Place all bubbles so that none hides another: the ones in front stay, the others move up.
   * Returns their boxes. */
  #stack() {
    for (const [uid, { element }] of this.speaking) this.#move(element, uid, true);
    const placed = [];
    const lowest = [...this.speaking.values()].filter((each) => !each.element.hidden);
    for (const speech of lowest.sort((a, b) => b.at[1] - a.at[1])) {
      const { offsetWidth: wide, offsetHeight: high } = speech.element;
      const [x, wanted] = speech.at;
      const box = { left: x - wide / 2, right: x + wide / 2, top: wanted - high - 10, bottom: wanted };
      for (let other; (other = placed.find((each) => overlap(each, box))); ) {
        box.bottom = other.top - 4;
        box.top = box.bottom - high - 10;
      }
      // Without room above, the older one fades below the others.
      const room = box.top >= 0;
      if (!room) Object.assign(box, { top: wanted - high - 10, bottom: wanted });
      speech.element.classList.toggle("behind", !room);
      speech.element.style.setProperty("--stem", `${Math.round(wanted - box.bottom)}px`);
      const [left, top] = [Math.round(x), Math.round(box.bottom)];
      speech.element.style.transform = `translate(${left}px, ${top}px)`;
      speech.element.style.zIndex = String(-placed.length); // its stem goes below the others
      placed.push(box);
    }
    return placed;
  }

  #tag(uid, member, taken, hidden) {
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
    const box = { left: x - half, right: x + half, top: y - 20, bottom: y - 2 };
    const clear = !taken.some((each) => overlap(each, box));
    const free = loud || (clear && !hidden.some((each) => each.uid !== uid && overlap(each, box)));
    tag.hidden = !free;
    if (free) taken.push(box);
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
    this.dirty();
    if (speech.typed >= speech.letters.length) return this.#finish(uid, speech);
    speech.timer = setTimeout(() => this.#type(uid, speech), LETTER);
  }

  #finish(uid, speech) {
    speech.words.textContent = speech.letters.join("");
    this.dirty();
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

function overlap(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

// What is said: a log to read, beside the bubbles of the plaza.

import { foreign, made } from "./text.js";

const KEPT = 60;
const LONGEST = 400; // letters

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

export class Talk {
  constructor(world) {
    this.log = document.querySelector("#talk");
    this.hush = document.querySelector("#hush");
    this.waiting = [];
    this.due = false;
    world.addEventListener("whole", () => this.clear());
    world.addEventListener("said", ({ detail }) => this.#hear(detail));
  }

  /** Another place: what was said is not said here. */
  clear() {
    this.waiting = [];
    this.log.replaceChildren();
    this.hush.hidden = false;
  }

  #hear({ member, message }) {
    this.waiting.push({ name: member.name, colour: member.colour, message, at: new Date() });
    if (this.waiting.length > KEPT) this.waiting.shift();
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => this.#write());
  }

  #write() {
    this.due = false;
    const below = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight;
    for (const { name, colour, message, at } of this.waiting) {
      const author = made("b", {}, foreign(name, 40));
      const time = made("time", { datetime: at.toISOString() }, clock.format(at));
      const line = made("p", {}, made("i"), author, " ", foreign(message, LONGEST), time);
      line.style.setProperty("--role", colour);
      this.log.append(line);
    }
    this.waiting = [];
    while (this.log.children.length > KEPT) this.log.firstChild.remove();
    this.hush.hidden = true;
    if (below < 40) this.log.scrollTop = this.log.scrollHeight; // who reads further up may stay
  }
}

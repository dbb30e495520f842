// What is said: a log to read, beside the bubbles of the plaza.

import { cut, foreign, made } from "./text.js";
import { isAbout } from "./world.js";
import { clock, number, say } from "./words.js";

const KEPT = 60;
const LONGEST = 400; // letters
const OPEN = "d-back chat"; // in localStorage: if the visitor has closed it
const FLAT = matchMedia("(max-height: 480px)"); // a phone on its side has no room for it

export class Talk {
  constructor(world) {
    this.log = document.querySelector("#talk");
    this.hush = document.querySelector("#hush");
    this.button = document.querySelector("#talk-open");
    this.unread = 0;
    this.waiting = [];
    this.due = false;
    this.names = {}; // channel → its name, as far as the operator has named it
    this.channels = new Set(); // the ones that were heard of
    this.button.addEventListener("click", () => {
      const isOpen = document.body.classList.contains("mute");
      localStorage.setItem(OPEN, isOpen ? "open" : "closed");
      this.#open(isOpen);
    });
    const kept = localStorage.getItem(OPEN);
    this.#open(kept === null ? !FLAT.matches : kept === "open");
    world.addEventListener("whole", () => this.clear());
    world.addEventListener("said", ({ detail }) => this.#hear(detail));
    world.addEventListener("edited", ({ detail }) => this.#edit(detail));
    world.addEventListener("deleted", ({ detail }) => this.#delete(detail));
  }

  #open(isOpen) {
    document.body.classList.toggle("mute", !isOpen);
    this.button.setAttribute("aria-expanded", String(isOpen));
    this.unread = 0;
    this.#tell();
    if (isOpen) this.log.scrollTop = this.log.scrollHeight;
  }

  /** Say on the button how much was said while the chat was closed. */
  #tell() {
    const words = this.unread ? say("Chat: {0} new", number(this.unread)) : say("Chat");
    if (this.button.textContent !== words) this.button.textContent = words;
  }

  /** Another place: what was said is not said here. */
  clear() {
    this.waiting = [];
    this.channels.clear();
    this.unread = 0;
    this.#tell();
    this.log.replaceChildren();
    this.hush.hidden = false;
  }

  /** Use these names, by the channels' ids. */
  rename(names) {
    this.names = names;
    for (const line of this.log.children) {
      line.querySelector(".where").textContent = this.#nameOf(line.said.channel);
    }
  }

  /** The protocol has no names of channels: the end of the id tells them apart. */
  #nameOf(channel) {
    return `#${cut(this.names[channel] ?? channel.slice(-4), 24)}`;
  }

  #hear({ member, message, channel, id }) {
    const { name, colour } = member;
    this.waiting.push({ name, colour, message, channel, id, at: new Date() });
    if (this.waiting.length > KEPT) this.waiting.shift();
    if (document.body.classList.contains("mute")) this.unread += 1;
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => this.#write());
  }

  #edit(edited) {
    for (const said of this.waiting) if (isAbout(edited, said)) said.message = edited.message;
    for (const line of this.log.children) {
      if (isAbout(edited, line.said)) line.words.textContent = cut(edited.message, LONGEST);
    }
  }

  #delete(deleted) {
    this.waiting = this.waiting.filter((said) => !isAbout(deleted, said));
    for (const line of [...this.log.children]) if (isAbout(deleted, line.said)) line.remove();
    this.hush.hidden = this.log.children.length > 0;
  }

  #write() {
    this.due = false;
    this.#tell();
    const below = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight;
    for (const { name, colour, message, channel, id, at } of this.waiting) {
      this.channels.add(channel);
      const author = made("b", {}, foreign(name, 40));
      const time = made("time", { datetime: at.toISOString() }, clock.format(at));
      const words = foreign(message, LONGEST);
      const where = made("span", { class: "where" }, this.#nameOf(channel));
      const line = made("p", {}, made("i"), where, author, " ", words, time);
      Object.assign(line, { words, said: { channel, id } });
      line.style.setProperty("--role", colour);
      this.log.append(line);
    }
    this.waiting = [];
    this.log.classList.toggle("many", this.channels.size > 1);
    while (this.log.children.length > KEPT) this.log.firstChild.remove();
    this.hush.hidden = this.log.children.length > 0;
    if (below < 40) this.log.scrollTop = this.log.scrollHeight; // who reads further up may stay
  }
}

// The card of a member who was picked: in words what the cube shows, and what else is known. It is not
// a live region: the option in the list is read out, and its times change all the time.

import { avatarOf } from "./avatars.js";
import { cut, foreign, made, span } from "./text.js";
import { clock, say } from "./words.js";
import { WORDS } from "./world.js";

const EVERY = 1000; // ms
const LONGEST = 256; // letters of a text
const TITLES = { activity: say("Activity"), pronouns: say("Pronouns") };

export class Card {
  /** `closed()` is called when the card is closed. */
  constructor(world, closed) {
    this.world = world;
    this.closed = closed;
    this.uid = null;
    this.timer = null;
    this.box = document.querySelector("#card");
    this.head = this.box.querySelector(".card-head");
    this.name = document.querySelector("#card-name");
    this.facts = document.querySelector("#card-facts");
    document.querySelector("#card-close").addEventListener("click", () => this.closed());
    this.box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.closed();
    });
    world.addEventListener("whole", () => this.show(null));
    world.addEventListener("change", ({ detail: { member, was } }) => {
      if ((member ?? was).uid !== this.uid) return;
      if (member) this.#draw();
      else this.closed();
    });
    world.client.addEventListener("state", () => this.#draw());
  }

  /** Show a member; null: none. */
  show(uid) {
    clearInterval(this.timer);
    this.uid = this.world.members.has(uid) ? uid : null;
    this.box.hidden = this.uid === null;
    if (this.uid !== null) this.timer = setInterval(() => this.#draw(), EVERY);
    this.#draw();
  }

  #draw() {
    const member = this.world.members.get(this.uid);
    if (!member) return;
    this.head.dataset.status = member.status;
    this.box.style.setProperty("--role", member.colour);
    put(this.name, cut(member.name, 80));
    const avatar = avatarOf(member, 48);
    const before = this.head.querySelector("img");
    if (before?.src !== avatar?.src) {
      before?.remove();
      if (avatar) this.head.append(avatar);
    }
    const facts = [[say("Status"), this.#status(member)]];
    facts.push([say("Role colour"), member.hasRole ? member.colour : say("none")]);
    for (const [key, text] of Object.entries(member.extra)) {
      if (key !== "avatar") facts.push([TITLES[key] ?? cut(key, 40), cut(text, LONGEST)]);
    }
    const rows = [...this.facts.children];
    facts.forEach(([title, text], at) => {
      const row = rows[at] ?? made("div", {}, made("dt"), made("dd", { dir: "auto" }));
      if (!row.isConnected) this.facts.append(row);
      put(row.firstChild, title);
      put(row.lastChild, text);
    });
    for (const row of rows.slice(facts.length)) row.remove();
  }

  /** The status, and since when, as far as this page has seen it. */
  #status({ status, since, isExact }) {
    const word = WORDS[status];
    if (this.world.client.state !== "live") return say("last known: {0}", word);
    const ago = span((Date.now() - since) / 1000);
    if (isExact) return say("{0} since {1} ({2})", word, clock.format(since), ago);
    return say("{0} for at least {1}, as long as this page has watched", word, ago);
  }
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// The members as a list that holds any number of them: only those in sight are in the document.

import { avatarOf } from "./avatars.js";
import { STATUSES, WORDS } from "./world.js";
import { locale, number, say } from "./words.js";
import { cut, folded, made } from "./text.js";

const ROW = 40; // px, as in style.css
const BEYOND = 6; // rows that are ready above and below what is in sight

const compact = new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 });

export class List {
  /** `chosen(uid or null)` is called when a member is picked. */
  constructor(world, chosen) {
    this.world = world;
    this.chosen = chosen;
    this.box = document.querySelector("#members");
    this.tall = this.box.querySelector(".tall");
    this.find = document.querySelector("#find");
    this.none = document.querySelector("#none");
    this.nav = document.querySelector("#groups");
    this.query = "";
    this.active = null; // uid that the keyboard is at
    this.picked = null;
    this.sections = [];
    this.rows = new Map(); // index → element
    this.spare = [];
    this.due = false;
    this.#tabs();
    this.box.addEventListener("scroll", () => this.dirty(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.#key(event));
    this.box.addEventListener("focus", () => this.#focus());
    this.box.addEventListener("click", (event) => this.#click(event));
    this.find.addEventListener("input", () => this.#search());
    this.find.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" && this.count) {
        event.preventDefault();
        this.box.focus();
      }
    });
    new ResizeObserver(() => this.dirty()).observe(this.box);
    world.addEventListener("whole", () => this.#whole());
    world.addEventListener("change", () => this.dirty());
  }

  /** Draw again with the next frame. */
  dirty() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.#draw();
    });
  }

  /** Members that the search leaves. */
  get count() {
    return this.sections.reduce((sum, section) => sum + section.members.length, 0);
  }

  /** Pick a member from outside, and show where they are. */
  pick(uid) {
    this.picked = this.active = uid;
    this.#layOut();
    if (uid !== null) this.#reveal(this.#indexOf(uid));
    this.dirty();
  }

  #whole() {
    this.active = this.picked = null;
    this.box.scrollTop = 0;
    this.dirty();
  }

  #search() {
    this.query = folded(this.find.value.trim());
    this.box.scrollTop = 0;
    this.active = null;
    this.dirty();
  }

  #layOut() {
    const { query, world } = this;
    const fits = (member) => member.key.includes(query) || member.uid === query;
    let start = 0;
    this.sections = [];
    for (const status of STATUSES) {
      const all = world.groups.get(status);
      const members = query ? all.filter(fits) : all;
      if (members.length) this.sections.push({ status, members, start });
      if (members.length) start += members.length + 1;
    }
    this.length = start;
  }

  #at(index) {
    for (const section of this.sections) {
      const within = index - section.start;
      if (within === 0) return { heading: section };
      if (within <= section.members.length) return { member: section.members[within - 1] };
    }
    return null;
  }

  #indexOf(uid) {
    const member = this.world.members.get(uid);
    const section = this.sections.find((each) => each.status === member?.status);
    const within = section ? section.members.indexOf(member) : -1;
    return within < 0 ? -1 : section.start + 1 + within;
  }

  #draw() {
    this.#layOut();
    this.tall.style.height = `${this.length * ROW}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - BEYOND);
    const seen = Math.ceil(this.box.clientHeight / ROW) + 2 * BEYOND;
    const last = Math.min(this.length, first + seen);
    for (const [index, row] of this.rows) {
      if (first <= index && index < last) continue;
      this.rows.delete(index);
      this.spare.push(row);
    }
    for (let index = first; index < last; index += 1) this.#row(index);
    for (const row of this.spare) row.remove();
    this.spare.length = Math.min(this.spare.length, 2 * BEYOND);
    this.#counts();
    const active = this.active === null ? -1 : this.#indexOf(this.active);
    const row = this.rows.get(active);
    if (row) this.box.setAttribute("aria-activedescendant", row.id);
    else this.box.removeAttribute("aria-activedescendant");
  }

  #row(index) {
    let row = this.rows.get(index);
    if (!row) {
      row = this.spare.pop() ?? made("div", {}, made("i"), made("bdi"), made("span"));
      row.style.transform = `translateY(${index * ROW}px)`;
      row.id = `row-${index}`;
      this.rows.set(index, row);
    }
    if (!row.isConnected) this.tall.append(row);
    const { heading, member } = this.#at(index);
    if (heading) this.#heading(row, heading);
    else this.#member(row, member, index);
  }

  #heading(row, { status, members }) {
    const told = `${status} ${members.length}`;
    if (row.told === told) return;
    row.told = told;
    row.className = "group";
    row.dataset.uid = "";
    row.dataset.status = status;
    row.setAttribute("role", "presentation");
    row.setAttribute("aria-hidden", "true");
    for (const name of ["aria-selected", "aria-setsize", "aria-posinset", "aria-label"]) {
      row.removeAttribute(name);
    }
    row.querySelector("img")?.remove();
    row.children[1].textContent = WORDS[status];
    row.children[2].textContent = number(members.length);
  }

  #member(row, member, index) {
    const picked = member.uid === this.picked;
    const active = member.uid === this.active;
    const { activity = "", avatar = "" } = member.extra;
    const told = [
      ...[member.uid, member.name, member.status, member.colour],
      ...[activity, avatar, picked, active],
    ].join("\n");
    const place = index - this.sections.filter((each) => each.start < index).length;
    const posinset = String(place + 1);
    if (row.getAttribute("aria-posinset") !== posinset) row.setAttribute("aria-posinset", posinset);
    row.setAttribute("aria-setsize", String(this.count));
    if (row.told === told) return;
    row.told = told;
    row.className = active ? "member active" : "member";
    row.dataset.uid = member.uid;
    row.dataset.status = member.status;
    row.setAttribute("role", "option");
    row.removeAttribute("aria-hidden");
    row.setAttribute("aria-selected", String(picked));
    const name = cut(member.name, 60);
    const words = [name, WORDS[member.status], activity && cut(activity, 60)];
    row.setAttribute("aria-label", words.filter(Boolean).join(", "));
    row.style.setProperty("--role", member.colour);
    row.children[1].textContent = name;
    row.children[2].textContent = cut(activity, 60);
    const image = row.querySelector("img");
    const wanted = avatarOf(member, 26);
    if (image?.src === wanted?.src) return;
    image?.remove();
    if (wanted) row.append(wanted);
  }

  #tabs() {
    for (const status of STATUSES) {
      const tab = made("button", { type: "button", "data-status": status }, made("i"), made("span", {}, WORDS[status]), made("b"));
      tab.addEventListener("click", () => this.#jump(status));
      this.nav.append(tab);
    }
  }

  #counts() {
    for (const tab of this.nav.children) {
      const { status } = tab.dataset;
      const section = this.sections.find((each) => each.status === status);
      const count = number(section ? section.members.length : 0);
      const label = `${WORDS[status]}: ${count}`;
      if (tab.getAttribute("aria-label") === label) continue;
      tab.lastChild.textContent = compact.format(section ? section.members.length : 0);
      tab.disabled = !section;
      tab.setAttribute("aria-label", label);
      tab.title = WORDS[status];
    }
    const isEmpty = this.query && !this.length;
    this.box.classList.toggle("empty", !this.length);
    const words = isEmpty ? say("No member is called “{0}”.", cut(this.find.value.trim(), 40)) : "";
    if (this.none.textContent !== words) this.none.textContent = words;
  }

  #jump(status) {
    const section = this.sections.find((each) => each.status === status);
    if (!section) return;
    this.box.scrollTop = section.start * ROW;
    this.active = section.members[0].uid;
    this.box.focus({ preventScroll: true });
    this.dirty();
  }

  #focus() {
    if (this.active === null && this.count) {
      const first = Math.ceil(this.box.scrollTop / ROW);
      const { member, heading } = this.#at(first) ?? {};
      this.active = (member ?? heading?.members[0])?.uid ?? null;
      this.dirty();
    }
  }

  #click(event) {
    const uid = event.target.closest(".member")?.dataset.uid;
    if (!uid) return;
    this.active = uid;
    this.#choose(uid === this.picked ? null : uid);
  }

  #choose(uid) {
    this.picked = uid;
    this.dirty();
    this.chosen(uid);
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    if (event.key in steps) this.#step(steps[event.key]);
    else if (event.key === "Home") this.#go(1, 1);
    else if (event.key === "End") this.#go(this.length - 1, -1);
    else if (event.key === "Enter" || event.key === " ") {
      if (this.active !== null) this.#choose(this.active === this.picked ? null : this.active);
    } else if (event.key === "Escape") this.#choose(null);
    else return;
    event.preventDefault();
  }

  #step(by) {
    const from = this.active === null ? 0 : Math.max(0, this.#indexOf(this.active));
    const to = Math.min(Math.max(from + by, 1), this.length - 1);
    this.#go(to, Math.sign(by));
  }

  /** Make the member there the active one; over a heading, go on. */
  #go(index, onward) {
    const found = this.#at(index);
    if (!found) return;
    const member = found.member ?? this.#at(index + onward)?.member ?? found.heading.members[0];
    this.active = member.uid;
    this.#reveal(this.#indexOf(member.uid));
    this.dirty();
  }

  #reveal(index) {
    if (index < 0) return;
    const top = index * ROW;
    const bottom = top + ROW - this.box.clientHeight;
    if (this.box.scrollTop > top - ROW) this.box.scrollTop = top - ROW;
    else if (this.box.scrollTop < bottom) this.box.scrollTop = bottom;
  }
}

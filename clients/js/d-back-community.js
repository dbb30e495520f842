// <d-back-community src="https://gateway.example" server="dworld">: who is there, on any page.
//
// Everything is in a shadow root with a constructed style sheet, so it needs no permission for
// inline styles (CSP), and rules of the page reach the element's own box only. `.root` has
// `all: initial`, because a shadow root inherits fonts, colours and spacing from the page.

import { colorOf, connect } from "./d-back-client.js";

const SHOWN = 100; // members of each status; `max` changes it
const LATEST = 140; // letters of a message
const STAYS = 7_000; // ms that a message is shown
const PAUSE = 250; // ms between two updates
const STATUSES = ["online", "idle", "dnd"];

const WORDS = {
  en: {
    online: "Online",
    idle: "Idle",
    dnd: "Do not disturb",
    join: "Join",
    members: "Members",
    here: (count) => `${count} online`,
    more: (count) => `and ${count} more`,
    connecting: "Connecting …",
    lost: "Connection lost. Trying again …",
    waiting: "This community is not available now.",
    protected: "This community is protected.",
    empty: "No member is online.",
  },
  de: {
    online: "Online",
    idle: "Abwesend",
    dnd: "Nicht stören",
    join: "Beitreten",
    members: "Mitglieder",
    here: (count) => `${count} online`,
    more: (count) => `und ${count} weitere`,
    connecting: "Verbindung wird aufgebaut …",
    lost: "Verbindung unterbrochen. Neuer Versuch …",
    waiting: "Diese Community ist gerade nicht erreichbar.",
    protected: "Diese Community ist geschützt.",
    empty: "Niemand ist online.",
  },
};

const DARK = `
  --sheet: #1f1a2b; --ink: #f0eaf7; --soft: #b0a6c2; --line: #382f4a; --hover: #2a2439;
  --accent: var(--d-back-accent, #ffc15e); --accent-ink: var(--d-back-accent-ink, #23162b);
  --online: #62d899; --idle: #ffc15e; --dnd: #ff8479; --bubble: #322a48;
  color-scheme: dark;
`;

const STYLE = `
:host {
  display: flex !important; flex-direction: column !important; box-sizing: border-box !important; padding: 0 !important;
  border: 0 !important; background: none !important; filter: none !important;
  opacity: 1 !important; transform: none !important; rotate: none !important;
  scale: none !important; columns: auto !important; clip-path: none !important;
  mix-blend-mode: normal !important; visibility: visible !important;
}
:host([hidden]) { display: none !important; }
:host([size="badge"]) { display: inline-flex !important; max-width: 100%; }
.root {
  all: initial;
  --sheet: #fffaf0; --ink: #2b2333; --soft: #655a70; --line: #d9cfb8; --hover: #f4eedd;
  --accent: var(--d-back-accent, #a8431f); --accent-ink: var(--d-back-accent-ink, #fffaf0);
  --online: #1d7a45; --idle: #8a5a00; --dnd: #b3261e; --bubble: #f4eedd;
  color-scheme: light;
  display: flex; flex-direction: column; box-sizing: border-box; direction: ltr;
  min-height: 0; max-height: var(--d-back-height, 480px);
  font: 15px/1.4 var(--d-back-font, system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif);
  color: var(--ink); background: var(--sheet);
  border: 1px solid var(--line); border-radius: var(--d-back-radius, 10px); overflow: hidden;
}
@media (prefers-color-scheme: dark) { .root:not([data-theme="light"]) {${DARK}} }
.root[data-theme="dark"] {${DARK}}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
p, ul { margin: 0; padding: 0; list-style: none; }
header { display: flex; align-items: center; gap: 10px; padding: 12px 14px; min-width: 0; }
.title { flex: 1; min-width: 0; line-height: 1.25; }
.title strong, .title span { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.title strong { font-size: 17px; font-weight: 650; }
.title span { font-size: 13px; color: var(--soft); font-variant-numeric: tabular-nums; }
.cube {
  flex: none; width: 15px; height: 17px; --role: var(--accent);
  clip-path: polygon(50% 0, 100% 25%, 100% 75%, 50% 100%, 0 75%, 0 25%);
  background: conic-gradient(from -60deg at 50% 50%, color-mix(in srgb, var(--role), #fff 28%) 120deg,
    color-mix(in srgb, var(--role), #140a14 30%) 0 240deg, color-mix(in srgb, var(--role), #140a14 6%) 0);
  forced-color-adjust: none;
}
header .cube { width: 25px; height: 28px; }
a {
  flex: none; padding: 7px 14px; border-radius: 7px; text-decoration: none; font-weight: 600;
  color: var(--accent-ink); background: var(--accent);
}
a:hover { text-decoration: underline; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.people:focus-visible { outline-offset: -3px; }
.note { padding: 0 14px 12px; color: var(--soft); }
.people { overflow-y: auto; overscroll-behavior: contain; padding: 0 14px 12px; min-height: 0; }
.label { display: flex; align-items: center; gap: 8px; padding: 8px 0 4px; font-size: 13px; font-weight: 650; color: var(--soft); }
.label i { width: 9px; height: 9px; forced-color-adjust: none; }
.online .label i { background: var(--online); border-radius: 50%; }
.idle .label i { background: var(--idle); clip-path: inset(45% 0 0 0); }
.dnd .label i { background: linear-gradient(var(--dnd) 40%, #0000 40% 60%, var(--dnd) 60%); }
li { display: flex; flex-wrap: wrap; align-items: center; gap: 3px 9px; padding: 3px 0; min-width: 0; }
li bdi { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.idle .cube { clip-path: polygon(50% 25%, 100% 50%, 100% 75%, 50% 100%, 0 75%, 0 50%); background: var(--role); }
li img { order: -1; flex: none; width: 26px; height: 26px; border-radius: 7px; object-fit: cover; box-shadow: 0 0 0 2px var(--role); }
li:has(img:not([hidden])) .cube { display: none; }
.more { padding: 3px 0; font-size: 13px; color: var(--soft); }
.said {
  flex-basis: 100%; margin-left: 24px; padding: 5px 9px; border-radius: 3px 9px 9px; background: var(--bubble);
  font-size: 14px; overflow-wrap: anywhere; max-height: 84px; overflow: hidden; animation: up 0.2s;
}
.latest { padding: 8px 14px; border-top: 1px solid var(--line); background: var(--bubble); overflow-wrap: anywhere; max-height: 84px; overflow: hidden; }
.stale .people, .stale .latest { opacity: 0.6; filter: grayscale(0.7); }
@keyframes up { from { opacity: 0; translate: 0 4px; } }
@media (prefers-reduced-motion: reduce) { .said { animation: none; } }

[data-size="card"] .people { display: block; max-height: 230px; }
[data-size="card"] ul { display: flex; flex-wrap: wrap; gap: 4px 6px; }
[data-size="card"] li { flex-wrap: nowrap; gap: 6px; padding: 3px 9px 3px 7px; max-width: 100%; border-radius: 7px; background: var(--hover); font-size: 14px; }
[data-size="badge"] { width: auto; max-width: 100%; border-radius: 999px; }
[data-size="badge"] header { padding: 5px 6px 5px 12px; gap: 8px; }
[data-size="badge"] header:not(:has(a:not([hidden]))) { padding-right: 14px; }
[data-size="badge"] .title { display: flex; align-items: baseline; gap: 8px; }
[data-size="badge"] .title strong { font-size: 15px; }
[data-size="badge"] .title span { flex: none; }
[data-size="badge"] header .cube { width: 18px; height: 20px; }
[data-size="badge"] a { padding: 4px 12px; border-radius: 999px; }
[data-size="badge"] :is(.people, .note, .latest) { display: none; }
`;

const letters = new Intl.Segmenter(undefined, { granularity: "grapheme" });
let sheet = null; // one for all elements of a page

/** Shows one community. Attributes: src, server, size (column, card, badge), theme (light, dark),
 * chat, avatars, join, max, lang. */
export class CommunityElement extends HTMLElement {
  static observedAttributes = ["src", "server", "size", "theme", "chat", "avatars", "join", "max", "lang"];

  #world = null;
  #dom = null;
  #rows = new Map(); // uid → its row
  #said = new Map(); // uid → { text, channel, id, timer }
  #latest = null; // uid of the last one who wrote
  #error = null; // the code of the last refusal
  #timer = null;

  /** The client of the present connection, or null. */
  get world() {
    return this.#world;
  }

  connectedCallback() {
    this.#dom ??= this.#build();
    this.#connect();
  }

  disconnectedCallback() {
    this.#disconnect();
  }

  attributeChangedCallback(name, before, value) {
    if (!this.isConnected || !this.#dom || before === value) return;
    if (name === "src" || name === "server") this.#connect();
    if (name === "chat") this.#silence();
    this.#dirty();
  }

  #connect() {
    this.#disconnect();
    // Without `src`, the gateway is the one that this file comes from.
    const source = this.getAttribute("src") ?? new URL("../../", import.meta.url);
    const world = connect(source, { server: this.getAttribute("server") || null });
    this.#world = world;
    this.#error = null;
    for (const type of ["state", "join", "user"]) world.addEventListener(type, () => this.#dirty());
    world.addEventListener("join", ({ detail }) => {
      this.#error = null;
      if (!detail.resumed) this.#silence(); // what was deleted meanwhile is not known
    });
    world.addEventListener("message", ({ detail }) => this.#hear(detail));
    world.addEventListener("edit", ({ detail }) => this.#correct(detail, detail.message));
    world.addEventListener("delete", ({ detail }) => this.#correct(detail, null));
    world.addEventListener("error", ({ detail }) => {
      if (detail.code !== "notice") this.#error = detail.code;
      this.#dirty();
    });
    this.#draw();
  }

  #disconnect() {
    this.#world?.close();
    this.#world = null;
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#silence();
  }

  #build() {
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
    }
    const shadow = this.attachShadow({ mode: "open" });
    shadow.adoptedStyleSheets = [sheet];
    const dom = {
      name: made("bdi"),
      count: made("span"),
      join: made("a", { target: "_blank", rel: "noopener noreferrer", part: "join" }),
      note: made("p", { class: "note", role: "status" }),
      people: made("div", { class: "people", role: "group", tabindex: "0" }),
      latest: made("p", { class: "latest" }),
      groups: {},
    };
    for (const status of STATUSES) {
      const label = made("p", { class: "label", id: status }, made("i"), made("span"));
      const list = made("ul", { "aria-labelledby": status });
      const more = made("p", { class: "more" });
      const box = made("div", { class: status }, label, list, more);
      dom.groups[status] = { box, label: label.lastChild, list, more };
      dom.people.append(box);
    }
    const title = made("div", { class: "title" }, made("strong", {}, dom.name), dom.count);
    const header = made("header", {}, made("i", { class: "cube" }), title, dom.join);
    dom.root = made("div", { class: "root", part: "root", role: "group" }); // not a landmark
    dom.root.append(header, dom.note, dom.people, dom.latest);
    shadow.append(dom.root);
    return dom;
  }

  // What is shown

  #dirty() {
    this.#timer ??= setTimeout(() => this.#draw(), PAUSE);
  }

  #draw() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (!this.#world) return;
    const { users, name, state } = this.#world;
    const { root, people } = this.#dom;
    const language = this.#language();
    const words = WORDS[language];
    const format = new Intl.NumberFormat(language).format;
    const size = this.getAttribute("size") ?? "column";
    root.lang = language;
    root.dataset.size = size;
    root.dataset.theme = this.getAttribute("theme") ?? "auto";
    root.classList.toggle("stale", state !== "live");
    const groups = { online: [], idle: [], dnd: [], offline: [] };
    for (const user of users.values()) groups[user.status]?.push(user);
    const here = users.size - groups.offline.length;
    const joined = name !== "";
    put(this.#dom.name, joined ? name : (this.getAttribute("server") ?? "…"));
    put(this.#dom.count, joined ? words.here(format(here)) : "");
    root.setAttribute("aria-label", joined ? name : words.members);
    people.setAttribute("aria-label", words.members);
    people.hidden = !here;
    this.#drawJoin(words);
    this.#drawNote(words, here);
    const most = Math.max(0, Number.parseInt(this.getAttribute("max") ?? SHOWN, 10) || 0);
    const kept = new Set();
    for (const status of STATUSES) {
      const { box, label, list, more } = this.#dom.groups[status];
      const members = groups[status];
      box.hidden = !members.length;
      put(label, `${words[status]}: ${format(members.length)}`);
      const shown = members.sort(order).slice(0, size === "badge" ? 0 : most);
      fill(list, shown.map((user) => this.#row(user, kept)));
      list.hidden = !shown.length;
      more.hidden = members.length === shown.length;
      put(more, words.more(format(members.length - shown.length)));
    }
    for (const uid of this.#rows.keys()) if (!kept.has(uid)) this.#rows.delete(uid);
    this.#drawLatest(size);
  }

  #row(user, kept) {
    const { uid } = user;
    kept.add(uid);
    let row = this.#rows.get(uid);
    if (!row) {
      row = made("li", {}, made("i", { class: "cube" }), made("bdi"));
      this.#rows.set(uid, row);
    }
    const [cube, name] = row.children;
    cube.style.setProperty("--role", colorOf(user));
    put(name, cut(user.username, 60));
    this.#drawAvatar(row, user);
    const text = this.#dom.root.dataset.size === "column" && this.#said.get(uid)?.text;
    const said = row.querySelector(".said");
    if (!text) said?.remove();
    else if (said) put(said, text);
    else row.append(made("span", { class: "said", dir: "auto" }, text));
    return row;
  }

  /** The picture stands for the cube. Without it, and if it cannot be loaded, the cube is shown. */
  #drawAvatar(row, user) {
    const { avatar } = user.extra;
    const isShown = this.hasAttribute("avatars") && avatar && URL.canParse(avatar);
    const address = isShown ? new URL(avatar) : null;
    const src = address?.protocol === "https:" ? address.href : undefined;
    let image = row.querySelector("img");
    if (image?.src !== src) {
      image?.remove();
      if (!src) return;
      image = made("img", { alt: "", referrerpolicy: "no-referrer", loading: "lazy", src });
      image.addEventListener("error", ({ target }) => (target.hidden = true));
      row.children[1].after(image);
    }
    image?.style.setProperty("--role", colorOf(user));
  }

  #drawJoin(words) {
    const { join } = this.#dom;
    const address = this.getAttribute("join");
    const url = address && URL.canParse(address, document.baseURI) && new URL(address, document.baseURI);
    join.hidden = !url || !/^https?:$/.test(url.protocol);
    if (join.hidden) join.removeAttribute("href");
    else join.href = url;
    put(join, words.join);
  }

  #drawNote(words, here) {
    const { state } = this.#world;
    const isProtected = ["unauthorized", "authentication_failed"].includes(this.#error);
    let text = "";
    if (state === "live") text = here ? "" : words.empty;
    else if (isProtected) text = words.protected;
    else if (state === "connecting" && !this.#world.failures) text = words.connecting;
    else if (state === "waiting" || state === "refused") text = words.waiting;
    else text = words.lost;
    put(this.#dom.note, text);
    this.#dom.note.hidden = !text;
  }

  #drawLatest(size) {
    const { latest } = this.#dom;
    const said = size === "card" ? this.#said.get(this.#latest) : null;
    const user = this.#world.users.get(this.#latest);
    latest.hidden = !said || !user;
    if (latest.hidden) latest.replaceChildren();
    else {
      const name = made("strong", {}, made("bdi", {}, cut(user.username, 40)));
      latest.replaceChildren(name, " ", made("bdi", {}, said.text));
    }
  }

  #language() {
    const asked = this.closest("[lang]")?.lang || navigator.language;
    return asked.toLowerCase().startsWith("de") ? "de" : "en";
  }

  // What is said

  #hear({ user: { uid }, message, channel, id }) {
    if (!this.hasAttribute("chat")) return;
    clearTimeout(this.#said.get(uid)?.timer);
    const timer = setTimeout(() => this.#hush(uid), STAYS);
    this.#said.set(uid, { text: cut(message, LATEST), channel, id, timer });
    this.#latest = uid;
    this.#dirty();
  }

  /** A message has another text, or none any more. A deletion without an id is about all. */
  #correct({ channel, id }, message) {
    for (const [uid, said] of [...this.#said]) {
      if (id === undefined ? said.id === undefined : said.id !== id || said.channel !== channel) {
        continue;
      }
      if (message === null) this.#hush(uid);
      else said.text = cut(message, LATEST);
    }
    this.#draw();
  }

  #hush(uid) {
    clearTimeout(this.#said.get(uid)?.timer);
    this.#said.delete(uid);
    this.#dirty();
  }

  #silence() {
    for (const { timer } of this.#said.values()) clearTimeout(timer);
    this.#said.clear();
  }
}

if (!customElements.get("d-back-community")) {
  customElements.define("d-back-community", CommunityElement);
}

function made(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Set the text, if it is another one: screen readers repeat what is set. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make these the children, and move as few as possible. */
function fill(list, rows) {
  rows.forEach((row, at) => {
    if (list.children[at] !== row) list.insertBefore(row, list.children[at] ?? null);
  });
  while (list.children.length > rows.length) list.lastChild.remove();
}

/** At most so many letters, as people see them. */
function cut(text, most) {
  const kept = [];
  for (const { segment } of letters.segment(text.slice(0, most * 20))) {
    if (kept.length === most) return `${kept.join("").trimEnd()}…`;
    kept.push(segment.slice(0, 24)); // more is a pile of marks
  }
  return kept.join("");
}

const keys = new WeakMap(); // user → what it is sorted by

function keyOf(user) {
  let key = keys.get(user);
  if (key === undefined) keys.set(user, (key = user.username.normalize("NFKC").toLowerCase()));
  return key;
}

function order(a, b) {
  const [first, second] = [keyOf(a), keyOf(b)];
  return first < second ? -1 : first > second ? 1 : a.uid < b.uid ? -1 : 1;
}

// For the operator: the chain, who answers for which server, and what an exchange changed.

import { cut, foreign, made, span } from "./text.js";
import { WORDS } from "./world.js";
import { long, number, say } from "./words.js";

const EVERY = 2000; // ms, while the panel is open
const SELDOM = 15_000; // while it is closed
const SOON = 200;
const KEPT = 12;
const SHOWN = 200; // deltas of one exchange
const KEY = "d-back operator";

export class Chain {
  /** `told(standing)` is called with what the gateway says to this page. */
  constructor(world, link, told) {
    this.told = told;
    this.world = world;
    this.link = link;
    this.panel = document.querySelector("#chain");
    this.opener = document.querySelector("#chain-open");
    this.asker = document.querySelector("#operator-open");
    this.keys = document.querySelector("#keys");
    this.token = sessionStorage.getItem(KEY);
    this.seen = new Set(); // the exchanges that were told of and are shown
    this.hurried = false;
    this.timer = null;
    this.asking = false;
    this.known = 0; // when what is shown was true, in ms since 1970
    this.opener.addEventListener("click", () => this.#show(this.panel.hidden));
    document.querySelector("#chain-close").addEventListener("click", () => this.#show(false));
    this.panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#show(false);
    });
    this.asker.addEventListener("click", () => this.#askToken(""));
    document.querySelector("#keys-leave").addEventListener("click", () => this.keys.close());
    document.querySelector("#keys-form").addEventListener("submit", (event) => this.#unlock(event));
    link.addEventListener("join", () => this.begin()); // it may be another gateway now
    link.addEventListener("state", () => this.#doubt());
    world.addEventListener("change", () => this.soon());
  }

  /** Find out whether this is an operator, and show it. */
  async begin() {
    const standing = await this.#get("page/operator");
    if (standing === null) return false;
    this.told(standing);
    this.opener.hidden = !standing.operator;
    this.asker.hidden = standing.operator || !standing.token;
    clearTimeout(this.timer);
    if (standing.operator) await this.#poll();
    return standing.operator;
  }

  /** Look again before long: what came may be an exchange. */
  soon() {
    if (this.opener.hidden || this.hurried) return;
    this.hurried = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#poll(), SOON);
  }

  async #get(path) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    try {
      const answer = await fetch(path, { headers, cache: "no-store" });
      return answer.ok ? await answer.json() : null;
    } catch (error) {
      if (error instanceof TypeError) return null; // not reachable: the link says so already
      throw error;
    }
  }

  async #poll() {
    this.hurried = false;
    if (this.asking) return;
    this.asking = true;
    const wanted = !document.hidden && this.link.state !== "offline";
    const state = wanted ? await this.#get("page/chain") : null;
    this.asking = false;
    if (state) {
      this.known = Date.now();
      this.#draw(state);
    }
    this.#doubt();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#poll(), this.panel.hidden ? SELDOM : EVERY);
  }

  /** Say so if what is shown may be wrong by now. */
  #doubt() {
    const down = ["lost", "offline", "refused"].includes(this.link.state);
    const old = Date.now() - this.known > (this.panel.hidden ? SELDOM : EVERY) + SELDOM;
    const note = document.querySelector("#chain-stale");
    const doubtful = this.known > 0 && (down || old);
    note.hidden = !doubtful;
    this.panel.classList.toggle("stale", doubtful);
    if (!doubtful) return;
    const ago = span((Date.now() - this.known) / 1000);
    note.textContent = say("The connection is lost. This was the state {0} ago.", ago);
    this.opener.dataset.health = "unknown";
    this.opener.title = say("Not known");
  }

  #draw(state) {
    const worst = ["failed", "degraded", "starting"].find((health) =>
      state.providers.some((each) => each.health === health && each.mode),
    );
    const isWell = !worst && !state.problems.length;
    this.opener.dataset.health = worst ?? (isWell ? "ready" : "degraded");
    const title = worst ? say("A provider is {0}", say(worst)) : say("All providers are ready");
    this.opener.title = worst || isWell ? title : say("Warnings: {0}", state.problems.length);
    replace("#problems", state.problems.map((each) => made("li", {}, cut(each, 400))));
    const using = new Set(state.servers.flatMap((each) => each.providers));
    replace("#providers", state.providers.map((each) => provider(each, state, using)));
    replace("#answers", state.servers.map((each) => this.#answer(each)));
    const current = new Set();
    const here = (each) => each.server_id === this.world.serverId;
    for (const server of state.servers.toSorted((a, b) => here(a) - here(b))) {
      for (const exchange of server.exchanges) this.#note(server, exchange, current);
    }
    this.seen = current;
  }

  #nameOf(serverId) {
    return this.link.servers.get(serverId)?.name ?? serverId;
  }

  #answer(server) {
    const who = server.providers.length ? server.providers.join(" + ") : say("no provider");
    const line = made("li", {}, made("b", {}, foreign(this.#nameOf(server.server_id), 40)));
    const since = say("for {0}", span(server.since));
    line.append(" ", made("span", { class: "who" }, who), ` ${since}`);
    if (server.stale) line.append(made("em", {}, say("last state")));
    const [users, eyes] = [number(server.users), number(server.sessions)];
    line.append(made("small", {}, say("{0} users, {1} watching", users, eyes)));
    return line;
  }

  #note(server, exchange, current) {
    const key = `${server.server_id} ${exchange.epoch} ${exchange.first} ${exchange.after}`;
    current.add(key);
    if (this.seen.has(key)) return;
    const count = Math.max(0, exchange.last - exchange.first + 1);
    const known = this.world.between(exchange.epoch, exchange.first, exchange.last);
    const at = new Date(Date.now() - exchange.age * 1000);
    const entry = made("li", { class: "exchange" });
    const from = exchange.before.join(" + ") || say("no provider");
    const to = exchange.after.join(" + ") || say("no provider");
    const time = made("time", { datetime: at.toISOString() }, long.format(at));
    const head = made("p", {}, time, " ", foreign(this.#nameOf(server.server_id), 40), " ");
    const [lost, who] = [made("span", { class: "who lost" }, from), made("span", { class: "who" }, to)];
    head.append(lost, " → ", who, " ");
    const changes = count === 1 ? say("1 change") : say("{0} changes", number(count));
    head.append(made("small", {}, changes));
    entry.append(head);
    if (known.length) entry.append(made("ul", {}, ...known.slice(0, SHOWN).map(delta)));
    const rest = count - Math.min(known.length, SHOWN);
    if (known.length && rest) entry.append(made("small", {}, say("and {0} more", number(rest))));
    const list = document.querySelector("#exchanges");
    list.prepend(entry);
    while (list.children.length > KEPT) list.lastChild.remove();
    document.querySelector("#no-exchange").hidden = true;
  }

  #show(open) {
    this.panel.hidden = !open;
    this.opener.setAttribute("aria-expanded", String(open));
    if (open) {
      document.querySelector("#chain-title").focus();
      this.soon();
    } else this.opener.focus();
  }

  #askToken(complaint) {
    document.querySelector("#keys-error").textContent = complaint;
    if (!this.keys.open) this.keys.showModal();
    document.querySelector("#token").focus();
  }

  async #unlock(event) {
    event.preventDefault();
    const field = document.querySelector("#token");
    this.token = field.value;
    field.value = "";
    if (await this.begin()) {
      sessionStorage.setItem(KEY, this.token);
      this.keys.close();
      this.#show(true);
    } else {
      this.token = null;
      this.#askToken(say("The token is wrong."));
    }
  }
}

function replace(selector, elements) {
  document.querySelector(selector).replaceChildren(...elements);
}

function provider(each, state, using) {
  const line = made("li", { "data-health": each.health });
  if (using.has(each.name)) line.classList.add("used");
  const used = using.has(each.name) ? "answers" : each.mode ? "waits" : "beside the chain";
  line.append(made("i", { "aria-hidden": "true" }), made("b", {}, each.name));
  line.append(made("span", { class: "used-word" }, say(used)));
  const health = [say("{0} for {1}", say(each.health), span(each.since))];
  if (each.mode) health.unshift(each.mode);
  if (each.next_retry !== null) health.push(say("tried again in {0}", span(each.next_retry)));
  const work = [each.records === 1 ? say("1 record") : say("{0} records", number(each.records))];
  if (each.latency !== null) work.push(say("answered in {0} ms", number(Math.round(each.latency * 1000))));
  if (each.failures) {
    work.push(say("{0} of {1} calls failed", number(each.failures), number(each.calls)));
  }
  const waiting = state.queued[each.name];
  if (waiting) work.push(say("{0} to store", number(waiting)));
  // A provider's own numbers, such as Discord's budget of logins.
  const gauges = Object.entries(each.gauges).map(([name, value]) => `${cut(name, 60)}: ${number(value)}`);
  for (const words of [health, work, gauges]) {
    if (words.length) line.append(made("small", {}, words.join(", ")));
  }
  const error = state.errors[each.name];
  if (error) line.append(made("small", { class: "wrong" }, cut(error, 300)));
  return line;
}

function delta({ was, now }) {
  const name = foreign((now ?? was).name, 40);
  if (!was) return made("li", { class: "came" }, name, ` ${say("joined")}, ${WORDS[now.status]}`);
  if (!now) return made("li", { class: "went" }, name, ` ${say("left")}`);
  const changes = [];
  if (was.status !== now.status) changes.push(`${WORDS[was.status]} → ${WORDS[now.status]}`);
  if (was.colour !== now.colour) changes.push(`${was.colour} → ${now.colour}`);
  const line = made("li", {}, name, ` ${changes.join(", ")}`);
  if (was.name !== now.name) line.append(` ${say("was")} `, foreign(was.name, 40));
  return line;
}

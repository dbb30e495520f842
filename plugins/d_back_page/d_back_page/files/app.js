// The page: what is connected with what.

// Before the others: they add words of their own to the document.
import "./start.js";

import { AccessDialog } from "./access.js";
import { Card } from "./card.js";
import { Chain } from "./chain.js";
import { offerEmbedding } from "./embed.js";
import { List } from "./list.js";
import { Plaza } from "./plaza.js";
import { Spark } from "./spark.js";
import { Talk } from "./talk.js";
import { World } from "./world.js";
import { number, say } from "./words.js";
import { cut, foreign, made, span } from "./text.js";
import { connect } from "./v1/d-back-client.js";

const LAST = "d-back server";
const TOAST = 6000; // ms

const BRAND = document.title; // the community's name, or d-back

const find = (selector) => document.querySelector(selector);

// Where to begin: back from a login, the address, or where this browser was last.
const address = new URL(".", location.href);
address.search = address.hash = "";
const begin =
  AccessDialog.returned() ??
  new URLSearchParams(location.search).get("s") ??
  localStorage.getItem(LAST);
const link = connect(address, { server: begin, ...AccessDialog.credentials() });
const world = new World(link);
const list = new List(world, picked);
/** For tests: a canvas does not tell where things are. */
export const plaza = new Plaza(world, (uid) => {
  list.pick(uid);
  picked(uid);
});
const card = new Card(world, () => {
  list.pick(null);
  picked(null);
});
const spark = new Spark();
const talk = new Talk(world);
const access = new AccessDialog(link);
const chain = new Chain(world, link, ({ channels }) => talk.rename(channels));

access.left = () => (world.epoch ? showPicked() : join(null));

let homeless = false; // there is a gateway, and no server in it that is open

function join(publicId) {
  link.join(publicId, access.credentials(publicId));
}

function picked(uid) {
  card.show(uid);
  plaza.bubbles.pick(uid);
  if (uid !== null) plaza.nudge(uid);
}

// Which server

const select = find("#server");
select.addEventListener("change", () => join(select.value));

function showServers() {
  const servers = [...link.servers.values()];
  select.replaceChildren(
    ...servers.map((server) => {
      const name = cut(server.name, 50);
      const words = server.passworded ? say("{0} (protected)", name) : name;
      return made("option", { value: server.id }, words);
    }),
  );
  select.disabled = servers.length === 0;
  if (!servers.length) select.append(made("option", {}, say("No server")));
  showPicked();
}

function showPicked() {
  if (world.publicId) select.value = world.publicId;
}

link.addEventListener("servers", () => {
  showServers();
  showScene();
});
link.addEventListener("join", ({ detail }) => {
  homeless = false;
  showState();
  const at = new URL(location.href);
  at.searchParams.set("s", world.publicId);
  history.replaceState(null, "", at);
  localStorage.setItem(LAST, world.publicId);
  showPicked();
  if (detail.resumed) toast(say("Connected again; nothing was missed."));
  else spark.clear();
  showCensus();
  showScene();
});

link.addEventListener("error", ({ detail: { code, message, server: refused, answers } }) => {
  const name = [...link.servers.values()].find((each) => each.id === refused)?.name;
  switch (code) {
    case "unauthorized":
    case "authentication_failed":
      access.ask(refused, name ?? refused ?? say("This server"));
      if (answers && !world.epoch && [...link.servers.values()].some((each) => !each.passworded)) {
        join(null); // something to see behind the dialog; it also tells the client id
      }
      break;
    case "rate_limited":
      if (answers) access.ask(refused, name ?? say("This server"), message);
      else toast(message);
      break;
    case "unknown_server":
    case "gone":
      toast(
        code === "gone"
          ? say("{0} is gone.", world.name)
          : say("There is no such server any more."),
      );
      if (link.state !== "live") world.reset();
      if (refused !== null && link.state !== "live") join(null);
      break;
    case "no_server":
      homeless = true; // the gateway closes now, and is asked again
      showScene();
      break;
    default:
      toast(message);
  }
});

// What is there

let census = false;

function showCensus() {
  if (census) return;
  census = true;
  requestAnimationFrame(() => {
    census = false;
    const { size } = world.members;
    const { online } = world;
    const words = size === 1 ? "1 member, {1} online" : "{0} members, {1} online";
    find("#name").replaceChildren(foreign(world.name || BRAND, 40));
    find("#census").textContent = world.epoch ? say(words, number(size), number(online)) : "";
    document.title = world.epoch
      ? say("{0}: {1} online", cut(world.name, 40), number(online))
      : BRAND;
    showScene();
  });
}

function showScene() {
  const note = find("#scene-note");
  let words = "";
  if (link.state === "live" && world.epoch && !world.members.size) {
    words = say("No members yet.");
  }
  else if (homeless) {
    words = say("No server yet. The gateway runs and waits for a provider.");
  }
  note.hidden = !words;
  if (note.textContent !== words) note.textContent = words;
}

world.addEventListener("whole", showCensus);
world.addEventListener("change", showCensus);
for (const type of ["user", "message", "edit", "delete"]) link.addEventListener(type, () => spark.count());

// Who is followed

const follow = find("#follow");

function showFollow(on) {
  follow.setAttribute("aria-pressed", String(on));
  plaza.follow(on);
}

follow.title = say("Move to members who speak");
follow.addEventListener("click", () => showFollow(follow.getAttribute("aria-pressed") === "false"));
if (new URLSearchParams(location.search).has("follow")) showFollow(true);

// How the connection is

const STATES = {
  connecting: "Connecting",
  live: "Live",
  waiting: "Waiting",
  lost: "Lost",
  offline: "Offline",
  refused: "Refused",
};

function showState() {
  document.body.dataset.link = link.state;
  find("#link span").textContent = say(homeless ? "Waiting" : STATES[link.state]);
  showDowntime();
}

link.addEventListener("state", showState);
find("#retry").addEventListener("click", () => link.retry());
setInterval(() => link.state === "lost" && showDowntime(), 500);

let heardBefore = null;

function showDowntime() {
  const box = find("#downtime");
  const down = ["lost", "offline", "refused"].includes(link.state);
  if (link.state === "live") heardBefore = null;
  else heardBefore ??= link.lastHeard || null;
  box.hidden = homeless || !(down || (link.state === "connecting" && link.failures > 0));
  if (box.hidden) return;
  const since = heardBefore
    ? say(" This was the state {0} ago.", span((Date.now() - heardBefore) / 1000))
    : "";
  const wait = link.retryAt ? Math.max(0, Math.ceil((link.retryAt - Date.now()) / 1000)) : null;
  const words = {
    offline: say("This device is offline."),
    refused: say("The gateway has refused this page."),
    connecting: say("The connection is lost. Trying now…"),
    lost: say("The connection is lost. Trying again in {0} s.", wait),
  }[link.state];
  find("#downtime-words").textContent = words + since;
  find("#retry").hidden = link.state === "connecting";
}

function toast(message) {
  const element = made("p", {}, foreign(message, 200));
  find("#toasts").append(element);
  while (find("#toasts").children.length > 3) find("#toasts").firstChild.remove();
  setTimeout(() => element.remove(), TOAST);
}

addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input, select, textarea");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    find("#find").focus();
  }
});

showState();
offerEmbedding(link);
await chain.begin();

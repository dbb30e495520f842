// The page: what is connected with what.

import { Chain } from "./chain.js";
import { Door } from "./door.js";
import { List } from "./list.js";
import { Plaza } from "./plaza.js";
import { Spark } from "./spark.js";
import { Talk } from "./talk.js";
import { World } from "./world.js";
import { cut, foreign, made, span } from "./text.js";
import { connect } from "./v1/d-back-client.js";

const LAST = "d-back server";
const TOAST = 6000; // ms

const find = (selector) => document.querySelector(selector);

// Where to begin: back from a login, the address, or where this browser was last.
const address = new URL(".", location.href);
address.search = address.hash = "";
const begin =
  Door.returned() ?? new URLSearchParams(location.search).get("s") ?? localStorage.getItem(LAST);
const link = connect(address, { server: begin, ...Door.credentials() });
const world = new World(link);
const list = new List(world, picked);
const plaza = new Plaza(world, (uid) => {
  list.pick(uid);
  picked(uid);
});
const spark = new Spark();
const talk = new Talk(world);
const door = new Door(link);
const chain = new Chain(world, link);

door.left = () => (world.epoch ? showPicked() : join(null));

let homeless = false; // there is a gateway, and no server in it that is open

function join(publicId) {
  link.join(publicId, door.credentials(publicId));
}

function picked(uid) {
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
      const closed = server.passworded ? " (closed)" : "";
      return made("option", { value: server.id }, cut(server.name, 50) + closed);
    }),
  );
  select.disabled = servers.length === 0;
  if (!servers.length) select.append(made("option", {}, "No server"));
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
  if (detail.resumed) toast("Back again; nothing was missed.");
  else spark.clear();
  showCensus();
  showScene();
});

link.addEventListener("error", ({ detail: { code, message, server: refused, answers } }) => {
  const name = [...link.servers.values()].find((each) => each.id === refused)?.name;
  switch (code) {
    case "unauthorized":
    case "authentication_failed":
      door.ask(refused, name ?? refused ?? "This server");
      if (answers && !world.epoch && [...link.servers.values()].some((each) => !each.passworded)) {
        join(null); // something to see behind the door, which also tells the client id
      }
      break;
    case "rate_limited":
      if (answers) door.ask(refused, name ?? "This server", message);
      else toast(message);
      break;
    case "unknown_server":
    case "gone":
      toast(code === "gone" ? `${world.name} is gone.` : "There is no such server any more.");
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
    const { awake } = world;
    const here = size === 1 ? "1 member" : `${size.toLocaleString()} members`;
    find("#name").replaceChildren(foreign(world.name || "d-back", 40));
    find("#census").textContent = world.epoch ? `${here}, ${awake.toLocaleString()} awake` : "";
    document.title = world.epoch ? `${cut(world.name, 40)}: ${awake} awake` : "d-back";
    showScene();
  });
}

function showScene() {
  const note = find("#scene-note");
  let words = "";
  if (link.state === "live" && world.epoch && !world.members.size) words = "Nobody lives here yet.";
  else if (homeless) {
    words = "No server has opened yet. The gateway is there, and waits for a provider.";
  }
  note.hidden = !words;
  if (note.textContent !== words) note.textContent = words;
}

world.addEventListener("whole", showCensus);
world.addEventListener("change", showCensus);
for (const type of ["user", "message", "edit", "delete"]) link.addEventListener(type, () => spark.count());

// How the connection is

const STATES = {
  connecting: "Connecting",
  live: "Live",
  waiting: "Waiting",
  lost: "Lost",
  offline: "Offline",
  refused: "Sent away",
};

function showState() {
  document.body.dataset.link = link.state;
  find("#link span").textContent = homeless ? "Waiting" : STATES[link.state];
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
  const since = heardBefore ? ` This is how it was ${span((Date.now() - heardBefore) / 1000)} ago.` : "";
  const wait = link.retryAt ? Math.max(0, Math.ceil((link.retryAt - Date.now()) / 1000)) : null;
  const words = {
    offline: "This device is offline.",
    refused: "The gateway has sent this page away.",
    connecting: "The line is down. Trying now…",
    lost: `The line is down. Trying again in ${wait} s.`,
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
await chain.begin();

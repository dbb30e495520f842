import assert from "node:assert/strict";
import { createServer } from "node:net";
import { once } from "node:events";
import { test } from "node:test";

import { JoinError, colorOf, connect } from "../d-back-client.js";
import { Gateway } from "./gateway.js";

/** A client that ends with the test. */
function joined(t, gateway, options = {}) {
  const world = connect(gateway.url, options);
  t.after(() => world.close());
  return world;
}

/** Wait until the condition holds. It is evaluated after every event. */
async function until(world, condition) {
  const events = world[Symbol.asyncIterator]();
  while (!condition()) if ((await events.next()).done) break;
  await events.return();
  assert.ok(condition(), `the client ended: ${condition}`);
}

const statuses = (world) =>
  Object.fromEntries([...world.users].map(([uid, user]) => [uid, user.status]));
const CLUB = { 11: "online", 12: "idle", 13: "dnd" };

test("a join holds the users of the default server", async (t) => {
  const world = joined(t, await Gateway.start(t));
  assert.equal(await world.ready, world);
  assert.deepEqual([world.server, world.serverId, world.name], ["club", "1", "The club"]);
  assert.deepEqual(world.users.get("11"), {
    uid: "11",
    username: "Ada",
    status: "online",
    roleColor: "#e8743b",
    extra: {},
  });
  assert.deepEqual(statuses(world), CLUB);
  assert.deepEqual([...world.servers.keys()], ["1", "2"]);
  assert.equal(world.state, "live");
});

test("an address of a page is one of a gateway", async (t) => {
  const { url } = await Gateway.start(t);
  const world = joined(t, { url: url.replace("ws:", "http:") }, { server: "pub" });
  await world.ready;
  assert.deepEqual(statuses(world), { 21: "online" });
});

test("changes are applied, and events say what was before", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway);
  const seen = [];
  await world.ready;
  world.addEventListener("user", ({ detail: { user, before } }) => {
    seen.push([before?.status, user?.status, user?.username]);
  });
  await gateway.change("12", { status: "online" });
  await gateway.change("14", { username: "Dot", status: "idle" });
  await gateway.change("14", { username: "Dots", status: "idle" });
  await gateway.remove("13");
  await until(world, () => !world.users.has("13"));
  assert.deepEqual(statuses(world), { 11: "online", 12: "online", 14: "idle" });
  assert.deepEqual(seen, [
    ["idle", "online", "Bob"],
    [undefined, "idle", "Dot"],
    ["idle", "idle", "Dots"],
    ["dnd", undefined, undefined],
  ]);
});

test("extra texts are folded key by key", async (t) => {
  const users = { 31: { username: "Eve", extra: { pronouns: "she", activity: "chess" } } };
  const gateway = await Gateway.start(t, { users, extra: ["pronouns", "activity"] });
  const world = joined(t, gateway);
  await world.ready;
  const { extra } = world.users.get("31");
  assert.deepEqual(extra, { pronouns: "she", activity: "chess" });
  await gateway.change("31", { extra: { pronouns: "she" } });
  await until(world, () => !("activity" in world.users.get("31").extra));
  assert.deepEqual(world.users.get("31").extra, { pronouns: "she" });
  await gateway.change("31", { status: "idle" });
  await until(world, () => world.users.get("31").status === "idle");
  assert.deepEqual(world.users.get("31").extra, { pronouns: "she" });
  assert.deepEqual(extra, { pronouns: "she", activity: "chess" });
});

test("a user that was kept stays as it was", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway);
  await world.ready;
  const kept = world.users.get("11");
  await gateway.change("11", { status: "dnd" });
  await until(world, () => world.users.get("11").status === "dnd");
  assert.equal(kept.status, "online");
});

test("an iterator yields every event until the signal", async (t) => {
  const gateway = await Gateway.start(t);
  const aborting = new AbortController();
  const world = connect(gateway.url, { signal: aborting.signal });
  const found = [];
  for await (const event of world) {
    found.push(event.type);
    if (event.type === "join") await gateway.say("11", "hello");
    if (event.type === "message") {
      assert.deepEqual([event.user.username, event.message, event.channel], ["Ada", "hello", "7"]);
      aborting.abort();
    }
  }
  assert.deepEqual(found, ["servers", "state", "join", "message", "state"]);
  assert.equal(world.state, "closed");
  for await (const event of world) assert.fail(event.type);
});

test("edits and deletions name the message", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway);
  const seen = [];
  for (const type of ["message", "edit", "delete"]) {
    world.addEventListener(type, ({ detail: { id, message } }) => seen.push([type, id, message]));
  }
  await world.ready;
  await gateway.say("11", "helo", "5");
  await gateway.edit("11", "hello", "5");
  await gateway.delete("5");
  await until(world, () => seen.length === 3);
  assert.deepEqual(seen, [
    ["message", "5", "helo"],
    ["edit", "5", "hello"],
    ["delete", "5", undefined],
  ]);
});

test("the number of a frame of a newer type counts", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway, {
    WebSocket: filtered((frame) => {
      if (frame.type === "message") frame.type = "dance";
      return true;
    }),
  });
  await world.ready;
  await gateway.say("11", "hello");
  await gateway.change("11", { status: "idle" });
  await until(world, () => world.users.get("11").status === "idle");
  assert.deepEqual(await gateway.counts(), { joins: 1, resumes: 0, connections: 1 });
});

test("an aborted signal lets nothing begin", async () => {
  const world = connect("ws://127.0.0.1:9", { signal: AbortSignal.abort() });
  assert.equal(world.state, "closed");
  await assert.rejects(world.ready, { name: "AbortError" });
  world.retry();
  assert.equal(world.state, "closed");
});

test("two readers of one iterator both get an event", async (t) => {
  const world = joined(t, await Gateway.start(t));
  const events = world[Symbol.asyncIterator]();
  const [first, second] = await Promise.all([events.next(), events.next()]);
  assert.deepEqual([first.value.type, second.value.type], ["servers", "state"]);
  assert.equal((await events.next()).value.type, "join");
  const last = events.next();
  await events.return();
  assert.equal((await last).done, true);
  assert.equal((await events.next()).done, true);
});

test("R48 a lost connection is resumed where the copy is", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway);
  await world.ready;
  await gateway.change("12", { status: "online" });
  await until(world, () => world.users.get("12").status === "online");
  const joins = [];
  world.addEventListener("join", ({ detail }) => joins.push(detail.resumed));
  await gateway.cut();
  await gateway.change("13", { status: "online" });
  await gateway.remove("11");
  await until(world, () => !world.users.has("11"));
  assert.deepEqual(statuses(world), { 12: "online", 13: "online" });
  assert.deepEqual(joins, [true]);
  assert.deepEqual(await gateway.counts(), { joins: 1, resumes: 1, connections: 1 });
});

test("a gateway that restarts is joined again", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway);
  await world.ready;
  await gateway.stop();
  await until(world, () => world.state === "lost");
  assert.equal(world.closeCode, 1001);
  assert.deepEqual(statuses(world), CLUB);
  assert.ok(world.retryAt > Date.now() - 1000 && world.retryAt < Date.now() + 5000);
  await gateway.restart({ users: { 31: { username: "Eve", status: "dnd" } } });
  await until(world, () => world.state === "live");
  assert.deepEqual(statuses(world), { 31: "dnd" });
});

test("R26 a switch of servers ends the first subscription", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway);
  await world.ready;
  world.join("pub");
  await gateway.change("11", { status: "dnd" });
  await until(world, () => world.server === "pub");
  await gateway.change("21", { status: "idle" }, "2");
  await until(world, () => world.users.get("21").status === "idle");
  assert.deepEqual(statuses(world), { 21: "idle" });
  assert.equal(world.serverId, "2");
});

test("the last of several joins at once is what counts", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway);
  world.join("nowhere");
  world.join("2");
  await until(world, () => world.server === "pub");
  world.join("club");
  world.join("nowhere");
  world.join("pub");
  await world.ping();
  await until(world, () => world.server === "pub");
  assert.equal(world.state, "live");
});

test("a refused join leaves the subscription as it was", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway);
  await world.ready;
  const errors = [];
  world.addEventListener("error", ({ detail }) => errors.push(detail));
  world.join("nowhere");
  await until(world, () => errors.length);
  const { message, ...rest } = errors[0];
  assert.deepEqual(rest, { code: "unknown_server", server: "nowhere", answers: true });
  assert.equal(world.state, "live");
  await gateway.change("11", { status: "idle" });
  await until(world, () => world.users.get("11").status === "idle");
  await gateway.cut();
  await until(world, () => world.state === "lost");
  await until(world, () => world.state === "live");
  assert.equal(world.server, "club");
});

test("a protected server wants a password", async (t) => {
  const gateway = await Gateway.start(t, { password: "sesame" });
  const world = joined(t, gateway, { server: "pub" });
  await assert.rejects(world.ready, (error) => {
    return error instanceof JoinError && error.code === "unauthorized";
  });
  assert.equal(world.state, "waiting");
  world.join("pub", { password: "sesame" });
  await until(world, () => world.state === "live");
  assert.deepEqual(statuses(world), { 21: "online" });
  await gateway.cut();
  await gateway.change("21", { status: "dnd" }, "2");
  await until(world, () => world.users.get("21").status === "dnd");
  world.join("club");
  await until(world, () => world.server === "club");
  world.join("pub", { password: "wrong" });
  let refused = false;
  world.addEventListener("error", () => (refused = true));
  await until(world, () => refused && world.state === "live");
  assert.equal(world.server, "club");
  await gateway.change("11", { status: "idle" });
  await until(world, () => world.users.get("11").status === "idle");
});

test("a server that is gone is joined when it is back", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway, { server: "pub" });
  await world.ready;
  await gateway.unlist("2");
  await until(world, () => world.state === "waiting");
  assert.equal(world.users.size, 0);
  assert.ok(!world.servers.has("2"));
  await gateway.list("2");
  await until(world, () => world.state === "live");
  assert.deepEqual(statuses(world), { 21: "online" });
});

test("a gateway without a server is asked again", async (t) => {
  const gateway = await Gateway.start(t, { empty: true });
  const world = joined(t, gateway);
  await until(world, () => world.state === "lost");
  assert.equal(world.closeCode, 1013);
  await gateway.list("1");
  await until(world, () => world.state === "live");
  assert.equal(world.server, "club");
});

test("a client that was sent away does not reconnect by itself", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway);
  await world.ready;
  await gateway.close(1008);
  await until(world, () => world.state === "refused");
  assert.equal(world.retryAt, null);
  world.retry();
  await once(world, "join");
  assert.equal(world.state, "live");
});

/** A WebSocket class whose frames pass this filter, which may also change them. */
function filtered(passes) {
  return class extends WebSocket {
    set onmessage(listener) {
      super.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (passes(frame)) listener?.({ data: JSON.stringify(frame) });
      };
    }
  };
}

test("a lost frame leads to a complete join", async (t) => {
  const gateway = await Gateway.start(t);
  let lost = 0;
  const passes = (frame) => frame.type !== "presence" || lost++ > 0;
  const world = joined(t, gateway, { WebSocket: filtered(passes) });
  await world.ready;
  let gaps = 0;
  world.addEventListener("gap", () => (gaps += 1));
  await gateway.change("11", { status: "idle" });
  await gateway.change("12", { status: "dnd" });
  await until(world, () => gaps && world.state === "live");
  assert.deepEqual(statuses(world), { 11: "idle", 12: "dnd", 13: "dnd" });
  assert.deepEqual(await gateway.counts(), { joins: 2, resumes: 0, connections: 1 });
});

test("a line that is silent is given up and resumed", async (t) => {
  const gateway = await Gateway.start(t);
  let deaf = false;
  const world = joined(t, gateway, { WebSocket: filtered(() => !deaf) });
  await world.ready;
  assert.equal(await world.ping(), true);
  deaf = true;
  const answer = world.ping();
  await gateway.change("11", { status: "idle" });
  // The client's own timers start after these are faked.
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.now() + 61_000 });
  await assertSilenceIsNoticed(t, world);
  assert.equal(await answer, false);
  t.mock.timers.reset();
  deaf = false;
  world.retry();
  await until(world, () => world.users.get("11").status === "idle");
  const { joins, resumes } = await gateway.counts();
  assert.deepEqual([joins, resumes], [1, 1]);
});

/** Show the page, as a browser does: a client asks then if the line works. */
async function assertSilenceIsNoticed(t, world) {
  globalThis.document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(world.state, "live");
  t.mock.timers.tick(10_000);
  assert.equal(world.state, "lost");
}

globalThis.document = Object.assign(new EventTarget(), { hidden: false });

test("a page that is shown does not wait for the next attempt", async (t) => {
  const gateway = await Gateway.start(t);
  const world = joined(t, gateway);
  await world.ready;
  await gateway.cut();
  await until(world, () => world.state === "lost");
  document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(world.state, "connecting");
});

test("a host that never answers is given up", async (t) => {
  const host = createServer(() => {}).listen(0, "127.0.0.1");
  await once(host, "listening");
  t.after(() => host.close());
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const world = joined(t, { url: `ws://127.0.0.1:${host.address().port}` });
  assert.equal(world.state, "connecting");
  t.mock.timers.tick(20_000);
  assert.equal(world.state, "lost");
});

test("waits between attempts grow to half a minute and are random", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  class Unreachable {
    constructor() {
      sockets.push(this);
    }
    close() {}
  }
  const sockets = [];
  const world = joined(t, { url: "ws://gateway.example" }, { WebSocket: Unreachable });
  const waits = [];
  for (let attempt = 0; attempt < 300; attempt += 1) {
    sockets.at(-1).onclose({ code: 1006 });
    waits.push(world.retryAt - Date.now());
    t.mock.timers.tick(waits.at(-1));
    assert.equal(world.state, "connecting");
  }
  assert.ok(waits[0] <= 2000 && waits[1] <= 4000 && waits[2] <= 8000);
  assert.ok(Math.max(...waits) <= 30_000 && Math.max(...waits) > 20_000);
  assert.ok(Math.min(...waits.slice(10)) < 10_000);
});

test("members without a role colour have legible colours of their own", () => {
  assert.equal(colorOf({ uid: "1", roleColor: "#e8743b" }), "#e8743b");
  const users = Array.from({ length: 500 }, (_, at) => ({ uid: `123456789012345${at}` }));
  const colours = users.map((user) => colorOf({ ...user, roleColor: "#ffffff" }));
  assert.ok(new Set(colours).size > 200);
  assert.deepEqual(colours, users.map((user) => colorOf({ ...user, roleColor: "#ffffff" })));
  for (const colour of colours) {
    assert.match(colour, /^#[0-9a-f]{6}$/);
    const parts = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
    assert.ok(Math.max(...parts) > 150 && Math.min(...parts) < 120, colour);
  }
});

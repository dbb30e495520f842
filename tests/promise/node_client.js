// Clients of d-back-client, driven by node_client.py: a request is one JSON object in a line on
// standard input, and its answer is one on standard output.

import { createInterface } from "node:readline";

import { connect } from "../../clients/js/d-back-client.js";

const HANDSHAKE = 1000; // ms

/** One client, and what it has seen since it was last asked. */
class Watched {
  constructor({ url, server, password }) {
    const seen = (this.seen = { chat: [], faults: [], keptUp: true, resyncs: 0 });
    this.resumes = 0;
    // Counts the resyncs that the client does not report.
    class Observed extends WebSocket {
      constructor(url) {
        super(url);
        // Node does not report that a connection was cut within the handshake.
        const isLost = () => this.readyState === WebSocket.CONNECTING;
        setTimeout(() => isLost() && this.onclose?.({ code: 1006 }), HANDSHAKE);
        this.addEventListener("message", ({ data }) => {
          if (!JSON.parse(data).resync) return;
          seen.resyncs += 1;
          seen.keptUp = false;
        });
      }
    }
    const world = (this.world = connect(url, { server, password, WebSocket: Observed }));
    world.addEventListener("gap", () => seen.faults.push(`a gap after ${world.seq}`));
    world.addEventListener("skip", () => (seen.keptUp = false));
    world.addEventListener("message", ({ detail }) => seen.chat.push(detail.message));
    world.addEventListener("join", ({ detail }) => {
      seen.keptUp = false;
      this.resumes += detail.resumed;
    });
    world.addEventListener("state", ({ detail }) => {
      if (detail.state !== "lost") return;
      seen.keptUp = false;
      queueMicrotask(() => world.retry()); // the waits are real, and the gateway's clock is not
    });
  }

  /** Everything, once all that was sent has been applied; null while that is not so. */
  async settled() {
    const { world, seen } = this;
    if (!(await world.ping())) return null;
    if (!["live", "waiting"].includes(world.state)) return null;
    const found = {
      ...structuredClone(seen),
      resumes: this.resumes,
      servers: Object.fromEntries(world.servers),
      subscribed: world.state === "live",
      serverId: world.serverId,
      users: Object.fromEntries([...world.users].map(([uid, user]) => [uid, asSent(user)])),
    };
    Object.assign(seen, { keptUp: true, resyncs: 0 });
    seen.chat.length = seen.faults.length = 0;
    return found;
  }
}

/** A user as the protocol has it: without extra texts, the field is not there. */
function asSent({ extra, ...user }) {
  return Object.keys(extra).length ? { ...user, extra } : user;
}

const clients = [];
const actions = {
  connect: (fields) => clients.push(new Watched(fields)) - 1,
  join: ({ client, server, password }) => clients[client].world.join(server, { password }),
  settled: ({ client }) => clients[client].settled(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { number, action, ...fields } = JSON.parse(line);
  const answer = (value) => console.log(JSON.stringify({ number, value: value ?? null }));
  Promise.resolve(actions[action](fields)).then(answer);
}
process.exit();

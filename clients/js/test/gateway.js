// Gateways for the tests. tests/js_client starts this program, and listens on the port in
// D_BACK_CONTROL: one JSON object in a line is a request, the next line is its answer.

import { connect as dial } from "node:net";
import { createInterface } from "node:readline";
import { after } from "node:test";

const port = process.env.D_BACK_CONTROL;
if (!port) throw new Error("no gateway: start these tests with `pytest tests/js_client`");

const socket = dial(Number(port), "127.0.0.1");
const answers = createInterface({ input: socket })[Symbol.asyncIterator]();
after(() => socket.destroy());

async function request(action, fields = {}) {
  socket.write(`${JSON.stringify({ action, ...fields })}\n`);
  const { value } = await answers.next();
  const { error, ...answer } = JSON.parse(value);
  if (error) throw new Error(error);
  return answer;
}

export class Gateway {
  /** Start a gateway with two servers: `club` with Ada, Bob and Cid, and `pub` with Zoe. */
  static async start(t, options = {}) {
    const gateway = new Gateway(await request("start", options));
    t.after(() => request("stop", gateway.id));
    return gateway;
  }

  constructor({ url, id }) {
    this.url = url;
    this.id = { id };
  }

  /** Set fields of a user, by the names that providers use. */
  change(uid, fields, server = "1") {
    return request("change", { ...this.id, uid, fields, server });
  }

  remove(uid) {
    return request("remove", { ...this.id, uid });
  }

  /** Write a message; `message` is its id, if it has one. */
  say(uid, text, message) {
    return request("say", { ...this.id, uid, text, message });
  }

  edit(uid, text, message) {
    return request("edit", { ...this.id, uid, text, message });
  }

  delete(message) {
    return request("delete", { ...this.id, message });
  }

  unlist(server) {
    return request("unlist", { ...this.id, server });
  }

  list(server) {
    return request("list", { ...this.id, server });
  }

  /** Lose all connections, as if the network had failed. */
  cut() {
    return request("cut", this.id);
  }

  /** Close all connections with this code. */
  close(code) {
    return request("close", { ...this.id, code });
  }

  stop() {
    return request("stop", this.id);
  }

  /** Start again on the same port. */
  restart(options = {}) {
    return request("restart", { ...this.id, ...options });
  }

  /** The numbers of joins, resumes and open connections. */
  counts() {
    return request("counts", this.id);
  }
}

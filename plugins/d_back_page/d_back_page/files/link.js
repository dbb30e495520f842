// The connection: greeted, joined, followed, and made again where it breaks.

const FIRST_WAIT = 500; // ms
const LONGEST_WAIT = 30_000;
const QUIET = 60_000; // after so long without a word a page that wakes up asks whether it is heard
const ANSWER = 10_000;
const REFUSED = 1008;

/** Keeps a world current. Its events: "state" (`state`, `retryAt` changed), "list", "joined"
 * (detail: resumed), "error" (detail: code, message, wanted), "frame" (a presence or chat). */
export class Link extends EventTarget {
  constructor(world, address) {
    super();
    this.world = world;
    this.address = address;
    this.state = "connecting";
    this.servers = new Map(); // server_id → {id, name, default, passworded}
    this.clientId = null; // the last one heard of: a closed server does not tell its own
    this.lastHeard = 0;
    this.retryAt = null;
    this.wanted = null; // public id; null: the default
    this.credentials = () => ({});
    this.pending = undefined; // what a join was asked for and not answered yet
    this.homeless = false; // there is a gateway, and no server in it that is open
    this.failures = 0;
    this.socket = null;
    this.timer = null;
    addEventListener("online", () => this.retry());
    addEventListener("offline", () => this.#offline());
    document.addEventListener("visibilitychange", () => this.#awake());
  }

  /** Join that server (null: the default one), now or when there is a connection. */
  join(wanted) {
    this.wanted = wanted;
    if (this.socket?.readyState === WebSocket.OPEN && this.servers.size) this.#ask(false);
    else this.retry();
  }

  /** Connect now, where it is not. */
  retry() {
    if (this.socket && this.socket.readyState <= WebSocket.OPEN) return;
    clearTimeout(this.timer);
    this.retryAt = null;
    this.#set("connecting");
    const socket = new WebSocket(this.address);
    this.socket = socket;
    socket.onmessage = (event) => {
      if (socket === this.socket) this.#read(JSON.parse(event.data));
    };
    socket.onclose = (event) => {
      if (socket === this.socket) this.#lost(event.code);
    };
  }

  #ask(resuming) {
    const { world } = this;
    const data = { server: this.wanted, ...this.credentials(this.wanted) };
    if (resuming && world.epoch && world.publicId === this.wanted) {
      data.resume = { epoch: world.epoch, seq: world.seq };
    }
    this.pending = this.wanted;
    this.#send({ type: "connect", data });
  }

  #send(message) {
    this.socket.send(JSON.stringify(message));
  }

  #read(frame) {
    this.lastHeard = Date.now();
    switch (frame.type) {
      case "server-list":
        this.servers = new Map(Object.entries(frame.data));
        this.#tell("list");
        this.#ask(true);
        break;
      case "server-list-update":
        this.#updateList(frame);
        break;
      case "server-join":
        this.clientId = frame.data.clientId ?? this.clientId;
        this.wanted = frame.data.request.server;
        this.world.join(frame.data, this.#serverId(this.wanted));
        this.#joined(false);
        break;
      case "resumed":
        this.world.resumed(frame);
        if (this.pending !== undefined) this.#joined(true);
        break;
      case "presence":
      case "message":
      case "message-edit":
      case "message-delete":
        if (this.world.follow(frame)) this.#tell("frame", frame);
        else if (this.pending === undefined) this.#ask(false);
        break;
      case "update-clientid":
        this.clientId = frame.data.clientId;
        this.#tell("list");
        break;
      case "error":
        this.#refused(frame.data);
        break;
    }
  }

  /** `data` has the servers that are new or changed, `removed` the server_ids that are gone. */
  #updateList({ data, removed = [] }) {
    for (const serverId of removed) this.servers.delete(serverId);
    for (const [serverId, server] of Object.entries(data)) this.servers.set(serverId, server);
    this.#tell("list");
  }

  #serverId(publicId) {
    for (const [serverId, server] of this.servers) if (server.id === publicId) return serverId;
    return null;
  }

  #joined(resumed) {
    this.pending = undefined;
    this.homeless = false;
    this.failures = 0;
    this.#set("live");
    this.#tell("joined", { resumed });
  }

  #refused({ code, message }) {
    const wanted = this.pending;
    this.pending = undefined;
    if (code === "no_server") this.homeless = true; // it hangs up now, and is called again
    this.#tell("error", { code, message, wanted });
  }

  #lost(code) {
    this.socket = null;
    this.pending = undefined;
    if (!navigator.onLine) return this.#set("offline");
    if (code === REFUSED) return this.#set("refused");
    const wait = Math.min(FIRST_WAIT * 2 ** this.failures, LONGEST_WAIT) * (0.5 + Math.random());
    this.failures += 1;
    this.retryAt = Date.now() + wait;
    this.timer = setTimeout(() => this.retry(), wait);
    this.#set("lost");
  }

  #offline() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.retryAt = null;
    this.#set("offline");
  }

  #awake() {
    if (document.hidden) return;
    if (this.state === "lost") return this.retry();
    if (this.state !== "live" || Date.now() - this.lastHeard < QUIET) return;
    const { socket, lastHeard } = this;
    this.#send({ type: "get_server_data" });
    setTimeout(() => {
      if (this.socket === socket && this.lastHeard === lastHeard) {
        socket.onclose = null; // a dead line may take minutes to say so
        socket.close();
        this.#lost(1006);
      }
    }, ANSWER);
  }

  #set(state) {
    this.state = state;
    this.#tell("state");
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

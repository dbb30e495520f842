// A live copy of one server of a d-back gateway, for browsers and Node, without dependencies.
//
// A connection goes through these steps: the gateway sends the list of servers, the client sends
// `connect`, the gateway answers with `server-join`, `resumed` or `error`, and changes follow.
// At most one `connect` is unanswered at any time (`#asked`). A second one would make it
// impossible to tell which of the two an error answers, so `join` only notes what is wanted, and
// the answer to the first triggers the next.
//
// The copy is correct up to `seq` of `epoch`. If a frame does not follow from the ones before,
// `epoch` becomes null: the copy is wrong, no further frame is applied to it, it is never resumed,
// and the client asks for all users again.

const FIRST_WAIT = 2_000; // ms; the first reconnect waits a random time up to this
const LAST_WAIT = 30_000; // the bound doubles with each attempt, up to this
const STABLE = 10_000; // a connection that lasts this long ends the growth
const GREETING = 20_000; // time in which a gateway has to send its first frame
const SILENCE = 60_000; // without a frame for this long, the client asks if the line still works
const ANSWER = 10_000; // time in which the gateway has to answer that
const PENALTY = 60_000; // wait after too many refused joins
const NO_COLOR = "#ffffff"; // of users without a coloured role
const REFUSED = 1008; // close code: do not reconnect automatically
const RESTART = 1001;
const PROTECTED = ["unauthorized", "authentication_failed"];

/** Join a server and keep a copy of it current, until `world.close()` or the signal. */
export function connect(url, options) {
  return new World(url, options);
}

/** The reason for which a gateway refused a join. */
export class JoinError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "JoinError";
    this.code = code;
  }
}

/** The copy of one server. See d-back-client.d.ts for its events. */
export class World extends EventTarget {
  servers = new Map(); // server_id → { id, name, default, passworded }
  users = new Map(); // uid → { uid, username, status, roleColor, extra }; replaced, never changed
  serverId = null;
  server = null; // the public id
  name = "";
  clientId = null;
  epoch = null;
  seq = 0;
  state = "connecting";
  closeCode = null; // of the last connection
  failures = 0; // attempts to connect since a connection was stable
  retryAt = null; // ms since 1970, while state is "lost"
  lastHeard = 0; // ms since 1970: the last frame

  #url;
  #socket = null;
  #WebSocket;
  #greeted = false; // the list of servers has come over this connection
  #wanted; // { server, password, token }: what to join
  #current = null; // the same, as it was joined
  #asked = null; // { wanted, resumes, news } while a `connect` is unanswered
  #subscribed = false;
  #since = 0; // when it was subscribed
  #timer = null; // for the next attempt to connect or to join
  #watch = null; // for the greeting, then for a silent line
  #pings = []; // functions that wait for the answer to `ping`
  #streams = new Set(); // functions that take events for an iterator; null ends it
  #settle;
  #ending = new AbortController(); // removes listeners of the environment

  constructor(url, { server = null, password, token, signal, WebSocket } = {}) {
    super();
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace(/^http/, "ws");
    this.#WebSocket = WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) throw new TypeError("there is no WebSocket here: pass one as an option");
    this.#wanted = { server, password, token };
    this.ready = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.ready.catch(() => {}); // reading it is optional
    if (signal?.aborted) return void this.close();
    const until = { signal: this.#ending.signal };
    signal?.addEventListener("abort", () => this.close(), until);
    globalThis.addEventListener?.("online", () => this.retry(), until);
    globalThis.addEventListener?.("offline", () => this.#offline(), until);
    globalThis.document?.addEventListener("visibilitychange", () => this.#shown(), until);
    if (globalThis.navigator?.onLine === false) this.state = "offline";
    else this.retry();
  }

  /** Join this server (null: the default one), now or as soon as there is a connection. */
  join(server = null, { password, token } = {}) {
    this.#wanted = { server, password, token };
    if (this.#asked) return; // its answer triggers the next
    if (this.#greeted) this.#ask();
    else this.retry();
  }

  /** Connect now, if there is no connection. */
  retry() {
    if (this.#socket || this.state === "closed") return;
    clearTimeout(this.#timer);
    this.retryAt = null;
    const socket = new this.#WebSocket(this.#url);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code }) => this.#lost(code);
    socket.onerror = () => {}; // `close` follows
    this.#expect(() => this.#drop(), GREETING);
    this.#set("connecting");
  }

  /** Ask the gateway for an answer. Resolves to true once it has come: everything that the
   * gateway had sent before is applied then. Resolves to false if the connection is lost first. */
  ping() {
    if (!this.#greeted) return Promise.resolve(false);
    this.#send({ type: "get_server_data", serverId: this.#subscribed ? this.serverId : null });
    return new Promise((resolve) => this.#pings.push(resolve));
  }

  /** End: close the connection and all iterators. */
  close() {
    if (this.state === "closed") return;
    this.#ending.abort();
    this.#disconnect();
    this.#finish("closed", new DOMException("the client was closed", "AbortError"));
  }

  /** Yields every event from now on, as `{ type, ...detail }`, until the client ends. */
  [Symbol.asyncIterator]() {
    const waiting = [];
    const readers = [];
    const take = (event) => {
      waiting.push(event);
      for (const wake of readers.splice(0)) wake();
    };
    const ends = () => this.#streams.delete(take);
    if (this.state === "closed" || this.state === "refused") take(null);
    else this.#streams.add(take);
    return {
      async next() {
        while (!waiting.length) await new Promise((wake) => readers.push(wake));
        const value = waiting[0];
        if (value === null) return { done: true, value: undefined };
        waiting.shift();
        return { done: false, value };
      },
      async return() {
        ends();
        waiting.length = 0;
        take(null);
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  // What the gateway sends

  #receive(frame) {
    this.lastHeard = Date.now();
    if (!this.#greeted && frame.type !== "server-list") return;
    switch (frame.type) {
      case "server-list":
        this.servers = new Map(Object.entries(frame.data));
        this.#greeted = true;
        this.#expect(() => this.#listen(), SILENCE / 2);
        this.#tell("servers");
        if (!this.#asked) this.#ask(); // unless a listener has joined
        break;
      case "server-list-update":
        this.#updateList(frame);
        break;
      case "server-join":
        this.#joined(frame.data);
        break;
      case "resumed":
        this.#resumed(frame);
        break;
      case "presence":
        if (this.#follows(frame)) this.#applyPresence(frame.data);
        break;
      case "message":
        if (this.#follows(frame)) this.#applyMessage(frame.data);
        break;
      case "message-edit":
        if (this.#follows(frame)) this.#tell("edit", frame.data);
        break;
      case "message-delete":
        if (this.#follows(frame)) this.#tell("delete", frame.data);
        break;
      case "update-clientid":
        this.clientId = frame.data.clientId;
        this.#tell("clientid");
        break;
      case "refresh_data":
        this.#tell("refresh", { serverId: frame.serverId ?? null });
        break;
      case "server_data":
        this.#pings.shift()?.(true);
        break;
      case "error":
        this.#refused(frame.data);
        break;
      default: // a newer type: if it has a number, the number counts
        if (frame.seq !== undefined) this.#follows(frame);
    }
  }

  #updateList({ data, removed = [] }) {
    for (const serverId of removed) this.servers.delete(serverId);
    for (const [serverId, server] of Object.entries(data)) this.servers.set(serverId, server);
    const news = Object.entries(data).some((each) => this.#admits(each));
    if (this.#asked) this.#asked.news ||= news;
    else if (news && !this.#subscribed) this.#ask();
    this.#tell("servers");
  }

  /** True if this entry of the list is a reason to try a refused join again. */
  #admits([serverId, server]) {
    const { server: wanted, password, token } = this.#wanted;
    if (wanted !== server.id && wanted !== serverId) return wanted === null && server.default;
    return !server.passworded || password !== undefined || token !== undefined;
  }

  #joined(data) {
    this.epoch = data.epoch;
    this.seq = data.seq;
    this.server = data.request.server;
    this.serverId = null;
    for (const [key, { id }] of this.servers) if (id === this.server) this.serverId = key;
    this.name = data.serverName;
    this.clientId = data.clientId ?? null;
    this.users = new Map(Object.entries(data.users).map(([uid, user]) => [uid, copied(user)]));
    this.#live(false);
  }

  #resumed({ epoch, seq }) {
    const answers = this.#asked?.resumes;
    if (!answers && !this.#subscribed) return;
    // The answer continues exactly where the copy is; an unasked one may skip numbers.
    if (epoch !== this.epoch || (answers ? seq !== this.seq : seq < this.seq)) {
      if (answers) this.#asked = null;
      return this.#gap();
    }
    this.seq = seq;
    if (answers) this.#live(true);
    else this.#tell("skip");
  }

  /** The copy is current from here on. */
  #live(resumed) {
    const joined = this.#asked?.wanted ?? this.#wanted;
    this.#current = { ...joined, server: this.server };
    this.#subscribed = true;
    this.#since = Date.now();
    const again = this.#wanted !== joined;
    if (!again) this.#wanted = this.#current;
    this.#asked = null;
    if (again) this.#ask();
    this.#set("live");
    this.#settle.resolve(this);
    this.#tell("join", { resumed });
  }

  /** Take the number of a frame. False if the frame is not to be applied. */
  #follows({ seq, resync }) {
    if (!this.#subscribed || this.epoch === null) return false;
    if (!resync && seq !== this.seq && seq !== this.seq + 1) return this.#gap();
    this.seq = seq;
    return true;
  }

  #gap() {
    this.epoch = null;
    if (!this.#asked) this.#ask();
    this.#set("connecting");
    this.#tell("gap");
    return false;
  }

  #applyPresence(change) {
    const { uid } = change;
    const before = this.users.get(uid) ?? null;
    if (change.delete) {
      if (this.users.delete(uid)) this.#tell("user", { user: null, before });
      return;
    }
    if (!before && (change.username === undefined || change.roleColor === undefined)) {
      return void this.#gap();
    }
    const user = copied({ ...before, ...change }, before?.extra);
    this.users.set(uid, user);
    this.#tell("user", { user, before });
  }

  #applyMessage({ uid, ...said }) {
    const user = this.users.get(uid);
    if (user) this.#tell("message", { user, ...said });
  }

  /** An `error`: the answer to `connect`, the end of the subscription, or a notice. */
  #refused({ code, message }) {
    const asked = this.#asked;
    const isAuth = PROTECTED.includes(code);
    const ends = code === "gone" || (!asked && isAuth);
    const answers = asked && code !== "gone" && code !== "notice";
    const server = answers ? asked.wanted.server : this.server;
    if (!answers && !ends && code !== "notice") this.#pings.shift()?.(true); // an answer, too
    if (ends) this.#leave();
    if (answers) {
      this.#asked = null;
      this.#unanswered(asked, code, isAuth);
    }
    this.#tell("error", { code, message, server, answers: Boolean(answers) });
    if (answers && code !== "no_server") this.#settle.reject(new JoinError(code, message));
  }

  /** Continue after a refused `connect`. */
  #unanswered(asked, code, isAuth) {
    if (this.#wanted !== asked.wanted) return this.#ask();
    if (this.#subscribed) {
      this.#wanted = this.#current;
      // The subscription goes on. Only this refusal could also mean that it has ended, so ask.
      if (isAuth) {
        this.epoch = null;
        this.#ask();
      }
    } else if (asked.news) this.#ask(); // the list changed while the gateway answered
    else if (code === "rate_limited" && this.#current) {
      this.#timer = setTimeout(() => this.#greeted && !this.#asked && this.#ask(), PENALTY);
      this.#set("waiting");
    } else this.#set("waiting");
  }

  /** The gateway has ended the subscription: what it protects, the copy no longer shows. */
  #leave() {
    this.#subscribed = false;
    this.epoch = null;
    this.users = new Map();
    this.#set("waiting");
  }

  // The connection

  #ask() {
    const { server, password, token } = this.#wanted;
    const data = { server };
    if (password !== undefined) data.password = password;
    if (token !== undefined) data.discordToken = token;
    const resumes = !this.#subscribed && this.epoch !== null && this.server === server;
    if (resumes) data.resume = { epoch: this.epoch, seq: this.seq };
    clearTimeout(this.#timer);
    this.#asked = { wanted: this.#wanted, resumes, news: false };
    this.#send({ type: "connect", data });
  }

  #send(message) {
    // A socket that is about to close drops it; `close` follows.
    this.#socket.send(JSON.stringify(message));
  }

  /** Detach from the socket, so that nothing of it arrives any more. */
  #disconnect() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watch);
    const socket = this.#socket;
    if (socket) socket.onmessage = socket.onclose = null;
    socket?.close();
    this.#socket = this.#asked = this.retryAt = null;
    this.#greeted = this.#subscribed = false;
    for (const answer of this.#pings.splice(0)) answer(false);
  }

  #lost(code) {
    if (this.#subscribed && Date.now() - this.#since > STABLE) this.failures = 0;
    this.#disconnect();
    this.closeCode = code;
    if (code === REFUSED) {
      return this.#finish("refused", new JoinError("refused", "the gateway closed with 1008"));
    }
    if (globalThis.navigator?.onLine === false) return this.#set("offline");
    // All clients of a gateway that restarts reconnect at the same time: wait at random.
    const bound = Math.min(FIRST_WAIT * 2 ** (this.failures + (code === RESTART)), LAST_WAIT);
    const wait = Math.ceil(bound * Math.random());
    this.failures += 1;
    this.retryAt = Date.now() + wait;
    this.#timer = setTimeout(() => this.retry(), wait);
    this.#set("lost");
  }

  /** Call this after so many ms, instead of what was to be called before. */
  #expect(check, wait) {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(check, wait);
  }

  /** Give up a connection that does not answer: closing it properly could take minutes. */
  #drop() {
    this.#lost(1006);
  }

  #offline() {
    if (this.state === "closed" || this.state === "refused") return;
    this.#disconnect();
    this.#set("offline");
  }

  #shown() {
    if (globalThis.document.hidden) return;
    if (this.state === "lost") this.retry();
    else this.#listen();
  }

  /** Ask if the line works, if nothing has come for long. A hidden page does so when shown. */
  #listen() {
    if (!this.#greeted) return;
    this.#expect(() => this.#listen(), SILENCE / 2);
    const { lastHeard } = this;
    if (Date.now() - lastHeard < SILENCE || globalThis.document?.hidden) return;
    this.ping();
    this.#expect(() => (this.lastHeard === lastHeard ? this.#drop() : this.#listen()), ANSWER);
  }

  #finish(state, reason) {
    this.#set(state);
    this.#settle.reject(reason);
    for (const take of this.#streams) take(null);
    this.#streams.clear();
  }

  #set(state) {
    if (state === this.state && state !== "lost") return;
    this.state = state;
    this.#tell("state", { state });
  }

  #tell(type, detail = {}) {
    for (const take of this.#streams) take({ type, ...detail });
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** The colour to show a user in: that of the role, or for a user without one the same legible
 * colour each time, which depends on the uid. */
export function colorOf({ uid, roleColor }) {
  if (roleColor !== NO_COLOR) return roleColor;
  let hash = 0;
  for (const letter of uid) hash = Math.imul(hash ^ letter.codePointAt(0), 0x9e3779b1);
  hash ^= hash >>> 15;
  const hue = (hash >>> 0) % 360;
  const part = (shift) => {
    const at = (shift + hue / 30) % 12;
    const value = 0.56 - 0.25 * Math.max(-1, Math.min(at - 3, 9 - at, 1)); // HSL to RGB
    return Math.round(255 * value).toString(16).padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
}

function copied({ uid, username, status, roleColor, extra }, known) {
  const texts = Object.entries({ ...known, ...extra }).filter(([, text]) => text !== null);
  return { uid, username, status, roleColor, extra: Object.fromEntries(texts) };
}

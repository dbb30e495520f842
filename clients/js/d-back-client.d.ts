/** A server in the gateway's list. */
export interface Server {
  /** The public id. */
  readonly id: string;
  readonly name: string;
  /** True for the server that a client joins if it names none. */
  readonly default?: boolean;
  /** True if a join requires a password or a token. */
  readonly passworded: boolean;
}

export type Status = "online" | "idle" | "dnd" | "offline";

/** A user. A change replaces the object, so one that you keep stays as it was. */
export interface User {
  readonly uid: string;
  readonly username: string;
  readonly status: Status;
  /** `#rrggbb`; `#ffffff` if the user has no coloured role. */
  readonly roleColor: string;
  /** Further texts by key, such as `avatar`: only keys that the operator has named. */
  readonly extra: Readonly<Record<string, string>>;
}

/**
 * - `connecting`: no connection yet, or the gateway has not answered yet
 * - `live`: the copy is current
 * - `waiting`: connected, but not joined: the server is gone, unknown, or refused the join
 * - `lost`: the connection is lost; the next attempt is at `retryAt`
 * - `offline`: the browser has no network
 * - `refused`: the gateway closed with 1008; only `retry()` connects again
 * - `closed`: `close()` was called, or the signal was aborted
 */
export type State =
  | "connecting"
  | "live"
  | "waiting"
  | "lost"
  | "offline"
  | "refused"
  | "closed";

/** The `detail` of each event. Events come after the change has been applied. */
export interface Details {
  /** `state` has changed, or `retryAt`. */
  state: { state: State };
  /** The list of servers has changed. */
  servers: Record<string, never>;
  /** The copy is current again. Not resumed: all users were replaced. */
  join: { resumed: boolean };
  /** A user came (`before` is null), changed, or left (`user` is null). */
  user: { user: User; before: User | null } | { user: null; before: User };
  /** A user wrote a chat message. */
  message: {
    user: User;
    message: string;
    channel: string;
    /** Identifies the message in its channel. Without it, the message is never edited or deleted. */
    id?: string;
    /** When it was written, as in RFC 3339. */
    at?: string;
  };
  /** A message has another text. */
  edit: { uid: string; message: string; channel: string; id: string; at?: string };
  /** A message is gone; without an id, all messages that have one. A complete join means the same. */
  delete: { channel?: string; id?: string };
  /** `clientId` has changed. */
  clientid: Record<string, never>;
  /** The program that embeds the gateway has fetched its data again. */
  refresh: { serverId: string | null };
  /** The gateway skipped numbers; nothing has changed. */
  skip: Record<string, never>;
  /** A frame did not follow from the ones before. The client asks for all users again. */
  gap: Record<string, never>;
  /** The gateway refused something, or ended the subscription, or has a notice for people. */
  error: {
    /** For programs; the protocol lists the codes. */
    code: string;
    /** For people. */
    message: string;
    /** The server that was asked for, or the one that was joined. Null: the default. */
    server: string | null;
    /** True if this answers a join. */
    answers: boolean;
  };
}

export type WorldEvent = {
  [Type in keyof Details]: { readonly type: Type } & Readonly<Details[Type]>;
}[keyof Details];

export interface Credentials {
  /** The password of a protected server. */
  password?: string;
  /** An OAuth2 access token of Discord, for a protected server. */
  token?: string;
}

export interface Options extends Credentials {
  /** The public id or the server_id. Null or missing: the default server. */
  server?: string | null;
  /** Ends the client when it is aborted. */
  signal?: AbortSignal;
  /** A WebSocket class, for environments that have none of their own (Node before 22). */
  WebSocket?: new (url: URL) => object;
}

/** The reason for which a gateway refused a join. */
export class JoinError extends Error {
  constructor(code: string, message: string);
  readonly code: string;
}

type Listener<Type extends keyof Details> =
  | ((this: World, event: CustomEvent<Details[Type]>) => unknown)
  | { handleEvent(event: CustomEvent<Details[Type]>): unknown };

/** The copy of one server. It reconnects on its own, with growing random waits. */
export class World extends EventTarget implements AsyncIterable<WorldEvent> {
  constructor(url: string | URL, options?: Options);

  /** Resolves at the first join. Rejects if that is refused, or if the client ends before. */
  readonly ready: Promise<this>;
  /** The gateway's servers, by server_id. */
  readonly servers: ReadonlyMap<string, Server>;
  /** The users of the joined server, by uid. */
  readonly users: ReadonlyMap<string, User>;
  readonly serverId: string | null;
  /** The public id of the joined server. */
  readonly server: string | null;
  /** The name of the joined server. */
  readonly name: string;
  /** The OAuth2 client id to log in with. */
  readonly clientId: string | null;
  /** The run of numbers that `seq` belongs to. Null: there is no copy, or it is wrong. */
  readonly epoch: string | null;
  /** The number of the last change in the copy. */
  readonly seq: number;
  readonly state: State;
  /** The close code of the last connection that was lost. */
  readonly closeCode: number | null;
  /** Attempts to connect since a connection was stable. */
  readonly failures: number;
  /** When the next attempt is made, in ms since 1970. */
  readonly retryAt: number | null;
  /** When the last frame came, in ms since 1970; 0: never. */
  readonly lastHeard: number;

  /** Join another server, or the same one with other credentials. Null: the default server. */
  join(server?: string | null, credentials?: Credentials): void;
  /** Connect now, if there is no connection. */
  retry(): void;
  /**
   * Ask the gateway for an answer. Resolves to true once it has come: everything that the gateway
   * had sent before is applied then. Resolves to false if the connection is lost first.
   */
  ping(): Promise<boolean>;
  /** End: close the connection and all iterators. */
  close(): void;

  /**
   * Yields every event from now on, until the client ends. Events that are not read yet are kept,
   * however many: read faster than they come.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<WorldEvent>;

  addEventListener<Type extends keyof Details>(
    type: Type,
    listener: Listener<Type> | null,
    options?: AddEventListenerOptions | boolean,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: AddEventListenerOptions | boolean,
  ): void;
  removeEventListener<Type extends keyof Details>(
    type: Type,
    listener: Listener<Type> | null,
    options?: EventListenerOptions | boolean,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: EventListenerOptions | boolean,
  ): void;
}

/** Join a server and keep a copy of it current, until `world.close()` or the signal. */
export function connect(url: string | URL, options?: Options): World;

/**
 * The colour to show a user in, as `#rrggbb`: that of the role, or for a user without one the same
 * legible colour each time, which depends on the uid.
 */
export function colorOf(user: Pick<User, "uid" | "roleColor">): string;

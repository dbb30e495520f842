// The members as this page shows them: sorted by status and name, with a journal of changes.

import { folded } from "./text.js";
import { colorOf } from "./v1/d-back-client.js";
import { say } from "./words.js";

export const STATUSES = ["online", "idle", "dnd", "offline"];
export const WORDS = {
  online: say("Online"),
  idle: say("Idle"),
  dnd: say("Do not disturb"),
  offline: say("Offline"),
};
const JOURNAL = 4000;
const CATCHING_UP = 3000; // ms after a lost line, in which changes arrive that happened before

/** The members of the server that the client has joined, in groups by status, each sorted by name.
 * Its events: "whole" (all members were replaced), "change" (detail: member, was), "said" (detail:
 * member, message, channel, id), "edited" (detail: message, channel, id), "deleted" (detail:
 * channel, id; without an id all messages that have one). */
export class World extends EventTarget {
  constructor(client) {
    super();
    this.client = client;
    this.journal = []; // the last changes, with their numbers
    this.joined = 0; // when, in ms since 1970
    this.reset();
    client.addEventListener("join", ({ detail }) => {
      this.joined = Date.now();
      if (!detail.resumed) this.reset();
    });
    client.addEventListener("user", ({ detail }) => this.#change(detail));
    client.addEventListener("message", ({ detail }) => this.#hear(detail));
    client.addEventListener("edit", ({ detail }) => this.#tell("edited", detail));
    client.addEventListener("delete", ({ detail }) => this.#tell("deleted", detail));
  }

  /** Take all members from the client again. */
  reset() {
    this.journal = [];
    this.members = new Map();
    this.groups = new Map(STATUSES.map((status) => [status, []]));
    const now = Date.now();
    for (const user of this.client.users.values()) {
      const member = { ...shown(user), since: now, isExact: false };
      this.members.set(member.uid, member);
      this.groups.get(member.status).push(member);
    }
    for (const group of this.groups.values()) group.sort(order);
    this.dispatchEvent(new Event("whole"));
  }

  get epoch() {
    return this.client.epoch;
  }

  get serverId() {
    return this.client.serverId;
  }

  get publicId() {
    return this.client.server;
  }

  get name() {
    return this.client.name;
  }

  /** The changes with these numbers, as far as the journal reaches. */
  between(epoch, first, last) {
    if (epoch !== this.epoch) return [];
    return this.journal.filter((each) => first <= each.seq && each.seq <= last);
  }

  get online() {
    return this.members.size - this.groups.get("offline").length;
  }

  #hear({ user, message, channel, id }) {
    this.#tell("said", { member: this.members.get(user.uid), message, channel, id });
  }

  #change({ user, before }) {
    const was = before && { ...this.members.get(before.uid) };
    let member = null;
    if (was) this.#unlist(this.members.get(was.uid));
    if (user) {
      member = Object.assign(this.members.get(user.uid) ?? {}, shown(user));
      if (was?.status !== member.status) {
        member.since = Date.now(); // in this status, as far as this page has seen it
        member.isExact = was !== null && member.since - this.joined > CATCHING_UP;
      }
      this.members.set(member.uid, member);
      const group = this.groups.get(member.status);
      group.splice(place(group, member), 0, member);
    } else this.members.delete(was.uid);
    const now = member && { ...member };
    this.journal.push({ seq: this.client.seq, was, now });
    if (this.journal.length > JOURNAL) this.journal.splice(0, JOURNAL / 4);
    this.#tell("change", { member, was });
  }

  #unlist(member) {
    const group = this.groups.get(member.status);
    const at = place(group, member);
    if (group[at] !== member) throw new Error(`${member.uid} is not where it should be`);
    group.splice(at, 1);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** True if an edit or a deletion is about that message. */
export function isAbout(correction, said) {
  if (correction.id === undefined) return said.id !== undefined;
  return correction.id === said.id && correction.channel === said.channel;
}

/** A user as the page shows it. */
function shown(user) {
  const { uid, username, status, extra } = user;
  const colour = colorOf(user);
  return {
    uid,
    name: username,
    key: folded(username),
    status: STATUSES.includes(status) ? status : "offline",
    colour,
    hasRole: colour === user.roleColor,
    extra,
  };
}

function order(a, b) {
  if (a.key !== b.key) return a.key < b.key ? -1 : 1;
  return a.uid < b.uid ? -1 : a.uid > b.uid ? 1 : 0;
}

/** Where a member stands, or would stand, in a sorted group. */
function place(group, member) {
  let low = 0;
  let high = group.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (order(group[middle], member) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

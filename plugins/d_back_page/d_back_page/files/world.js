// A server as this page knows it: its members, sorted by status and name, and its numbers.

import { folded } from "./text.js";

export const STATUSES = ["online", "idle", "dnd", "offline"];
export const WORDS = { online: "Online", idle: "Idle", dnd: "Do not disturb", offline: "Offline" };
const COLOUR = /^#[0-9a-f]{6}$/i;
const JOURNAL = 4000;

/** Members, kept current by `join` and `follow`. Says what changed as events of its own:
 * "whole" (everything is another), "change" (detail: member, what was), "said" (detail: member,
 * message, channel, id), "edited" (detail: message, channel, id), "deleted" (detail: channel, id;
 * without an id all messages that have one). */
export class World extends EventTarget {
  constructor() {
    super();
    this.forget();
  }

  /** Nobody is known, and nothing can be resumed. */
  forget() {
    this.members = new Map();
    this.groups = new Map(STATUSES.map((status) => [status, []]));
    this.journal = [];
    this.serverId = this.publicId = null;
    this.name = "";
    this.epoch = null;
    this.seq = 0;
  }

  /** A whole snapshot. */
  join(data, serverId) {
    this.forget();
    this.serverId = serverId;
    this.publicId = data.request.server;
    this.name = data.serverName;
    this.epoch = data.epoch;
    this.seq = data.seq;
    for (const user of Object.values(data.users)) {
      const member = fresh(user.uid, user);
      this.members.set(member.uid, member);
      this.groups.get(member.status).push(member);
    }
    for (const group of this.groups.values()) group.sort(order);
    this.dispatchEvent(new Event("whole"));
  }

  /** The numbers go on from here. */
  resumed(frame) {
    this.seq = frame.seq;
  }

  /** A presence or chat; false where something before it is missing. */
  follow(frame) {
    if (!frame.resync && frame.seq !== this.seq && frame.seq !== this.seq + 1) return false;
    this.seq = frame.seq;
    if (frame.type === "message") this.#hear(frame.data);
    else if (frame.type === "message-edit") this.#tell("edited", frame.data);
    else if (frame.type === "message-delete") this.#tell("deleted", frame.data);
    else this.#change(frame.data, frame.seq);
    return true;
  }

  /** The deltas with these numbers, as far as the journal reaches. */
  between(epoch, first, last) {
    if (epoch !== this.epoch) return [];
    return this.journal.filter((each) => first <= each.seq && each.seq <= last);
  }

  get awake() {
    return this.members.size - this.groups.get("offline").length;
  }

  #hear({ uid, message, channel, id }) {
    const member = this.members.get(uid);
    if (member !== undefined) this.#tell("said", { member, message, channel, id });
  }

  #change(data, seq) {
    const known = this.members.get(data.uid);
    const was = known ? { ...known } : null;
    let member = known;
    if (known) this.#unlist(known);
    if (data.delete) {
      this.members.delete(data.uid);
      member = null;
    } else {
      member = known ?? fresh(data.uid, data);
      update(member, data);
      this.members.set(member.uid, member);
      const group = this.groups.get(member.status);
      group.splice(place(group, member), 0, member);
    }
    if (!member && !was) return;
    this.journal.push({ seq, was, now: member ? { ...member } : null });
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

function fresh(uid, user) {
  const member = { uid, name: uid, key: folded(uid), status: "offline", colour: "#ffffff" };
  update(member, user);
  return member;
}

function update(member, data) {
  if (typeof data.username === "string") {
    member.name = data.username;
    member.key = folded(data.username);
  }
  if (COLOUR.test(data.roleColor)) member.colour = data.roleColor;
  if (STATUSES.includes(data.status)) member.status = data.status;
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

// A program that has to compile; what is marked as an error has to be one.

import { JoinError, World, colorOf, connect } from "d-back-client";
import { CommunityElement } from "d-back-client/community";
import type { Server, State, User, WorldEvent } from "d-back-client";

const world: World = connect("wss://gateway.example", {
  server: "club",
  password: "sesame",
  token: "abc",
  signal: AbortSignal.timeout(1000),
  WebSocket,
});
connect(new URL("https://gateway.example"), { server: null });

const state: State = world.state;
const members: User[] = [...world.users.values()].filter(({ status }) => status !== "offline");
const names: string[] = [...world.servers.values()].map((server: Server) => server.name);
console.log(state, members, names, world.retryAt?.toFixed(), world.epoch, world.seq + 1);

world.addEventListener("user", ({ detail }) => {
  if (detail.user === null) console.log(detail.before.username);
  else console.log(detail.user.roleColor, detail.before?.status);
});
world.addEventListener("message", ({ detail: { user, message, channel } }) => {
  console.log(`${user.username} in ${channel}: ${message}`);
});
world.addEventListener("edit", ({ detail: { id, message } }) => console.log(id, message));
world.addEventListener("delete", ({ detail }) => console.log(detail.id ?? "all"));
world.addEventListener("error", (event) => console.log(event.detail.code));
world.addEventListener("join", function ({ detail }) {
  console.log(detail.resumed, this.name);
});

async function follow(): Promise<void> {
  const joined: World = await world.ready;
  for await (const event of joined) {
    const type: WorldEvent["type"] = event.type;
    if (event.type === "error") console.log(type, event.answers, event.server);
    if (event.type === "message") console.log(event.user.uid);
  }
  const answered: boolean = await world.ping();
  if (!answered) throw new JoinError("gone", "It is gone.");
  world.join("pub", { password: "sesame" });
  world.join();
  world.retry();
  world.close();
}
void follow();

const element: CommunityElement = document.createElement("d-back-community");
console.log(element.world?.name, colorOf({ uid: "1", roleColor: "#ffffff" }));

// @ts-expect-error: a property that only the client sets
world.seq = 1;
// @ts-expect-error: users are replaced, and never changed
world.users.get("1")!.username = "Ada";
// @ts-expect-error: the map is the client's own
world.users.clear();
// @ts-expect-error: an unknown option
connect("wss://gateway.example", { sever: "club" });
// @ts-expect-error: a status that does not exist
const status: User["status"] = "away";
// @ts-expect-error: an event without that field
world.addEventListener("message", ({ detail }) => detail.status);
console.log(status, members[0]?.extra.avatar);

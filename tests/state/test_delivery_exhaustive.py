"""Every interleaving of the delivery code up to a number of steps, for two users and two clients.

The search runs the real `ServerState`, and with it the world, the snapshot, the subscribers and
the backlog. A batch is delivered in turns of one session, and each turn is a step. The search
visits every state that a program of so many steps can reach. In each it lets everything be
delivered, and then compares what the clients hold with the world:

- each client as it is, and resumed from every frame of its last write;
- after that, what they hold when all users have been removed: nothing.

Clients are strict. A change, a removal or a message of a user that a client does not know is an
error, and so is a gap in the numbers.

Two programs that reach the same state have the same future, so the search continues from the first
of them only. `Bench.fingerprint` decides which states are the same. It compares positions by their
rank, and numbers by their distance from the world's: the code itself does the same.
"""

# ruff: noqa: SLF001  the state that a search compares is private

import logging
import os
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from time import process_time
from types import CoroutineType, FrameType
from typing import Any, TypeAlias

import msgspec
import pytest
from msgspec import Struct, structs

from d_back_core.chain.policy import Policy
from d_back_core.chain.world import Delta, Presence, Removal, is_unnumbered
from d_back_core.gateway.rate_limits import ChatRate
from d_back_core.models import EffectiveServer, EffectiveUser, Message, Status
from d_back_core.state import server_state, subscribers
from d_back_core.state.server_state import ServerState, Shared
from d_back_core.state.snapshot import CachedSnapshot
from d_back_core.stats import Counters
from d_back_testing import ManualClock

pytestmark = pytest.mark.long

MORE_STEPS = int(os.environ.get("D_BACK_DELIVERY_MORE_STEPS", "0"))
"""Steps by which every search goes further than usual; each takes three to five times as long.
With 3, those of everything go to 8: `nox -s promise -- --exhaustive`."""

log = logging.getLogger(__name__)

Step: TypeAlias = tuple[Any, ...]
View: TypeAlias = frozenset[tuple[str, tuple[str, str]]]
"""What a client holds of the users: uid → name and status."""
Held: TypeAlias = tuple[int, View]
"""The number that a client holds, and the users."""
Pipe: TypeAlias = tuple[int, int]
Numbers: TypeAlias = tuple[int, int]
"""The number that stands for each client in a fingerprint."""

USERS = "AB"
VALUES: tuple[tuple[str, Status] | None, ...] = (("x", "online"), ("y", "offline"), None)
MAX_PENDING = 2
"""Changes that wait to be delivered at the same time. More would only repeat what two show."""
SHOWN = EffectiveServer(server_id="1", public_id="x", name="x", default=True, passworded=False)


class Search(Struct, frozen=True, kw_only=True):
    """Where a search begins, and what its programs consist of."""

    steps: frozenset[str] | None = None
    """None: all."""
    depth: int
    direct: bool = False
    """True if client 0 is written to directly."""
    hides: bool = False
    """``hide_offline`` at the beginning."""
    history: int = 1000
    keeps_snapshot: bool = False
    """True if joins use a snapshot that is made at the step "encode" only: they get a tail."""

    @property
    def are_clients_alike(self) -> bool:
        return self.steps is None and not self.direct


class Client:
    """A session, and the client at its other end, which folds every frame at once.

    Its descriptor is a real pipe. A connection can be lost before its last write has been read:
    ``held`` is what the client holds before that write and after each of its frames. That it is
    lost before earlier writes needs no step of its own: the program in which the client leaves
    at that earlier time has the same outcome.
    """

    deflates = False

    def __init__(self, number: int, pipe: Pipe | None) -> None:
        self.number = number
        self.paused = False
        self.joined = False
        self.resumed = False
        self.seq = 0
        self.users: dict[str, tuple[str, str]] = {}
        self.held: dict[Held, None] = {}
        self._pipe = pipe

    @property
    def descriptor(self) -> int | None:
        return None if self.paused or self._pipe is None else self._pipe[1]

    @property
    def view(self) -> View:
        return frozenset(self.users.items())

    def write(self, frames: bytes, /) -> None:
        self.drain()
        self._fold(frames)

    def write_snapshot(self, frames: Sequence[bytes], /) -> None:
        self.write(b"".join(frames))

    def send(self, payload: bytes, /) -> None:
        raise AssertionError(payload)

    def drain(self) -> None:
        """Fold what was written to the descriptor."""
        if self._pipe is not None:
            try:
                frames = os.read(self._pipe[0], 65536)
            except BlockingIOError:
                return
            self._fold(frames)

    def restore(self, held: Held) -> None:
        """Hold only this: what came after it was lost with the connection."""
        self.seq, view = held
        self.users = dict(view)
        self.held = {held: None}
        self.resumed = True

    def _fold(self, frames: bytes) -> None:
        while frames:
            size, start = frames[1], 2
            if size == 126:
                size, start = int.from_bytes(frames[2:4]), 4
            self._take(msgspec.json.decode(frames[start : start + size]))
            frames = frames[start + size :]
            self.held[self.seq, self.view] = None

    def _take(self, frame: dict[str, Any]) -> None:
        kind, data = frame["type"], frame.get("data", {})
        if kind == "server-join":
            self.users = {
                uid: (user["username"], user["status"]) for uid, user in data["users"].items()
            }
            self.seq = data["seq"]
            self.held.clear()
            self.resumed = False
            return
        if kind == "resumed":
            self.seq = frame["seq"]
            return
        gap = frame["seq"] - self.seq
        assert frame.get("resync") or gap in {0, 1}, f"the numbers have a gap: {gap}"
        self.seq = frame["seq"]
        uid = data["uid"]
        if kind == "message":
            # The same: it may have received the removal of the author before.
            assert self.resumed or uid in self.users, "a message of an unknown user"
        elif data.get("delete"):
            # A client that resumes may receive a removal again, since the gateway does not know
            # when it first joined.
            assert self.resumed or uid in self.users, "a removal of an unknown user"
            self.users.pop(uid, None)
        elif "username" in data:
            self.users[uid] = data["username"], data["status"]
        else:
            assert uid in self.users, "a change of an unknown user"
            self.users[uid] = self.users[uid][0], data["status"]


class Task:
    """A task that makes one step when the search says so."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.coroutine = coroutine

    @property
    def frame(self) -> FrameType:
        """Where it is."""
        assert isinstance(self.coroutine, CoroutineType)
        assert self.coroutine.cr_frame is not None
        return self.coroutine.cr_frame

    def turn(self) -> bool:
        """Run it until it gives way to the loop; False if it has ended."""
        try:
            self.coroutine.send(None)
        except StopIteration:
            return False
        return True


class Bench:
    """One server, driven step by step."""

    def __init__(self, search: "Search", pipe: Pipe) -> None:
        self.clients = [Client(0, pipe if search.direct else None), Client(1, None)]
        self._search = search
        self._task: Task | None = None
        self._rate = ChatRate(ManualClock(), 10**9, 1.0)
        shared = Shared(
            history=search.history,
            counters=Counters(),
            clock=ManualClock(),
            queues=(),
            changed=lambda _: None,
            decided=lambda _: None,
            spawn=self._spawn,  # type: ignore[arg-type]
            listed_by=lambda _: frozenset(),
        )
        self.server = ServerState("1", Policy(hide_offline=search.hides), self._rate, shared)
        self.server.swap({"A": _user("A", ("x", "online"))})
        for client in self.clients:
            self._join(client)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> Task:
        assert self._task is None
        self._task = Task(coroutine)
        return self._task

    # Steps

    def steps(self) -> list[Step]:
        """Return every step of the search that is possible now."""
        allowed = self._search.steps
        return [
            step
            for step in self._possible()
            if allowed is None or " ".join(map(str, step[:2])) in allowed
        ]

    def _possible(self) -> Iterator[Step]:
        world = self.server.world
        for uid in USERS if len(world.pending) < MAX_PENDING else ():
            now = world.users.get(uid)
            value = None if now is None else (now.username, now.status)
            yield from (("put", uid, each) for each in VALUES if each != value)
        if world.visible("A") is not None and len(world.pending) < MAX_PENDING:
            yield "chat", "A"
        yield ("hide",)
        if self._search.keeps_snapshot:
            yield ("encode",)
        if self._task is not None:
            yield ("turn",)
        elif world.pending:
            yield ("deliver",)
        for client in self.clients:
            if not client.joined:
                yield "join", client.number
                yield "resume", client.number
            else:
                yield from (("leave", client.number, held) for held in client.held)
                yield "read" if client.paused else "pause", client.number

    def do(self, step: Step) -> None:
        """Run one step."""
        for client in self.clients:
            client.held = {(client.seq, client.view): None}
        match step:
            case "put", uid, value:
                self.server.put(uid, None if value is None else _user(uid, value))
            case "chat", uid:
                message = Message(server_id="1", uid=uid, message="m", channel="c")
                self.server.pass_on("a", message)
            case (action,):
                self._do_server(action)
            case action, number:
                self._do_client(action, self.clients[number])
            case "leave", number, held:
                self._leave(self.clients[number], held)
        for client in self.clients:
            client.drain()

    def _do_server(self, action: str) -> None:
        match action:
            case "hide":
                hides = not self.server.policy.hide_offline
                self.server.reconfigure(Policy(hide_offline=hides), self._rate)
            case "encode":
                self.server.snapshot._make_at_once()  # as a large world does from time to time
            case "turn":
                self._turn()
            case "deliver":
                self.server.deliver()

    def _do_client(self, action: str, client: Client) -> None:
        match action:
            case "join":
                self._join(client)
            case "resume":
                self._resume(client)
            case "pause":
                self.server.stop_direct_writes(client)
                client.paused = True
            case "read":
                client.paused = False
                self.server.catch_up(client)

    def _turn(self) -> None:
        task = self._task
        assert task is not None
        self._task = None  # it may begin the next one
        if task.turn():
            self._task = task

    def _join(self, client: Client) -> None:
        self.server.deliver()
        cached = self.server.snapshot._cached
        if cached is None or not self._search.keeps_snapshot:
            cached = self._ready_snapshot()
        self.server.join(client, SHOWN, cached)
        client.joined = True

    def _ready_snapshot(self) -> CachedSnapshot:
        try:
            self.server.snapshot.ready().send(None)
        except StopIteration as ready:
            snapshot: CachedSnapshot = ready.value
            return snapshot
        raise AssertionError("the snapshot of a small world is ready at once")

    def _leave(self, client: Client, held: Held) -> None:
        client.joined = client.paused = False
        self.server.leave(client)
        client.restore(held)

    def _resume(self, client: Client) -> None:
        self.server.deliver()
        missed = self.server.world.since(client.seq)
        if missed is None:
            self._join(client)
        else:
            self.server.resume(client, client.seq, missed)
        client.joined = True

    def close(self) -> None:
        """Discard the batch under way."""
        if self._task is not None:
            self._task.coroutine.close()

    # What is right

    def check(self) -> None:
        """Let everything be delivered, and compare. The bench is of no use afterwards."""
        self._deliver_all()
        for client in self.clients:
            if client.paused:
                self.do(("read", client.number))
        self._deliver_all()
        for client in self.clients:
            if client.joined:
                self._compare(client)
            for held in list(client.held):
                again = Client(2, None)
                again.restore(held)
                self._resume(again)
                self._compare(again)
                self.server.leave(again)
        for client in self.clients:
            if not client.joined:
                self._resume(client)
        for uid in USERS:
            self.server.put(uid, None)
        self._deliver_all()
        for client in self.clients:
            assert not client.users, f"client {client.number} keeps a removed user"

    def _deliver_all(self) -> None:
        self.server.deliver()
        while self._task is not None:
            self._turn()
        for client in self.clients:
            client.drain()

    def _compare(self, client: Client) -> None:
        world = self.server.world
        for uid in {*world.users, *client.users}:
            user, found = world.users.get(uid), client.users.get(uid)
            if user is not None and world.visible(uid) is None:
                # Hidden: absent, or offline for a client that knew the user.
                right = found is None or found[1] == "offline"
            else:
                right = found == (None if user is None else (user.username, user.status))
            assert right, f"client {client.number} holds {found} of user {uid}: {user}"
        assert client.seq == world.seq, f"client {client.number} has {client.seq}: {world.seq}"

    # The state

    def fingerprint(self) -> int:
        """Return a hash of everything that the future depends on. Without direct writes the two
        clients are alike: two states that differ in their names only are the same."""
        numbers = [(0, 1), (1, 0)] if self._search.are_clients_alike else [(0, 1)]
        world, rank = self._world()
        return min(hash((world, self._sessions(rank, number))) for number in numbers)

    def _world(self) -> tuple[int, dict[int, int]]:
        """Return a hash of the state without the clients, and the ranks of all positions."""
        world, subs = self.server.world, self.server._subscribers
        batch = () if subs._batch is None else subs._batch.deltas
        positions = {0, world.position}
        positions |= {subs._position} if subs._direct else set()
        positions |= {subs._waiting_position} if subs._waiting else set()
        positions.update(world._hidden_at.values())
        for subscription in subs.sessions.values():
            positions |= {subscription.joined_at, subscription.position}
        for delta in (*world.pending, *batch):
            positions.add(delta.position)
            if isinstance(delta.change, Presence | Removal):
                positions.add(delta.change.known_before or 0)
        rank = {position: number for number, position in enumerate(sorted(positions))}
        seqs = [seq for client in self.clients for seq, _ in client.held]
        oldest = min([*seqs, world.seq])
        state = (
            self.server.policy.hide_offline,
            tuple((uid, user.username, user.status) for uid, user in world.users.items()),
            tuple((uid, rank[at]) for uid, at in world._hidden_at.items()),
            rank[world.position],
            world.since(oldest) is None,
            tuple(
                (each.seq - world.seq, _change(each))
                for each in world._history
                if each.seq + is_unnumbered(each) > oldest
            ),
            tuple(_delta(each, world.seq, rank) for each in world.pending),
            tuple(_delta(each, world.seq, rank) for each in batch),
            rank[subs._position] if subs._direct else None,
            rank[subs._waiting_position] if subs._waiting else None,
            self._snapshot(),
        )
        return hash(state), rank

    def _sessions(self, rank: dict[int, int], number: Numbers) -> tuple[Any, ...]:
        """Return the state of the clients; ``number`` are the numbers to give them."""
        subs = self.server._subscribers
        clients = sorted(self.clients, key=lambda client: number[client.number])
        return (
            self._progress(number),
            _numbers(subs._buffered, number),
            _numbers(subs._direct.values(), number),
            _numbers(subs._waiting.values(), number),
            tuple(self._client(client, rank) for client in clients),
        )

    def _snapshot(self) -> tuple[Any, ...]:
        cached = self.server.snapshot._cached
        if cached is None or not self._search.keeps_snapshot:
            return ()
        seq, tracker = self.server.world.seq, cached.tracker
        # `_frames` of a user that has changed lately will be made again; the others are current.
        numbers = cached._seq - seq, cached._tail_seq - seq
        frames, lately = tuple(cached._frames), tuple(tracker._lately)
        return numbers, tuple(tracker.touched.items()), lately, frames

    def _progress(self, number: Numbers) -> tuple[Any, ...]:
        """Return how far the batch under way has come."""
        if self._task is None:
            return ()
        frame = self._task.frame
        turns = frame.f_locals["turns"].gi_frame
        if turns is None:
            return (frame.f_lasti,)
        variables = turns.f_locals
        apart = _numbers(variables.get("buffered", ()), number)
        return frame.f_lasti, turns.f_lasti, apart, variables.get("start")

    def _client(self, client: Client, rank: dict[int, int]) -> tuple[Any, ...]:
        seq = self.server.world.seq
        place: tuple[Any, ...] = ()
        subscription = self.server.sessions.get(client)
        if subscription is not None:
            backlog = subscription.backlog
            waits = backlog and (
                backlog.seq - seq,
                tuple(backlog._known.items()),
                tuple(each.uid for each in backlog._chat),
            )
            place = (rank[subscription.joined_at], rank[subscription.position], waits)
        held = frozenset((each - seq, view) for each, view in client.held)
        now = client.seq - seq, client.view
        return client.paused, client.resumed, place, now, held


def _numbers(sessions: Iterable[Any], number: Numbers) -> tuple[int, ...]:
    return tuple(number[each.number] for each in sessions)


def _delta(delta: Delta, seq: int, rank: dict[int, int]) -> tuple[Any, ...]:
    change = delta.change
    known = change.known_before if isinstance(change, Presence | Removal) else None
    place = None if known is None else rank[known]
    return delta.seq - seq, rank[delta.position], _change(delta), place


def _change(delta: Delta) -> tuple[Any, ...]:
    change = delta.change
    if isinstance(change, Presence):
        return change.uid, change.status, change.username
    assert isinstance(change, Removal | Message)
    return change.uid, isinstance(change, Removal)


def _user(uid: str, value: tuple[str, Status]) -> EffectiveUser:
    return EffectiveUser(uid, *value, "#ffffff")


def explore(search: Search, pipe: Pipe) -> int:
    """Visit and check every state. Returns their number."""

    def reached(program: tuple[Step, ...]) -> Bench:
        bench = Bench(search, pipe)
        for step in program:
            bench.do(step)
        return bench

    bench = reached(())
    seen = {bench.fingerprint()}
    frontier: list[tuple[Step, ...]] = [()]
    for _ in range(search.depth):
        programs, frontier = frontier, []
        for program in programs:
            fresh: Bench | None = reached(program)
            assert fresh is not None
            for step in fresh.steps():
                bench = fresh or reached(program)
                fresh = None
                try:
                    bench.do(step)
                    state = bench.fingerprint()
                    if state not in seen:
                        seen.add(state)
                        frontier.append((*program, step))
                        bench.check()
                except AssertionError as error:
                    error.add_note(f"{search}: {(*program, step)}")
                    raise
                finally:
                    bench.close()
    return len(seen)


EVERYTHING = None
A_SLOW_CLIENT = frozenset({"put A", "put B", "pause 0", "read 0", "deliver", "turn"})
A_LOST_CONNECTION = A_SLOW_CLIENT | {"leave 0", "resume 0"}
CHANGES_OF_POLICY = (A_LOST_CONNECTION | {"hide", "chat A"}) - {"put B"}
ONE_USER = (A_LOST_CONNECTION | {"chat A"}) - {"put B"}
A_SNAPSHOT_WITH_A_TAIL = frozenset(
    {"put A", "put B", "encode", "join 0", "leave 0", "resume 0", "deliver", "turn"}
)

SEARCHES = {
    "everything": Search(depth=5),
    "everything, direct": Search(depth=5, direct=True),
    "everything, hidden": Search(depth=5, hides=True),
    "slow": Search(steps=A_SLOW_CLIENT, depth=8, direct=True, hides=True),
    "lost": Search(steps=A_LOST_CONNECTION, depth=6, direct=True, hides=True),
    "lost, one user": Search(steps=ONE_USER, depth=8, direct=True),
    "lost, short history": Search(steps=A_LOST_CONNECTION, depth=5, history=2),
    "policy": Search(steps=CHANGES_OF_POLICY, depth=6),
    "tail": Search(steps=A_SNAPSHOT_WITH_A_TAIL, depth=5, keeps_snapshot=True),
    "tail, hidden": Search(steps=A_SNAPSHOT_WITH_A_TAIL, depth=5, hides=True, keeps_snapshot=True),
}


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """A pipe, and turns of one session."""
    monkeypatch.setattr(subscribers, "SESSIONS_PER_TURN", 1)
    monkeypatch.setattr(server_state, "SESSIONS_PER_TURN", 1)
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    yield ends
    for end in ends:
        os.close(end)


@pytest.mark.parametrize("name", SEARCHES)
def test_r48_every_interleaving_ends_in_the_right_world(name: str, pipe: Pipe) -> None:
    """Whatever happens in whichever order, every client ends with the world's users."""
    search = structs.replace(SEARCHES[name], depth=SEARCHES[name].depth + MORE_STEPS)
    began = process_time()
    states = explore(search, pipe)
    took = process_time() - began
    log.info("%s: %d steps, %d states, %.0f s", name, search.depth, states, took)
    assert states > 1000

"""A snapshot and the deltas after it tell one story, whatever happens around a join."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import PATIENCE, Dial, Frame, Peer
from sample_users import ADA, BOB, ONE

from d_back_core import (
    Credentials,
    Message,
    Reload,
    Server,
    Status,
    User,
    UserChanged,
    UserRemoved,
    hookimpl,
)
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_testing import ScriptedProvider, served

SERVERS = {"1": "plaza", "2": "garden", "3": "vault"}
UIDS = ("7", "8", "9")
CROWD = 1100
"""Users of whom a snapshot is not made again for every join."""


class Town(ScriptedProvider):
    """Knows who is there, tells of each change at once, and takes its time for every answer."""

    def __init__(self, pace: int, crowd: int = 0) -> None:
        super().__init__(
            {
                server_id: Server(name=name, id=name, passworded=name == "vault")
                for server_id, name in SERVERS.items()
            }
        )
        uids = [f"c{number}" for number in range(crowd)]
        everyone = {uid: User(username=uid, status="idle") for uid in uids}
        self.people = {server_id: dict(everyone) for server_id in SERVERS}
        self.pace = pace

    def put(self, server_id: str, uid: str, user: User) -> None:
        """A user came or changed."""
        self.people[server_id][uid] = user
        self.emit(
            UserChanged(server_id=server_id, uid=uid, username=user.username, status=user.status)
        )

    def drop(self, server_id: str, uid: str) -> None:
        """A user went."""
        self.people[server_id].pop(uid, None)
        self.emit(UserRemoved(server_id=server_id, uid=uid))

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        await turns(self.pace)
        answer = dict(self.people[server_id])
        await turns(self.pace)
        return answer

    @hookimpl
    async def authorize(
        self, server_id: str, credentials: Credentials, address: str
    ) -> bool | None:
        await super().authorize(server_id, credentials, address)
        await turns(self.pace)
        return True


def serving(town: Town) -> WebSocketServer:
    """A gateway that lets clients ask, and people talk, as often as they want."""
    limits = {"message_burst": 10**6, "chat_burst": 10**6}
    table = {"gateway": {"port": 0}, "chain": {"order": ["a"]}, "limits": limits}
    return WebSocketServer(config=parse(table), providers={"a": town})


async def turns(count: int) -> None:
    """Let the loop turn that many times."""
    for _ in range(count):
        await asyncio.sleep(0)


class History:
    """What all clients were told: the same at the same number of the same world."""

    def __init__(self) -> None:
        self._frames: dict[tuple[str, int], Frame] = {}
        self._states: dict[tuple[str, int], dict[str, Any]] = {}

    def compare(self, epoch: str, seq: int, users: dict[str, Any], frame: Frame | None) -> None:
        """Raise where another session got something else."""
        at = (epoch, seq)
        assert self._states.setdefault(at, users) == users
        if frame is not None:
            assert self._frames.setdefault(at, frame) == frame


class Follower:
    """Folds the frames of one client, as strictly as d-zone needs it."""

    def __init__(self, peer: Peer, history: History) -> None:
        self.peer = peer
        self.asked = ""
        self.joined = ""
        self.users: dict[str, Any] = {}
        self.seq = self.joined_at = 0
        self._epoch = ""
        self._joining = False
        self._history = history

    async def ask(self, server_id: str) -> None:
        """Ask for a server, and do not wait for it."""
        self.asked = server_id
        await self.peer.ask(server_id)

    async def catch_up(self) -> None:
        """Fold everything that was sent so far."""
        for frame in await self.peer.pending():
            if frame["type"] == "server-join":
                self._join(frame["data"])
                continue
            assert SERVERS[frame["server"]] == self.joined
            if self._joining and (frame["seq"] == self.seq or frame.get("resync")):
                # What has changed since the snapshot: only the last frame has a new number.
                assert frame["type"] == "presence"
                self.seq = self.joined_at = frame["seq"]
                self._fold(frame["type"], dict(frame["data"]))
                continue
            self._has_joined()
            assert frame["seq"] == self.seq + 1
            self.seq = frame["seq"]
            self._fold(frame["type"], dict(frame["data"]))
            self._history.compare(self._epoch, self.seq, dict(self.users), frame)
        self._has_joined()

    async def arrive(self) -> None:
        """Fold frames until it is where it wanted to be last."""
        async with asyncio.timeout(PATIENCE):
            while self.joined != SERVERS[self.asked]:
                await self.catch_up()

    def _join(self, joined: dict[str, Any]) -> None:
        self.joined = joined["request"]["server"]
        self.users = dict(joined["users"])
        self.seq = self.joined_at = joined["seq"]
        self._epoch = joined["epoch"]
        self._joining = True

    def _has_joined(self) -> None:
        if self._joining:
            self._joining = False
            self._history.compare(self._epoch, self.seq, dict(self.users), None)

    def _fold(self, kind: str, said: dict[str, Any]) -> None:
        uid = said["uid"]
        if kind == "message" or said.pop("delete", False):
            assert uid in self.users
            if kind == "presence":
                del self.users[uid]
        else:
            user = self.users.get(uid, {}) | said
            assert {*user} == {"uid", "username", "status", "roleColor"}
            self.users[uid] = user


Step: TypeAlias = (
    tuple[Literal["wait"], int]
    | tuple[Literal["ask"], int, str]
    | tuple[Literal["put"], str, str, Status, str]
    | tuple[Literal["drop", "say"], str, str]
    | tuple[Literal["reload"], str | None]
)

server_ids = st.sampled_from(sorted(SERVERS))
uids = st.sampled_from(UIDS)
changes = st.one_of(
    st.tuples(
        st.just("put"),
        server_ids,
        uids,
        st.sampled_from(["online", "idle", "dnd", "offline"]),
        st.sampled_from(["Ada", "Bo"]),
    ),
    st.tuples(st.sampled_from(["drop", "say"]), server_ids, uids),
)
steps = st.one_of(
    changes,
    changes,
    st.tuples(st.just("wait"), st.integers(1, 6)),
    st.tuples(st.just("ask"), st.integers(0, 2), server_ids),
    st.tuples(st.just("reload"), server_ids | st.none()),
)


async def take(step: Any, town: Town, followers: list[Follower]) -> None:  # noqa: ANN401  a Step
    match step:
        case ("wait", count):
            await turns(count)
        case ("ask", number, server_id):
            await followers[number].ask(server_id)
        case ("put", server_id, uid, status, username):
            town.put(server_id, uid, User(username=username, status=status))
        case ("drop", server_id, uid):
            town.drop(server_id, uid)
        case ("say", server_id, uid):
            town.emit(Message(server_id=server_id, uid=uid, message="hi", channel="1"))
        case ("reload", server_id):
            town.emit(Reload(server_id=server_id))


stories = given(
    pace=st.integers(0, 4),
    warm=st.booleans(),
    before=st.lists(changes, max_size=5),
    story=st.lists(steps, max_size=60),
)


def bounded(examples: int) -> settings:
    connections_add_up = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    examples = examples * settings().max_examples // 100  # fewer with the profile "few"
    return settings(max_examples=examples, deadline=None, suppress_health_check=connections_add_up)


@stories
@bounded(100)
async def test_r26_every_client_is_told_one_and_the_same_story(
    dial: Dial, pace: int, *, warm: bool, before: list[Step], story: list[Step]
) -> None:
    """Whatever happens while clients join, switch and join again, no change is lost, doubled or
    of another server: at the same number all hold the same, and at the end what is true."""
    await live_through(story, before, Town(pace), dial, warm=warm)


@stories
@bounded(40)
async def test_r30_a_crowd_is_told_one_and_the_same_story(
    dial: Dial, pace: int, *, warm: bool, before: list[Step], story: list[Step]
) -> None:
    """The same holds where the snapshot is of an earlier number, and what changed comes behind."""
    await live_through(story, before, Town(pace, CROWD), dial, warm=warm)


async def live_through(
    story: list[Step], before: list[Step], town: Town, dial: Dial, *, warm: bool
) -> None:
    """Let it happen, and compare what everyone was told."""
    history = History()
    async with serving(town) as server:
        witnesses = [Follower(await dial(server), history) for _ in SERVERS]
        followers = [Follower(await dial(server), history) for _ in range(3)]
        for step in before:
            await take(step, town, followers)
        if warm:
            for witness, server_id in zip(witnesses, SERVERS, strict=True):
                await witness.ask(server_id)
        for step in story:
            await take(step, town, followers)
        for follower in (*witnesses, *followers):
            await follower.catch_up()
        await server.live.settle()
        for follower in (*witnesses, *followers):
            await follower.catch_up()
            if follower.asked:
                await follower.arrive()
                people = town.people[follower.asked]
                names = {uid: (user.username, user.status) for uid, user in people.items()}
                told = {
                    uid: (user["username"], user["status"]) for uid, user in follower.users.items()
                }
                assert told == names


@pytest.mark.parametrize("crowd", [0, CROWD])
async def test_nothing_is_lost_at_any_turn_of_a_join(dial: Dial, crowd: int) -> None:
    """A change that comes at any turn of the loop after the client has asked is either in its
    snapshot or behind it, and never in both."""
    town, history = Town(2, crowd), History()
    async with serving(town) as server:
        witness = Follower(await dial(server), history)
        await witness.ask("3")
        places = set()
        for turn in range(60):
            follower = Follower(await dial(server), history)
            await follower.ask("3")
            await turns(turn)
            town.put("3", "7", User(username=f"Ada {turn}", status="online"))
            for each in (witness, follower):
                await each.arrive()
            await server.live.settle()
            for each in (witness, follower):
                await each.catch_up()
            assert follower.users == witness.users
            assert follower.users["7"]["username"] == f"Ada {turn}"
            assert follower.seq == witness.seq
            places.add("inside" if follower.joined_at == follower.seq else "behind")
        assert places == {"inside", "behind"}


@pytest.mark.parametrize("crowd", [0, CROWD])
async def test_r14_nothing_is_lost_at_any_turn_of_a_first_join(dial: Dial, crowd: int) -> None:
    """The same holds while the provider is asked who is there: changes that come meanwhile are
    applied on top of its answer."""
    for turn in range(40):
        town, history = Town(3, crowd), History()
        town.put("3", "8", User(username="Bo", status="idle"))
        async with serving(town) as server:
            follower = Follower(await dial(server), history)
            await follower.ask("3")
            await turns(turn)
            town.put("3", "7", User(username="Ada", status="online"))
            town.drop("3", "8")
            await follower.arrive()
            await server.live.settle()
            await follower.catch_up()
            assert follower.users.keys() == town.people["3"].keys()


async def test_r30_what_changed_since_the_snapshot_comes_behind_it_folded(dial: Dial) -> None:
    """A join of a crowd gets each user who changed once, in full and as it is now, and the
    removal of those in the snapshot; no chat, and nothing of who came and went meanwhile."""
    town, history = Town(0, CROWD), History()
    async with serving(town) as server:
        witness = Follower(await dial(server), history)
        await witness.ask("1")
        await witness.arrive()
        for status in ("dnd", "online"):
            town.put("1", "c5", User(username="c5", status=status))
        town.put("1", "7", User(username="Ada", status="online"))
        town.put("1", "8", User(username="Bo", status="online"))
        town.emit(Message(server_id="1", uid="7", message="hi", channel="1"))
        town.drop("1", "8")
        town.drop("1", "c6")
        await server.live.settle()
        await witness.catch_up()
        peer = await dial(server)
        joined = await peer.join("1")
        frames = await peer.pending()
        tail = {frame["data"]["uid"]: frame for frame in frames}
        assert {*tail} == {"c5", "7", "c6"}
        assert [frame["seq"] for frame in frames] == [joined["seq"], joined["seq"], witness.seq]
        assert tail["c5"]["data"] == witness.users["c5"]
        assert tail["7"]["data"] == witness.users["7"]
        assert tail["c6"]["data"] == {"uid": "c6", "status": "offline", "delete": True}


class WrittenTo:
    """A session that keeps what each write brings."""

    deflates = paused = False
    descriptor: int | None = None

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, frames: bytes, /) -> None:
        self.writes.append(frames)

    send = write

    def write_snapshot(self, frames: Sequence[bytes], /) -> None:
        self.write(b"".join(frames))


async def test_r27_what_one_turn_brings_leaves_in_one_write() -> None:
    """Events of the same turn of the event loop, also of the list of servers, cost one write."""
    source = ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}})
    async with served({"a": source}) as gateway:
        session = WrittenTo()
        await gateway.live.joins.join(session, "1", Credentials(), "127.0.0.1")
        await gateway.settle()
        session.writes.clear()
        changed = [
            UserChanged(server_id="1", uid=uid, status=status)
            for uid in ("7", "8")
            for status in ("dnd", "offline", "idle")
        ]
        source.emit(*changed)
        await gateway.settle()
        assert [frames.count(b'"presence"') for frames in session.writes] == [len(changed)]
        gateway.live.joins.detach(session)

"""R49: what is stored equals what is wanted, whatever others do to the bucket."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.js.errors import ServerError
from nats_nodes import (
    ADA,
    BOB,
    Proxy,
    health_of,
    keys_of,
    provider_of,
    revision_of,
    unwritten,
    users_of,
)
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from d_back_core import (
    Server,
    ServerChanged,
    ServerRemoved,
    Snapshot,
    User,
    UserChanged,
    UserRemoved,
    UserSet,
)
from d_back_nats import NatsConfig
from d_back_nats.contents import Stored, Wanted
from d_back_nats.edge import ORIGIN_SILENCE
from d_back_nats.keys import key_of
from d_back_nats.ownership import SILENT_AFTER
from d_back_nats.watch import Entry
from d_back_testing import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import Join, Nats, Origin, Serve, Until
    from nats.js.kv import KeyValue

    from d_back_core import Change, Event
    from d_back_core.embedding.server import WebSocketServer
    from d_back_nats.connection import Line

    Lines = Callable[[NatsConfig], Awaitable[Line]]

pytestmark = pytest.mark.long

STREAM = "KV_d-back"
EVE = User(username="Eve", status="online", role_color="#eeeeee")


def town() -> ScriptedProvider:
    return ScriptedProvider(
        {"1": Server(name="Plaza", id="plaza"), "2": Server(name="Garden", id="garden")},
        {"1": {"7": ADA, "8": BOB}, "2": {"7": ADA}},
    )


def epoch_of(server: WebSocketServer) -> str:
    origin = provider_of(server)._origin  # noqa: SLF001
    return "" if origin is None else origin._stored.epoch  # noqa: SLF001


async def whole(server: WebSocketServer, until: Until) -> None:
    """Return when the origin has announced that the bucket is whole."""
    await until(lambda: epoch_of(server) and unwritten(server) == 0)


# Every order of changes, writes and failures

USERS = ("7", "8")
VALUES = (None, ADA, BOB)


def _set(uid: str, user: User | None) -> Change:
    if user is None:
        return UserRemoved(server_id="1", uid=uid)
    return UserSet(server_id="1", uid=uid, user=user)


STEPS = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(USERS), st.sampled_from(VALUES)),
    st.tuples(st.just("all"), st.sets(st.sampled_from(USERS)).map(frozenset)),
    st.tuples(st.just("begin"), st.integers(1, 3)),
    st.tuples(st.just("end")),
    st.tuples(st.just("fail"), st.integers(0, 3)),
    st.tuples(st.just("other"), st.sampled_from(USERS), st.sampled_from((None, b"{}"))),
)


class Bench:
    """A bucket that is a dictionary, and the three states of an origin that writes it."""

    def __init__(self) -> None:
        self.bucket: dict[str, bytes] = {}
        self.truth: dict[str, User | None] = {}
        self.stored = Stored(lambda: None)
        self.wanted = Wanted(self.stored)
        self.revision = 0
        self.batch: dict[str, bytes | None] | None = None

    async def step(self, step: tuple[object, ...]) -> None:
        match step:
            case ("set", str(uid), user):
                assert user is None or isinstance(user, User)
                self.truth[uid] = user
                await self.wanted.take(_set(uid, user))
            case ("all", frozenset() as uids):
                for uid in set(self.truth) - uids:
                    self.truth[uid] = None
                await self.wanted.take(Snapshot(server_id="1", keys=uids & set(self.truth)))
            case ("begin", int(limit)) if self.batch is None and self.wanted.dirty:
                batch = self.wanted.begin_write(limit)
                self.batch = {key_of(place): value for place, value in batch.items()}
            case ("end",) if self.batch is not None:
                self._store(len(self.batch), known=True)
                self.wanted.end_write()
            case ("fail", int(number)) if self.batch is not None:
                self._store(number, known=False)
                await self._read()
            case ("other", str(uid), value):
                assert value is None or isinstance(value, bytes)
                self._put(f"users.1.{uid}", value)
                await self._read()

    def _store(self, number: int, *, known: bool) -> None:
        assert self.batch is not None
        for key, value in list(self.batch.items())[:number]:
            self._put(key, value)
            if known:
                self.stored.put(Entry(key, value, self.revision))
        self.batch = None

    def _put(self, key: str, value: bytes | None) -> None:
        self.revision += 1
        if value is None:
            self.bucket.pop(key, None)
        else:
            self.bucket[key] = value

    async def _read(self) -> None:
        """What follows a refused or unanswered write."""
        self.batch = None
        self.wanted.reset()
        self.stored.begin()
        for key, value in self.bucket.items():
            self.stored.put(Entry(key, value, 1))
        self.stored.complete()
        await self.wanted.compare()

    async def settle(self) -> None:
        if self.batch is not None:
            await self.step(("end",))
        while self.wanted.dirty:
            await self.step(("begin", 3))
            await self.step(("end",))


@given(st.lists(STEPS, max_size=25))
async def test_r49_every_order_of_changes_and_writes_ends_with_the_truth(
    steps: list[tuple[object, ...]],
) -> None:
    """Whatever changes while a write is under way, succeeds or fails, the bucket ends right."""
    bench = Bench()
    await bench.wanted.compare()
    for step in [("set", "7", ADA), ("set", "8", ADA), *steps]:
        await bench.step(step)
    await bench.settle()
    expected = {f"users.1.{uid}" for uid, user in bench.truth.items() if user is not None}
    assert set(bench.bucket) == expected
    for uid, user in bench.truth.items():
        name = "" if user is None else f'"{user.username}"'
        assert name.encode() in bench.bucket.get(f"users.1.{uid}", b"")
    assert bench.wanted.unwritten == 0


# A write whose answer is late, or lost

THERE_AND_BACK: dict[str, tuple[Event, Event]] = {
    "a user": (
        UserChanged(server_id="1", uid="7", status="idle"),
        UserChanged(server_id="1", uid="7", status="online"),
    ),
    "a new user": (
        UserChanged(server_id="1", uid="9", username="Cid"),
        UserRemoved(server_id="1", uid="9"),
    ),
    "a removed user": (
        UserRemoved(server_id="1", uid="8"),
        UserChanged(server_id="1", uid="8", username="Bob", status="idle", role_color="#bbbbbb"),
    ),
    "a server": (
        ServerChanged(server_id="2", name="Park"),
        ServerChanged(server_id="2", name="Garden"),
    ),
    "a new server": (
        ServerChanged(server_id="3", name="Yard"),
        ServerRemoved(server_id="3"),
    ),
}


@pytest.mark.parametrize("fate", ["answer late", "answer lost", "request lost"])
@pytest.mark.parametrize("what", THERE_AND_BACK)
async def test_r49_what_changes_back_during_a_write_is_written_again(
    nats: Nats, origin: Origin, lines: Lines, until: Until, what: str, *, fate: str
) -> None:
    """The bucket ends as it began, whether the write between was stored or not."""
    cluster = await nats()
    line = await lines(NatsConfig(urls=cluster.urls))
    there, back = THERE_AND_BACK[what]
    source = town()
    source.users_answers["3"] = {}
    async with Proxy(cluster.nodes[0].port) as proxy:
        server = await origin(cluster, source, urls=[proxy.url])
        await whole(server, until)
        before = await state_of(line)
        revision = await revision_of(line)
        flow = proxy.requests if fate == "request lost" else proxy.answers
        flow.clear()
        source.emit(there)
        await until(lambda: writing(server))
        if fate != "request lost":

            async def is_stored() -> bool:
                return await revision_of(line) > revision and await state_of(line) != before

            await until(is_stored)
        source.emit(back)
        await server.live.settle()
        if fate == "answer late":
            flow.set()
        else:
            proxy.cut()

        async def is_as_before() -> bool:
            return unwritten(server) == 0 and await state_of(line) == before

        await until(is_as_before)
        await whole(server, until)
        assert await state_of(line) == before


def writing(server: WebSocketServer) -> bool:
    origin = provider_of(server)._origin  # noqa: SLF001
    return origin is not None and bool(origin._wanted._in_flight)  # noqa: SLF001


async def state_of(line: Line) -> dict[str, bytes]:
    keys = await keys_of(line)
    keys.pop("origin", None)
    return keys


# The bucket is changed by others


async def purge_all(line: Line) -> None:
    await line.js.purge_stream(STREAM)


async def purge_a_user(line: Line) -> None:
    await line.js.purge_stream(STREAM, subject="$KV.d-back.users.1.7")


async def purge_the_record(line: Line) -> None:
    await line.js.purge_stream(STREAM, subject="$KV.d-back.origin")


async def delete_the_bucket(line: Line) -> None:
    await line.js.delete_stream(STREAM)


@retry(retry=retry_if_exception_type(ServerError), wait=wait_fixed(0.05),
       stop=stop_after_delay(60), reraise=True)  # fmt: skip
async def create_the_bucket(line: Line) -> KeyValue:
    """Create it, as soon as the server has removed the files of the one that was deleted."""
    return await line.js.create_key_value(bucket="d-back")


async def create_another_bucket(line: Line) -> None:
    await line.js.delete_stream(STREAM)
    kv = await create_the_bucket(line)
    for number in range(50):  # its revisions are higher than those of the former one
        await kv.put(f"users.1.stray{number}", b"{}")


async def overwrite_a_user(line: Line) -> None:
    await (await line.js.key_value("d-back")).put("users.1.7", b'{"username":"Mallory"}')


async def add_a_user(line: Line) -> None:
    await (await line.js.key_value("d-back")).put("users.1.stray", b"{}")


async def delete_a_user(line: Line) -> None:
    await (await line.js.key_value("d-back")).delete("users.1.7")


async def overwrite_a_server(line: Line) -> None:
    await (await line.js.key_value("d-back")).put("servers.1", b'{"name":"Mallory"}')


async def delete_the_record(line: Line) -> None:
    await (await line.js.key_value("d-back")).delete("origin")


async def overwrite_the_record(line: Line) -> None:
    await (await line.js.key_value("d-back")).put("origin", b"garbage")


DAMAGES = (
    purge_all, purge_a_user, purge_the_record, delete_the_bucket, create_another_bucket,
    overwrite_a_user, add_a_user, delete_a_user, overwrite_a_server, delete_the_record,
    overwrite_the_record,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
async def test_r49_what_others_do_to_the_bucket_is_undone(
    nats: Nats, origin: Origin, serve: Serve, join: Join, *, lines: Lines, until: Until,
    damage: Callable[[Line], Awaitable[None]],
) -> None:  # fmt: skip
    """The bucket has everything again, and clients end with the truth, over one connection."""
    cluster, source = await nats(), town()
    server = await origin(cluster, source)
    await whole(server, until)
    edge = await serve(cluster)
    world = await join(edge, "plaza")
    line = await lines(NatsConfig(urls=cluster.urls))
    before = await state_of(line)
    await damage(line)

    async def is_repaired() -> bool:
        return await state_of(line) == before

    await until(is_repaired)
    # Events of the same moment: a removal must not be lost because its key was gone already.
    source.emit(
        UserRemoved(server_id="1", uid="8"), UserChanged(server_id="1", uid="9", username="Cid")
    )
    await world.until(lambda w: {u.username for u in w.users.values()} == {"Ada", "Cid"})
    await until(lambda: health_of(server) == health_of(edge) == "ready")
    assert world.joins == 1
    assert {each.name for each in world.servers.values()} == {"Plaza", "Garden"}
    late = await join(await serve(cluster), "plaza")
    assert late.users == world.users


async def test_r49_a_removal_that_a_purge_hides_reaches_edges(
    nats: Nats, origin: Origin, serve: Serve, join: Join, *, lines: Lines, until: Until
) -> None:
    """A key that was purged while no origin ran, and must not exist any more, is never deleted by
    a write; edges lose it by reading everything again."""
    cluster = await nats()
    server = await origin(cluster, town())
    await whole(server, until)
    world = await join(await serve(cluster), "plaza")
    await server.stop()
    line = await lines(NatsConfig(urls=cluster.urls))
    await line.js.purge_stream(STREAM, subject="$KV.d-back.users.1.8")
    changed = town()
    changed.users_answers["1"] = {"7": ADA}
    await origin(cluster, changed)
    await world.until(lambda w: set(w.users) == {"7"})
    assert world.joins == 1


async def test_r49_clients_keep_their_servers_while_a_new_bucket_is_filled(
    nats: Nats, origin: Origin, serve: Serve, join: Join, *, lines: Lines, until: Until
) -> None:
    """An empty bucket is a reason to be degraded, not a list without servers."""
    cluster = await nats()
    server = await origin(cluster, town())
    await whole(server, until)
    edge = await serve(cluster)
    world = await join(edge, "plaza")
    await server.stop()
    line = await lines(NatsConfig(urls=cluster.urls))
    await line.js.delete_stream(STREAM)
    await create_the_bucket(line)
    await until(lambda: health_of(edge) == "degraded")
    await until(lambda: reason_of(edge) == "the origin has not filled the bucket")
    assert set(world.servers) == {"1", "2"}
    assert set(world.users) == {"7", "8"}
    await origin(cluster, ScriptedProvider({"1": Server(name="Plaza")}, {"1": {"8": BOB}}))
    await world.until(lambda w: set(w.users) == {"8"} and set(w.servers) == {"1"})
    await until(lambda: health_of(edge) == "ready")
    assert world.joins == 1


@pytest.mark.parametrize("whose", ["the same origin", "another origin"])
async def test_r49_a_restored_backup_is_noticed(
    nats: Nats, origin: Origin, serve: Serve, join: Join, *, lines: Lines, until: Until,
    whose: str,
) -> None:  # fmt: skip
    """An older state of the bucket is brought up to date, and edges that have seen newer
    revisions read it again."""
    cluster, source = await nats(), town()
    server = await origin(cluster, source)
    await whole(server, until)
    node = cluster.nodes[0]
    edge = await serve(cluster)
    world = await join(edge, "plaza")
    node.kill()
    node.save_store()
    node.start()
    await until(lambda: health_of(server) == health_of(edge) == "ready")
    source.emit(
        UserRemoved(server_id="1", uid="8"), UserChanged(server_id="1", uid="9", username="Cid")
    )
    await world.until(lambda w: set(w.users) == {"7", "9"})
    if whose == "another origin":
        await server.stop()
    node.kill()
    source.emit(UserRemoved(server_id="1", uid="9"))
    source.users_answers["1"] = {"7": ADA}
    node.restore_store()
    node.start()
    if whose == "another origin":
        server = await origin(cluster, source)
    for number in range(30):  # the revisions of before are soon reached again
        source.emit(UserChanged(server_id="2", uid="7", username=f"Ada {number}"))
        await server.live.settle()
    await world.until(lambda w: set(w.users) == {"7"})
    await whole(server, until)
    line = await lines(NatsConfig(urls=cluster.urls))
    await until(lambda: health_of(edge) == "ready")
    assert set(await users_of(line)) == {"7"}
    assert set(world.users) == {"7"}


# Two origins


def reason_of(server: WebSocketServer) -> str:
    return server.live.providers.supervisors["nats"].health.last_error


async def test_r49_a_second_origin_without_a_lease_is_refused(
    nats: Nats, origin: Origin, lines: Lines, until: Until
) -> None:
    """It is degraded, names the other one, and writes nothing; when that one stops, it writes."""
    cluster, source = await nats(), town()
    first = await origin(cluster, source)
    await whole(first, until)
    line = await lines(NatsConfig(urls=cluster.urls))
    other = ScriptedProvider({"1": Server(name="Other")}, {"1": {"9": EVE}})
    second = await origin(cluster, other, wait=False)
    await until(lambda: health_of(second) == "degraded")
    assert f"the origin at {socket.gethostname()} (run " in reason_of(second)
    assert "writes the bucket 'd-back'; only origins with `lease` may stand by" in reason_of(
        second
    )
    other.emit(UserChanged(server_id="1", uid="9", status="dnd"))
    source.emit(UserChanged(server_id="1", uid="7", status="dnd"))

    async def is_written() -> bool:
        return b"dnd" in (await keys_of(line)).get("users.1.7", b"")

    await until(is_written)
    assert set(await users_of(line)) == {"7", "8"}
    assert health_of(first) == "ready"
    await first.stop()

    async def is_its() -> bool:
        return set(await users_of(line)) == {"9"}

    await until(is_its)
    await until(lambda: health_of(second) == "ready")


async def test_r49_of_two_origins_that_start_together_one_writes(
    nats: Nats, origin: Origin, lines: Lines, until: Until
) -> None:
    """The bucket is that of one of them, never a mixture."""
    cluster = await nats()
    one = await origin(cluster, town(), wait=False)
    other = ScriptedProvider({"1": Server(name="Other")}, {"1": {"9": EVE}})
    two = await origin(cluster, other, wait=False)
    await until(lambda: sorted([health_of(one), health_of(two)]) == ["degraded", "ready"])
    writer = one if health_of(one) == "ready" else two
    await whole(writer, until)
    line = await lines(NatsConfig(urls=cluster.urls))
    assert set(await users_of(line)) == ({"7", "8"} if writer is one else {"9"})


# A dead origin


async def test_r49_an_edge_without_a_living_origin_is_degraded(
    nats: Nats, origin: Origin, serve: Serve, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the origin and is ready again when there is another one."""
    monkeypatch.setattr("d_back_nats.edge.ORIGIN_SILENCE", 3.0)
    cluster = await nats()
    server = await origin(cluster, town())
    edge = await serve(cluster)
    assert health_of(edge) == "ready"
    await server.stop()
    await until(lambda: health_of(edge) == "degraded")
    assert reason_of(edge) == f"the origin at {socket.gethostname()} has stopped"
    await origin(cluster, town())
    await until(lambda: health_of(edge) == "ready")


def test_r49_an_edge_waits_longer_than_a_takeover_takes() -> None:
    """The limits fit: a new origin may claim the bucket before edges complain."""
    assert SILENT_AFTER < ORIGIN_SILENCE <= 15

"""NATS goes away, is silent, or is another: health turns, clients stay, recovery is automatic."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from nats_nodes import ADA, BOB, health_of, provider_of, unwritten

from d_back_core import Server, User, UserChanged, UserRemoved
from d_back_nats import NatsConfig
from d_back_nats.connection import Connection
from d_back_nats.keys import Subjects
from d_back_nats.tasks import stop_tasks
from d_back_nats.watch import LONGEST_ABSENCE, Entry, Watch
from d_back_testing import ManualClock, ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import Join, Nats, Origin, Said, Serve, Until

    from d_back_nats.bucket import BucketState
    from d_back_nats.connection import Line

    Lines = Callable[[NatsConfig], Awaitable[Line]]

pytestmark = pytest.mark.long


def town() -> ScriptedProvider:
    return ScriptedProvider({"1": Server(name="Plaza", id="plaza")}, {"1": {"7": ADA, "8": BOB}})


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name == "d_back.providers"
    ]


async def test_clients_stay_while_nats_is_away(
    nats: Nats, origin: Origin, serve: Serve, join: Join, until: Until, *,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Each gateway logs each reason once; clients keep what they have, and what changed meanwhile
    reaches them over the same connection."""
    cluster, source = await nats(), town()
    server = await origin(cluster, source)
    edge = await serve(cluster)
    world = await join(edge)
    caplog.clear()
    cluster.kill()
    await until(lambda: health_of(edge) == health_of(server) == "degraded")
    source.emit(
        UserChanged(server_id="1", uid="7", status="dnd"), UserRemoved(server_id="1", uid="8")
    )
    await server.live.settle()
    assert set(world.users) == {"7", "8"}
    cluster.start()
    await world.until(lambda w: set(w.users) == {"7"} and w.users["7"].status == "dnd")
    await until(lambda: health_of(edge) == health_of(server) == "ready")
    assert (world.joins, world.close_code) == (1, None)
    assert 1 <= max(Counter(warnings_of(caplog)).values()) <= 2


async def test_the_chain_of_an_edge_goes_on(
    nats: Nats, origin: Origin, serve: Serve, join: Join
) -> None:
    """Past its grace the next provider's state reaches the clients, and back again."""
    cluster = await nats()
    await origin(cluster, town())
    below = ScriptedProvider({"1": Server(name="Below")}, {"1": {"9": User(username="Cid")}})
    edge = await serve(cluster, {"below": below}, order=("nats", "below"), grace="100ms")
    world = await join(edge, "1")
    assert set(world.users) == {"7", "8"}
    cluster.kill()
    await world.until(lambda w: set(w.users) == {"9"})
    cluster.start()
    await world.until(lambda w: set(w.users) == {"7", "8"})
    assert world.joins == 1


async def test_silence_is_a_failure(
    nats: Nats, origin: Origin, serve: Serve, join: Join, until: Until
) -> None:
    """A NATS that keeps its sockets open and says nothing turns health, too."""
    cluster, source = await nats(), town()
    await origin(cluster, source)
    edge = await serve(cluster)
    world = await join(edge)
    cluster.nodes[0].pause()
    await until(lambda: health_of(edge) == "degraded")
    cluster.nodes[0].resume()
    source.emit(UserChanged(server_id="1", uid="7", status="dnd"))
    await world.until(lambda w: w.users["7"].status == "dnd")
    await until(lambda: health_of(edge) == "ready")


async def test_an_edge_starts_before_nats(
    nats: Nats, origin: Origin, serve: Serve, until: Until
) -> None:
    """Origin and edge may be started in any order, also before NATS is there."""
    cluster = await nats()
    cluster.kill()
    edge = await serve(cluster)
    assert health_of(edge) == "failed"
    server = await origin(cluster, town(), wait=False)
    cluster.start()
    await until(lambda: unwritten(server) == 0)
    await until(lambda: set(edge.live.server_list.servers) == {"1"})


async def test_a_bucket_that_is_made_anew(
    nats: Nats, origin: Origin, serve: Serve, join: Join, lines: Lines
) -> None:
    """The origin creates a deleted bucket again, and edges read it from the start."""
    cluster, source = await nats(), town()
    await origin(cluster, source)
    world = await join(await serve(cluster))
    line = await lines(NatsConfig(urls=cluster.urls))
    await line.js.delete_stream("KV_d-back")
    source.emit(
        UserChanged(server_id="1", uid="7", status="dnd"), UserRemoved(server_id="1", uid="8")
    )
    await world.until(lambda w: set(w.users) == {"7"} and w.users["7"].status == "dnd")
    source.emit(UserChanged(server_id="1", uid="9", username="Cid"))
    await world.until(lambda w: set(w.users) == {"7", "9"})
    assert world.joins == 1


async def test_a_start_that_fails_says_why(
    nats: Nats, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A NATS that is not there is one line, without an address."""
    cluster = await nats()
    cluster.kill()
    await serve(cluster)
    assert warnings_of(caplog)[0].startswith(
        "provider nats: start: NatsError: cannot be reached: Connection refused; next attempt in"
    )
    assert "127.0.0.1" not in warnings_of(caplog)[0]


async def test_stop_may_be_called_twice(nats: Nats, origin: Origin, serve: Serve) -> None:
    """Nothing is left of a provider that was stopped, however often."""
    cluster = await nats()
    before = asyncio.all_tasks()
    for server in (await origin(cluster, town()), await serve(cluster)):
        provider = provider_of(server)
        await provider.stop()
        await provider.stop()
        await server.stop()
    left = [task for task in asyncio.all_tasks() - before if "nats" in task.get_name()]
    assert left == []


# One watch


class Kept:
    """A sink that notes what it gets."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.values: dict[str, bytes | None] = {}

    def may_replace(self, found: BucketState) -> bool:  # noqa: ARG002
        return True

    def begin(self) -> None:
        self.told.append("begin")
        self.values = {}

    def put(self, entry: Entry) -> None:
        self.told.append((entry.key, entry.value, entry.revision))
        self.values[entry.key] = entry.value

    def complete(self) -> None:
        self.told.append("complete")


class Reading:
    """A watch of everything, by a clock that a test moves."""

    def __init__(self, said: Said, config: NatsConfig) -> None:
        self.clock = ManualClock()
        self.sink = Kept()
        context = said.context(clock=self.clock)
        self.connection = Connection(context, config, said.said.append, lambda: None)
        subjects = Subjects("b")
        keys = [subjects.all_keys]
        self.watch = Watch(self.connection, subjects, keys, self.sink, lambda _: None)


async def bucket_of(line: Line) -> Callable[[str, bytes], Awaitable[int]]:
    kv = await line.js.create_key_value(bucket="b")
    return kv.put


async def test_a_watch_goes_on_after_the_last_revision_it_saw(
    nats: Nats, said: Said, until: Until, lines: Lines
) -> None:
    """What comes after a lost connection is only what is new, and there is no snapshot."""
    cluster = await nats()
    config = NatsConfig(urls=cluster.urls)
    line = await lines(config)
    put = await bucket_of(line)
    await put("a", b"1")
    reading = Reading(said, config)
    await reading.connection.open()
    reading.watch.begin()
    await reading.watch.filled.wait()
    assert reading.sink.told == ["begin", ("a", b"1", 1), "complete"]
    await (await reading.connection.line()).client.close()
    await put("b", b"2")
    await until(lambda: reading.connection.reconnects == 0 and not reading.connection.is_up)
    await reading.clock.advance(1)
    await until(lambda: reading.sink.told[-1] == "complete" and len(reading.sink.told) > 3)
    assert reading.sink.told[3:] == [("b", b"2", 2), "complete"]
    await reading.watch.end()
    await reading.connection.close()


async def test_after_a_long_absence_a_watch_begins_anew(
    nats: Nats, said: Said, until: Until, lines: Lines
) -> None:
    """Where the marks of deletions may be gone, what is there is read, not what has changed."""
    cluster = await nats()
    config = NatsConfig(urls=cluster.urls)
    line = await lines(config)
    put = await bucket_of(line)
    await put("a", b"1")
    await put("b", b"2")
    reading = Reading(said, config)
    await reading.connection.open()
    reading.watch.begin()
    await reading.watch.filled.wait()
    cluster.kill()
    await until(lambda: not reading.connection.is_up)
    await reading.clock.advance(LONGEST_ABSENCE)
    cluster.start()
    await cluster.up()
    line = await lines(config)
    await line.js.purge_stream("KV_b", subject="$KV.b.b")  # leaves no mark
    while reading.sink.told.count("complete") < 2:
        await reading.clock.advance(1)
        await asyncio.sleep(0.01)
    assert reading.sink.told.count("begin") == 2
    assert reading.sink.values == {"a": b"1"}
    await reading.watch.end()
    await reading.connection.close()


async def test_a_watch_of_a_bucket_that_was_made_anew_begins_anew(
    nats: Nats, said: Said, lines: Lines
) -> None:
    """Revisions of another bucket mean nothing, also where they are higher than the last one."""
    cluster = await nats()
    config = NatsConfig(urls=cluster.urls)
    line = await lines(config)
    put = await bucket_of(line)
    await put("a", b"1")
    reading = Reading(said, config)
    await reading.connection.open()
    reading.watch.begin()
    await reading.watch.filled.wait()
    await (await reading.connection.line()).client.close()
    await line.js.delete_stream("KV_b")
    put = await bucket_of(line)
    for value in (b"2", b"3", b"4"):
        await put("b", value)
    # It may be complete with an earlier value; the later ones follow.
    while reading.sink.told.count("complete") < 2 or reading.sink.values != {"b": b"4"}:
        await reading.clock.advance(1)
        await asyncio.sleep(0.01)
    assert reading.sink.told.count("begin") == 2
    await reading.watch.end()
    await reading.connection.close()


async def test_a_watch_of_nothing_is_complete_at_once(
    nats: Nats, said: Said, lines: Lines
) -> None:
    """An empty bucket is known to be empty."""
    cluster = await nats()
    config = NatsConfig(urls=cluster.urls)
    await bucket_of(await lines(config))
    reading = Reading(said, config)
    await reading.connection.open()
    reading.watch.begin()
    await reading.watch.filled.wait()
    assert reading.sink.told == ["begin", "complete"]
    await reading.watch.end()
    await reading.connection.close()


async def test_a_task_that_swallows_a_cancellation_is_ended() -> None:
    """As nats-py does now and then: it is cancelled until it is done."""
    swallowed = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await stop_tasks(task, None)
    assert task.done()
    assert swallowed.is_set()

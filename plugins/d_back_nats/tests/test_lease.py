"""One origin at a time: another one takes over within seconds, and the former one's writes are
refused from then on."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import pytest
from nats_nodes import ADA, BOB, health_of, keys_of, provider_of
from storm import Storm

from d_back_core import Server, User, UserChanged
from d_back_nats import NatsConfig
from d_back_nats.failure import OvertakenError
from d_back_nats.keys import Subjects
from d_back_nats.ownership import LEASE_ENDED
from d_back_nats.writer import Write, Writer
from d_back_testing import ManualClock, ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from conftest import Nats, Origin, Until

    from d_back_core.embedding.server import WebSocketServer
    from d_back_nats.connection import Line

    Lines = Callable[[NatsConfig], Awaitable[Line]]

pytestmark = pytest.mark.long


def town(**users: User) -> ScriptedProvider:
    return ScriptedProvider(
        {"1": Server(name="Plaza", id="plaza")}, {"1": users or {"7": ADA, "8": BOB}}
    )


def leads(server: WebSocketServer) -> bool:
    origin = provider_of(server)._origin  # noqa: SLF001
    return origin is not None and origin.leads


def reads(server: WebSocketServer) -> bool:
    origin = provider_of(server)._origin  # noqa: SLF001
    return origin is not None and origin._watch.filled.is_set()  # noqa: SLF001


@pytest.mark.parametrize("size", [1, 3])
async def test_a_holder_that_is_killed_is_followed_by_the_other(
    nats: Nats, folder: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two origins, one of which dies under a stream of events; then the other one does."""
    async with Storm(await nats(size), folder, seed=3, lease="2s") as storm:
        storm.add_origin()
        await storm.add_edge()
        await storm.add_edge()
        await storm.calm()
        storm.add_origin()
        await storm.rage(1000)
        storm.origins[0].kill()
        began = perf_counter()
        await storm.rage(1000)
        await storm.calm()
        with capsys.disabled():
            print(f" take-over, {size} nodes: {perf_counter() - began:.1f} s ", end="")  # noqa: T201
        storm.start_origin(storm.origins[0])
        await storm.rage(1000)
        storm.origins[1].kill()
        await storm.rage(1000)
        await storm.calm()
        assert all(audience.world.joins == 1 for audience in storm.audience)


async def test_a_holder_that_wakes_up_writes_nothing(
    nats: Nats, folder: Path, until: Until
) -> None:
    """One that was paused past its lease believes to have it still; what it writes is refused."""
    async with Storm(await nats(), folder, seed=4, lease="2s") as storm:
        paused = storm.add_origin()
        await storm.add_edge()
        await storm.calm()
        storm.add_origin()
        await storm.rage(100)
        await storm.calm()
        paused.pause()
        other = storm.origins[1]
        known = {uid: dict(user) for uid, user in storm.users.items()}
        storm.users["7"] = {"username": "New", "status": "dnd", "role_color": "#123456"}
        other.tell([("7", storm.users["7"])])
        await storm.calm()
        paused.tell([("8", {"username": "Late", "status": "dnd", "role_color": "#654321"})])
        paused.resume()
        await until(lambda: "provider nats is degraded" in paused.log)
        storm.users["9"] = {"username": "Newer", "status": "idle", "role_color": "#abcdef"}
        other.tell([("9", storm.users["9"])])
        await storm.calm()
        seen = storm.audience[0].world.users.get("8")
        assert (None if seen is None else seen.username) == known.get("8", {}).get("username")


async def test_a_standby_reads_along_and_writes_nothing(
    nats: Nats, origin: Origin, lines: Lines, until: Until
) -> None:
    """While another one has the lease it is ready and writes no state; when that one stops, it
    writes what differs, at once."""
    cluster = await nats()
    first = await origin(cluster, town(), lease="60s")
    second = await origin(cluster, town(**{"7": BOB}), lease="60s", wait=False)
    await until(lambda: reads(second))
    line = await lines(NatsConfig(urls=cluster.urls))
    assert not leads(second)
    assert health_of(second) == "ready"
    assert b"Ada" in (await keys_of(line))["users.1.7"]
    await first.stop()  # gives the lease back: the next origin does not wait for a minute

    async def is_its() -> bool:
        keys = await keys_of(line)
        return b"Bob" in keys.get("users.1.7", b"") and "users.1.8" not in keys

    await until(is_its)
    assert leads(second)


async def test_a_holder_that_cannot_renew_stops_before_its_lease_ends(
    nats: Nats, origin: Origin, until: Until
) -> None:
    """A third of the lease after the last renewal it tries; without an answer it gives up."""
    cluster, clock = await nats(), ManualClock()
    server = await origin(cluster, town(), lease="30s", clock=clock)
    began = clock.time()
    cluster.nodes[0].pause()
    await clock.advance(11)
    assert leads(server)
    await until(lambda: not leads(server))
    assert clock.time() < began + 30


async def test_a_holder_that_was_asleep_past_its_lease_sends_nothing(
    nats: Nats, origin: Origin, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that was not run for a while looks at the time before it writes."""
    cluster, clock, source = await nats(), ManualClock(), town()
    server = await origin(cluster, source, lease="30s", clock=clock)
    clock._now += 31  # noqa: SLF001  nothing that was due has happened
    source.emit(UserChanged(server_id="1", uid="7", status="dnd"))
    await until(lambda: LEASE_ENDED in caplog.text)
    assert not leads(server)


async def test_writes_that_follow_another_revision_are_refused(nats: Nats, lines: Lines) -> None:
    """Of two that write, the second one gets an error; nothing of its batch is stored."""
    cluster = await nats()
    config = NatsConfig(urls=cluster.urls)
    one, other = await lines(config), await lines(config)
    await one.js.create_key_value(bucket="b")
    subjects = Subjects("b")
    first, second = Writer(one, subjects, 0), Writer(other, subjects, 0)
    await first.write([Write("a", b"1"), Write("b", b"2"), Write("a", b"3")])
    assert first.revision == 3
    with pytest.raises(OvertakenError, match="another client"):
        await second.write([Write("a", b"x"), Write("c", b"y")])
    assert await keys_of(one, "b") == {"a": b"3", "b": b"2"}


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_r49_writes_of_others_before_a_batch_are_noticed(
    nats: Nats, lines: Lines, number: int
) -> None:
    """Also if they leave the revision that a later part of the batch names."""
    cluster = await nats()
    config = NatsConfig(urls=cluster.urls)
    one, other = await lines(config), await lines(config)
    kv = await one.js.create_key_value(bucket="b")
    writer = Writer(other, Subjects("b"), 0)
    for each in range(number):
        await kv.put(f"x{each}", b"x")
    with pytest.raises(OvertakenError):
        await writer.write([Write("a", b"1"), Write("b", b"2"), Write("c", b"3")])


async def test_a_batch_of_which_a_part_is_lost_ends_there(nats: Nats, lines: Lines) -> None:
    """What came before the lost part is taken, what comes after it is not, and is reported."""
    cluster = await nats()
    line = await lines(NatsConfig(urls=cluster.urls))
    await line.js.create_key_value(bucket="b")
    publish, sent = line.client.publish, 0

    async def losing(*args: object, **kwargs: object) -> None:
        nonlocal sent
        sent += 1
        if sent != 2:
            await publish(*args, **kwargs)  # type: ignore[arg-type]

    line.client.publish = losing  # type: ignore[method-assign]
    with pytest.raises(OvertakenError):
        await Writer(line, Subjects("b"), 0).write(
            [Write("a", b"1"), Write("b", b"2"), Write("c", b"3"), Write("d", b"4")]
        )
    line.client.publish = publish  # type: ignore[method-assign]
    assert await keys_of(line, "b") == {"a": b"1"}

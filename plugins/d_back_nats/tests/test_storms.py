"""Whatever dies under a stream of events: afterwards every client of every edge sees how it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from storm import Storm

from d_back_nats import NatsConfig
from d_back_nats.keys import Subjects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from conftest import Nats, Until
    from nats_nodes import NatsCluster, Node

    from d_back_nats.connection import Line

    Lines = Callable[[NatsConfig], Awaitable[Line]]

pytestmark = pytest.mark.long

EVENTS = 10_000
SOME = 500
REFUSED = "only origins with `lease` may stand by"


async def leader_of(cluster: NatsCluster, lines: Lines) -> Node:
    """The node that decides about the bucket."""
    line = await lines(NatsConfig(urls=cluster.urls))
    info = await line.js.stream_info(Subjects("d-back").stream)
    assert info.cluster is not None
    assert info.cluster.leader is not None
    return cluster.named(info.cluster.leader)


@pytest.fixture
async def storm(nats: Nats, folder: Path) -> AsyncIterator[Storm]:
    """An origin and two edges on three nodes."""
    async with Storm(await nats(3), folder, seed=9) as storm:
        storm.add_origin()
        await storm.add_edge()
        await storm.add_edge()
        yield storm


async def test_nothing_dies(storm: Storm) -> None:
    """All that happens reaches everyone, each change once."""
    await storm.rage(EVENTS)
    await storm.calm()
    assert all(audience.frames > 1000 for audience in storm.audience)
    assert all(audience.world.joins == 1 for audience in storm.audience)


@pytest.mark.parametrize("whom", ["leader", "follower"])
async def test_a_node_dies(storm: Storm, lines: Lines, whom: str) -> None:
    """Two of three nodes go on; the third one comes back behind, and catches up."""
    await storm.rage(EVENTS // 3)
    leader = await leader_of(storm.cluster, lines)
    node = next(each for each in storm.cluster.nodes if (each is leader) == (whom == "leader"))
    node.kill()
    await storm.rage(EVENTS // 3)
    await storm.calm()
    node.start()
    await storm.rage(EVENTS // 3)
    await storm.calm()
    assert all(audience.world.joins == 1 for audience in storm.audience)


async def test_all_nodes_die(storm: Storm) -> None:
    """What happened while there was no NATS at all is made up for when it is back."""
    await storm.rage(EVENTS // 3)
    storm.cluster.kill()
    await storm.rage(EVENTS // 3)
    storm.cluster.start()
    await storm.cluster.up()
    await storm.rage(EVENTS // 3)
    await storm.calm()


async def test_the_origin_dies(storm: Storm) -> None:
    """What happened while it was dead, removals among it, is reported by the next one."""
    await storm.rage(EVENTS // 3)
    storm.origins[0].kill()
    await storm.rage(EVENTS // 3)
    storm.start_origin(storm.origins[0])
    await storm.rage(EVENTS // 3)
    await storm.calm()
    assert all(audience.world.joins == 1 for audience in storm.audience)


async def test_an_edge_dies(storm: Storm) -> None:
    """Its clients come back to the next one and see how it is; those of the other see nothing."""
    await storm.rage(EVENTS // 3)
    storm.edges[0].kill()
    await storm.rage(EVENTS // 3)
    storm.edges[0].start()
    await storm.rage(EVENTS // 3)
    await storm.calm()
    assert [audience.world.joins for audience in storm.audience] == [2, 1]


async def test_an_edge_is_cut_off(storm: Storm) -> None:
    """One that does nothing for a while goes on where it was; its clients notice no join."""
    await storm.rage(EVENTS // 3)
    storm.edges[0].pause()
    await storm.rage(EVENTS // 3)
    await asyncio.sleep(12)  # longer than NATS waits for it
    storm.edges[0].resume()
    await storm.rage(EVENTS // 3)
    await storm.calm()
    assert all(audience.world.joins == 1 for audience in storm.audience)


async def test_a_node_is_cut_off(storm: Storm, lines: Lines) -> None:
    """A leader that does nothing, with its sockets open, is left for another node."""
    await storm.rage(EVENTS // 3)
    leader = await leader_of(storm.cluster, lines)
    leader.pause()
    await storm.rage(EVENTS // 3)
    await storm.calm()
    leader.resume()
    await storm.rage(EVENTS // 3)
    await storm.calm()


# R49: the bucket, too, equals the truth


@pytest.fixture
async def small(nats: Nats, folder: Path) -> AsyncIterator[Storm]:
    """An origin and an edge on one node."""
    async with Storm(await nats(), folder, seed=49) as storm:
        storm.add_origin()
        await storm.add_edge()
        await storm.rage(SOME)
        yield storm
        await storm.rage(SOME)
        await storm.calm()
        assert [audience.world.joins for audience in storm.audience] == [1]


@pytest.mark.parametrize("first", ["origin", "nats"])
async def test_r49_the_origin_and_nats_die(small: Storm, first: str) -> None:
    """Both are killed under the storm, and come back one after the other."""
    node, origin = small.cluster.nodes[0], small.origins[0]
    node.kill()
    await small.rage(SOME)
    origin.kill()
    await small.rage(SOME)
    for whom in (first, *({"origin", "nats"} - {first})):
        if whom == "nats":
            node.start()
        else:
            small.start_origin(origin)
        await small.rage(SOME)


async def test_r49_the_origin_is_paused(small: Storm) -> None:
    """Without a lease, too, an origin that was not run for a while goes on where it was."""
    small.origins[0].pause()
    await small.rage(SOME)
    await asyncio.sleep(8)  # longer than an origin may be silent
    small.origins[0].resume()


async def test_r49_nats_is_paused(small: Storm) -> None:
    """Writes without an answer are looked up afterwards, and written again where they failed."""
    small.cluster.nodes[0].pause()
    await small.rage(SOME)
    await asyncio.sleep(8)  # longer than a write waits for its answer
    small.cluster.nodes[0].resume()


async def test_r49_another_origin_takes_over_from_a_paused_one(small: Storm, until: Until) -> None:
    """Without a lease, a second origin waits until the first is silent; when that one wakes up,
    its writes are refused, and it waits."""
    paused, other = small.origins[0], small.add_origin()
    await until(lambda: REFUSED in other.log)
    await small.rage(SOME)
    await small.calm()
    paused.pause()
    await small.rage(SOME)
    await small.calm()  # by the other one
    paused.resume()
    await small.rage(SOME)
    await until(lambda: REFUSED in paused.log)


async def test_r49_the_bucket_is_purged_again_and_again(small: Storm, lines: Lines) -> None:
    """Purges of all and of some keys, while they are written."""
    line = await lines(NatsConfig(urls=small.cluster.urls))
    for subject in (None, "$KV.d-back.users.1.*", "$KV.d-back.users.1.1", None):
        await line.js.purge_stream(Subjects("d-back").stream, subject=subject)
        await small.rage(SOME)


async def test_r49_others_write_into_the_storm(small: Storm, lines: Lines) -> None:
    """Keys that are overwritten and deleted while batches are on their way."""
    line = await lines(NatsConfig(urls=small.cluster.urls))
    kv = await line.js.key_value("d-back")
    for number in range(60):
        if number % 3:
            await kv.put(f"users.1.{number}", b'{"username":"Mallory"}')
        else:
            await kv.delete(f"users.1.{number}")
        await small.rage(20)

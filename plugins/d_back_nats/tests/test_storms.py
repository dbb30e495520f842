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

    from conftest import Nats
    from nats_nodes import NatsCluster, Node

    from d_back_nats.connection import Line

    Lines = Callable[[NatsConfig], Awaitable[Line]]

EVENTS = 10_000


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
    """All that happens reaches everybody, each change once."""
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
    """What happened while it was dead, removals among it, is told by the next one."""
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

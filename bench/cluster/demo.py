"""``python -m bench.cluster.demo``: three NATS servers, an origin and another one that stands by,
three edges with clients; then what dies, one after another."""

import asyncio
import time
from collections.abc import Callable

from bench.cluster.processes import PATIENCE, Machines, Process
from d_back_core.client import ClientWorld

CLIENTS = 5
LEASE = "3s"
QUIET = 2.0
"""Seconds of looking on between two accidents."""


def say(text: str) -> None:
    """One line, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)  # noqa: T201


async def main() -> None:
    """The demonstration."""
    async with Machines() as machines:
        nodes = machines.nats(3)
        say("three NATS servers: n1, n2, n3")
        first, url = _origin(machines, "origin")
        reference = await machines.client(url)
        say(f"an origin, with a mock of {len(reference.users)} users")
        edges = [machines.edge(f"edge{number}") for number in (1, 2, 3)]
        worlds = [await machines.client(url) for _, url in edges for _ in range(CLIENTS)]
        say(f"three edges, each with {CLIENTS} clients, who see {len(worlds[0].users)} users")
        _origin(machines, "standby")
        say(f"another origin, which stands by; the lease is {LEASE}")
        await _look_on(worlds)
        await _accident(worlds, "the origin is killed", first)
        await _look_on(worlds)
        await _accident(worlds, "a NATS server is killed", nodes[0])
        await _look_on(worlds)
        joins = {world.joins for world in worlds}
        say(f"no client had to join again: {joins == {1}}")


def _origin(machines: Machines, name: str) -> tuple[Process, str]:
    mock = {"users": 500, "seed": 1, "presence_interval": "50ms", "message_interval": "500ms"}
    chain = {"order": ["mock"], "recorders": ["nats"]}
    providers = {"mock": mock, "nats": {"lease": LEASE}}
    return machines.gateway(name, chain, providers, module="bench.cluster.gateway")


async def _look_on(worlds: list[ClientWorld]) -> None:
    before = [world.seq for world in worlds]
    await asyncio.sleep(QUIET)
    heard = sum(world.seq for world in worlds) - sum(before)
    alike = all(world.users.keys() == worlds[0].users.keys() for world in worlds)
    say(f"    {heard / QUIET:.0f} changes a second reach the clients; all see the same: {alike}")


async def _accident(worlds: list[ClientWorld], what: str, process: Process) -> None:
    process.kill()
    began = time.monotonic()
    say(what)
    await asyncio.sleep(0.3)  # what was under way has arrived
    before = [world.seq for world in worlds]
    for world, seq in zip(worlds, before, strict=True):
        async with asyncio.timeout(PATIENCE):
            await world.until(_beyond(seq))
    say(f"    every client hears of changes again after {time.monotonic() - began:.1f} s")


def _beyond(seq: int) -> Callable[[ClientWorld], bool]:
    return lambda world: world.seq > seq


if __name__ == "__main__":
    asyncio.run(main())

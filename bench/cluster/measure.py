"""``python -m bench.cluster.measure``: how long an event takes from the origin to a client of an
edge, and what two edges carry that one does not."""

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence

import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect

from bench.cluster.processes import Machines, Process
from d_back_core.wire import protocol

CONNECT = msgspec.json.encode(protocol.Connect(data=protocol.ConnectRequest()))
WARM_UP = 100


class Result(Struct):
    """One run."""

    latencies: list[float]
    """Milliseconds."""
    deliveries: int
    cpu: list[float]
    """Seconds of each edge."""


class Crowd:
    """Clients of one edge; the first of them reads what it receives."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.latencies: list[float] = []
        self.received = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._connections: list[ClientConnection] = []

    async def join(self, count: int) -> None:
        for _ in range(count):
            connection = await connect(self.url, max_size=None, compression=None)
            await connection.send(CONNECT, text=True)
            while b'"server-join"' not in await connection.recv(decode=False):
                pass
            self._connections.append(connection)
        self._tasks = [
            asyncio.create_task(self._read(connection, reads=number == 0))
            for number, connection in enumerate(self._connections)
        ]

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._connections:
            await connection.close()

    async def _read(self, connection: ClientConnection, *, reads: bool) -> None:
        while True:
            frame = await connection.recv(decode=False)
            self.received += 1
            if reads:
                now = time.monotonic_ns()
                told = msgspec.json.decode(frame, type=protocol.PresenceFrame)
                self.latencies.append((now - int(str(told.data.username))) / 1e6)


async def run(nodes: int, edges: int, clients: int, events: int, rate: float) -> Result:
    """So many clients over so many edges, while so much happens."""
    async with Machines() as machines:
        machines.nats(nodes)
        chain = {"order": ["ticker"], "recorders": ["nats"]}
        origin, url = machines.gateway("origin", chain, {}, module="bench.cluster.gateway")
        await machines.client(url)
        started = [machines.edge(f"edge{number}") for number in range(edges)]
        crowds = []
        for _, edge_url in started:
            await machines.client(edge_url)
            crowds.append(Crowd(edge_url))
            await crowds[-1].join(clients // edges)
        await _events(origin, crowds, WARM_UP, rate)
        before = [process.cpu for process, _ in started]
        for crowd in crowds:
            crowd.latencies.clear()
            crowd.received = 0
        await _events(origin, crowds, events, rate)
        cpu = [process.cpu - was for (process, _), was in zip(started, before, strict=True)]
        for crowd in crowds:
            await crowd.leave()
        latencies = [each for crowd in crowds for each in crowd.latencies]
        return Result(latencies, sum(crowd.received for crowd in crowds), cpu)


async def _events(origin: Process, crowds: Sequence[Crowd], events: int, rate: float) -> None:
    wanted = [len(crowd.latencies) + events for crowd in crowds]
    origin.tell(f"{events} {rate}")
    async with asyncio.timeout(60 + events / rate):
        while any(len(c.latencies) < n for c, n in zip(crowds, wanted, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)  # the last ones of the others


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=50.0, help="events per second")
    options = parser.parse_args()
    say = print
    say(f"{options.clients} clients, {options.events} events at {options.rate:g} a second")
    say("nodes  edges    p50 ms    p99 ms   deliveries per second of the busiest edge's CPU")
    capacity = {}
    for nodes, edges in ((1, 1), (1, 2), (3, 1)):
        result = asyncio.run(run(nodes, edges, options.clients, options.events, options.rate))
        quantiles = statistics.quantiles(result.latencies, n=100)
        capacity[nodes, edges] = result.deliveries / max(result.cpu)
        say(
            f"{nodes:>5}  {edges:>5}  {quantiles[49]:>8.2f}  {quantiles[98]:>8.2f}"
            f"   {capacity[nodes, edges]:,.0f}"
        )
    say(f"two edges against one: {capacity[1, 2] / capacity[1, 1]:.2f}")


if __name__ == "__main__":
    main()

"""``python -m bench.cluster.measure``: how long an event takes from the origin to a client of an
edge, and what two edges carry that one does not."""

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect

from bench.cluster.processes import Machines, Process
from d_back_core.wire import protocol

CONNECT = msgspec.json.encode(protocol.Connect(data=protocol.ConnectRequest()))
WARM_UP = 100
NICENESS = 10
"""Of the clients: they run in what the servers leave of the cores."""
ADDRESSES = 200
"""Addresses of the clients, of which nginx gives each edge some."""


class Result(Struct):
    """One run."""

    latencies: list[float]
    """Milliseconds."""
    deliveries: int
    cpu: list[float]
    """Seconds of each edge."""
    proxy_cpu: float
    """Seconds of nginx."""


class Crowd:
    """Clients of one edge; the first of them reads what it receives."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.latencies: list[float] = []
        self.received = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._connections: list[ClientConnection] = []

    async def join(self, count: int) -> None:
        for number in range(count):
            address = (f"127.0.1.{1 + number % ADDRESSES}", 0)
            connection = await connect(
                self.url, max_size=None, compression=None, local_addr=address
            )
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


def measured(nodes: int, edges: int, options: argparse.Namespace) -> Result:
    """Return the result of one run, in this process, which has low priority from then on."""
    return asyncio.run(run(nodes, edges, options))


async def run(nodes: int, edges: int, options: argparse.Namespace) -> Result:
    """So many clients over so many edges, while so much happens."""
    events, rate = options.events, options.rate
    async with Machines() as machines:
        machines.nats(nodes)
        chain = {"order": ["ticker"], "recorders": ["nats"]}
        origin, url = machines.gateway("origin", chain, {}, module="bench.cluster.gateway")
        await machines.client(url)
        processes, urls = zip(*(machines.edge(f"edge{n}") for n in range(edges)), strict=True)
        for edge_url in urls:
            await machines.client(edge_url)
        if options.nginx:
            proxy, url = machines.nginx(urls)
            await machines.client(url)
            processes, urls = (*processes, proxy), (url,) * edges
        crowds = [Crowd(each) for each in urls]
        for crowd in crowds:
            await crowd.join(options.clients // edges)
        os.nice(NICENESS)  # now that the servers run, which would inherit it
        await _events(origin, crowds, WARM_UP, rate)
        before = [process.cpu for process in processes]
        for crowd in crowds:
            crowd.latencies.clear()
            crowd.received = 0
        await _events(origin, crowds, events, rate)
        cpu = [process.cpu - was for process, was in zip(processes, before, strict=True)]
        for crowd in crowds:
            await crowd.leave()
        latencies = [each for crowd in crowds for each in crowd.latencies]
        received = sum(crowd.received for crowd in crowds)
        return Result(latencies, received, cpu[:edges], sum(cpu[edges:]))


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
    parser.add_argument("--nginx", action="store_true", help="nginx in front of the edges")
    options = parser.parse_args()
    # A process for each run: a low priority stays low, and the servers would inherit it.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        _compare(pool, options)


def _compare(pool: ProcessPoolExecutor, options: argparse.Namespace) -> None:
    say = print
    say(f"{options.clients} clients, {options.events} events at {options.rate:g} a second")
    say("nodes  edges    p50 ms    p99 ms   deliveries per second of the busiest edge's CPU")
    capacity = {}
    for nodes, edges in ((1, 1), (1, 2), (3, 1)):
        result = pool.submit(measured, nodes, edges, options).result()
        quantiles = statistics.quantiles(result.latencies, n=100)
        capacity[nodes, edges] = result.deliveries / max(result.cpu)
        say(
            f"{nodes:>5}  {edges:>5}  {quantiles[49]:>8.2f}  {quantiles[98]:>8.2f}"
            f"   {capacity[nodes, edges]:,.0f}"
        )
        if options.nginx:
            say(f"       nginx: {result.proxy_cpu / result.deliveries * 1e6:.1f} µs a delivery")
    say(f"two edges against one: {capacity[1, 2] / capacity[1, 1]:.2f}")


if __name__ == "__main__":
    main()

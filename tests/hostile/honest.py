"""The honest clients: a process that reports how late each event is, one JSON line per second.

A busy machine is late, too. Beside the gateway's clients there is one of a trivial server, the
*control*: what it receives late is not the gateway's fault.
"""

import asyncio
import json
import sys
import time
from array import array
from collections import deque
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from hostile.town import INTERVAL

LATE = 1.0
"""Seconds."""
NEWCOMERS_EVERY = 2.0
"""Seconds between two clients that join, and leave."""


class Honest:
    """Counts what all clients see."""

    def __init__(self, url: str) -> None:
        self.connected = 0
        self.events = 0
        self.problems: list[str] = []
        """What must not be: a disconnected client, a lost event."""
        self.late: list[tuple[float, float]] = []
        """When each late event was sent, and received."""
        self.delays = array("f")
        self.newcomers: list[float | None] = []
        """Seconds until each had joined; None if it was refused."""
        self._url = url

    async def client(self, number: int) -> None:
        """Join, and check each event; returns when it is disconnected."""
        try:
            async with connect(self._url, ping_interval=None, max_size=None) as connection:
                seq = await _join(connection)
                self.connected += 1
                async for frame in connection:
                    now = time.monotonic()
                    message = json.loads(frame)
                    if message.get("type") != "presence":
                        continue
                    seq += 1
                    if message["seq"] != seq or message.get("resync"):
                        self.problems.append(f"client {number}: {seq} is missing: {frame!r}")
                        seq = message["seq"]
                    self._event(float(message["data"]["username"]), now)
        except (OSError, InvalidHandshake, TimeoutError, ConnectionClosed) as error:
            self.problems.append(f"client {number}: {error!r}")
        self.connected -= 1
        self.problems.append(f"client {number} is disconnected")

    def _event(self, sent: float, received: float) -> None:
        self.events += 1
        self.delays.append(received - sent)
        if received - sent > LATE:
            self.late.append((sent, received))

    async def come_and_go(self) -> None:
        """Join as a further client, again and again."""
        while True:
            await asyncio.sleep(NEWCOMERS_EVERY)
            began = time.monotonic()
            try:
                async with asyncio.timeout(20), connect(self._url, max_size=None) as connection:
                    await _join(connection)
                    self.newcomers.append(time.monotonic() - began)
            except (OSError, InvalidHandshake, TimeoutError, ConnectionClosed):
                self.newcomers.append(None)


async def _join(connection: ClientConnection) -> int:
    await connection.send('{"type":"connect","data":{"server":"default"}}')
    while True:
        message: dict[str, Any] = json.loads(await connection.recv())
        if message["type"] == "server-join":
            return int(message["data"]["seq"])


class Control:
    """A server that sends the time to one client, and what that client receives."""

    def __init__(self) -> None:
        self.received: deque[tuple[float, float]] = deque(maxlen=200)
        """When something was sent, and received."""

    async def run(self) -> None:
        port = int(sys.argv[3])
        reader, _ = await asyncio.open_connection("127.0.0.1", port)
        while text := await reader.readline():
            self.received.append((float(text), time.monotonic()))

    def delay(self, sent: float, received: float) -> float:
        """The longest delay of what was under way between these times."""
        under_way = [b - a for a, b in self.received if b >= sent and a <= received]
        return max(under_way, default=0.0)


async def serve_control() -> None:
    """Run the trivial server: its port is the first line of output."""

    async def tick(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"%.6f\n" % time.monotonic())
                await writer.drain()
                await asyncio.sleep(INTERVAL / 2)

    server = await asyncio.start_server(tick, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201  its output
    await server.serve_forever()


async def main(url: str, clients: int) -> None:
    honest, control = Honest(url), Control()
    tasks = [asyncio.create_task(honest.client(number)) for number in range(clients)]
    while honest.connected < clients and not honest.problems:  # noqa: ASYNC110  it is simple
        await asyncio.sleep(0.1)
    tasks += [asyncio.create_task(control.run()), asyncio.create_task(honest.come_and_go())]
    stopping = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    while not stopping.done():
        await asyncio.wait([stopping], timeout=1)
        late, honest.late = honest.late, []
        problems, honest.problems = honest.problems, []
        newcomers, honest.newcomers = honest.newcomers, []
        events, honest.events = honest.events, 0
        delays = sorted(honest.delays)
        del honest.delays[:]
        report = {
            "connected": honest.connected,
            "events": events,
            "problems": problems,
            "late": [(a, b, control.delay(a, b)) for a, b in late],
            "p99": delays[int(len(delays) * 0.99)] if delays else 0.0,
            "worst": max(delays, default=0.0),
            "control": max((b - a for a, b in list(control.received)[-10:]), default=0.0),
            "newcomers": newcomers,
        }
        print(json.dumps(report), flush=True)  # noqa: T201  its output
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    if sys.argv[1] == "control":
        asyncio.run(serve_control())
    else:
        asyncio.run(main(sys.argv[1], int(sys.argv[2])))

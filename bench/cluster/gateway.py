"""A gateway in a process of its own: ``python -m bench.cluster.gateway TABLE``. The provider
``ticker`` sends events on command, each with the time at which it happened."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import msgspec

from d_back_core import Event, Server, User, UserChanged, hookimpl
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer

USERS = 1000


class Ticker:
    """A server of a thousand users, whose names are the time of their last change."""

    @hookimpl
    async def servers(self) -> dict[str, Server]:
        return {"1": Server(name="One")}

    @hookimpl
    async def users(self) -> dict[str, User]:
        return {str(uid): User(username="-", status="online") for uid in range(USERS)}

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        while line := await asyncio.to_thread(sys.stdin.readline):
            count, rate = (float(part) for part in line.split())
            due = time.monotonic()
            for number in range(int(count)):
                due += 1 / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                now = str(time.monotonic_ns())
                yield UserChanged(server_id="1", uid=str(number % USERS), username=now)


async def main(table: str) -> None:
    """Serve until it is killed."""
    config = parse(msgspec.json.decode(table))
    given = {"ticker": Ticker()} if "ticker" in config.chain.order else {}
    async with WebSocketServer(config=config, providers=given):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

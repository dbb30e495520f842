"""The provider of the long run: what it sends says when it was sent."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from d_back_core import Event, Server, User, UserChanged, hookimpl

SMALL, LARGE, PROTECTED = "1", "2", "3"
INTERVAL = 0.2
"""Seconds between two events."""
LARGE_USERS = 40_000
"""A snapshot of 5 MB."""
HOARD_EVERY, HOARD_FOR = 60.0, 3.0
"""Seconds."""


class Town:
    """Three servers. User 0 of the small one is renamed to the time of ``time.monotonic``, which
    is the same in all processes. Now and then it uses up all descriptors of the process."""

    def __init__(self, config: None) -> None:  # noqa: ARG002  there is none
        self._hoarding: asyncio.Task[None] | None = None

    @hookimpl
    async def start(self) -> None:
        self._hoarding = asyncio.create_task(_hoard())

    @hookimpl
    async def stop(self) -> None:
        if self._hoarding is not None:
            self._hoarding.cancel()

    @hookimpl
    async def servers(self) -> dict[str, Server]:
        return {
            SMALL: Server(name="Small", default=True),
            LARGE: Server(name="Large"),
            PROTECTED: Server(name="Protected"),
        }

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User]:
        if server_id != LARGE:
            return {str(uid): User(username=f"User {uid}", status="online") for uid in range(20)}
        names = {str(n): f"{os.urandom(12).hex()} {n:040}" for n in range(LARGE_USERS)}
        return {uid: User(username=name, status="idle") for uid, name in names.items()}

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        number = 0
        while True:
            await asyncio.sleep(INTERVAL)
            number += 1
            yield UserChanged(server_id=SMALL, uid="0", username=f"{time.monotonic():.6f}")
            uid = str(number % LARGE_USERS)
            yield UserChanged(server_id=LARGE, uid=uid, username=f"User {number}")

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/echo", _echo, methods=["POST"])]


async def _echo(request: Request) -> Response:
    return Response(await request.body())


async def _hoard() -> None:
    while True:
        await asyncio.sleep(HOARD_EVERY)
        hoard = []
        try:
            while True:
                hoard.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            await asyncio.sleep(HOARD_FOR)
        finally:
            for each in hoard:
                os.close(each)

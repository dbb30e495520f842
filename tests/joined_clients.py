"""Clients of a gateway, for tests of plugins: the fixture `join`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from d_back_core import WebSocketServer
from d_back_core.client import ClientWorld, connect

PATIENCE = 60.0
"""Seconds after which what a test waits for counts as lost."""


class Join(Protocol):
    """Connects a client over a real socket; it stays until the test ends."""

    async def __call__(self, server: WebSocketServer, wanted: str = "") -> ClientWorld: ...


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    async with AsyncExitStack() as clients:

        async def joined(server: WebSocketServer, wanted: str = "") -> ClientWorld:
            async with asyncio.timeout(PATIENCE):
                world = await clients.enter_async_context(connect(server.url, wanted))
            wait = world.until

            async def until(condition: Callable[[ClientWorld], object]) -> None:
                async with asyncio.timeout(PATIENCE):
                    await wait(condition)

            world.until = until  # type: ignore[method-assign]  # what never comes fails the test
            return world

        yield joined

"""Fixtures of the core's tests."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from peers import Dial, Peer
from websockets.asyncio.client import connect

from d_back_core.server import WebSocketServer


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Connect to a server until the test ends."""
    async with AsyncExitStack() as connections:

        async def dialled(
            server: WebSocketServer, path: str = "", *, greeted: bool = True
        ) -> Peer:
            connection = connect(server.url + path, max_size=None, max_queue=None)
            peer = Peer(await connections.enter_async_context(connection))
            if greeted:
                await peer.expect("server-list")
            return peer

        yield dialled

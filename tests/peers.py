"""What the tests of the front share: a client that speaks the protocol by hand."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from d_back_core.embedding.server import WebSocketServer

PATIENCE = 60.0
"""Seconds after which what a test waits for is taken for lost."""

Frame: TypeAlias = dict[str, Any]


class Peer:
    """The far end of one connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, frame: object) -> None:
        """Send anything as JSON."""
        await self.connection.send(json.dumps(frame))

    async def receive(self) -> Frame:
        """The next frame; it must be text."""
        async with asyncio.timeout(PATIENCE):
            text = await self.connection.recv()
        assert isinstance(text, str), text
        frame: Frame = json.loads(text)
        return frame

    async def expect(self, kind: str) -> Frame:
        """The next frame, which must be of that type."""
        frame = await self.receive()
        assert frame["type"] == kind, frame
        return frame

    async def ask(self, server: str | None = None, **credentials: object) -> None:
        """Ask to join a server."""
        await self.send({"type": "connect", "data": {"server": server, **credentials}})

    async def join(self, server: str | None = None, **credentials: object) -> Frame:
        """Join a server; the data of its ``server-join``."""
        await self.ask(server, **credentials)
        joined: Frame = (await self.expect("server-join"))["data"]
        return joined

    async def refusal(self) -> tuple[str, str]:
        """The code and the text of the next frame, which must be an error."""
        error = await self.expect("error")
        return error["data"]["code"], error["data"]["message"]

    async def pending(self) -> list[Frame]:
        """Every frame that was sent so far: the answer to a question comes behind them."""
        await self.send({"type": "get_server_data"})
        frames = []
        while (frame := await self.receive())["type"] != "server_data":
            frames.append(frame)
        return frames

    async def closed(self) -> int | None:
        """The code that the gateway closes with; frames before it are passed over."""
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionClosed):
                while True:
                    await self.connection.recv()
        return self.connection.close_code


class Dial(Protocol):
    """Connects a `Peer`; ``greeted`` takes the list of servers off it."""

    async def __call__(
        self, server: WebSocketServer, path: str = "", *, greeted: bool = True
    ) -> Peer: ...


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  what it looks at sends no signal
            await asyncio.sleep(0)


async def news(server: WebSocketServer, peer: Peer) -> list[Frame]:
    """What the peer was sent, once nothing is left to do."""
    await server.live.settle()
    return await peer.pending()

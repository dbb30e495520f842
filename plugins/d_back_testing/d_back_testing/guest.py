"""A client that takes its frames when it is told to."""

import asyncio

import msgspec
from websockets.asyncio.client import ClientConnection

from d_back_core.client import ClientWorld, decoded
from d_back_core.embedding.server import WebSocketServer
from d_back_core.errors import DBackError
from d_back_core.models import EffectiveUser
from d_back_core.wire import protocol

PATIENCE = 30.0
"""Seconds after which what a test waits for is taken for lost."""


class Guest:
    """A client that takes its frames when it is told to, and folds them into a world.

    A gap in the sequence raises, and so does a presence of a user who was never introduced.
    """

    def __init__(self, connection: ClientConnection, server: WebSocketServer) -> None:
        self.world = ClientWorld()
        self.frames: list[protocol.ServerMessage] = []
        """All that it was ever sent, in order."""
        self.connection = connection
        self._server = server

    @property
    def users(self) -> dict[str, EffectiveUser]:
        return self.world.users

    async def send(self, message: protocol.ClientMessage) -> None:
        """Send a message."""
        await self.connection.send(msgspec.json.encode(message), text=True)

    async def ask(self, server: str | None = None, password: str | None = None) -> None:
        """Ask to join a server."""
        request = protocol.ConnectRequest(server=server, password=password)
        await self.send(protocol.Connect(data=request))

    async def receive(self) -> protocol.ServerMessage:
        """The next frame, once it is there."""
        async with asyncio.timeout(PATIENCE):
            frame = decoded(await self.connection.recv(decode=False))
        if frame is None:
            raise DBackError("a frame of an unknown type")
        self.take(frame)
        return frame

    def take(self, frame: protocol.ServerMessage) -> None:
        """Fold a frame in."""
        self.frames.append(frame)
        self.world.fold(frame)

    async def join(self, server: str | None = None, password: str | None = None) -> None:
        """Join a server."""
        await self.ask(server, password)
        await self.until(protocol.ServerJoin)

    async def until(self, kind: type[protocol.ServerMessage]) -> None:
        """Take frames until one is of that kind."""
        while not isinstance(await self.receive(), kind):
            pass

    async def news(self) -> list[protocol.ServerMessage]:
        """Every frame that was sent since the last one that was taken, once all is settled."""
        await self._server.live.settle()
        # The answer to a question comes behind them.
        await self.send(protocol.GetServerData())
        frames: list[protocol.ServerMessage] = []
        while not isinstance(frame := await self.receive(), protocol.ServerData):
            frames.append(frame)
        return frames

"""A client that receives a frame only when the test asks for it."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from websockets.asyncio.client import ClientConnection

from d_back_core import DBackError
from d_back_core.client import ClientWorld, EffectiveUser, ServerData, ServerJoin, ServerMessage
from d_back_core.client import decoded as decode
from d_back_core.wire import protocol

RECEIVE_TIMEOUT = 30.0
"""Seconds after which a test stops waiting."""


class ManualClient:
    """A client that receives a frame only when the test asks for it.

    Each frame is applied to `world`. That raises `DBackError` if the sequence has a gap, or if a
    presence names a user that the client does not know.
    """

    def __init__(
        self, connection: ClientConnection, settle: Callable[[], Awaitable[None]]
    ) -> None:
        self.world = ClientWorld()
        self.frames: list[ServerMessage] = []
        """All frames received so far, in order."""
        self.connection = connection
        self._settle = settle

    @property
    def users(self) -> dict[str, EffectiveUser]:
        return self.world.users

    async def send(self, message: protocol.ClientMessage) -> None:
        """Send a message."""
        await self.connection.send(msgspec.json.encode(message), text=True)

    async def ask(self, server: str | None = None, password: str | None = None) -> None:
        """Ask to join a server, without waiting for the answer."""
        request = protocol.ConnectRequest(server=server, password=password)
        await self.send(protocol.Connect(data=request))

    async def receive(self) -> ServerMessage:
        """Wait for the next frame and apply it."""
        async with asyncio.timeout(RECEIVE_TIMEOUT):
            frame = decode(await self.connection.recv(decode=False))
        if frame is None:
            raise DBackError("received a frame of an unknown type")
        self.apply(frame)
        return frame

    def apply(self, frame: ServerMessage) -> None:
        """Apply a frame to the world."""
        self.frames.append(frame)
        self.world.apply(frame)

    async def join(self, server: str | None = None, password: str | None = None) -> None:
        """Join a server."""
        await self.ask(server, password)
        await self.until(ServerJoin)

    async def until(self, kind: type[ServerMessage]) -> None:
        """Receive frames until one is of that type."""
        while not isinstance(await self.receive(), kind):
            pass

    async def new_frames(self) -> list[ServerMessage]:
        """Wait until the gateway has nothing left to do, and return all frames that it has sent
        since the last one received."""
        await self._settle()
        # Frames arrive in order, so the answer to this request comes after all of them.
        await self.send(protocol.GetServerData())
        frames: list[ServerMessage] = []
        while not isinstance(frame := await self.receive(), ServerData):
            frames.append(frame)
        return frames

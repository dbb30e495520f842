"""A small asyncio client: joins a server and folds what it is told into a copy of the world.

::

    async with connect("ws://localhost:3000") as world:
        async for frame in world.events():
            print(len(world.users), frame)
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
from msgspec import UNSET
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection
from websockets.exceptions import ConnectionClosed

from d_back_core import protocol
from d_back_core.errors import DBackError, JoinError
from d_back_core.models import EffectiveUser

_decoder: msgspec.json.Decoder[protocol.ServerMessage] = msgspec.json.Decoder(
    protocol.ServerMessage
)
_encoder = msgspec.json.Encoder()


class ClientWorld:
    """A server as this client sees it, kept current in the background."""

    def __init__(self) -> None:
        self.servers: dict[str, protocol.WireServer] = {}
        """The list of servers, by server_id."""
        self.public_id = ""
        self.name = ""
        self.client_id: str | None = None
        self.epoch = ""
        self.seq = 0
        self.users: dict[str, EffectiveUser] = {}
        self.close_code: int | None = None
        """Why the connection has ended; None while it has not."""
        self._streams: set[asyncio.Queue[protocol.ServerMessage | None]] = set()
        self._folded = asyncio.Condition()

    async def events(self) -> AsyncIterator[protocol.ServerMessage]:
        """Every frame from now on, each already folded in; ends with the connection."""
        stream: asyncio.Queue[protocol.ServerMessage | None] = asyncio.Queue()
        self._streams.add(stream)
        try:
            while self.close_code is None and (frame := await stream.get()) is not None:
                yield frame
        finally:
            self._streams.discard(stream)

    async def until(self, condition: Callable[["ClientWorld"], object]) -> None:
        """Return when the condition holds; it is looked at after every frame."""
        async with self._folded:
            await self._folded.wait_for(lambda: condition(self))

    def fold(self, frame: protocol.ServerMessage) -> None:
        """Apply one frame; a gap in the sequence raises `DBackError`."""
        match frame:
            case protocol.ServerList(data=servers) | protocol.ServerListUpdate(data=servers):
                self.servers = servers
            case protocol.ServerJoin(data=joined):
                self._join(joined)
            case protocol.PresenceFrame(seq=seq, data=presence):
                self._follow(seq)
                self._fold_presence(presence)
            case protocol.MessageFrame(seq=seq):
                self._follow(seq)
            case protocol.UpdateClientId(data=update):
                self.client_id = update.client_id

    def _join(self, joined: protocol.Joined) -> None:
        self.public_id = joined.request.server
        self.name = joined.server_name
        self.client_id = None if joined.client_id is UNSET else joined.client_id
        self.epoch, self.seq = joined.epoch, joined.seq
        self.users = {uid: _user(user) for uid, user in joined.users.items()}

    def _follow(self, seq: int) -> None:
        if seq not in {self.seq, self.seq + 1}:
            raise DBackError(f"a gap in the sequence: {seq} came after {self.seq}")
        self.seq = seq

    def _fold_presence(self, presence: protocol.WirePresence) -> None:
        known = self.users.get(presence.uid)
        if presence.delete is True:
            self.users.pop(presence.uid, None)
            return
        name, color = presence.username, presence.role_color
        if name is UNSET and known is not None:
            name = known.username
        if color is UNSET and known is not None:
            color = known.role_color
        if name is UNSET or color is UNSET:
            raise DBackError(f"a user who was never introduced: {presence.uid}")
        user = protocol.WireUser(presence.uid, name, presence.status, color)
        self.users[presence.uid] = _user(user)

    async def _follow_connection(self, connection: ClientConnection) -> None:
        try:
            while True:
                frame = decoded(await connection.recv(decode=False))
                if frame is not None:
                    self.fold(frame)
                    await self._tell(frame)
        except ConnectionClosed:
            pass
        finally:
            self.close_code = connection.close_code or 1006
            await self._tell(None)

    async def _tell(self, frame: protocol.ServerMessage | None) -> None:
        for stream in self._streams:
            stream.put_nowait(frame)
        async with self._folded:
            self._folded.notify_all()


@asynccontextmanager
async def connect(
    url: str,
    server: str | None = None,
    *,
    password: str | None = None,
    discord_token: str | None = None,
) -> AsyncIterator[ClientWorld]:
    """Join a server (None: the default one) and follow it until the block ends.

    Raises `JoinError` where the gateway refuses, and what `websockets` raises where it cannot be
    reached. A broken rule of the protocol, such as a gap in the sequence, is raised at the end
    of the block.
    """
    request = protocol.ConnectRequest(
        server=server, password=password, discord_token=discord_token
    )
    world = ClientWorld()
    async with open_connection(url, max_size=None) as connection:
        await connection.send(_encoder.encode(protocol.Connect(data=request)), text=True)
        while not world.epoch:
            frame = decoded(await connection.recv(decode=False))
            if isinstance(frame, protocol.Error):
                code, message = frame.data.code, frame.data.message
                raise JoinError(code, message)  # type: ignore[arg-type]
            if frame is not None:
                world.fold(frame)
        following = asyncio.create_task(world._follow_connection(connection))  # noqa: SLF001
        try:
            yield world
        finally:
            await connection.close()
            await following


def decoded(frame: bytes) -> protocol.ServerMessage | None:
    """A frame of the gateway; None where it is of a type that this version does not know."""
    try:
        return _decoder.decode(frame)
    except msgspec.ValidationError:
        return None


def _user(user: protocol.WireUser) -> EffectiveUser:
    return EffectiveUser(user.uid, user.username, user.status, user.role_color)  # type: ignore[arg-type]

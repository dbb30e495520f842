"""A small asyncio client: joins a server and folds what it is told into a copy of the world.

::

    async with connect("ws://localhost:3000") as world:
        async for frame in world.events():
            print(len(world.users), frame)

A connection that is lost is made again, with growing waits, and the world goes on where it was.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, cast

import msgspec
from msgspec import UNSET, structs
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection
from websockets.exceptions import ConnectionClosed

from d_back_core import protocol
from d_back_core.errors import DBackError, JoinError
from d_back_core.models import EffectiveUser

FINAL_CODES = frozenset({1000, 1008})
"""Close codes after which it is not tried again."""

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
        self.joins = 0
        """How many snapshots it was sent."""
        self.resumes = 0
        """How many connections went on where the former one was lost."""
        self.close_code: int | None = None
        """Why it has ended; None while it has not."""
        self._streams: set[asyncio.Queue[protocol.ServerMessage | None]] = set()
        self._folded = asyncio.Condition()

    async def events(self) -> AsyncIterator[protocol.ServerMessage]:
        """Every frame from now on, each already folded in; ends with the connection."""
        if self.close_code is not None:
            return
        stream: asyncio.Queue[protocol.ServerMessage | None] = asyncio.Queue()
        self._streams.add(stream)
        try:
            while (frame := await stream.get()) is not None:
                yield frame
        finally:
            self._streams.discard(stream)

    async def until(self, condition: Callable[["ClientWorld"], object]) -> None:
        """Return when the condition holds; it is looked at after every frame. Raises
        `DBackError` where the connection ends before."""
        async with self._folded:
            await self._folded.wait_for(lambda: condition(self) or self.close_code is not None)
        if not condition(self):
            raise DBackError(f"the connection ended with {self.close_code}")

    def fold(self, frame: protocol.ServerMessage) -> None:
        """Apply one frame; a gap in the sequence raises `DBackError`."""
        match frame:
            case protocol.ServerList(data=servers) | protocol.ServerListUpdate(data=servers):
                self.servers = servers
            case protocol.ServerJoin(data=joined):
                self._join(joined)
            case protocol.Resumed(epoch=epoch, seq=seq):
                self._resume(epoch, seq)
            case protocol.PresenceFrame(data=presence):
                self._follow(frame)
                self._fold_presence(presence)
            case protocol.MessageFrame():
                self._follow(frame)
            case protocol.UpdateClientId(data=update):
                self.client_id = update.client_id

    def _join(self, joined: protocol.Joined) -> None:
        self.joins += 1
        self.public_id = joined.request.server
        self.name = joined.server_name
        self.client_id = None if joined.client_id is UNSET else joined.client_id
        self.epoch, self.seq = joined.epoch, joined.seq
        self.users = {uid: _user(user) for uid, user in joined.users.items()}

    def _resume(self, epoch: str, seq: int) -> None:
        if epoch != self.epoch:
            raise DBackError(f"resumed in another epoch: {epoch} instead of {self.epoch}")
        if seq < self.seq:
            raise DBackError(f"resumed in the past: {seq} came after {self.seq}")
        self.seq = seq

    def _follow(self, frame: protocol.PresenceFrame | protocol.MessageFrame) -> None:
        if frame.resync is UNSET and frame.seq not in {self.seq, self.seq + 1}:
            raise DBackError(f"a gap in the sequence: {frame.seq} came after {self.seq}")
        self.seq = frame.seq

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

    async def tell(self, frame: protocol.ServerMessage | None) -> None:
        """Wake whoever waits for a frame (None: there will be no more)."""
        for stream in self._streams:
            stream.put_nowait(frame)
        async with self._folded:
            self._folded.notify_all()


@asynccontextmanager
async def connect(  # noqa: PLR0913  credentials are offered in three ways
    url: str,
    server: str | None = None,
    *,
    password: str | None = None,
    discord_token: str | None = None,
    discord_user: dict[str, Any] | None = None,
    reconnect: bool = True,
) -> AsyncIterator[ClientWorld]:
    """Join a server (None: the default one) and follow it until the block ends.

    ``password``, or ``discord_token`` with the ``discord_user`` whose it is, let into a protected
    server. Raises `JoinError` where the gateway refuses, and what `websockets` raises where it
    cannot be reached. A broken rule of the protocol, such as a gap in the sequence, is raised at
    the end of the block. ``reconnect=False``: a lost connection is the end.
    """
    request = protocol.ConnectRequest(
        server=server,
        password=password,
        discord_token=discord_token,
        discord_user=discord_user,
    )
    world = ClientWorld()
    connection = await open_connection(url, max_size=None)
    try:
        await _enter(connection, world, request)
        following = asyncio.create_task(_follow(url, connection, world, request, reconnect))
        try:
            yield world
        finally:
            following.cancel()
            await asyncio.wait([following])
            if not following.cancelled():
                following.result()
    finally:
        await connection.close()


async def _follow(
    url: str,
    connection: ClientConnection,
    world: ClientWorld,
    request: protocol.ConnectRequest,
    reconnect: bool,  # noqa: FBT001  passed on
) -> None:
    code = 1006
    try:
        code = await _read(connection, world)
        if not reconnect or code in FINAL_CODES:
            return
        connections = aiter(open_connection(url, max_size=None))
        async with aclosing(cast("AsyncGenerator[ClientConnection]", connections)):
            async for again in connections:
                with suppress(ConnectionClosed):  # read finds it closed, and it is made again
                    await _enter(again, world, request)
                code = await _read(again, world)
                if code in FINAL_CODES:
                    return
    finally:
        world.close_code = code
        await world.tell(None)


async def _enter(
    connection: ClientConnection, world: ClientWorld, request: protocol.ConnectRequest
) -> None:
    """Ask to join, or to go on, and fold frames until that is answered; raises `JoinError`."""
    if world.epoch:
        known = protocol.Resume(epoch=world.epoch, seq=world.seq)
        request = structs.replace(request, resume=known)
    await connection.send(_encoder.encode(protocol.Connect(data=request)), text=True)
    frame = None
    while not isinstance(frame, protocol.ServerJoin | protocol.Resumed):
        frame = decoded(await connection.recv(decode=False))
        if isinstance(frame, protocol.Error):
            code, message = frame.data.code, frame.data.message
            raise JoinError(code, message)  # type: ignore[arg-type]
        if frame is not None:
            world.fold(frame)
            await world.tell(frame)
    world.resumes += isinstance(frame, protocol.Resumed)


async def _read(connection: ClientConnection, world: ClientWorld) -> int:
    """Fold what comes until the connection is lost; returns its close code."""
    try:
        while True:
            frame = decoded(await connection.recv(decode=False))
            if frame is not None:
                world.fold(frame)
                await world.tell(frame)
    except ConnectionClosed:
        return connection.close_code or 1006


def decoded(frame: bytes) -> protocol.ServerMessage | None:
    """A frame of the gateway; None where it is of a type that this version does not know."""
    try:
        return _decoder.decode(frame)
    except msgspec.ValidationError:
        return None


def _user(user: protocol.WireUser) -> EffectiveUser:
    return EffectiveUser(user.uid, user.username, user.status, user.role_color)  # type: ignore[arg-type]

"""A small asyncio client: joins a server and folds what it is told into a copy of the world.

::

    async with connect("ws://localhost:3000") as world:
        async for frame in world.events():
            print(len(world.users), frame)

A connection that is lost is made again, with growing waits, and the world goes on where it was.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import UNSET, structs
from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection
from websockets.client import process_exception
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from d_back_core.errors import DBackError, JoinError
from d_back_core.models import EffectiveUser
from d_back_core.wire import protocol

FINAL_CODES = frozenset({1000, 1008})
"""Close codes after which it is not tried again."""
FIRST_WAIT, LAST_WAIT = 1.0, 30.0
"""Seconds: a lost connection is made again after up to the first, and then after up to twice as
long each time, up to the last."""
UNREACHABLE: tuple[type[Exception], ...] = (OSError, WebSocketException)
"""What `connect` raises where nobody, or no gateway, answers."""
_SENT_OUT = frozenset({"gone", "unauthorized"})
"""Error codes that end a subscription."""
_MAY_PASS = frozenset({"gone", "no_server", "unknown_server", "rate_limited"})
"""Error codes with which a server that was joined once may still come back."""

_decoder: msgspec.json.Decoder[protocol.ServerMessage] = msgspec.json.Decoder(
    protocol.ServerMessage
)
_encoder = msgspec.json.Encoder()


class Listener:
    """Hears what a `connect` is told, at once and in order; it may not wait.

    This one does nothing: derive from it.
    """

    def received(self, frame: bytes, world: "ClientWorld") -> None:
        """A frame as it came, from the first one on; the world is still without it."""

    def lost(self, code: int | None) -> None:
        """The connection was lost with that close code and will be made again. None: it was
        given up, as the server is gone."""


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
        self.connected = False
        """Whether it is current: False while a lost connection is being made again."""
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
            case protocol.ServerList(data=servers):
                self.servers = servers
            case protocol.ServerListUpdate(data=changed, removed=removed):
                kept = self.servers.keys() - set([] if removed is UNSET else removed)
                self.servers = {key: self.servers[key] for key in self.servers if key in kept}
                self.servers |= changed
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
        self.connected = True
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
        self.connected = True
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
        await self.wake()

    async def wake(self) -> None:
        """Let those who wait in `until` look again."""
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
    listener: Listener | None = None,
) -> AsyncIterator[ClientWorld]:
    """Join a server (None: the default one) and follow it until the block ends.

    ``password``, or ``discord_token`` with the ``discord_user`` whose it is, let into a protected
    server. Raises `JoinError` where the gateway refuses, and one of `UNREACHABLE` where it cannot
    be reached. A broken rule of the protocol, such as a gap in the sequence, is raised at the end
    of the block; so is a `JoinError` where a server lets nobody in any more.

    A connection that is lost is made again, with growing waits of up to half a minute; so is one
    to a server that has gone, or that is not there yet after a restart. ``reconnect=False``: a
    lost connection is the end.
    """
    request = protocol.ConnectRequest(
        server=server,
        password=password,
        discord_token=discord_token,
        discord_user=discord_user,
    )
    visit = _Visit(url, request, listener or Listener())
    connection = await open_connection(url, max_size=None)
    try:
        await visit.enter(connection)
        following = asyncio.create_task(visit.follow(connection, reconnect=reconnect))
        try:
            yield visit.world
        finally:
            following.cancel()
            await asyncio.wait([following])
            if not following.cancelled():
                following.result()
    finally:
        await connection.close()


class _Visit:
    """A world, and the connections that keep it current, one after another."""

    def __init__(self, url: str, request: protocol.ConnectRequest, listener: Listener) -> None:
        self.world = ClientWorld()
        self._url = url
        self._request = request
        self._listener = listener

    async def enter(self, connection: ClientConnection) -> None:
        """Ask to join, or to go on, and fold frames until that is answered; raises
        `JoinError`."""
        request = self._request
        if self.world.epoch:
            known = protocol.Resume(epoch=self.world.epoch, seq=self.world.seq)
            request = structs.replace(request, resume=known)
        await connection.send(_encoder.encode(protocol.Connect(data=request)), text=True)
        frame = None
        while not isinstance(frame, protocol.ServerJoin | protocol.Resumed):
            frame = await self._receive(connection)
            if isinstance(frame, protocol.Error):
                raise _join_error(frame)
        self.world.resumes += isinstance(frame, protocol.Resumed)

    async def follow(self, connection: ClientConnection, *, reconnect: bool) -> None:
        """Keep the world current until there is nothing more to come."""
        code: int | None = None
        try:
            code = await self._stay(connection, reconnect=reconnect)
            while reconnect and code not in FINAL_CODES:
                await connection.close()
                self.world.connected = False
                self._listener.lost(code)
                await self.world.wake()
                connection, code = await self._again()
        finally:
            await connection.close()
            self.world.connected = False
            self.world.close_code = code or 1006
            await self.world.tell(None)

    async def _again(self) -> tuple[ClientConnection, int | None]:
        """Connect until it has gone on, and stay; returns the connection and its close code."""
        # Not at once: a gateway that restarts has all its clients come back, and one that lets
        # in and throws out would be asked without end.
        await asyncio.sleep(random.uniform(0, FIRST_WAIT))  # noqa: S311  guards nothing
        async for attempt in AsyncRetrying(
            wait=wait_random_exponential(multiplier=FIRST_WAIT, max=LAST_WAIT),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        ):
            with attempt:
                connection = await self._entered()
        return connection, await self._stay(connection, reconnect=True)

    async def _entered(self) -> ClientConnection:
        connection = await open_connection(self._url, max_size=None)
        try:
            await self.enter(connection)
        except ConnectionClosed:
            if connection.close_code not in FINAL_CODES:
                raise
        except BaseException:  # nobody else knows of it yet, also where this is cancelled
            await connection.close()
            raise
        return connection

    async def _stay(self, connection: ClientConnection, *, reconnect: bool) -> int | None:
        """Fold what comes until the connection is lost; returns its close code, or None where
        the server is gone."""
        try:
            while True:
                frame = await self._receive(connection)
                if isinstance(frame, protocol.Error) and frame.data.code in _SENT_OUT:
                    error = _join_error(frame)
                    if reconnect and _may_pass(error):
                        return None
                    raise error
        except ConnectionClosed:
            return connection.close_code or 1006

    async def _receive(self, connection: ClientConnection) -> protocol.ServerMessage | None:
        text = await connection.recv(decode=False)
        self._listener.received(text, self.world)
        frame = decoded(text)
        if frame is not None:
            self.world.fold(frame)
            await self.world.tell(frame)
        return frame


def _join_error(frame: protocol.Error) -> JoinError:
    return JoinError(frame.data.code, frame.data.message)  # type: ignore[arg-type]


def _may_pass(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, JoinError):
        return error.code in _MAY_PASS
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return status == HTTPStatus.TOO_MANY_REQUESTS or process_exception(error) is None
    if isinstance(error, ConnectionClosed):
        return True
    return isinstance(error, Exception) and process_exception(error) is None


def decoded(frame: bytes) -> protocol.ServerMessage | None:
    """A frame of the gateway; None where it is of a type that this version does not know. Raises
    `DBackError` where it is no JSON at all."""
    try:
        return _decoder.decode(frame)
    except msgspec.ValidationError:
        return None
    except msgspec.DecodeError as error:
        raise DBackError(f"not a frame of d-back: {error}") from error


def _user(user: protocol.WireUser) -> EffectiveUser:
    return EffectiveUser(user.uid, user.username, user.status, user.role_color)  # type: ignore[arg-type]

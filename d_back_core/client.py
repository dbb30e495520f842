"""A small asyncio client: joins a server and keeps a copy of its users up to date.

::

    async with connect("ws://localhost:3000") as world:
        async for frame in world.events():
            print(len(world.users), frame)

If the connection is lost, the client reconnects with growing delays and resumes: the copy is
brought up to date without a new snapshot if the gateway still has all changes since then.
"""

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, structs
from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection
from websockets.client import process_exception
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from d_back_core.errors import DBackError, JoinError
from d_back_core.models import EffectiveUser, effective_user
from d_back_core.wire import protocol
from d_back_core.wire.protocol import (
    ClientId,
    Error,
    ErrorReason,
    Joined,
    MessageDeleteFrame,
    MessageEditFrame,
    MessageFrame,
    PresenceFrame,
    RefreshData,
    Request,
    Resumed,
    ServerData,
    ServerJoin,
    ServerList,
    ServerListUpdate,
    ServerMessage,
    UpdateClientId,
    UserData,
    WireMessage,
    WireMessageDelete,
    WireMessageEdit,
    WirePresence,
    WireServer,
    WireUser,
)

__all__ = [
    "FINAL_CODES",
    "UNREACHABLE",
    "ClientId",
    "ClientWorld",
    "EffectiveUser",
    "Error",
    "ErrorReason",
    "Joined",
    "Listener",
    "MessageDeleteFrame",
    "MessageEditFrame",
    "MessageFrame",
    "PresenceFrame",
    "RefreshData",
    "Request",
    "Resumed",
    "ServerData",
    "ServerJoin",
    "ServerList",
    "ServerListUpdate",
    "ServerMessage",
    "UpdateClientId",
    "UserData",
    "WireMessage",
    "WireMessageDelete",
    "WireMessageEdit",
    "WirePresence",
    "WireServer",
    "WireUser",
    "connect",
    "decoded",
]

FINAL_CODES = frozenset({1000, 1008})
"""Close codes after which the client does not reconnect."""
FIRST_WAIT, LAST_WAIT = 1.0, 30.0
"""Seconds. The first reconnect waits a random time up to ``FIRST_WAIT``. The upper bound doubles
with each failed attempt, up to ``LAST_WAIT``."""
UNREACHABLE: tuple[type[Exception], ...] = (OSError, WebSocketException)
"""The exceptions of `connect` if it does not reach a gateway."""
_UNSUBSCRIBED = frozenset({"gone", "unauthorized"})
"""Error codes that end a subscription."""
_TEMPORARY = frozenset({"gone", "no_server", "unknown_server", "rate_limited"})
"""Error codes after which a join may succeed later, if it has succeeded before."""

_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
_encoder = msgspec.json.Encoder()


class Listener:
    """Receives every frame of a `connect`, in order, before it is applied.

    The methods are called synchronously and must not block. The methods of this class do nothing:
    derive from it.
    """

    def received(self, frame: bytes, world: "ClientWorld") -> None:
        """Called with each frame as it was received, from the first one on. ``world`` is the
        state before this frame."""

    def lost(self, code: int | None) -> None:
        """Called when the connection is lost and the client is about to reconnect. ``code`` is
        the close code; None if the client closed the connection because the server is gone."""


class ClientWorld:
    """The client's copy of one server, kept up to date in the background."""

    def __init__(self) -> None:
        self.servers: dict[str, WireServer] = {}
        """The list of servers, by server_id."""
        self.public_id = ""
        self.name = ""
        self.client_id: str | None = None
        self.epoch = ""
        self.seq = 0
        self.users: dict[str, EffectiveUser] = {}
        self.joins = 0
        """The number of snapshots that the gateway has sent."""
        self.resumes = 0
        """The number of reconnects that resumed without a snapshot."""
        self.connected = False
        """True while the copy is up to date; False while the client reconnects."""
        self.close_code: int | None = None
        """The close code of the last connection; None while the client runs."""
        self._streams: set[asyncio.Queue[ServerMessage | None]] = set()
        self._changed = asyncio.Condition()

    async def events(self) -> AsyncIterator[ServerMessage]:
        """Yield every frame from now on, after it has been applied. Ends when the client ends."""
        if self.close_code is not None:
            return
        stream: asyncio.Queue[ServerMessage | None] = asyncio.Queue()
        self._streams.add(stream)
        try:
            while (frame := await stream.get()) is not None:
                yield frame
        finally:
            self._streams.discard(stream)

    async def until(self, condition: Callable[["ClientWorld"], object]) -> None:
        """Return when the condition holds. It is evaluated after every frame. Raises `DBackError`
        if the client ends first."""
        async with self._changed:
            await self._changed.wait_for(lambda: condition(self) or self.close_code is not None)
        if not condition(self):
            raise DBackError(f"the connection ended with {self.close_code}")

    def apply(self, frame: ServerMessage) -> None:
        """Apply one frame. Raises `DBackError` if it does not follow from the frames before."""
        match frame:
            case ServerList(data=servers):
                self.servers = servers
            case ServerListUpdate(data=changed, removed=removed):
                gone = set() if removed is UNSET else set(removed)
                kept = {key: each for key, each in self.servers.items() if key not in gone}
                self.servers = kept | changed
            case ServerJoin(data=joined):
                self._join(joined)
            case Resumed(epoch=epoch, seq=seq):
                self._resume(epoch, seq)
            case PresenceFrame(data=presence):
                self._follow(frame)
                self._apply_presence(presence)
            case MessageFrame() | MessageEditFrame() | MessageDeleteFrame():
                self._follow(frame)
            case UpdateClientId(data=update):
                self.client_id = update.client_id

    def _join(self, joined: Joined) -> None:
        self.joins += 1
        self.connected = True
        self.public_id = joined.request.server
        self.name = joined.server_name
        self.client_id = None if joined.client_id is UNSET else joined.client_id
        self.epoch, self.seq = joined.epoch, joined.seq
        self.users = {uid: _user(user) for uid, user in joined.users.items()}

    def _resume(self, epoch: str, seq: int) -> None:
        if epoch != self.epoch:
            raise DBackError(f"resumed in another epoch: {epoch}, expected {self.epoch}")
        if seq < self.seq:
            raise DBackError(f"resumed in the past: {seq} after {self.seq}")
        self.connected = True
        self.seq = seq

    def _follow(
        self, frame: PresenceFrame | MessageFrame | MessageEditFrame | MessageDeleteFrame
    ) -> None:
        if frame.resync is UNSET and frame.seq not in {self.seq, self.seq + 1}:
            raise DBackError(f"a gap in the sequence: {frame.seq} after {self.seq}")
        self.seq = frame.seq

    def _apply_presence(self, presence: WirePresence) -> None:
        known = self.users.get(presence.uid)
        if presence.delete is True:
            self.users.pop(presence.uid, None)
            return
        name, color = presence.username, presence.role_color
        extra = {} if known is None else {**known.extra}
        for key, text in (presence.extra or {}).items():
            if text is None:
                extra.pop(key, None)
            else:
                extra[key] = text
        if name is UNSET and known is not None:
            name = known.username
        if color is UNSET and known is not None:
            color = known.role_color
        if name is UNSET or color is UNSET:
            raise DBackError(f"a presence of an unknown user lacks name or color: {presence.uid}")
        user = WireUser(presence.uid, name, presence.status, color, extra)
        self.users[presence.uid] = _user(user)

    async def publish(self, frame: ServerMessage | None) -> None:
        """Yield a frame from all `events`, and evaluate the conditions of `until`. None ends the
        `events`."""
        for stream in self._streams:
            stream.put_nowait(frame)
        await self.notify()

    async def notify(self) -> None:
        """Evaluate the conditions of `until`."""
        async with self._changed:
            self._changed.notify_all()


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

    For a protected server, pass ``password``, or ``discord_token`` with its ``discord_user``.
    Raises `JoinError` if the gateway refuses the join, and one of `UNREACHABLE` if it cannot be
    reached. At the end of the block it raises `DBackError` if a frame violated the protocol, such
    as a gap in the sequence, and `JoinError` if the server no longer accepts the client.

    If the connection is lost, the client reconnects with growing delays of up to half a minute.
    It also waits for a server that is gone, or that is not listed yet after a restart. With
    ``reconnect=False``, the client ends when the connection is lost.
    """
    request = protocol.ConnectRequest(
        server=server,
        password=password,
        discord_token=discord_token,
        discord_user=discord_user,
    )
    client = _Client(url, request, listener or Listener())
    connection = await _opened(url)
    try:
        await client.join(connection)
        following = asyncio.create_task(client.follow(connection, reconnect=reconnect))
        try:
            yield client.world
        finally:
            following.cancel()
            await asyncio.wait([following])
            if not following.cancelled():
                following.result()
    finally:
        await connection.close()


async def _opened(url: str) -> ClientConnection:
    """Connect, through the proxy of the environment if there is one. A proxy cannot reach a
    loopback address of this machine."""
    try:
        return await open_connection(url, max_size=None, proxy=None if _is_loopback(url) else True)
    except ImportError as error:  # a SOCKS proxy needs a further package
        raise DBackError(f"the proxy of the environment cannot be used: {error}") from error


def _is_loopback(url: str) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class _Client:
    """Keeps one `ClientWorld` up to date, over one connection after another.

    `join` either joins or, once the world has an epoch, resumes. `follow` owns the connection
    that it gets and every later one.
    """

    def __init__(self, url: str, request: protocol.ConnectRequest, listener: Listener) -> None:
        self.world = ClientWorld()
        self._url = url
        self._request = request
        self._listener = listener

    async def join(self, connection: ClientConnection) -> None:
        """Ask to join or to resume, and apply frames up to the answer. Raises `JoinError`."""
        request = self._request
        if self.world.epoch:
            known = protocol.Resume(epoch=self.world.epoch, seq=self.world.seq)
            request = structs.replace(request, resume=known)
        await connection.send(_encoder.encode(protocol.Connect(data=request)), text=True)
        frame = None
        while not isinstance(frame, ServerJoin | Resumed):
            frame = await self._receive(connection)
            if isinstance(frame, Error):
                raise _join_error(frame)
        self.world.resumes += isinstance(frame, Resumed)

    async def follow(self, connection: ClientConnection, *, reconnect: bool) -> None:
        """Keep the world up to date until the client ends."""
        code: int | None = None
        try:
            code = await self._receive_until_lost(connection, reconnect=reconnect)
            while reconnect and code not in FINAL_CODES:
                await connection.close()
                self.world.connected = False
                self._listener.lost(code)
                await self.world.notify()
                connection, code = await self._reconnect()
        finally:
            await connection.close()
            self.world.connected = False
            self.world.close_code = code or 1006
            await self.world.publish(None)

    async def _reconnect(self) -> tuple[ClientConnection, int | None]:
        """Reconnect, and receive until the connection is lost again. Returns that connection and
        its close code."""
        # Wait before the first attempt too: all clients of a gateway that restarts reconnect at
        # the same time, and a gateway that accepts and then closes would be asked in a tight loop.
        await asyncio.sleep(random.uniform(0, FIRST_WAIT))  # noqa: S311  guards nothing
        async for attempt in AsyncRetrying(
            wait=wait_random_exponential(multiplier=FIRST_WAIT, max=LAST_WAIT),
            retry=retry_if_exception(_is_temporary),
            reraise=True,
        ):
            with attempt:
                connection = await self._open()
        return connection, await self._receive_until_lost(connection, reconnect=True)

    async def _open(self) -> ClientConnection:
        connection = await _opened(self._url)
        try:
            await self.join(connection)
        except ConnectionClosed:
            if connection.close_code not in FINAL_CODES:
                raise
        except BaseException:  # no other code can close it yet, also on cancellation
            await connection.close()
            raise
        return connection

    async def _receive_until_lost(
        self, connection: ClientConnection, *, reconnect: bool
    ) -> int | None:
        """Apply frames until the connection is lost. Returns its close code, or None if the
        server is gone."""
        try:
            while True:
                frame = await self._receive(connection)
                if isinstance(frame, Error) and frame.data.code in _UNSUBSCRIBED:
                    error = _join_error(frame)
                    if reconnect and _is_temporary(error):
                        return None
                    raise error
        except ConnectionClosed:
            return connection.close_code or 1006

    async def _receive(self, connection: ClientConnection) -> ServerMessage | None:
        text = await connection.recv(decode=False)
        self._listener.received(text, self.world)
        frame = decoded(text)
        if frame is not None:
            self.world.apply(frame)
            await self.world.publish(frame)
        return frame


def _join_error(frame: Error) -> JoinError:
    return JoinError(frame.data.code, frame.data.message)  # type: ignore[arg-type]


def _is_temporary(error: BaseException) -> bool:
    """True if a retry may succeed."""
    if isinstance(error, JoinError):
        return error.code in _TEMPORARY
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return status == HTTPStatus.TOO_MANY_REQUESTS or process_exception(error) is None
    if isinstance(error, ConnectionClosed):
        return True
    return isinstance(error, Exception) and process_exception(error) is None


def decoded(frame: bytes) -> ServerMessage | None:
    """Decode a frame of the gateway. Returns None if this version does not know its type. Raises
    `DBackError` if it is not JSON."""
    try:
        return _decoder.decode(frame)
    except msgspec.ValidationError:
        return None
    except msgspec.DecodeError as error:
        raise DBackError(f"not a frame of d-back: {error}") from error


def _user(user: WireUser) -> EffectiveUser:
    return effective_user(
        user.uid,
        user.username,
        user.status,  # type: ignore[arg-type]
        user.role_color,
        user.extra or {},
    )

"""One WebSocket connection to Discord's gateway.

It opens with HELLO; then it sends IDENTIFY, for a new session, or RESUME, and passes on every
event until it ends, which is a `ConnectionEndedError`. `Shard` decides what comes after that.

discord.py makes objects of the events, but its own connection is not used. That sends heartbeats
from a thread, which outlives a closed event loop; it waits for up to 17 minutes before it
reconnects; and an event that it cannot parse ends its session.
"""

import asyncio
import random
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, Protocol, Self

import aiohttp
from discord.http import INTERNAL_API_VERSION
from msgspec import Struct
from yarl import URL

from d_back_core import Clock
from d_back_discord.frames import Frame, FrameReader, encoded

HEARTBEAT, IDENTIFY, RESUME, REQUEST_MEMBERS = 1, 2, 6, 8
"""Operations that are sent."""
DEFAULT_URL = URL("wss://gateway.discord.gg/")
LARGE_GUILD = 250
"""Members of a guild from which Discord leaves out those who are offline."""
HELLO_TIMEOUT = 30.0
"""Seconds for the connection to open."""
SESSION_TIMEOUT = 120.0
"""Seconds for READY or RESUMED to come."""
CLOSE_TIMEOUT = 0.8
"""Seconds for the peer to answer a close frame."""
MAX_SENT, SENT_WINDOW = 110, 60.0
"""Discord ends a connection that sends more than 120 messages in 60 s. The rest is for
heartbeats, which do not wait."""
MAX_UNANSWERED = 3
"""Heartbeats in a row without an ACK, while other frames come. An ACK may stand behind the events
of a large bot, so one that is late is not the end."""
MAX_BUSY = 0.002
"""Seconds of work after which other tasks run: frames that are here already are received without
a suspension, and a large guild's members are hundreds of them. To decode 1,000 members takes as
long, and to make objects of them four times that."""

LEAVE, KEEP = 1000, 4000
"""Close codes: the session ends, or it can be resumed."""
NEW_SESSION_CODES = {4003, 4006, 4007, 4009}
"""Close codes after which the session cannot be resumed."""
REFUSED_CODES = {4004, 4010, 4011, 4012, 4013, 4014}
"""Close codes that mean: do not connect again before something has been changed."""


class HTTP(Protocol):
    async def ws_connect(
        self, url: str, *, compress: int = 0
    ) -> aiohttp.ClientWebSocketResponse: ...


class Session(Struct, kw_only=True):
    """What is needed to resume; it survives a lost connection."""

    id: str
    sequence: int
    url: URL | None
    """Where to resume; None: where it began."""


class ConnectionEndedError(ConnectionError):
    """The connection is over. ``code``: the gateway's close code, if there was one."""

    def __init__(self, reason: str, code: int | None = None, *, resumable: bool = True) -> None:
        super().__init__(reason)
        self.code = code
        self.resumable = resumable


class Gateway:
    """An open connection. ``dispatch`` is called with each event: its name and its fields."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        clock: Clock,
        dispatch: Callable[[str, Any], None],
    ) -> None:
        self._socket = socket
        self._clock = clock
        self._dispatch = dispatch
        self._reader = FrameReader()
        self.sequence: int | None = None
        self.established = False
        """True from READY or RESUMED on."""
        self.session: Session | None = None
        self._alive = True
        """False from a heartbeat until anything has come after it."""
        self._unanswered = 0
        """Heartbeats since the last ACK."""
        self._dead = False
        """True if the connection was given up, because heartbeats are not answered."""
        self._heartbeats: asyncio.Task[None] | None = None
        self._busy = 0.0
        """Seconds of work since other tasks could run."""
        self._sent: deque[float] = deque(maxlen=MAX_SENT)
        self._send_lock = asyncio.Lock()

    @classmethod
    async def open(
        cls, http: HTTP, url: URL, clock: Clock, dispatch: Callable[[str, Any], None]
    ) -> Self:
        """Connect, and return after HELLO, with heartbeats on their way."""
        query = {"v": str(INTERNAL_API_VERSION), "encoding": "json", "compress": "zlib-stream"}
        async with clock.timeout(HELLO_TIMEOUT):
            gateway = cls(await http.ws_connect(str(url.update_query(query))), clock, dispatch)
            try:
                while gateway._heartbeats is None:
                    await gateway._receive()
            except BaseException:
                await gateway.close(KEEP)
                raise
        return gateway

    async def identify(self, token: str, intents: int, shard: tuple[int, int]) -> None:
        """Ask for a new session."""
        library = "d-back"
        properties = {"os": sys.platform, "browser": library, "device": library}
        identity = {
            "token": token,
            "properties": properties,
            "compress": False,
            "large_threshold": LARGE_GUILD,
            "shard": shard,
            "intents": intents,
        }
        await self.send(IDENTIFY, identity)

    async def resume(self, token: str, session: Session) -> None:
        """Ask for the rest of that session."""
        self.session, self.sequence = session, session.sequence
        resumed = {"token": token, "session_id": session.id, "seq": session.sequence}
        await self.send(RESUME, resumed)

    async def run(self) -> None:
        """Pass on events until the connection ends, which raises `ConnectionEndedError`."""
        try:
            async with self._clock.timeout(SESSION_TIMEOUT):
                while not self.established:
                    await self._receive()
        except TimeoutError as error:
            raise ConnectionEndedError("Discord does not answer the login") from error
        while True:
            await self._receive()

    async def request_chunks(  # noqa: PLR0913  discord.py's
        self,
        guild_id: int,
        query: str | None = None,
        *,
        limit: int,
        user_ids: list[int] | None = None,
        presences: bool = False,
        nonce: str | None = None,
    ) -> None:
        """Ask for members of a guild: the method that discord.py's objects call."""
        asked: dict[str, Any] = {"guild_id": str(guild_id), "limit": limit, "nonce": nonce}
        asked |= {"presences": presences, "query": query or ""}
        if user_ids:
            asked["user_ids"] = user_ids
            del asked["query"]
        await self.send(REQUEST_MEMBERS, asked)

    async def send(self, operation: int, fields: object) -> None:
        """Send a message, as soon as the gateway's limit allows it."""
        async with self._send_lock:
            if len(self._sent) == MAX_SENT:
                wait = self._sent[0] + SENT_WINDOW - self._clock.time()
                if wait > 0:
                    await self._clock.sleep(wait)
            self._sent.append(self._clock.time())
            await self._send_now(operation, fields)

    async def close(self, code: int) -> None:
        """End the connection; may be called twice."""
        if self._heartbeats is not None:
            self._heartbeats.cancel()
            await asyncio.wait([self._heartbeats])
        # Cancelled, aiohttp closes the socket without the peer's answer.
        with suppress(OSError, aiohttp.ClientError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._socket.close(code=code)

    async def _send_now(self, operation: int, fields: object) -> None:
        await self._socket.send_str(encoded(operation, fields))

    async def _receive(self) -> None:
        message = await self._socket.receive()
        began = time.perf_counter()
        try:
            if message.type not in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
                self._raise_closed()
            frame = self._reader.read(message.data)
            began = await self._pause(began)
            if frame is not None:
                await self._take(frame)
        except (zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
            # Not JSON, or not what Discord documents. Of events, only READY raises.
            raise ConnectionEndedError(
                f"Discord sends an unreadable frame: {type(error).__name__}: {error}",
                resumable=False,
            ) from error
        await self._pause(began)

    async def _pause(self, began: float) -> float:
        """Let other tasks run if that is due after work since ``began``; return the time."""
        self._busy += time.perf_counter() - began
        if self._busy > MAX_BUSY:
            self._busy = 0.0
            await asyncio.sleep(0)
        return time.perf_counter()

    def _raise_closed(self) -> NoReturn:
        code = self._socket.close_code
        if self._dead:
            raise ConnectionEndedError("Discord does not answer heartbeats")
        if code is None or code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
            raise ConnectionEndedError("the connection to Discord is lost")
        resumable = code not in NEW_SESSION_CODES | REFUSED_CODES
        raise ConnectionEndedError(
            f"Discord closed the connection ({code})", code, resumable=resumable
        )

    async def _take(self, frame: Frame) -> None:
        self._alive = True
        match frame.op:
            case 0:
                self._take_event(frame.t or "", frame.d, frame.s or 0)
            case 1:
                await self._send_now(HEARTBEAT, self.sequence)
            case 7:
                raise ConnectionEndedError("Discord asks to reconnect")
            case 9:
                again = frame.d is True
                raise ConnectionEndedError("Discord ended the session", resumable=again)
            case 11:
                self._unanswered = 0
            case 10:
                beat = self._beat(frame.d["heartbeat_interval"] / 1000)
                self._heartbeats = asyncio.create_task(beat, name="heartbeats")

    def _take_event(self, event: str, fields: Any, sequence: int) -> None:  # noqa: ANN401  any JSON
        self.sequence = sequence
        if event == "READY":
            again = fields.get("resume_gateway_url")
            url = None if again is None else URL(again)
            self.session = Session(id=fields["session_id"], sequence=sequence, url=url)
        elif self.session is not None:
            self.session.sequence = sequence
        if event in {"READY", "RESUMED"}:
            self.established = True
        self._dispatch(event, fields)

    async def _beat(self, interval: float) -> None:
        # The first one comes at a random time, as Discord asks, so that a million bots which
        # reconnect at once do not stay in step.
        await self._clock.sleep(interval * random.random())  # noqa: S311
        while True:
            self._alive = False
            self._unanswered += 1
            try:
                async with self._clock.timeout(interval):
                    await self._send_now(HEARTBEAT, self.sequence)
            except (OSError, aiohttp.ClientError, TimeoutError):
                break
            await self._clock.sleep(interval)
            if not self._alive or self._unanswered == MAX_UNANSWERED:
                break
        # The reader sees the closed socket, and raises the reason.
        self._dead = True
        await self._socket.close(code=KEEP)

"""One client: greet it, join it to servers, write to it."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from websockets.exceptions import ConnectionClosed

from d_back_core.clock import Clock, Timer
from d_back_core.config import LimitsConfig
from d_back_core.errors import JoinError
from d_back_core.gateway.connection import Connection
from d_back_core.gateway.rate_limits import Bucket
from d_back_core.models import Credentials
from d_back_core.stats import Counters
from d_back_core.wire import protocol
from d_back_core.wire.frames import text_frame

REFUSALS = 20
REFUSAL_INTERVAL = 10.0
"""A session that is refused more often than ``REFUSALS`` times at once, and after that once
every ``REFUSAL_INTERVAL`` seconds, is closed."""
SNAPSHOT_TIMEOUT = 60.0
"""The least time that a client has for a snapshot."""
UNREAD_CLOSE_TIMEOUT = 1.0
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
PING = b"\x89\x00"
"""A frame without a payload: whatever comes back is a sign of life."""
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013

log = logging.getLogger("d_back.session")


class Joins(Protocol):
    """What a session asks of the live state."""

    @property
    def counters(self) -> Counters:
        """What the gateway counts."""

    def has_old_list(self) -> bool:
        """Whether a newer list of servers is to be waited for before `attach`."""

    async def renewed_list(self) -> None:
        """Return when it is there."""

    def attach(self, session: "Session") -> None:
        """Send the list of servers, now and when it changes."""

    def detach(self, session: "Session") -> None:
        """Forget the session."""

    async def join(
        self,
        session: "Session",
        wanted: str | None,
        credentials: Credentials,
        address: str,
        resume: protocol.Resume | None = None,
    ) -> None:
        """Send the snapshot of a server, or what was missed, and then its deltas; raises
        `JoinError`."""

    def stop_direct_writes(self, session: "Session") -> None:
        """Its descriptor is not to be written to any more, or not for now."""

    def catch_up(self, session: "Session") -> None:
        """Send what waited while the session was paused."""

    async def user_data(self, session: "Session", wanted: str) -> bytes:
        """The users of a server, once; raises `JoinError`."""

    def server_data(self, wanted: str | None) -> bytes:
        """The servers, or one of them, once; raises `JoinError`."""


class Session:
    """A connected client, from the first frame to the last."""

    __slots__ = (
        "_answering",
        "_clock",
        "_deadline",
        "_drained",
        "_joining",
        "_joins",
        "_messages",
        "_patience",
        "_refusals",
        "_slow_client_timeout",
        "_tasks",
        "address",
        "connection",
        "deflates",
        "paused",
        "write",
    )

    def __init__(
        self,
        connection: Connection,
        joins: Joins,
        clock: Clock,
        address: str,
        limits: LimitsConfig,
    ) -> None:
        self.connection = connection
        self.address = address
        self.paused = False
        self.deflates = connection.deflates
        self.write = connection.write
        self._joins = joins
        self._clock = clock
        self._messages = Bucket(clock, limits.message_burst, 1 / limits.messages_per_second)
        self._refusals = Bucket(clock, REFUSALS, REFUSAL_INTERVAL)
        self._slow_client_timeout: float = limits.slow_client_timeout
        self._patience: float = self._slow_client_timeout
        self._deadline: Timer | None = None
        self._drained: asyncio.Event | None = None
        """What waits for the client to catch up waits for this; None: it keeps up."""
        self._answering = asyncio.Lock()
        self._joining: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        connection.observer = self

    @property
    def descriptor(self) -> int | None:
        """Where whole frames may be written instead of with `write`, until ``Joins.stop_direct_writes``
        is told otherwise; None: not now."""
        return self.connection.descriptor

    def send(self, payload: bytes) -> None:
        """Write a text message, at once and in order; nothing where the connection is closing."""
        self.write(text_frame(payload))

    def write_snapshot(self, frames: bytes) -> None:
        """Write what may take its client longer to read."""
        self._patience = max(SNAPSHOT_TIMEOUT, self._slow_client_timeout)
        self.write(frames)
        self._patience = self._slow_client_timeout

    def send_away(self) -> None:
        """Close the connection with 1001, without waiting for it."""
        self._begin(self.connection.close(GOING_AWAY))

    async def run(self) -> None:
        """Serve the client until it is gone."""
        if self._joins.has_old_list():
            renewed = self._begin(self._joins.renewed_list())
            gone = self._begin(self.connection.wait_closed())
            await asyncio.wait((renewed, gone), return_when=asyncio.FIRST_COMPLETED)
        self._joins.attach(self)
        try:
            while True:
                await self._caught_up()  # before and behind: recv() lets the library read on
                frame = await self.connection.recv(decode=False)
                await self._caught_up()
                await self._receive(frame)
        except ConnectionClosed:
            pass
        except Exception:  # the border around a session: its failure touches nobody else
            log.exception("session of %s failed", self.address)
            await self.connection.close(INTERNAL_ERROR)
        finally:
            self.connection.observer = None
            self._joins.detach(self)
            if self._deadline is not None:
                self._deadline.cancel()
            await _end(self._tasks)

    async def _receive(self, frame: bytes) -> None:
        if not self._messages.take():
            await self._refuse(JoinError("rate_limited", "Too many messages"))
            return
        try:
            match protocol.decode(frame):
                case protocol.Connect(data=request):
                    if self._joining is not None:
                        await _end({self._joining})
                    join = self._join(request or protocol.ConnectRequest())
                    self._joining = self._begin(join)
                case protocol.GetUserData(server_id=server_id):
                    self._begin(self._answer_user_data(server_id))
                case protocol.GetServerData(server_id=wanted):
                    self.send(self._joins.server_data(wanted))
        except JoinError as error:
            await self._refuse(error)

    async def _join(self, request: protocol.ConnectRequest) -> None:
        credentials = Credentials(
            password=request.password,
            discord_token=request.discord_token,
            discord_user=request.discord_user,
        )
        try:
            await self._caught_up()  # one snapshot that is not read yet is enough
            await self._joins.join(self, request.server, credentials, self.address, request.resume)
        except JoinError as error:
            await self._refuse(error)

    async def _answer_user_data(self, server_id: str) -> None:
        try:
            async with self._answering:
                await self._caught_up()
                self.send(await self._joins.user_data(self, server_id))
        except JoinError as error:
            await self._refuse(error)

    async def _refuse(self, error: JoinError) -> None:
        self._joins.counters.refusals[error.code] += 1
        self.send(protocol.error(error.code, str(error)))
        if error.code == "no_server":  # d-zone would ask again, at once, for ever
            await self.connection.close(TRY_AGAIN_LATER, "no server is open")
        elif not self._refusals.take():
            await self.connection.close(POLICY_VIOLATION, "too many refused messages")

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task is self._joining:
            self._joining = None
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, ConnectionClosed):
            log.error("session of %s failed", self.address, exc_info=error)
            self.connection.abort()

    # A client that is dead, or does not keep up

    def ping(self) -> None:
        """Ask for a sign of life; end the client where there was none since the last call. One
        that is behind has a deadline of its own, and is not read from meanwhile."""
        if self.paused:
            return
        if self.connection.is_heard:
            self.connection.is_heard = False
            self.write(PING)
        else:
            log.info("client %s is dead", self.address)
            self._begin(self._end_unread(INTERNAL_ERROR, "keepalive ping timeout"))

    def stop_direct_writes(self) -> None:
        """As `WriteObserver` says."""
        self._joins.stop_direct_writes(self)

    def fall_behind(self) -> None:
        """As `WriteObserver` says."""
        self.paused = True
        self._drained = asyncio.Event()
        self._deadline = self._clock.call_later(self._patience, self._give_up)

    def recover(self) -> None:
        """As `WriteObserver` says."""
        if self._drained is None:
            return
        self.paused = False
        self._drained.set()
        self._drained = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._joins.catch_up(self)

    async def _caught_up(self) -> None:
        while self._drained is not None:
            await self._drained.wait()

    def _give_up(self) -> None:
        log.info("client %s reads too slowly", self.address)
        self._joins.counters.slow_clients += 1
        self._begin(self._end_unread(TRY_AGAIN_LATER, "too slow"))

    async def _end_unread(self, code: int, reason: str) -> None:
        try:  # the close frame waits behind what is not read
            async with asyncio.timeout(UNREAD_CLOSE_TIMEOUT):
                await self.connection.close(code, reason)
        except TimeoutError:
            self.connection.abort()


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    ending = [task for task in tasks if task is not asyncio.current_task()]
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)

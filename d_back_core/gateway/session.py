"""One connected client, as the state sees it: written to, pinged, and ended if it does not read.

What the client sends is served by `requests.RequestHandler`.

A session is either *current* or *paused*. It pauses when the client has too many unsent bytes
(`fall_behind`), and is current again when all of them are sent (`recover`). While it is paused:

- the state does not write deltas to it; it keeps the changed uids and sends their newest state
  when `SessionBackend.catch_up` is called;
- nothing is read from the client, and answers that are on their way wait in `caught_up`;
- it is not pinged, because a pong would not be read;
- at the deadline the client is closed with 1013. A snapshot can be larger than the client's
  buffers, so the deadline of a pause that a snapshot causes is longer.

Invariant: ``paused`` is true exactly while ``_drained`` is not None.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from websockets.exceptions import ConnectionClosed

from d_back_core.clock import Clock, Timer
from d_back_core.config import LimitsConfig
from d_back_core.gateway.connection import Connection
from d_back_core.models import Credentials
from d_back_core.stats import Counters
from d_back_core.wire import protocol
from d_back_core.wire.frames import text_frame

SNAPSHOT_TIMEOUT = 60.0
"""Seconds that a client has at least to read a snapshot."""
UNREAD_CLOSE_TIMEOUT = 1.0
"""Seconds that a client which does not read has to answer a close frame."""
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013
PING = b"\x89\x00"
"""A ping frame without a payload (RFC 6455, section 5.5.2)."""

log = logging.getLogger("d_back.session")


class SessionBackend(Protocol):
    """What a session needs of the live state."""

    @property
    def counters(self) -> Counters:
        """What the gateway counts."""

    def has_old_list(self) -> bool:
        """True if `renewed_list` must be awaited before `attach`."""

    async def renewed_list(self) -> None:
        """Return when the list of servers is up to date."""

    def attach(self, session: "Session") -> None:
        """Send the list of servers, now and when it changes."""

    def detach(self, session: "Session") -> None:
        """Stop sending anything to the session."""

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
        """Stop writing to the session's descriptor before this returns."""

    def catch_up(self, session: "Session") -> None:
        """Send what was held back while the session was paused."""

    async def user_data(self, session: "Session", wanted: str) -> Sequence[bytes]:
        """Return the users of a server as a frame, in pieces; raises `JoinError`."""

    def server_data(self, wanted: str | None) -> bytes:
        """Return the servers, or one of them; raises `JoinError`."""


class Session:
    """A connected client, from the first frame to the last."""

    __slots__ = (
        "_backend",
        "_clock",
        "_deadline",
        "_drained",
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
        backend: SessionBackend,
        clock: Clock,
        address: str,
        limits: LimitsConfig,
    ) -> None:
        self.connection = connection
        self.address = address
        self.paused = False
        self.deflates = connection.deflates
        self.write = connection.write
        self._backend = backend
        self._clock = clock
        self._slow_client_timeout: float = limits.slow_client_timeout
        self._deadline: Timer | None = None
        self._drained: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        connection.observer = self

    @property
    def descriptor(self) -> int | None:
        """The descriptor for direct writes; None while only `write` is safe.

        Valid until `SessionBackend.stop_direct_writes` is called.
        """
        return self.connection.descriptor

    def send(self, payload: bytes) -> None:
        """Write a text message, in order; does nothing if the connection is closing."""
        self.write(text_frame(payload))

    def write_snapshot(self, frames: Sequence[bytes]) -> None:
        """Write frames, in pieces, that the client may need ``SNAPSHOT_TIMEOUT`` to read."""
        self.connection.write_shared(frames)
        if self.paused:
            self._start_deadline(max(SNAPSHOT_TIMEOUT, self._slow_client_timeout))

    async def caught_up(self) -> None:
        """Return when the client is not paused."""
        while self._drained is not None:  # again: `catch_up` may have paused it at once
            await self._drained.wait()

    def run_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ends with the session. Its failure drops the connection."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def start_closing(self) -> None:
        """Close the connection with 1001, without waiting for the client's answer."""
        self.run_task(self.connection.close(GOING_AWAY))

    async def end(self) -> None:
        """Release everything; the connection is closed."""
        # The observer first: `recover` must not write to a session that the state has forgotten.
        self.connection.observer = None
        self._backend.detach(self)
        if self._deadline is not None:
            self._deadline.cancel()
        await cancel_and_wait(self._tasks)

    def ping(self) -> None:
        """Send a ping; end the client if nothing arrived from it since the last call. A paused
        client is ended by its deadline instead."""
        if self.paused:
            return
        if self.connection.begin_interval():
            self.write(PING)
        else:
            log.info("client %s: does not answer pings, closing", self.address)
            self.run_task(self._close_unread(INTERNAL_ERROR, "keepalive ping timeout"))

    def stop_direct_writes(self) -> None:
        """As in `WriteObserver`."""
        self._backend.stop_direct_writes(self)

    def fall_behind(self) -> None:
        """As in `WriteObserver`."""
        self.paused = True
        self._drained = asyncio.Event()
        self._start_deadline(self._slow_client_timeout)

    def recover(self) -> None:
        """As in `WriteObserver`."""
        if self._drained is None:  # the connection was lost while the client was not paused
            return
        # All of this before `catch_up`, which writes and may pause the session again.
        self.paused = False
        self._drained.set()
        self._drained = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._backend.catch_up(self)

    def _start_deadline(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._clock.call_later(seconds, self._close_slow)

    def _close_slow(self) -> None:
        log.info("client %s: reads too slowly, closing", self.address)
        self._backend.counters.slow_clients += 1
        self.run_task(self._close_unread(TRY_AGAIN_LATER, "too slow"))

    async def _close_unread(self, code: int, reason: str) -> None:
        # The close frame queues behind the unsent bytes, so it may never arrive.
        try:
            async with asyncio.timeout(UNREAD_CLOSE_TIMEOUT):
                await self.connection.close(code, reason)
        except TimeoutError:
            self.connection.abort()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, ConnectionClosed):
            log.error("client %s: session failed", self.address, exc_info=error)
            self.connection.abort()


async def cancel_and_wait(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel the tasks, except the current one, and return when they have ended."""
    ending = [task for task in tasks if task is not asyncio.current_task()]
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)

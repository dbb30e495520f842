"""One client: greet it, join it to servers, write to it."""

import asyncio
import logging
from typing import Protocol

from websockets.exceptions import ConnectionClosed

from d_back_core import protocol
from d_back_core.clock import Clock, Timer
from d_back_core.errors import JoinError
from d_back_core.fanout import Connection
from d_back_core.frames import text_frame
from d_back_core.limits import Bucket
from d_back_core.models import Credentials

REFUSALS = 20
REFUSAL_INTERVAL = 10.0
"""A session that is refused more often than ``REFUSALS`` times at once, and after that once
every ``REFUSAL_INTERVAL`` seconds, is closed."""
SNAPSHOT_TIMEOUT = 60.0
"""The least time that a client has for a snapshot."""
SLOW_CLOSE_TIMEOUT = 1.0
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013
INTERNAL_ERROR = 1011

log = logging.getLogger("d_back.session")


class Joins(Protocol):
    """What a session asks of the live state."""

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

    def catch_up(self, session: "Session") -> None:
        """Send what waited while the session was paused."""

    async def user_data(self, session: "Session", wanted: str) -> bytes:
        """The users of a server, once; raises `JoinError`."""

    def server_data(self, wanted: str | None) -> bytes:
        """The servers, or one of them, once; raises `JoinError`."""


class Session:
    """A connected client, from the first frame to the last."""

    def __init__(
        self, connection: Connection, joins: Joins, clock: Clock, slow_client_timeout: float
    ) -> None:
        peer = connection.remote_address
        self.address = peer[0] if isinstance(peer, tuple) else ""
        self.paused = False
        self.deflates = connection.deflates
        self.write = connection.write
        self._connection = connection
        self._joins = joins
        self._clock = clock
        self._slow_client_timeout = slow_client_timeout
        self._deadline: Timer | None = None
        self._patience = slow_client_timeout
        self._joining: asyncio.Task[None] | None = None
        self._refusals = Bucket(clock, REFUSALS, REFUSAL_INTERVAL)
        self._ending: asyncio.Task[None] | None = None
        connection.paused_writing = self._pause
        connection.resumed_writing = self._resume

    def send(self, payload: bytes) -> None:
        """Write a text message, at once and in order; nothing where the connection is closing."""
        self.write(text_frame(payload))

    def write_snapshot(self, frames: bytes) -> None:
        """Write what may take its client longer to read."""
        self._patience = max(SNAPSHOT_TIMEOUT, self._slow_client_timeout)
        self.write(frames)
        self._patience = self._slow_client_timeout

    def _pause(self) -> None:
        self.paused = True
        self._deadline = self._clock.call_later(self._patience, self._give_up)

    def _resume(self) -> None:
        self.paused = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._joins.catch_up(self)

    def _give_up(self) -> None:
        log.info("client %s reads too slowly", self.address)
        self._ending = asyncio.ensure_future(self._end_slow())

    async def _end_slow(self) -> None:
        try:  # the close frame waits behind the full buffer
            async with asyncio.timeout(SLOW_CLOSE_TIMEOUT):
                await self._connection.close(TRY_AGAIN_LATER, "too slow")
        except TimeoutError:
            self._connection.abort()

    async def run(self) -> None:
        """Serve the client until it is gone."""
        self._joins.attach(self)
        try:
            while True:
                await self._receive(await self._connection.recv(decode=False))
        except ConnectionClosed:
            pass
        except Exception:  # the border around a session: its failure touches nobody else
            log.exception("session of %s failed", self.address)
            await self._connection.close(INTERNAL_ERROR)
        finally:
            await self._end_join()
            self._joins.detach(self)
            self._connection.paused_writing = self._connection.resumed_writing = None
            if self._deadline is not None:
                self._deadline.cancel()

    async def _receive(self, frame: bytes) -> None:
        try:
            match protocol.decode(frame):
                case protocol.Connect(data=request):
                    await self._end_join()
                    join = self._join(request or protocol.ConnectRequest())
                    self._joining = asyncio.create_task(join)
                case protocol.GetUserData(server_id=server_id):
                    self.send(await self._joins.user_data(self, server_id))
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
            wanted, resume = request.server, request.resume
            await self._joins.join(self, wanted, credentials, self.address, resume)
        except JoinError as error:
            await self._refuse(error)
        except Exception:  # the border around a session: its failure touches nobody else
            log.exception("join of %s failed", self.address)
            await self._connection.close(INTERNAL_ERROR)

    async def _end_join(self) -> None:
        joining, self._joining = self._joining, None
        if joining is not None:
            joining.cancel()
            await asyncio.wait([joining])

    async def _refuse(self, error: JoinError) -> None:
        self.send(protocol.error(error.code, str(error)))
        if error.code == "no_server":  # d-zone would ask again, at once, for ever
            await self._connection.close(TRY_AGAIN_LATER, "no server is open")
        elif not self._refusals.take():
            await self._connection.close(POLICY_VIOLATION, "too many refused messages")

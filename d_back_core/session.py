"""One client: greet it, join it to servers, write to it."""

import asyncio
import logging
from typing import Protocol

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed

from d_back_core import protocol
from d_back_core.clock import Clock
from d_back_core.errors import JoinError
from d_back_core.limits import Bucket
from d_back_core.models import Credentials

REFUSALS = 20
REFUSAL_INTERVAL = 10.0
"""A session that is refused more often than ``REFUSALS`` times at once, and after that once
every ``REFUSAL_INTERVAL`` seconds, is closed."""
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
        self, session: "Session", wanted: str | None, credentials: Credentials, address: str
    ) -> None:
        """Send the snapshot of a server and then its deltas; raises `JoinError`."""

    async def user_data(self, session: "Session", wanted: str) -> bytes:
        """The users of a server, once; raises `JoinError`."""

    def server_data(self, wanted: str | None) -> bytes:
        """The servers, or one of them, once; raises `JoinError`."""


class Session:
    """A connected client, from the first frame to the last."""

    def __init__(self, connection: ServerConnection, joins: Joins, clock: Clock) -> None:
        peer = connection.remote_address
        self.address = peer[0] if isinstance(peer, tuple) else ""
        self._connection = connection
        self._joins = joins
        self._joining: asyncio.Task[None] | None = None
        self._refusals = Bucket(clock, REFUSALS, REFUSAL_INTERVAL)

    def send(self, frame: bytes) -> None:
        """Write a text frame, at once and in order; nothing where the connection is closing."""
        broadcast((self._connection,), frame, text=True)

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
            await self._joins.join(self, request.server, credentials, self.address)
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

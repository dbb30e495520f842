"""Serve what one client sends: joins and queries, in order, and within its rate limits.

One join is under way per session at a time (R26): a newer ``connect`` cancels the current one and
waits for its end, so that the two cannot both subscribe the session. Joins and ``get_user_data``
ask the state and may take seconds, so they run as tasks while further messages are read. Answers
to ``get_user_data`` go out one after another, and only while the client reads: each can be as
large as a snapshot.
"""

import asyncio
import logging

from websockets.exceptions import ConnectionClosed

from d_back_core.clock import Clock
from d_back_core.config import LimitsConfig
from d_back_core.errors import JoinError
from d_back_core.gateway.rate_limits import Bucket
from d_back_core.gateway.session import (
    INTERNAL_ERROR,
    POLICY_VIOLATION,
    TRY_AGAIN_LATER,
    Session,
    SessionBackend,
    cancel_and_wait,
)
from d_back_core.models import Credentials
from d_back_core.wire import protocol

REFUSALS = 20
REFUSAL_INTERVAL = 10.0
"""Seconds. A session is closed if it exceeds ``REFUSALS`` refused messages at once, and then one
per ``REFUSAL_INTERVAL``."""

log = logging.getLogger("d_back.session")


class RequestHandler:
    """Reads and answers the messages of one session."""

    __slots__ = ("_answering", "_backend", "_join_task", "_messages", "_refusals", "_session")

    def __init__(
        self, session: Session, backend: SessionBackend, clock: Clock, limits: LimitsConfig
    ) -> None:
        self._session = session
        self._backend = backend
        self._messages = Bucket(clock, limits.message_burst, 1 / limits.messages_per_second)
        self._refusals = Bucket(clock, REFUSALS, REFUSAL_INTERVAL)
        self._answering = asyncio.Lock()
        self._join_task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve the client until the connection is closed."""
        session, connection = self._session, self._session.connection
        if self._backend.has_old_list():
            renewed = session.run_task(self._backend.renewed_list())
            gone = session.run_task(connection.wait_closed())
            await asyncio.wait((renewed, gone), return_when=asyncio.FIRST_COMPLETED)
        self._backend.attach(session)
        try:
            while True:
                # Before `recv`, which lets the library read on from a client that does not read.
                # After it, because the client may have fallen behind while it was awaited.
                await session.caught_up()
                frame = await connection.recv()  # closes with 1007 if a text is not UTF-8
                await session.caught_up()
                await self._handle(frame)
        except ConnectionClosed:
            pass
        except Exception:  # a failure of one session must not end the others
            log.exception("client %s: session failed", session.address)
            await connection.close(INTERNAL_ERROR)
        finally:
            await session.end()

    async def _handle(self, frame: str | bytes) -> None:
        if not self._messages.take():
            await self._refuse(JoinError("rate_limited", "Too many messages"))
            return
        try:
            match protocol.decode(frame):
                case protocol.Connect(data=request):
                    if self._join_task is not None:
                        await cancel_and_wait({self._join_task})
                    join = self._join(request or protocol.ConnectRequest())
                    self._join_task = self._session.run_task(join)
                    self._join_task.add_done_callback(self._join_done)
                case protocol.GetUserData(server_id=server_id):
                    self._session.run_task(self._answer_user_data(server_id))
                case protocol.GetServerData(server_id=wanted):
                    self._session.send(self._backend.server_data(wanted))
        except JoinError as error:
            await self._refuse(error)

    async def _join(self, request: protocol.ConnectRequest) -> None:
        credentials = Credentials(
            password=request.password,
            discord_token=request.discord_token,
            discord_user=request.discord_user,
        )
        session = self._session
        try:
            # A client that repeats `connect` without reading must not pile up snapshots.
            await session.caught_up()
            await self._backend.join(
                session, request.server, credentials, session.address, request.resume
            )
        except JoinError as error:
            await self._refuse(error)

    def _join_done(self, task: asyncio.Task[None]) -> None:
        if task is self._join_task:  # a finished task is not small
            self._join_task = None

    async def _answer_user_data(self, server_id: str) -> None:
        try:
            async with self._answering:
                await self._session.caught_up()
                users = await self._backend.user_data(self._session, server_id)
                self._session.write_snapshot(users)
        except JoinError as error:
            await self._refuse(error)

    async def _refuse(self, error: JoinError) -> None:
        self._backend.counters.refusals[error.code] += 1
        self._session.send(protocol.error(error.code, str(error)))
        connection = self._session.connection
        if error.code == "no_server":  # d-zone would send `connect` again, at once and for ever
            await connection.close(TRY_AGAIN_LATER, "no server is open")
        elif not self._refusals.take():
            await connection.close(POLICY_VIOLATION, "too many refused messages")

"""The connection that listens for changes: opened, watched, and opened again when it is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import tenacity

from d_back_core import Context
from d_back_postgres.failure import FAILURES, DatabaseError, described
from d_back_postgres.relations import CHANNEL

if TYPE_CHECKING:
    from d_back_postgres.database import Connection

HEARTBEAT = 5.0
"""Seconds after which a silent connection is asked whether it is still there: one that a
firewall or a dead host has cut off would be silent for ever."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0
"""Seconds between two attempts to connect again."""

LOST = "the connection that listens for changes was lost"


class Listener:
    """Hears notifications from `open` to `close`, whatever happens to the connection.

    ``notified`` is called with each payload and the server's process that it comes from,
    ``resumed`` when the connection is there again.
    """

    def __init__(
        self,
        context: Context,
        connect: Callable[[], "Awaitable[Connection]"],
        notified: Callable[[str, int], None],
        resumed: Callable[[], None],
    ) -> None:
        self._context = context
        self._connect = connect
        self._notified = notified
        self._resumed = resumed
        self._task: asyncio.Task[None] | None = None
        self.connected = False

    async def open(self) -> None:
        """Listen from now on; raises what asyncpg raises where that cannot begin."""
        connection = await self._listening()
        self.connected = True
        self._task = asyncio.create_task(self._keep(connection), name="d_back_postgres listener")
        self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Listen no more; may be called twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _keep(self, connection: "Connection") -> None:
        while True:
            try:
                await self._watch(connection)
            finally:
                # Nothing is left to be said to it, and it may be dead: no farewell.
                connection.terminate()
            self.connected = False
            self._context.degraded(LOST)
            connection = await self._again()
            # LISTEN is committed: changes from here on are notified, and a caller that reads now
            # misses none.
            self.connected = True
            self._resumed()

    async def _watch(self, connection: "Connection") -> None:
        """Return when the connection is lost."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        while not (lost.is_set() or connection.is_closed()):
            try:
                async with self._context.clock.timeout(HEARTBEAT):
                    await lost.wait()
            except TimeoutError:
                try:
                    await connection.execute("SELECT 1")
                except FAILURES:
                    return

    async def _again(self) -> "Connection":
        """Connect as soon as that is possible."""
        attempts = tenacity.AsyncRetrying(
            sleep=self._context.clock.sleep,
            wait=tenacity.wait_exponential(FIRST_WAIT, LONGEST_WAIT)
            + tenacity.wait_random(0, FIRST_WAIT),
            retry=tenacity.retry_if_exception_type(DatabaseError),
        )
        async for attempt in attempts:
            with attempt:
                try:
                    return await self._listening()
                except FAILURES as error:
                    reason = described(error)
                    self._context.degraded(reason)
                    raise DatabaseError(reason) from None
        raise AssertionError  # the attempts have no end

    async def _listening(self) -> "Connection":
        connection = await self._connect()
        try:
            await connection.add_listener(CHANNEL, self._heard)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._context.degraded("listening for changes has failed")
            self._context.log.error("listening for changes has failed", exc_info=error)

    def _heard(self, _connection: object, pid: int, _channel: str, payload: object) -> None:
        self._notified(str(payload), pid)

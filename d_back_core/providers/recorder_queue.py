"""What recorders store: queued, conflated, and passed on in batches at the recorder's pace.

A recorder receives what live providers return and yield, never that a layer was lost (R22). One
that is slow or down delays no other part of the gateway.
"""

import asyncio
import logging
from collections.abc import Hashable, Iterable
from itertools import count
from typing import TypeAlias

import tenacity

from d_back_core.chain.layers import Link
from d_back_core.chain.world import corrected, message_key
from d_back_core.clock import Clock
from d_back_core.errors import ProviderError
from d_back_core.models import (
    AccessChanged,
    Change,
    Chat,
    Message,
    MessageDeleted,
    MessageEdited,
    ServerRemoved,
    ServerSet,
    Snapshot,
    UserRemoved,
    UserSet,
)
from d_back_core.providers.supervisor import Supervisor
from d_back_core.retrying import retrying

BATCH = 1000
MAX_MESSAGES = 1000
"""Chat messages, edits and deletions that wait for a recorder. The oldest is dropped first, a
deletion only if there is nothing else: what is deleted must not stay in the store."""
MAX_MESSAGE_AGE = 300.0
"""Seconds for which a chat message waits. After a long outage a recorder that passes chat on would
show old messages as new ones."""

Key: TypeAlias = tuple[Hashable, ...]

log = logging.getLogger("d_back.queue")


class RecorderQueue:
    """One recorder's queue, bounded by the number of users, servers and people who lost access:
    of each only the newest state waits, however long. Chat is bounded by number and age (R23)."""

    def __init__(
        self, supervisor: Supervisor, link: Link, above: str | None, clock: Clock
    ) -> None:
        self.reconfigure(supervisor, link, above)
        self._clock = clock
        self._queue: dict[Key, Change] = {}
        self._messages: dict[Key, float] = {}
        """The time at which each message was queued, the oldest first."""
        self._dropped = 0
        """Messages since the last success."""
        self._numbers = count()
        # Exactly one of the two is set: `_wanted` while changes wait, `_empty` while none does.
        self._wanted = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None
        self._is_backing_off = False
        """True between two attempts to store."""

    def reconfigure(self, supervisor: Supervisor, link: Link, above: str | None) -> None:
        """Record for this provider what the providers above that one return (None: all)."""
        self.supervisor = supervisor
        self.link = link
        self.above = above

    @property
    def public(self) -> bool:
        """True if it stores the state after the operator's policy, and chat."""
        return self.supervisor.plugin.records_public

    @property
    def waiting(self) -> int:
        """Number of changes that are not stored yet."""
        return len(self._queue)

    def put(self, changes: Iterable[Change]) -> None:
        """Queue changes; a newer one replaces an older one of the same user or server."""
        for change in changes:
            key = _key(change) or ("message", next(self._numbers))
            # The newest is the last: `Snapshot` relies on the order.
            earlier = self._queue.pop(key, None)
            if isinstance(earlier, Chat) and isinstance(change, MessageEdited | MessageDeleted):
                change = corrected(earlier, change)  # noqa: PLW2901
            self._queue[key] = change
            if isinstance(change, Chat):
                self._messages.pop(key, None)
                self._messages[key] = self._clock.time()
        self._drop_messages()
        if self._queue:
            self._empty.clear()
            self._wanted.set()

    def begin(self) -> None:
        """Start to store what is queued, in the background."""
        self._is_backing_off = False
        self._task = asyncio.create_task(self._run(), name=f"recorder {self.supervisor.name}")

    async def flush(self) -> None:
        """Return when the queue is stored, or when the recorder's timeout has passed."""
        if not self.supervisor.running or self.supervisor.health.failing_since is not None:
            return
        if self._is_backing_off and self._task is not None:
            # The wait has grown while the recorder was down. It is back: to sit the wait out would
            # delay every join by the timeout, and the answer would lack what is queued (R23).
            self._task.cancel()
            self.begin()
        try:
            async with self._clock.timeout(self.supervisor.core.timeout):
                await self._empty.wait()
        except TimeoutError:
            log.warning("recorder %s lags behind", self.supervisor.name)

    async def end(self) -> None:
        """Store what is left, if the recorder can, and stop."""
        # Before the task is cancelled, and before the supervisor ends: both are needed to store.
        await self.flush()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            # A call before the first start would fail, and its pause would outlast the start.
            await self.supervisor.settled()
            async for attempt in retrying(self._clock, ProviderError, self._failed):
                with attempt:
                    await self._store()

    def _drop_messages(self) -> None:
        """Drop chat that is too much or too old: nothing replaces a message, so that during an
        outage they would grow without a bound."""
        too_old = self._clock.time() - MAX_MESSAGE_AGE
        while self._messages:
            waiting = self._messages
            said = (each for each in waiting if not isinstance(self._queue[each], MessageDeleted))
            oldest = next(said, None)
            if len(waiting) > MAX_MESSAGES:
                oldest = oldest or next(iter(waiting))
            elif oldest is None or waiting[oldest] > too_old:
                return
            del self._messages[oldest], self._queue[oldest]
            self._dropped += 1

    async def _store(self) -> None:
        self._is_backing_off = False
        self._drop_messages()
        # The batch stays queued during the call: a failed attempt loses nothing.
        keys = list(self._queue)[:BATCH]
        batch = [self._queue[key] for key in keys]
        if batch:
            await self.supervisor.call("record", changes=batch)
        if self._dropped:
            name, dropped = self.supervisor.name, self._dropped
            log.warning("recorder %s: %d chat messages waited too long, dropped", name, dropped)
            self._dropped = 0
        for key, change in zip(keys, batch, strict=True):
            # A newer change of the same key came during the call: it is still to be stored.
            if self._queue.get(key) is change:
                del self._queue[key]
                self._messages.pop(key, None)
        if not self._queue:
            self._wanted.clear()
            self._empty.set()

    def _failed(self, state: tenacity.RetryCallState) -> None:
        self._is_backing_off = True
        first = state.attempt_number == 1
        error = state.outcome and state.outcome.exception()
        log.log(logging.WARNING if first else logging.DEBUG, "%s", error)


def _key(change: Change) -> Key | None:
    """Return what the change is about; None for a message without an id, since each counts."""
    match change:
        case UserSet() | UserRemoved():
            return "user", change.server_id, change.uid
        case ServerSet() | ServerRemoved():
            return "server", change.server_id
        case Snapshot():
            return "complete", change.server_id
        case AccessChanged():
            return "access", change.server_id, change.person
        case Message(id=None):
            return None
        case Message() | MessageEdited() | MessageDeleted():
            return "message", change.server_id, *message_key(change)

"""The stream of one run, and what is done when others have changed the file.

    what happened                                          what follows
    this process has recorded something of a server        the same as events, or `Reload`
    that the core asked for
    others have changed rows                               a recorder stores again what it was
                                                           given; `Reload`
    the file was deleted, replaced, overwritten,           the stream raises: the core stops the
    or turns out to be damaged                             provider and starts it again
    what is recorded cannot be stored (locked, no space)   degraded, until it was stored

The file is looked at every second. While users are shown from it, because their sources are away,
their rows are left as others have changed them.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import TypeVar

from d_back_core import (
    Change,
    Context,
    Event,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_sqlite.config import SqliteConfig
from d_back_sqlite.failure import ReopenError, StoreError
from d_back_sqlite.recording import Old
from d_back_sqlite.store import Store
from d_back_tables import Wanted

CHECK_INTERVAL = 1.0
"""Seconds between two looks at the file."""
REPAIR_INTERVAL = 5.0
"""Seconds between two repairs: another program may write all the time."""
FORGET_INTERVAL = 3600.0
"""Seconds between two deletions of what is older than ``forget_after``."""
MAX_FAILURES = 2
"""Failed attempts to store in a row that do not make the provider degraded: others may have locked
the file for a moment."""
MAX_PENDING = 1000
"""Events that wait; if there are more, everything is fetched."""

T = TypeVar("T")


class Changes:
    """What the hooks of one run share."""

    def __init__(
        self, context: Context, store: Store, config: SqliteConfig, wanted: Wanted
    ) -> None:
        self._context = context
        self._store = store
        self._config = config
        self._wanted = wanted
        self._pending = _Pending()
        self._alone = asyncio.Lock()
        """Held while something is stored: `_wanted` is what was stored, in the same order."""
        self._asked: dict[str, bool] = {}
        """The servers that the core has asked for, and if they were there."""
        self._list_asked = False
        self._failures = 0
        self._lost = False
        self._to_repair = False
        self._checked_at = context.clock.time()
        self._repaired_at = self._forgot_at = float("-inf")

    async def servers(self) -> dict[str, Server]:
        """Return all servers."""
        self._list_asked = True
        return await self._guarded(self._store.servers())

    async def users(self, server_id: str) -> dict[str, User] | None:
        """Return the users of that server; None if it has neither a row nor users."""
        self._asked.setdefault(server_id, True)  # events that come meanwhile apply to the answer
        users = await self._guarded(self._store.users(server_id))
        self._asked[server_id] = users is not None
        return users

    async def restore(self) -> None:
        """Store again what was given in an earlier run: the file may be another one."""
        if self._wanted:
            async with self._alone:
                await self._store.record(list(self._wanted.changes()))

    async def record(self, changes: Sequence[Change]) -> None:
        """Store a batch of the recorder."""
        try:
            async with self._alone:
                events = await self._guarded(self._store.record(changes))
                self._wanted.apply(changes)
        except StoreError as error:
            self._on_failed(error)
            raise
        self._on_stored()
        for event in events:
            self._note(event)

    async def events(self) -> AsyncGenerator[Event]:
        """Yield what changes, until `end`. Raises `ReopenError` if the file is lost."""
        while (events := await self._pending.take(self._until_check())) is not None:
            for event in events:
                yield event
            if self._context.clock.time() - self._checked_at >= CHECK_INTERVAL:
                if await self._check():
                    yield Reload()
                self._checked_at = self._context.clock.time()

    def end(self) -> None:
        """End the stream."""
        self._pending.end()

    # The periodic check

    def _until_check(self) -> AbstractAsyncContextManager[object]:
        passed = self._context.clock.time() - self._checked_at
        return self._context.clock.timeout(max(0.0, CHECK_INTERVAL - passed))

    async def _check(self) -> bool:
        """Return True if everything is to be fetched again."""
        is_changed = await self._store.check()
        self._to_repair |= is_changed and bool(self._wanted)
        time = self._context.clock.time()
        if self._to_repair and time - self._repaired_at >= REPAIR_INTERVAL:
            self._repaired_at = time
            await self._repair()
        if self._config.forget_after is not None and time - self._forgot_at >= FORGET_INTERVAL:
            self._forgot_at = time
            is_changed |= await self._forget(self._config.forget_after)
        return is_changed

    async def _repair(self) -> None:
        name = self._context.name
        in_use = {each.server_id for each in self._context.stats().held if name in each.providers}
        try:
            async with self._alone:
                await self._store.record(
                    [each for each in self._wanted.changes() if each.server_id not in in_use]
                )
        except ReopenError:
            raise
        except StoreError as error:
            self._on_failed(error)
        else:
            self._to_repair = False
            self._on_stored()

    async def _forget(self, seconds: float) -> bool:
        """Delete what is too old and not supplied now. Return True if there was something."""
        with suppress(StoreError):  # tried again in an hour; no caller waits for it
            async with self._alone:
                old = await self._store.old(seconds)
                old = Old(
                    [each for each in old.servers if not self._wanted.has_server(each)],
                    [each for each in old.users if not self._wanted.has_user(*each)],
                )
                if old.servers or old.users:
                    await self._store.forget(old, seconds)
                    self._context.log.info(
                        "forgot %d users and %d servers: none was seen within forget_after",
                        len(old.users),
                        len(old.servers),
                    )
                    return True
        return False

    # Failures

    async def _guarded(self, call: Awaitable[T]) -> T:
        """Wait for the call; a failure that only opening the file again can mend ends the run."""
        try:
            return await call
        except ReopenError as error:
            self._pending.fail(error)
            raise

    def _on_failed(self, error: StoreError) -> None:
        self._failures += 1
        if self._failures >= MAX_FAILURES and not self._lost:
            # What is stored is out of date now, and would be shown as current in an outage.
            self._lost = True
            self._context.degraded(str(error))

    def _on_stored(self) -> None:
        self._failures = 0
        if self._lost:
            self._lost = False
            self._context.recovered()

    # Own changes: the layer may be in use beside its sources (modes merge and enrich)

    def _note(self, event: Event) -> None:
        """Yield it if the core has asked for what it is about."""
        match event:
            case UserChanged() | UserRemoved():
                if (known := self._asked.get(event.server_id)) is not None:
                    # A server that was unknown has no layer to which an event could apply.
                    self._pending.put(event if known else Reload(server_id=event.server_id))
            case ServerChanged() | ServerRemoved():
                if self._list_asked:
                    self._pending.put(event)
                is_there = isinstance(event, ServerChanged)
                if self._asked.get(event.server_id, is_there) is not is_there:
                    self._pending.put(Reload(server_id=event.server_id))


class _Pending:
    """Events that are not yielded yet: the newest of each user and server, and never too many."""

    def __init__(self) -> None:
        self._events: dict[tuple[str, ...], Event] = {}
        self._wanted = asyncio.Event()
        self._ended = False
        self._error: StoreError | None = None

    def put(self, event: Event) -> None:
        """Add an event."""
        key = _key(event)
        self._events.pop(key, None)
        self._events[key] = event
        if len(self._events) > MAX_PENDING:
            self._events = {(): Reload()}
        self._wanted.set()

    def fail(self, error: StoreError) -> None:
        """Let `take` raise this."""
        self._error = error
        self._wanted.set()

    def end(self) -> None:
        """Let `take` return None."""
        self._ended = True
        self._wanted.set()

    async def take(self, timeout: AbstractAsyncContextManager[object]) -> list[Event] | None:
        """Return the events as soon as there are some, or none when the timeout has passed; None
        at the end."""
        with suppress(TimeoutError):
            async with timeout:
                await self._wanted.wait()
        self._wanted.clear()
        if self._ended:
            return None
        if self._error is not None:
            raise self._error
        events, self._events = self._events, {}
        return list(events.values())


def _key(event: Event) -> tuple[str, ...]:
    match event:
        case UserChanged() | UserRemoved():
            return "user", event.server_id, event.uid
        case ServerChanged() | ServerRemoved():
            return "server", event.server_id
    return "reload", event.server_id or ""

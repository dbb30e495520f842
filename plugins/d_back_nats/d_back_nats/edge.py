"""An edge: reads the part of the bucket that its clients watch. The origin decides who may join.

One watch reads the list of servers and the origin's record, and one per watched server reads its
users. An edge is degraded while a watch is not current, while a new bucket is not filled, and if
the origin has been silent for `ORIGIN_SILENCE` seconds: what it serves may then be out of date.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator

from msgspec import UNSET
from nats.aio.msg import Msg

from d_back_core import (
    AccessRevoked,
    Context,
    Credentials,
    Event,
    Grant,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_nats.bucket import BucketState
from d_back_nats.config import NatsConfig
from d_back_nats.connection import LOST, Connection, Line
from d_back_nats.failure import FAILURES, NatsError
from d_back_nats.grants import Grants
from d_back_nats.keys import Subjects
from d_back_nats.mirrors import ListMirror, UsersMirror
from d_back_nats.pending import Batch, Pending
from d_back_nats.records import ChatValue, chat_of, decoded
from d_back_nats.tasks import start_task, stop_tasks
from d_back_nats.watch import UNFILLED, Watch

ORIGIN_SILENCE = 10.0
"""Seconds without a heartbeat of the origin after which an edge is degraded: five heartbeats, and
more than another origin needs to take over."""
CHECK = 1.0
"""Seconds between two looks at the origin's heartbeat."""
RELEASE_INTERVAL = 10.0
"""Seconds between two checks which servers are still watched."""
CHAT_TIMEOUT = 5.0
"""Seconds for which a message waits until its author has been read."""


class ServerReader:
    """One server: its users, and its chat."""

    def __init__(
        self, server_id: str, subjects: Subjects, connection: Connection, edge: "Edge"
    ) -> None:
        self.server_id = server_id
        self.mirror = UsersMirror(lambda uid: edge.pending.user(server_id, uid), edge.may_replace)
        keys = [subjects.user_keys(server_id)]
        self.watch = Watch(connection, subjects, keys, self.mirror, edge.check_health)
        self._subject = subjects.chat(server_id)
        self._connection = connection
        self._pending = edge.pending
        self._grants = edge.grants
        self._failed = edge.failed
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Read, in the background."""
        self.watch.begin()
        name = f"d_back_nats chat {self.server_id}"
        self._task = start_task(self._listen(), name, self._failed)

    async def end(self) -> None:
        """Read no more; may be called twice."""
        task, self._task = self._task, None
        await stop_tasks(task)
        await self.watch.end()

    async def _listen(self) -> None:
        while True:
            line = await self._connection.line()
            try:
                subscription = await line.client.subscribe(
                    self._subject, cb=self._heard, pending_msgs_limit=1000
                )
            except FAILURES:
                await self._connection.clock.sleep(1.0)
                continue
            self._grants.changed(self.server_id)  # what was announced before has been missed
            try:
                await line.lost.wait()
            finally:
                if not line.lost.is_set():
                    await _unsubscribed(line, subscription)

    async def _heard(self, message: Msg) -> None:
        """Pass chat on, in order, each message not before its author was seen."""
        value = decoded(message.data, ChatValue)
        if value is not None and value.kind == "access":
            self._grants.changed(self.server_id, value.uid or None)
            return
        chat = None if value is None else chat_of(self.server_id, value)
        if value is None or chat is None:
            return
        try:
            async with self._connection.clock.timeout(CHAT_TIMEOUT):
                await self.watch.seen(value.after)
        except TimeoutError:
            return  # its author comes much later, if at all
        self._pending.add_chat(chat)


class Edge:
    """Reads from `begin` to `end`."""

    def __init__(
        self,
        context: Context,
        config: NatsConfig,
        connection: Connection,
        report: Callable[[str | None], None],
    ) -> None:
        self.pending = Pending()
        self.watched: dict[str, ServerReader] = {}
        """Servers whose users are read."""
        self._context = context
        self._connection = connection
        self._report = report
        self._subjects = Subjects(config.bucket)
        self._list = ListMirror(self.pending.server, self._read_again)
        self._list_watch = Watch(
            connection, self._subjects, self._subjects.list_keys, self._list, self.check_health
        )
        self.grants = Grants(
            context,
            connection,
            self._subjects.authorize,
            lambda: self._list.origin,
            self.pending.revoke,
        )
        self._unknown: set[str] = set()
        """Servers that were asked for, and were not there."""
        self._tasks: list[asyncio.Task[None]] = []
        self._trouble: str | None = None
        self._began_at = 0.0

    @property
    def is_reading(self) -> bool:
        """True between `begin` and `end`."""
        return bool(self._tasks)

    @property
    def lag(self) -> int:
        """Revisions that are known to be still to come."""
        return sum(watch.lag for watch in self._watches())

    def begin(self) -> None:
        """Read the list of servers, in the background."""
        self._began_at = self._context.clock.time()
        self._list_watch.begin()
        self._tasks = [
            start_task(self._release(), "d_back_nats release", self._report),
            start_task(self._check_origin(), "d_back_nats check of the origin", self._report),
            start_task(self.grants.ask_again(), "d_back_nats grants", self._report),
        ]

    async def end(self) -> None:
        """Read no more, and end `events`; may be called twice."""
        self.pending.end()
        tasks, self._tasks = self._tasks, []
        await stop_tasks(*tasks)
        watched, self.watched = self.watched, {}
        await asyncio.gather(self._list_watch.end(), *(each.end() for each in watched.values()))

    async def servers(self) -> dict[str, Server]:
        """Return all servers; raises `NatsError` if they are not known."""
        await self._filled(self._list_watch)
        return dict(sorted(self._list.listed.servers.items()))

    async def users(self, server_id: str) -> dict[str, User] | None:
        """Return the users of a server, and read them from now on until the core drops it; None
        if there is no such server. Raises `NatsError` if they are not known."""
        await self._filled(self._list_watch)
        if server_id not in self._list.listed.servers:
            self._unknown.add(server_id)
            return None
        self._unknown.discard(server_id)
        watched = self.watched.get(server_id)
        if watched is None:
            watched = ServerReader(server_id, self._subjects, self._connection, self)
            self.watched[server_id] = watched
            watched.begin()
        await self._filled(watched.watch)
        return dict(watched.mirror.users)

    async def authorize(
        self, server_id: str, credentials: Credentials, address: str
    ) -> Grant | bool | None:
        """Return the origin's answer; False if there is none in time. None for a server that is
        open at the origin: its yes would let every client in if only the edge's operator
        protects it."""
        server = self._list.listed.servers.get(server_id)
        if server is None or not server.passworded:
            return None
        return await self.grants.authorize(server_id, credentials, address)

    async def events(self) -> AsyncGenerator[Event]:
        """Yield what changes, until `end`."""
        while (batch := await self.pending.take()) is not None:
            for event in self._events_of(batch):
                yield event

    def check_health(self, _watch: Watch | None = None) -> None:
        """Report what is wrong, if that has changed."""
        troubles = (watch.trouble for watch in self._watches())
        trouble = next(filter(None, troubles), None) or self._origin_trouble()
        if trouble != self._trouble:
            self._trouble = trouble
            self._report(trouble)

    def may_replace(self, found: BucketState) -> bool:
        """True if users may be read from that bucket: the list, which shows if an origin has
        filled it, comes from there, too."""
        return found.created == self._list_watch.read_from and not self._list.is_waiting

    def _read_again(self) -> None:
        """Read everything again: the changes since do not lead from one epoch to the next."""
        for watch in self._watches():
            watch.read_again()

    def _origin_trouble(self) -> str | None:
        """Return what is wrong with the origin."""
        if self._list.is_waiting:
            return UNFILLED
        silent_since = max(self._list.heartbeat_at, self._began_at)
        if self._context.clock.time() < silent_since + ORIGIN_SILENCE:
            return None
        origin = self._list.origin
        if origin is None:
            return "no origin writes the bucket"
        if origin.stopped:
            return f"the origin at {origin.host} has stopped"
        return f"no heartbeat from the origin at {origin.host} for {ORIGIN_SILENCE:g} s"

    async def _check_origin(self) -> None:
        while True:
            await self._context.clock.sleep(CHECK)
            self.check_health()
            self.grants.check()

    def failed(self, reason: str) -> None:
        """Report a task that has failed."""
        self._report(reason)

    def _events_of(self, batch: Batch) -> Iterator[Event]:
        for server_id, person in batch.revoked:
            yield AccessRevoked(server_id=server_id, person=person)
        for server_id in batch.servers:
            yield from self._list_events(server_id)
        for server_id in batch.reloads:
            yield Reload(server_id=server_id)
        for server_id, uid in batch.users:
            watched = self.watched.get(server_id)
            if watched is not None:
                yield _user_event(server_id, uid, watched.mirror.users.get(uid))
        yield from batch.chat

    def _list_events(self, server_id: str) -> Iterator[Event]:
        server = self._list.listed.servers.get(server_id)
        if server is None:
            yield ServerRemoved(server_id=server_id)
            if server_id in self.watched:
                yield Reload(server_id=server_id)
            return
        yield ServerChanged(
            server_id=server_id,
            name=server.name,
            id=server.id,
            default=server.default,
            passworded=server.passworded,
            client_id=None if server.client_id is UNSET else server.client_id,
        )
        if server_id in self._unknown:
            yield Reload(server_id=server_id)

    async def _filled(self, watch: Watch) -> None:
        """Return when the watch has read everything at least once."""
        if not watch.filled.is_set() and not self._connection.is_up:
            raise NatsError(LOST)
        if not watch.filled.is_set() and watch.trouble is not None:
            raise NatsError(watch.trouble)
        await watch.filled.wait()

    async def _release(self) -> None:
        """Stop reading servers that no client watches."""
        while True:
            await self._context.clock.sleep(RELEASE_INTERVAL)
            for server_id in list(self.watched):
                if not self._context.holds(server_id):
                    await self.watched.pop(server_id).end()
            self._unknown = {each for each in self._unknown if self._context.holds(each)}

    def _watches(self) -> Iterator[Watch]:
        yield self._list_watch
        for watched in list(self.watched.values()):
            yield watched.watch


def _user_event(server_id: str, uid: str, user: User | None) -> Event:
    if user is None:
        return UserRemoved(server_id=server_id, uid=uid)
    return UserChanged(
        server_id=server_id,
        uid=uid,
        username=user.username,
        status=user.status,
        role_color=user.role_color,
        extra=None if user.extra is UNSET else user.extra,
    )


async def _unsubscribed(line: Line, subscription: object) -> None:
    try:
        await subscription.unsubscribe()  # type: ignore[attr-defined]
    except FAILURES:
        line.lost.set()  # a connection that cannot unsubscribe is of no use

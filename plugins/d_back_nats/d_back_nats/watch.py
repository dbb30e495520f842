"""One ordered watch: the values of some keys, and after that every change of them.

The snapshot and the changes come from one JetStream consumer, in the order of their revisions, so
no change is lost between the two. A watch goes through these states:

    connecting   waits for a connection
    reading      receives a snapshot: between `Sink.begin` and `Sink.complete`
    catching up  continues after the last revision it saw; there is no `Sink.begin`
    current      has received everything up to now and receives each change

A failure (a lost connection, a NATS server that ended, a missed message) ends the consumer, from
any state, and the watch connects again. It then catches up, except if the changes since do not
lead from the sink's content to the bucket's: the bucket is another one, or older than what was
seen, the absence was so long that deletion markers have expired, or `read_again` was called. In
these cases it reads again.

Invariant: in the state "current" the sink equals the bucket, as far as the bucket changed by
writes. A purge is not a write, and consumers are not told of it: see `ownership`.
"""

import asyncio
import math
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from msgspec import Struct
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy

from d_back_core import Clock
from d_back_nats import bucket
from d_back_nats.bucket import BucketState
from d_back_nats.connection import LOST, Connection, Line
from d_back_nats.failure import FAILURES, NatsError, describe_error
from d_back_nats.keys import Subjects
from d_back_nats.tasks import start_task, stop_tasks

HEARTBEAT = 1.0
"""Seconds after which the server sends a heartbeat if there is no change."""
SILENCE = 4.0
"""Seconds without a message or heartbeat after which the consumer counts as lost."""
BEHIND = 15
"""Seconds that a message may be behind others on the same connection."""
INACTIVE = 30.0
"""Seconds after which the server deletes a consumer without a subscriber."""
MARKER_TTL = 3600
"""Seconds after which a deletion marker expires."""
LONGEST_ABSENCE = MARKER_TTL / 2
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0

DELETIONS = frozenset({"DEL", "PURGE"})
CONTROL = "100"
"""The status of messages that are the consumer's own."""
GAP = "the watch has missed a change"
SILENT = "NATS is silent"
UNFILLED = "the origin has not filled the bucket"
AGAIN = "the bucket is read again"


class Entry(Struct, frozen=True, gc=False):
    """One message of the bucket. Times are those of our own clock."""

    key: str
    value: bytes | None
    """None: a deletion marker."""
    revision: int
    written_at: float = 0.0
    expires_at: float = math.inf


class Sink(Protocol):
    """The receiver of what a watch reads; all calls are synchronous."""

    def may_replace(self, found: BucketState) -> bool:
        """Return False to keep the present content for now: the watch tries again later."""

    def begin(self) -> None:
        """A snapshot follows, up to `complete`; it replaces all content."""

    def put(self, entry: Entry) -> None:
        """A key has a value, or was deleted."""

    def complete(self) -> None:
        """The sink has received everything that the bucket holds."""


class Watch:
    """Keeps a sink up to date from `begin` to `end`."""

    def __init__(
        self,
        connection: Connection,
        subjects: Subjects,
        keys: Sequence[str],
        sink: Sink,
        report: Callable[["Watch"], None],
    ) -> None:
        self.position = 0
        """The newest revision that was seen."""
        self.lag = 0
        """How many revisions are known to be still to come."""
        self.trouble: str | None = None
        """The reason why the sink may be out of date."""
        self.filled = asyncio.Event()
        """Set from the first snapshot on."""
        self._connection = connection
        self.subjects = subjects
        self.keys = list(keys)
        self._sink = sink
        self._report = report
        self.read_from = ""
        """The time of creation of the bucket that the sink's content comes from."""
        self._moved = asyncio.Condition()
        self._created = ""
        self._is_current = False
        self._server_offset = 0.0
        """What turns a time of the NATS server into one of our clock."""
        self.heard_at = 0.0
        self.filling = False
        self._failures = 0
        self._attempt: _Attempt | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """True between `begin` and `end`."""
        return self._task is not None

    def begin(self) -> None:
        """Watch, in the background."""
        name = f"d_back_nats watch {self.keys[-1]}"
        self._is_current = False
        self._task = start_task(self._run(), name, self._turn)

    async def end(self) -> None:
        """Stop watching; may be called twice."""
        task, self._task = self._task, None
        await stop_tasks(task)
        self._is_current = False

    def go_on_from(self, revision: int) -> None:
        """Continue there at the next `begin`: the caller has kept the sink up to date since."""
        self.position = revision
        self.heard_at = self.clock.time()

    def read_again(self) -> None:
        """Read everything again, now or at the next `begin`: the sink's content cannot be
        trusted."""
        # `start_at` compares this with the bucket that it finds. A consumer that runs is ended;
        # what it still delivers is dropped, as its attempt is over.
        self._created = ""
        self._is_current = False
        if self._attempt is not None:
            self._attempt.finish(AGAIN)

    async def seen(self, revision: int) -> None:
        """Return when all up to that revision has been put; only for a revision that was written
        to a key of this watch."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.filled.is_set() and self.position >= revision)

    async def current(self, revision: int = 0) -> None:
        """Return when the sink equals the bucket and includes that revision.

        `seen` is not enough for this: the position may be from before a reconnect, and then from
        another bucket.
        """
        async with self._moved:
            await self._moved.wait_for(lambda: self._is_current and self.position >= revision)

    @property
    def clock(self) -> Clock:
        return self._connection.clock

    async def _run(self) -> None:
        while True:
            line = await self._connection.line()
            self._attempt = _Attempt(self, line)
            try:
                reason = await self._attempt.follow()
            except (*FAILURES, NatsError) as error:
                reason = describe_error(error)
            finally:
                self._attempt = None
                self._is_current = False
            if reason == AGAIN:
                continue
            self._turn(reason)
            if not line.lost.is_set():
                await self.clock.sleep(min(FIRST_WAIT * 2**self._failures, LONGEST_WAIT))
            self._failures += 1

    def _turn(self, trouble: str | None) -> None:
        if trouble is None:
            self._failures = 0
        if trouble != self.trouble:
            self.trouble = trouble
            self._report(self)

    def start_at(self, found: BucketState) -> None:
        """Decide between catching up and reading again."""
        self._server_offset = self.clock.time() - found.now.timestamp()
        absence = self.clock.time() - self.heard_at
        # An older position than the bucket's is the normal case; a newer one means that the
        # bucket was restored from a backup, which keeps the time of its creation.
        same = self._created == found.created and self.position <= found.last_revision
        if self.filled.is_set() and not self.filling and same and absence < LONGEST_ABSENCE:
            return
        if self.filled.is_set() and not self._sink.may_replace(found):
            raise NatsError(UNFILLED)
        self._created, self.position, self.filling = found.created, 0, True
        self._sink.begin()

    async def put(self, message: Msg) -> None:
        headers = message.headers or {}
        deleted = headers.get("KV-Operation") in DELETIONS or "Nats-Marker-Reason" in headers
        metadata = message.metadata
        revision = metadata.sequence.stream
        written_at = metadata.timestamp.timestamp() + self._server_offset
        entry = Entry(
            message.subject[len(self.subjects.prefix) :],
            None if deleted else message.data,
            revision,
            written_at,
            written_at + _lifetime(headers),
        )
        self._sink.put(entry)
        self.lag = metadata.num_pending
        await self._move(revision)

    async def caught_up(self) -> None:
        self.lag = 0
        self.filling = False
        self._is_current = True
        self.read_from = self._created
        self._sink.complete()
        self.filled.set()
        self._turn(None)
        await self._move(self.position)

    async def _move(self, revision: int) -> None:
        self.position = revision
        async with self._moved:
            self._moved.notify_all()


class _Attempt:
    """One consumer, from its creation until it is of no use any more."""

    def __init__(self, watch: Watch, line: Line) -> None:
        self._watch = watch
        self._line = line
        self._delivered = 0
        self._caught_up = False
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def finish(self, reason: str) -> None:
        """End the attempt, unless it has ended."""
        if not self._over.done():
            self._over.set_result(reason)

    async def follow(self) -> str:
        """Put what comes until the attempt ends; returns the reason of the end."""
        watch, line = self._watch, self._line
        found = await bucket.state(line, watch.subjects)
        if self._over.done():
            return self._over.result()
        watch.start_at(found)
        inbox = line.client.new_inbox()
        subscription = await line.client.subscribe(inbox, cb=self._heard)
        made: ConsumerInfo | None = None
        try:
            made = await line.js.add_consumer(watch.subjects.stream, self._config(inbox))
            self._hear()
            if not made.num_pending and not self._delivered and not self._over.done():
                await self._catch_up()
            return await self._ended()
        finally:
            if not line.lost.is_set():
                await self._forget(subscription, made)

    def _config(self, inbox: str) -> ConsumerConfig:
        watch = self._watch
        config = ConsumerConfig(
            name=secrets.token_hex(8),
            deliver_subject=inbox,
            ack_policy=AckPolicy.NONE,
            max_deliver=1,
            flow_control=True,
            idle_heartbeat=HEARTBEAT,
            inactive_threshold=INACTIVE,
            mem_storage=True,
            num_replicas=1,
            filter_subjects=watch.keys,
        )
        if watch.filling:
            config.deliver_policy = DeliverPolicy.LAST_PER_SUBJECT
        else:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = watch.position + 1
        return config

    async def _ended(self) -> str:
        lost = asyncio.create_task(self._line.lost.wait())
        silent = asyncio.create_task(self._silent())
        try:
            waiting: list[asyncio.Future[object]] = [self._over, lost, silent]  # type: ignore[list-item]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop_tasks(lost, silent)
        if self._over.done():
            return self._over.result()
        return LOST if self._line.lost.is_set() else SILENT

    async def _silent(self) -> None:
        """Return when nothing was received for too long, and nothing is on its way."""
        watch = self._watch
        while True:
            while (left := watch.heard_at + SILENCE - watch.clock.time()) > 0:
                await watch.clock.sleep(left)
            before = watch.heard_at
            # What the server sends behind a large snapshot of another watch has to wait for it.
            # (Not a ping: nats-py stops reading for good at the answer to one that was given up.)
            with suppress(*FAILURES):
                subject = f"$JS.API.STREAM.INFO.{watch.subjects.stream}"
                await self._line.client.request(subject, timeout=BEHIND)
            if watch.heard_at == before:
                return

    async def _forget(self, subscription: object, made: ConsumerInfo | None) -> None:
        with suppress(*FAILURES):  # the server deletes both by itself, a little later
            await subscription.unsubscribe()  # type: ignore[attr-defined]
            if made is not None:
                await self._line.js.delete_consumer(self._watch.subjects.stream, made.name)

    async def _heard(self, message: Msg) -> None:
        if self._over.done():
            return
        self._hear()
        headers = message.headers or {}
        if headers.get("Status") == CONTROL:
            await self._control(message, headers)
            return
        self._delivered += 1
        if message.metadata.sequence.consumer != self._delivered:
            self.finish(GAP)
            return
        await self._watch.put(message)
        if self._over.done():  # the sink called `read_again`
            return
        if not message.metadata.num_pending and not self._caught_up:
            await self._catch_up()

    async def _control(self, message: Msg, headers: dict[str, str]) -> None:
        stalled = headers.get("Nats-Consumer-Stalled")
        for answer in (message.reply, stalled):
            if answer:  # all before it has been put: more may come
                await self._line.client.publish(answer)
        last = headers.get("Nats-Last-Consumer")
        if last is None or self._over.done():
            return
        if int(last) != self._delivered:
            self.finish(GAP)
        elif not self._caught_up and not message.reply:  # it is idle: there is nothing left
            await self._catch_up()

    async def _catch_up(self) -> None:
        self._caught_up = True
        await self._watch.caught_up()

    def _hear(self) -> None:
        self._watch.heard_at = self._watch.clock.time()


def _lifetime(headers: dict[str, str]) -> float:
    """Return the seconds after which a message expires.

    A TTL in a form that we never write counts as 0: no reader may rely on such a message.
    """
    ttl = headers.get("Nats-TTL")
    if ttl is None or ttl == "never":
        return math.inf
    seconds = ttl.removesuffix("s")
    return float(seconds) if seconds.isdecimal() else 0.0

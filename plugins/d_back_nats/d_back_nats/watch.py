"""One ordered watch: what some keys hold, and after that every change of them.

The snapshot and the changes come out of one JetStream consumer, in the order of their revisions,
so there is no gap between the two. Whatever goes wrong (the connection, the server that the
consumer was on, a message that was dropped) ends that consumer, and another one goes on after the
last revision that was seen. What cannot be gone on from, a bucket that was made anew or an
absence so long that the marks of what was deleted are gone, begins with a snapshot again.
"""

import asyncio
import datetime as dt
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy, StreamInfo

from d_back_core import Clock
from d_back_nats.connection import LOST, Connection, Line
from d_back_nats.ending import begun, ended
from d_back_nats.failure import FAILURES, NatsError, described
from d_back_nats.keys import Subjects

HEARTBEAT = 1.0
"""Seconds after which the server says that there is nothing to say."""
SILENCE = 4.0
"""Seconds without a word after which the consumer is taken for lost."""
BEHIND = 15
"""Seconds that a message may be behind others on the same connection."""
UNUSED = 30.0
"""Seconds after which the server forgets a consumer that nobody listens to."""
MARKER_TTL = 3600
"""Seconds for which it can be told that a key was deleted."""
LONGEST_ABSENCE = MARKER_TTL / 2
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0

DELETIONS = frozenset({"DEL", "PURGE"})
CONTROL = "100"
"""The status of messages that are the consumer's own."""
GAP = "the watch has missed a change"
SILENT = "NATS is silent"


class Sink(Protocol):
    """Where a watch puts what it hears; all calls are synchronous."""

    def begin(self) -> None:
        """A snapshot follows, up to `complete`; it replaces all that was held."""

    def put(self, key: str, value: bytes | None, revision: int) -> None:
        """A key has that value, or (None) was deleted."""

    def complete(self) -> None:
        """All that there was has been put."""


class Watch:
    """Keeps a sink up to date from `begin` to `end`."""

    def __init__(
        self,
        connection: Connection,
        subjects: Subjects,
        keys: Sequence[str],
        sink: Sink,
        turned: Callable[["Watch"], None],
    ) -> None:
        self.position = 0
        """The newest revision that was seen."""
        self.lag = 0
        """How many revisions are known to be still to come."""
        self.trouble: str | None = None
        """Why the sink may be out of date."""
        self.filled = asyncio.Event()
        """Set from the first snapshot on."""
        self._connection = connection
        self.subjects = subjects
        self.keys = list(keys)
        self._sink = sink
        self._turned = turned
        self._moved = asyncio.Condition()
        self._created: dt.datetime | None = None
        self.heard_at = 0.0
        self.filling = False
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it watches."""
        return self._task is not None

    def begin(self) -> None:
        """Watch, in the background."""
        name = f"d_back_nats watch {self.keys[-1]}"
        self._task = begun(self._run(), name, self._turn)

    async def end(self) -> None:
        """Watch no more; may be called twice."""
        task, self._task = self._task, None
        await ended(task)

    def go_on_from(self, revision: int) -> None:
        """Begin there, the next time: whoever ended the watch has kept the sink up to date
        since, by other means."""
        self.position = revision
        self.heard_at = self.clock.time()

    async def seen(self, revision: int) -> None:
        """Return when all up to that revision has been put; only for one that was written to a
        key of this watch."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.filled.is_set() and self.position >= revision)

    @property
    def clock(self) -> Clock:
        return self._connection.clock

    async def _run(self) -> None:
        while True:
            line = await self._connection.line()
            try:
                reason = await _Attempt(self, line).follow()
            except (*FAILURES, NatsError) as error:
                reason = described(error)
            self._turn(reason)
            if not line.lost.is_set():
                await self.clock.sleep(min(FIRST_WAIT * 2**self._failures, LONGEST_WAIT))
            self._failures += 1

    def _turn(self, trouble: str | None) -> None:
        if trouble is None:
            self._failures = 0
        if trouble != self.trouble:
            self.trouble = trouble
            self._turned(self)

    def start_at(self, found: StreamInfo) -> None:
        """Decide whether to go on from where we are."""
        absence = self.clock.time() - self.heard_at
        same = self._created == found.created and self.position <= found.state.last_seq
        if self.filled.is_set() and not self.filling and same and absence < LONGEST_ABSENCE:
            return
        self._created, self.position, self.filling = found.created, 0, True
        self._sink.begin()

    async def put(self, message: Msg) -> None:
        headers = message.headers or {}
        deleted = headers.get("KV-Operation") in DELETIONS or "Nats-Marker-Reason" in headers
        key = message.subject[len(self.subjects.prefix) :]
        revision = message.metadata.sequence.stream
        self._sink.put(key, None if deleted else message.data, revision)
        self.lag = message.metadata.num_pending
        await self._move(revision)

    async def caught_up(self) -> None:
        self.lag = 0
        self.filling = False
        self._sink.complete()
        self.filled.set()
        self._turn(None)
        await self._move(self.position)

    async def _move(self, revision: int) -> None:
        self.position = revision
        async with self._moved:
            self._moved.notify_all()


class _Attempt:
    """One consumer, from its making until it is of no use any more."""

    def __init__(self, watch: Watch, line: Line) -> None:
        self._watch = watch
        self._line = line
        self._delivered = 0
        self._caught_up = False
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def follow(self) -> str:
        """Put what comes until it ends; returns why it did."""
        watch, line = self._watch, self._line
        watch.start_at(await line.js.stream_info(watch.subjects.stream))
        inbox = line.client.new_inbox()
        subscription = await line.client.subscribe(inbox, cb=self._heard)
        made: ConsumerInfo | None = None
        try:
            made = await line.js.add_consumer(watch.subjects.stream, self._config(inbox))
            self._hear()
            if not made.num_pending and not self._delivered:
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
            inactive_threshold=UNUSED,
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
            await ended(lost, silent)
        if self._over.done():
            return self._over.result()
        return LOST if self._line.lost.is_set() else SILENT

    async def _silent(self) -> None:
        """Return when nothing was heard for too long, and nothing is on its way."""
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
        with suppress(*FAILURES):  # the server forgets both by itself, a little later
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
            self._over.set_result(GAP)
            return
        await self._watch.put(message)
        if not message.metadata.num_pending and not self._caught_up:
            await self._catch_up()

    async def _control(self, message: Msg, headers: dict[str, str]) -> None:
        stalled = headers.get("Nats-Consumer-Stalled")
        for answer in (message.reply, stalled):
            if answer:  # all before it has been put: more may come
                await self._line.client.publish(answer)
        last = headers.get("Nats-Last-Consumer")
        if last is None:
            return
        if int(last) != self._delivered:
            self._over.set_result(GAP)
        elif not self._caught_up and not message.reply:  # it is idle: there is nothing left
            await self._catch_up()

    async def _catch_up(self) -> None:
        self._caught_up = True
        await self._watch.caught_up()

    def _hear(self) -> None:
        self._watch.heard_at = self._watch.clock.time()

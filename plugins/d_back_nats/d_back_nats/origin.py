"""The origin: keeps the bucket equal to what the core says, and answers who may join.

One loop (`_run`) goes through these states, over one connection at a time:

    reading    the watch reads the bucket, while another origin may own it
    claiming   see `ownership`: at the end the bucket is ours
    comparing  what is stored is compared with what is wanted
    leading    what differs is written, in batches, and a heartbeat every two seconds; the watch
               rests, as every change of the bucket is our own

    leading -> reading   a write was refused (another client wrote), got no answer, or the
                         connection was lost: the watch catches up from the last revision that is
                         known to be stored, and so learns what the last batch has left there
    leading -> reading   the bucket changed without a write (a purge, a restored backup): the watch
                         reads everything again, and a new epoch begins

Invariant: while it leads, `Stored` equals the bucket up to the writer's revision. Nothing is
written before `Wanted.compare` has run on a `Stored` that the watch has brought up to the claim.

Changes are taken in every state (`record`), and are only remembered except while leading.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress

from d_back_core import (
    AccessChanged,
    Change,
    Context,
    Message,
    MessageDeleted,
    MessageEdited,
)
from d_back_nats import bucket
from d_back_nats.config import NatsConfig
from d_back_nats.connection import LOST, Connection, Line
from d_back_nats.contents import Stored, Wanted
from d_back_nats.failure import (
    FAILURES,
    BucketChangedError,
    NatsError,
    OvertakenError,
    describe_error,
)
from d_back_nats.joins import JoinAnswers
from d_back_nats.keys import Place, Subjects, key_of
from d_back_nats.ownership import Ownership
from d_back_nats.records import Announced, encoded_chat
from d_back_nats.sealing import Seal
from d_back_nats.tasks import start_task, stop_tasks
from d_back_nats.watch import MARKER_TTL, Entry, Watch
from d_back_nats.writer import WRITE_TIMEOUT, Write, Writer

BATCH = 1000
"""Keys that are sent before the servers' answer is waited for."""
MAX_CHAT = 1000
RECORD_TIMEOUT = 2.0
"""Seconds for which a batch of the core waits until it is written."""
FILL_TIMEOUT = 10.0
"""Seconds after which a new epoch begins although the users of a server are not known."""
CLAIMS = 10
"""Claims in a row that may be refused because another client was faster."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0


class Origin:
    """Writes from `begin` to `end`, whenever it owns the bucket."""

    def __init__(
        self,
        context: Context,
        config: NatsConfig,
        connection: Connection,
        report: Callable[[str | None], None],
    ) -> None:
        self.leads = False
        """True while it is this one that writes."""
        self.takeovers = 0
        self._context = context
        self._config = config
        self._connection = connection
        self._report = report
        self._subjects = Subjects(config.bucket)
        self._seal = Seal()
        self._ownership = Ownership(context, config, self._seal.public, report)
        self._stored = Stored(self._read_again)
        self._wanted = Wanted(self._stored)
        self._chat: deque[Announced] = deque(maxlen=MAX_CHAT)
        self._written: dict[str, int] = {}
        """The last revision of each group, in this epoch."""
        self._watch = Watch(
            connection, self._subjects, [self._subjects.all_keys], self._stored, self._on_trouble
        )
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._writer: Writer | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def unwritten(self) -> int:
        """How many keys are not stored as wanted, as far as is known."""
        return self._wanted.unwritten

    def begin(self) -> None:
        """Write, in the background."""
        self._task = start_task(self._run(), "d_back_nats origin", self._report)

    async def end(self) -> None:
        """Write no more, and let another origin claim the bucket at once; may be called twice."""
        task, self._task = self._task, None
        await stop_tasks(task)
        await self._watch.end()
        writer, self._writer, self.leads = self._writer, None, False
        if writer is not None:
            # Refused if a write was under way: then the silence tells it, a little later.
            with suppress(*FAILURES, NatsError):
                await writer.write([self._ownership.farewell(self._stored.epoch)], timeout=1.0)

    async def record(self, changes: Sequence[Change]) -> None:
        """Take the changes over; they are written before this returns, or as soon as possible."""
        for change in changes:
            match change:
                case MessageEdited() | MessageDeleted():
                    self._chat.append(change)
                case AccessChanged() if not self.leads:  # the person may have access again later
                    self._chat.append(AccessChanged(server_id=change.server_id))
                case AccessChanged():
                    self._chat.append(change)
                case Message():
                    if self.leads:  # chat of minutes ago would look as if it were new
                        self._chat.append(change)
                case _:
                    await self._wanted.take(change)
        if not self.leads:
            return
        if self._chat or self._wanted.dirty:
            self._idle.clear()
            self._work.set()
        with suppress(TimeoutError):
            async with self._context.clock.timeout(RECORD_TIMEOUT):
                await self._idle.wait()

    # Reading, claiming, comparing

    async def _run(self) -> None:
        failures = 0
        while True:
            line = await self._connection.line()
            try:
                await self._while_connected(line, self._serve(line))
            except (*FAILURES, NatsError) as error:
                reason = describe_error(error)
                is_changed = isinstance(error, BucketChangedError)
            else:
                reason, is_changed = LOST, False
            led = self._stop_leading()
            if is_changed:  # after `_stop_leading`, which lets the watch catch up
                self._stored.join_epoch("")
                self._watch.read_again()
                self._context.log.warning("%s; reading it again", reason)
            failures = 0 if led else failures + 1
            self._report(reason)
            if not line.lost.is_set():
                await self._context.clock.sleep(min(FIRST_WAIT * 2**failures, LONGEST_WAIT))

    async def _while_connected(self, line: Line, work: Coroutine[None, None, None]) -> None:
        """Do that, as long as the connection is there."""
        tasks = [asyncio.create_task(work), asyncio.create_task(_lost(line))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop_tasks(*tasks)
        if not tasks[0].cancelled():
            tasks[0].result()

    async def _serve(self, line: Line) -> None:
        await bucket.ensure(line, self._subjects, self._config, self._context.log)
        if not self._watch.is_running:
            self._watch.begin()
        await self._watch.current()  # first, so that a claim does not keep the bucket for long
        writer = await self._claim(line)
        # From here on no other origin can write, and this is all that others have written:
        await self._watch.current(writer.revision)
        await self._verify(line, writer)
        await self._watch.end()
        if not self._stored.epoch:
            self._written.clear()  # revisions of another bucket would hold chat back
        await self._wanted.compare()
        answers = JoinAnswers(self._context, line, self._seal, self._report)
        try:
            await answers.begin(self._subjects.authorize)
            await self._lead(line, writer)
        finally:
            await answers.end()

    async def _claim(self, line: Line) -> Writer:
        """Return the writer of a bucket that is ours."""
        for _ in range(CLAIMS):
            state = await self._ownership.wait(line)
            writer = Writer(line, self._subjects, state.last_revision)
            sent_at = self._context.clock.time()
            with suppress(OvertakenError):  # another origin, or a change of the previous one
                await writer.write([self._ownership.record(self._stored.epoch)])
                self._ownership.renewed(sent_at, writer.revision)
                return writer
        raise OvertakenError

    async def _verify(self, line: Line, writer: Writer) -> None:
        now = self._context.clock.time()
        self._stored.forget_expired(now)
        least = self._stored.least_messages(now)
        await self._ownership.verify(line, writer.revision, least)

    def _stop_leading(self) -> bool:
        """Return True if it did lead."""
        led, self.leads = self.leads, False
        writer, self._writer = self._writer, None
        self._wanted.reset()
        # Corrections are sent later: they are right at any time.
        self._chat = deque(
            (each for each in self._chat if not isinstance(each, Message)), maxlen=MAX_CHAT
        )
        self._idle.set()
        if led and writer is not None:
            # Not from the revision after the batch that failed: which of it was stored is what
            # the watch has to find out.
            self._watch.go_on_from(writer.revision)
        return led

    # Leading

    async def _lead(self, line: Line, writer: Writer) -> None:
        self.leads, self._writer = True, writer
        self.takeovers += 1
        self._report(None)
        self._context.log.info("writes the bucket '%s'", self._subjects.bucket)
        began_at = self._context.clock.time()
        while True:
            await self._until_work()
            now = self._context.clock.time()
            timeout = self._ownership.time_left(WRITE_TIMEOUT)
            batch = self._wanted.begin_write(BATCH)
            writes = [Write(key_of(place), value) for place, value in batch.items()]
            is_heartbeat, epoch = now >= self._ownership.heartbeat_at, ""
            if is_heartbeat:  # the last of the batch: an epoch begins when all is stored
                epoch = self._epoch(late=now >= began_at + FILL_TIMEOUT)
                writes.append(self._ownership.record(epoch))
            if writes:
                before = writer.revision
                await writer.write(writes, timeout)
                self._have_written(batch, before, now)
            if is_heartbeat:
                self._stored.join_epoch(epoch)
                self._ownership.renewed(now, writer.revision)
                await self._verify(line, writer)
            await self._publish_chat(line)

    def _epoch(self, *, late: bool) -> str:
        """Return the epoch, a new one if there is none and all is written, or in the batch under
        way.

        Not before: it makes the edges read the bucket again, and they would find it half empty.
        """
        if self._stored.epoch or self._wanted.dirty:
            return self._stored.epoch
        is_complete = self._wanted.is_complete(servers_only=late)
        return secrets.token_hex(8) if is_complete else ""

    async def _until_work(self) -> None:
        """Return when there is something to write, or a heartbeat is due."""
        if self._wanted.dirty or self._chat:
            return
        self._work.clear()
        self._idle.set()
        left = self._ownership.heartbeat_at - self._context.clock.time()
        with suppress(TimeoutError):
            async with self._context.clock.timeout(max(0.0, left)):
                await self._work.wait()

    def _have_written(self, batch: dict[Place, bytes | None], before: int, sent_at: float) -> None:
        # `Stored` first, for `end_write` compares with it.
        for revision, (place, value) in enumerate(batch.items(), before + 1):
            entry = Entry(key_of(place), value, revision)
            if value is None:
                entry = Entry(key_of(place), None, revision, expires_at=sent_at + MARKER_TTL)
            self._stored.put(entry)
            self._written[place.group] = revision
        self._wanted.end_write()

    async def _publish_chat(self, line: Line) -> None:
        """Publish chat, once everything is written that came before it."""
        if self._wanted.dirty:
            return
        while self._chat:
            message = self._chat.popleft()
            after = self._written.get(f"users.{message.server_id}", 0)
            subject = self._subjects.chat(message.server_id)
            await line.client.publish(subject, encoded_chat(message, after))

    def _read_again(self) -> None:
        self._watch.read_again()

    def _on_trouble(self, watch: Watch) -> None:
        if watch.trouble is not None:
            self._report(watch.trouble)
        elif self._ownership.is_waiting:  # else `_lead` reports that it writes
            self._report(self._ownership.refusal)


async def _lost(line: Line) -> None:
    await line.lost.wait()

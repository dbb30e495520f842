"""The origin: keeps the bucket as it is told to, and answers for who may join."""

import asyncio
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress

import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import RawStreamMsg

from d_back_core import Change, Context, Message
from d_back_nats import bucket
from d_back_nats.chain import WRITE_TIMEOUT, Chain, Write
from d_back_nats.config import NatsConfig
from d_back_nats.connection import LOST, Connection, Line
from d_back_nats.contents import Held, Wanted
from d_back_nats.ending import begun, ended
from d_back_nats.failure import FAILURES, NatsError, described
from d_back_nats.keys import ORIGIN, Place, Subjects, key_of
from d_back_nats.records import OriginValue, decoded, encoded, encoded_chat
from d_back_nats.sealing import Seal, answered
from d_back_nats.watch import Watch

BATCH = 1000
"""Keys that are sent before the servers' answer is waited for."""
MAX_CHAT = 1000
MAX_QUESTIONS = 1000
"""Joins that are decided at the same time; further ones are not answered, which is a no."""
PATIENCE = 2.0
"""Seconds that a batch of the core is held back until it is written."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0

LEASE_ENDED = "the lease could not be renewed in time"


class Origin:
    """Writes from `begin` to `end`, whenever it may; while it may not, it remembers what is to be
    written, and reads along."""

    def __init__(
        self,
        context: Context,
        config: NatsConfig,
        connection: Connection,
        turned: Callable[[str | None], None],
    ) -> None:
        self.leads = False
        """Whether it is this one that writes."""
        self.takeovers = 0
        self._context = context
        self._config = config
        self._connection = connection
        self._turned = turned
        self._subjects = Subjects(config.bucket)
        self._seal = Seal()
        self._value = OriginValue(
            run=secrets.token_hex(8),
            host=socket.gethostname(),
            since=time.time(),
            seal=self._seal.public,
            lease=float(config.lease or 0),
        )
        self._held = Held()
        self._wanted = Wanted()
        self._chat: deque[Message] = deque(maxlen=MAX_CHAT)
        self._written: dict[str, int] = {}
        """The last revision of each group."""
        self._watch = Watch(
            connection, self._subjects, [self._subjects.all_keys], self._held, self._watch_turned
        )
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._questions: set[asyncio.Task[None]] = set()
        self._chain: Chain | None = None
        self._line: Line | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def unwritten(self) -> int:
        """How many keys differ from what they are to hold, as far as it is known."""
        return len(self._wanted.dirty)

    def begin(self) -> None:
        """Write, in the background."""
        self._task = begun(self._run(), "d_back_nats origin", self._turned)

    async def end(self) -> None:
        """Write no more, and let another origin take over at once; may be called twice."""
        task, self._task = self._task, None
        chain = self._chain
        await ended(task)
        await self._watch.end()
        await ended(*self._questions)
        if chain is not None and self._config.lease is not None:
            with suppress(*FAILURES, NatsError):  # then the lease runs out by itself
                await chain.write([Write(ORIGIN, None)], timeout=1.0)

    async def record(self, changes: Sequence[Change]) -> None:
        """Take the changes over; they are written before this returns, or as soon as it is
        possible."""
        for change in changes:
            if not isinstance(change, Message):
                await self._wanted.take(change, self._held)
            elif self.leads:  # talk of minutes ago is of no use to anybody
                self._chat.append(change)
        if not self.leads:
            return
        if self._chat or self._wanted.dirty:
            self._idle.clear()
            self._work.set()
        with suppress(TimeoutError):
            async with self._context.clock.timeout(PATIENCE):
                await self._idle.wait()

    # When it may write

    async def _run(self) -> None:
        failures = 0
        while True:
            line = await self._connection.line()
            self._line = line
            try:
                await self._while(line, self._serve(line))
            except (*FAILURES, NatsError) as error:
                reason = described(error)
            else:
                reason = LOST
            failures = 0 if self._stop_leading() else failures + 1
            self._turned(reason)
            if not line.lost.is_set():
                await self._context.clock.sleep(min(FIRST_WAIT * 2**failures, LONGEST_WAIT))

    async def _while(self, line: Line, work: Coroutine[None, None, None]) -> None:
        """Do that, as long as the connection is there."""
        tasks = [asyncio.create_task(work), asyncio.create_task(_lost(line))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ended(*tasks)
        if not tasks[0].cancelled():
            tasks[0].result()

    async def _serve(self, line: Line) -> None:
        await bucket.made(line, self._subjects, self._config, self._context.log)
        if not self._watch.is_running:
            self._watch.begin()
        await self._watch.filled.wait()
        now = self._context.clock.time
        revision = await self._free(line)
        until = now() + (self._config.lease or 0)
        self._chain = chain = Chain(line, self._subjects, revision)
        await chain.write([self._announcement()])  # from here on nobody else can
        await self._watch.seen(chain.revision)  # and this is all that anybody has written
        await self._watch.end()
        await self._wanted.compare(self._held)
        subscription = await line.client.subscribe(self._subjects.authorize, cb=self._asked)
        try:
            await self._lead(line, chain, until)
        finally:
            if not line.lost.is_set():
                with suppress(*FAILURES):
                    await subscription.unsubscribe()

    async def _free(self, line: Line) -> int:
        """The revision of the bucket at which no other origin holds it, as soon as there is
        one."""
        told = False
        while True:
            info = await line.js.stream_info(self._subjects.stream)
            revision = info.state.last_seq
            holder = await self._holder(line)
            if holder is None or self._config.lease is None:
                return revision
            if not told:
                told = True
                self._turned(None)
                self._context.log.info("%s has the lease; standing by", holder.host)
            await self._context.clock.sleep(min(self._config.lease / 8, 1.0))

    async def _holder(self, line: Line) -> OriginValue | None:
        """The other origin that has the lease."""
        try:
            found: RawStreamMsg = await line.js.get_last_msg(
                self._subjects.stream, self._subjects.prefix + ORIGIN
            )
        except nats.js.errors.NotFoundError:
            return None
        value = decoded(found.data or b"", OriginValue)
        if value is None or not value.lease or value.run == self._value.run:
            return None
        return value

    def _announcement(self) -> Write:
        return Write(ORIGIN, encoded(self._value), ttl=self._config.lease or 0)

    def _stop_leading(self) -> bool:
        """Whether it did."""
        led, self.leads = self.leads, False
        chain, self._chain = self._chain, None
        self._wanted.compared = False
        self._chat.clear()
        self._idle.set()
        if led and chain is not None:
            self._watch.go_on_from(chain.revision)
        return led

    # Writing

    async def _lead(self, line: Line, chain: Chain, until: float) -> None:
        clock, lease = self._context.clock, self._config.lease
        self.leads = True
        self.takeovers += 1
        self._turned(None)
        self._context.log.info("writes the bucket '%s'", self._subjects.bucket)
        renew_at = until - (lease or 0) * 2 / 3
        while True:
            await self._worked(renew_at if lease else None)
            places = list(self._wanted.dirty)[:BATCH]
            writes = [Write(key_of(place), self._wanted.get(place)) for place in places]
            now, patience = clock.time(), WRITE_TIMEOUT
            if lease:
                # What is not taken before the lease ends is not to be hoped for any more.
                patience = min(patience, until - now)
                if now >= renew_at:
                    writes.append(self._announcement())
                if patience <= 0:
                    raise NatsError(LEASE_ENDED)
            if writes:
                before = chain.revision
                await chain.write(writes, patience)
                self._have_written(places, writes, before)
                if lease and now >= renew_at:
                    until, renew_at = now + lease, now + lease / 3
            await self._talk(line)

    async def _worked(self, at: float | None) -> None:
        """Return when there is something to write, or at that time."""
        if self._wanted.dirty or self._chat:
            return
        self._work.clear()
        self._idle.set()
        if at is None:
            await self._work.wait()
            return
        with suppress(TimeoutError):
            async with self._context.clock.timeout(max(0.0, at - self._context.clock.time())):
                await self._work.wait()

    def _have_written(self, places: Sequence[Place], writes: Sequence[Write], before: int) -> None:
        for number, (place, write) in enumerate(zip(places, writes, strict=False), before + 1):
            self._held.set(place, write.value)
            self._wanted.written(place, write.value)
            self._written[place.group] = number

    async def _talk(self, line: Line) -> None:
        """Publish chat, once all is written that was said before it."""
        if self._wanted.dirty:
            return
        while self._chat:
            message = self._chat.popleft()
            after = self._written.get(f"users.{message.server_id}", 0)
            subject = self._subjects.chat(message.server_id)
            await line.client.publish(subject, encoded_chat(message, after))

    # Who may join

    async def _asked(self, message: Msg) -> None:
        if len(self._questions) < MAX_QUESTIONS:
            task = begun(self._answer(message), "d_back_nats question", self._turned)
            self._questions.add(task)
            task.add_done_callback(self._questions.discard)

    async def _answer(self, message: Msg) -> None:
        question = self._seal.opened(message.data)
        line = self._line
        if question is None or not message.reply or line is None:
            return
        verdict = await self._context.authorize(
            question.server_id, question.credentials, question.address
        )
        if self.leads and not line.lost.is_set():
            with suppress(*FAILURES):  # nobody hears, and that is a no
                await line.client.publish(message.reply, answered(question, verdict=verdict))

    def _watch_turned(self, watch: Watch) -> None:
        if watch.trouble is not None:
            self._turned(watch.trouble)


async def _lost(line: Line) -> None:
    await line.lost.wait()

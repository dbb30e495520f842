"""Which origin may write the bucket: the record under the key `origin`, and its heartbeat.

The record names the origin that writes (its run, its host) and is written again every `HEARTBEAT`
seconds, with and without `lease`. An origin is in one of these states:

    waiting   another origin owns the bucket. With `lease` that is normal (a standby). Without, two
              origins were started by mistake: this one is degraded, and says which one writes
    claiming  the owner has stopped or is silent, or there is none: it writes its own record
    owning    it writes, until a write is refused, the connection is lost, or its lease ends

    waiting -> claiming   the record says "stopped", or is older than the time below
    claiming -> owning    the claim was stored; else back to waiting
    owning -> waiting     any failure, see `origin`

A record counts as abandoned when it was not renewed for `SILENT_AFTER` seconds, or for the lease
that it names. Its age is taken from the NATS server's clock alone, so a wrong clock of a host does
no harm. An owner with a lease stops by its own clock before the lease ends.

Invariant: at most one origin owns the bucket. A claim names the bucket's last revision that the
claimer has seen, and so does each later write: of two claims NATS stores one, and after a claim it
refuses what the previous owner still sends.

The record also names the *epoch*. As long as it stays the same, every change of the bucket since
was a write, so a reader that follows the writes has the right content. An origin that cannot be
sure of this (it was just started; the bucket was purged, replaced or restored) begins a new epoch,
and every reader then reads the whole bucket again.
"""

import secrets
import socket
import time
from collections.abc import Callable

import nats.js.errors
from nats.js.api import RawStreamMsg

from d_back_core import Context
from d_back_nats import bucket
from d_back_nats.bucket import BucketState
from d_back_nats.config import NatsConfig
from d_back_nats.connection import Line
from d_back_nats.failure import BucketChangedError, NatsError
from d_back_nats.keys import ORIGIN, Subjects
from d_back_nats.records import OriginValue, decoded, encoded
from d_back_nats.writer import Write

HEARTBEAT = 2.0
"""Seconds between two records; at most a third of the lease."""
SILENT_AFTER = 6.0
"""Seconds after which an origin without a lease counts as dead."""
LONGEST_LOOK = 1.0

LEASE_ENDED = "the lease could not be renewed in time"


class Ownership:
    """The ownership of one origin."""

    def __init__(
        self,
        context: Context,
        config: NatsConfig,
        seal: str,
        waiting: Callable[[str | None], None],
    ) -> None:
        self._context = context
        self._config = config
        self._waiting = waiting
        self._subjects = Subjects(config.bucket)
        self._lease = float(config.lease or 0)
        self._value = OriginValue(
            run=secrets.token_hex(8),
            host=socket.gethostname(),
            since=time.time(),
            seal=seal,
            lease=self._lease,
        )
        self.is_waiting = False
        """True while another origin owns the bucket."""
        self.refusal: str | None = None
        """The reason why it is an error to wait; None if it stands by."""
        self._stored_at = 0
        """The revision of our newest record."""
        self._created = ""
        """The time when the bucket that we wrote last was created."""
        self._renewed_at = 0.0

    async def wait(self, line: Line) -> BucketState:
        """Return when no other origin owns the bucket; raises `BucketChangedError` if the bucket
        is older than what we have written."""
        try:
            return await self._wait(line)
        finally:
            self.is_waiting = False

    async def _wait(self, line: Line) -> BucketState:
        told = ""
        while True:
            # The state first: if another origin writes after it, our claim is refused.
            state = await bucket.state(line, self._subjects)
            owner, revision, age = await self._owner(line, state)
            if state.created == self._created and revision < self._stored_at:
                # An origin that wrote the record after us did so at a higher revision.
                self._stored_at = 0
                raise BucketChangedError("the bucket was purged, or restored from a backup")
            is_ours = owner is not None and owner.run == self._value.run
            if owner is None or is_ours or _is_abandoned(owner, age):
                self._created = state.created
                return state
            if told != owner.run:
                told = owner.run
                self._tell(owner)
            look = min((owner.lease or SILENT_AFTER) / 8, LONGEST_LOOK)
            await self._context.clock.sleep(look)

    def _tell(self, owner: OriginValue) -> None:
        if self._lease:
            self.refusal = None
            self._context.log.info("%s has the lease; standing by", owner.host)
        else:
            self.refusal = (
                f"the origin at {owner.host} (run {owner.run}) writes the bucket"
                f" '{self._config.bucket}'; only origins with `lease` may stand by"
            )
            self._context.log.warning("%s", self.refusal)
        self.is_waiting = True
        self._waiting(self.refusal)

    async def _owner(
        self, line: Line, state: BucketState
    ) -> tuple[OriginValue | None, int, float]:
        """Return the record, its revision, and its age in seconds."""
        try:
            found: RawStreamMsg = await line.js.get_last_msg(
                self._subjects.stream, self._subjects.prefix + ORIGIN
            )
        except nats.js.errors.NotFoundError:
            return None, 0, 0.0
        value = decoded(found.data or b"", OriginValue)
        age = 0.0 if found.time is None else (state.now - found.time).total_seconds()
        return value, found.seq or 0, age

    def record(self, epoch: str) -> Write:
        """Return the claim, or a heartbeat."""
        return Write(ORIGIN, encoded(self._value.of(epoch)))

    def farewell(self, epoch: str) -> Write:
        """Return the record that lets another origin claim the bucket at once."""
        return Write(ORIGIN, encoded(self._value.of(epoch, stopped=True)))

    def renewed(self, sent_at: float, revision: int) -> None:
        """Note that a record, sent at that time, was stored."""
        self._renewed_at, self._stored_at = sent_at, revision

    @property
    def heartbeat_at(self) -> float:
        """The time of the next heartbeat."""
        interval = min(HEARTBEAT, self._lease / 3) if self._lease else HEARTBEAT
        return self._renewed_at + interval

    def time_left(self, longest: float) -> float:
        """Return for how many seconds a write may wait; raises `NatsError` if the lease has
        ended."""
        if not self._lease:
            return longest
        left = self._renewed_at + self._lease - self._context.clock.time()
        if left <= 0:
            raise NatsError(LEASE_ENDED)
        return min(longest, left)

    async def verify(self, line: Line, revision: int, least_messages: int) -> None:
        """Raise `BucketChangedError` if the bucket, whose last revision is the given one, has
        changed without a write.

        Writes of others need no look: they make our next write fail. A purge leaves the last
        revision as it is, but takes messages away.
        """
        state = await bucket.state(line, self._subjects)
        if state.created != self._created:
            raise BucketChangedError("the bucket was replaced by another one")
        if state.last_revision == revision and state.messages < least_messages:
            raise BucketChangedError("keys were removed from the bucket (a purge?)")


def _is_abandoned(owner: OriginValue, age: float) -> bool:
    return owner.stopped or age >= (owner.lease or SILENT_AFTER)

"""The sessions of one server: how far each has come, and what is written to all of them.

Most of them are *direct*: they have received every batch, nothing waits for them, and their
sockets are written to in one loop. The others are *buffered*, and each is looked at on its own.

Invariant: a session is in exactly one of ``_direct``, ``_waiting`` and ``_buffered``. A direct
session has no position of its own, so that a batch does not touch its `Subscription`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

from msgspec import Struct

from d_back_core.chain.world import Delta, Removal, World, WorldChange
from d_back_core.gateway.socket_writes import write_all
from d_back_core.state.backlog import Backlog
from d_back_core.stats import Counters

SESSIONS_PER_TURN = 1000


class Subscriber(Protocol):
    """A session, as the live state sees it."""

    @property
    def paused(self) -> bool:
        """True if its client does not keep up; `Joins.catch_up` is called when it does."""

    @property
    def deflates(self) -> bool:
        """True if its client accepts compressed messages."""

    @property
    def descriptor(self) -> int | None:
        """The descriptor that whole frames may be written to, instead of `write`, until
        `Joins.stop_direct_writes` is called; None: not now."""

    def write(self, frames: bytes, /) -> None:
        """Write whole frames in order, without waiting; never raises."""

    def write_snapshot(self, frames: Sequence[bytes], /) -> None:
        """Write frames, in pieces, that may be larger than the limit of unsent bytes. The pieces
        are shared by all sessions, and are not copied."""

    def send(self, payload: bytes, /) -> None:
        """Write one text message."""


class Subscription(Struct):
    """How far a session has come in a world, as positions."""

    joined_at: int
    position: int
    """Not current while the session is direct."""
    descriptor: int | None = None
    """Set while the session is direct."""
    backlog: Backlog | None = None
    """The changes that wait while the session is paused."""


class Batch(Struct, frozen=True):
    """The deltas of one turn of the loop, and all their frames in one piece."""

    deltas: Sequence[Delta]
    frames: Sequence[bytes]
    joined: bytes
    for_all: bool
    """True if every session may receive all of it."""

    @classmethod
    def of(cls, deltas: Sequence[Delta], frames: Sequence[bytes]) -> "Batch":
        """These deltas, with the frame of each."""
        for_all = not any(_is_restricted(delta) for delta in deltas)
        return cls(deltas, frames, b"".join(frames), for_all)

    @property
    def first(self) -> int:
        """The position of its first delta."""
        return self.deltas[0].position

    @property
    def last(self) -> int:
        """The position of its last delta."""
        return self.deltas[-1].position


class Recovery(Struct, frozen=True):
    """The changes for a session that was paused."""

    seq: int
    """The number up to which the client had everything before."""
    changes: list[WorldChange]


class Subscribers:
    """The sessions that have joined one server."""

    def __init__(self, counters: Counters) -> None:
        self.sessions: dict[Subscriber, Subscription] = {}
        self._counters = counters
        self._buffered: dict[Subscriber, Subscription] = {}
        self._direct: dict[int, Subscriber] = {}
        """By descriptor."""
        self._position = 0
        """The position of all direct sessions."""
        self._waiting: dict[int, Subscriber] = {}
        """The direct sessions that the batch under way has not reached yet."""
        self._waiting_position = 0
        self._batch: Batch | None = None
        """The batch that is under way."""

    def join(self, session: Subscriber, *, joined_at: int, position: int) -> None:
        """Add a session that has everything up to ``position``."""
        self.sessions[session] = self._buffered[session] = Subscription(joined_at, position)

    def leave(self, session: Subscriber) -> None:
        """Write nothing more to the session."""
        # First: it needs the subscription, and puts the session into `_buffered`.
        self.stop_direct_writes(session)
        self._buffered.pop(session, None)
        self.sessions.pop(session, None)

    def stop_direct_writes(self, session: Subscriber) -> None:
        """Do not write to the session's descriptor any more."""
        subscription = self.sessions.get(session)
        if subscription is None or subscription.descriptor is None:
            return
        if self._direct.pop(subscription.descriptor, None) is not None:
            subscription.position = self._position
        else:  # the batch under way has not reached it
            del self._waiting[subscription.descriptor]
            subscription.position = self._waiting_position
        subscription.descriptor = None
        self._buffered[session] = subscription

    def deliver(self, batch: Batch) -> None:
        """Write the batch to every session, once."""
        if self._buffered or not batch.for_all:
            for _ in self.turns(batch):
                pass
        else:
            self._position = batch.last
            self._write(self._direct, batch)

    def turns(self, batch: Batch) -> Iterator[None]:
        """As `deliver`, with a pause after every ``SESSIONS_PER_TURN`` sessions. Exhaust the
        iterator before the next batch."""
        # Now, not at the first step of the iterator: from here on the deltas are not pending in
        # the world any more, and a session that catches up must still find them.
        self._batch = batch
        return self._turns(batch)

    def _turns(self, batch: Batch) -> Iterator[None]:
        if not batch.for_all:
            for session in list(self._direct.values()):
                self.stop_direct_writes(session)
        self._waiting, self._direct = self._direct, {}
        self._waiting_position, self._position = self._position, batch.last
        while self._waiting:
            turn = self._next_direct()
            # Before the write, which may fall short: the session must then be found as direct.
            self._direct |= turn
            self._write(turn, batch)
            yield
        # After the direct ones: a session that became buffered before its turn is among these.
        buffered = list(self._buffered)
        for start in range(0, len(buffered), SESSIONS_PER_TURN):
            for session in buffered[start : start + SESSIONS_PER_TURN]:
                self._write_buffered(session, batch)
            yield
        self._batch = None

    def catch_up(self, session: Subscriber, world: World) -> Recovery | None:
        """Return the changes that a session missed while it was paused; None if none."""
        subscription = self.sessions.get(session)
        if subscription is None or subscription.backlog is None:
            return None
        backlog, subscription.backlog = subscription.backlog, None
        # The batch under way may not have reached the session, and pending deltas have reached no
        # session. Both skip it later, since it is at the world's position then.
        rest = self._batch.deltas if self._batch is not None else ()
        for delta in (*rest, *world.pending):
            if delta.position > subscription.position and _may_receive(subscription, delta):
                backlog.hold(delta)
        subscription.position = world.position
        return Recovery(backlog.seq, backlog.release(world))

    def _next_direct(self) -> dict[int, Subscriber]:
        if len(self._waiting) <= SESSIONS_PER_TURN:
            turn, self._waiting = self._waiting, {}
            return turn
        descriptors = list(islice(self._waiting, SESSIONS_PER_TURN))
        return {descriptor: self._waiting.pop(descriptor) for descriptor in descriptors}

    def _write(self, turn: Mapping[int, Subscriber], batch: Batch) -> None:
        frames = batch.joined
        short = write_all(turn, frames)
        self._count(len(turn) * len(batch.deltas), len(turn) * len(frames))
        for descriptor, taken in short.items():
            turn[descriptor].write(frames[taken:])

    def _write_buffered(self, session: Subscriber, batch: Batch) -> None:
        subscription = self._buffered.get(session)
        if subscription is None or subscription.position > batch.last:
            return  # it has left, or has joined again meanwhile
        if batch.for_all and subscription.position < batch.first and not session.paused:
            session.write(batch.joined)
            self._count(len(batch.deltas), len(batch.joined))
        else:
            self._write_selected(session, subscription, batch)
        subscription.position = batch.last
        # Read after the writes: bytes that the transport buffers forbid direct writes.
        descriptor = session.descriptor
        if descriptor is not None:
            subscription.descriptor = descriptor
            self._direct[descriptor] = session
            del self._buffered[session]

    def _write_selected(
        self, session: Subscriber, subscription: Subscription, batch: Batch
    ) -> None:
        """Write to a session that has a part of the batch already, may not receive all of it, or
        is paused."""
        chosen = [
            number
            for number, delta in enumerate(batch.deltas)
            if delta.position > subscription.position and _may_receive(subscription, delta)
        ]
        if session.paused:
            for number in chosen:
                delta = batch.deltas[number]
                if subscription.backlog is None:
                    subscription.backlog = Backlog(subscription.joined_at, delta)
                else:
                    subscription.backlog.hold(delta)
            self._counters.conflated += len(chosen)
        elif chosen:
            frames = b"".join(batch.frames[number] for number in chosen)
            session.write(frames)
            self._count(len(chosen), len(frames))

    def _count(self, deliveries: int, size: int) -> None:
        self._counters.deliveries += deliveries
        self._counters.bytes += size


def _is_restricted(delta: Delta) -> bool:
    return isinstance(delta.change, Removal) and delta.change.known_before is not None


def _may_receive(subscription: Subscription, delta: Delta) -> bool:
    known_before = delta.change.known_before if isinstance(delta.change, Removal) else None
    return known_before is None or subscription.joined_at < known_before

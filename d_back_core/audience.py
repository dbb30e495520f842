"""The sessions of one server: how far each has come, and what is written to all of them.

Most of them are *in step*: they have all that was written to any, nothing waits for them, and
their sockets are written to directly. The others are *apart*, and looked at one by one.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

from msgspec import Struct

from d_back_core.direct import write_all
from d_back_core.outbox import Outbox
from d_back_core.stats import Counters
from d_back_core.world import Change, Delta, Removal, World

SESSIONS_PER_TURN = 1000


class Subscriber(Protocol):
    """What the live state knows of a session."""

    @property
    def paused(self) -> bool:
        """Whether its client does not keep up; `Live.catch_up` is to be called when it does."""

    @property
    def deflates(self) -> bool:
        """Whether its client takes compressed messages."""

    @property
    def descriptor(self) -> int | None:
        """Where whole frames may be written to directly, in place of `write`, until
        `Live.set_apart` is called; None: not now."""

    def write(self, frames: bytes, /) -> None:
        """Write whole frames, at once and in order, without waiting; never raises."""

    def write_snapshot(self, frames: bytes, /) -> None:
        """Write what may be larger than all else that waits for a client."""

    def send(self, payload: bytes, /) -> None:
        """Write one text message."""


class Subscription(Struct):
    """How far a session has come in a world; in places."""

    joined_at: int
    upto: int
    """Of one that is in step, the audience knows."""
    descriptor: int | None = None
    """That of a session which is in step."""
    outbox: Outbox | None = None
    """What waits while the session is paused."""


class Batch(Struct, frozen=True):
    """The deltas of one turn of the loop, and all their frames in one piece."""

    deltas: Sequence[Delta]
    frames: Sequence[bytes]
    joined: bytes
    for_all: bool
    """Whether every session may hear of all of it."""

    @classmethod
    def of(cls, deltas: Sequence[Delta], frames: Sequence[bytes]) -> "Batch":
        """These deltas, with the frame of each."""
        for_all = not any(_is_restricted(delta) for delta in deltas)
        return cls(deltas, frames, b"".join(frames), for_all)

    @property
    def first(self) -> int:
        """The place of its first delta."""
        return self.deltas[0].place

    @property
    def last(self) -> int:
        """The place of its last delta."""
        return self.deltas[-1].place


class Audience:
    """Everybody who joined one server."""

    def __init__(self, counters: Counters) -> None:
        self.sessions: dict[Subscriber, Subscription] = {}
        self._counters = counters
        self._apart: dict[Subscriber, Subscription] = {}
        self._in_step: dict[int, Subscriber] = {}
        """By descriptor."""
        self._upto = 0
        """How far those have come."""
        self._waiting: dict[int, Subscriber] = {}
        """Those who were in step and are still to be written the batch that is under way."""
        self._waiting_upto = 0

    def join(self, session: Subscriber, *, joined_at: int, upto: int) -> None:
        """Go on from there with a session that is none of these yet."""
        self.sessions[session] = self._apart[session] = Subscription(joined_at, upto)

    def leave(self, session: Subscriber) -> None:
        """Write nothing more to it."""
        self.set_apart(session)
        self._apart.pop(session, None)
        self.sessions.pop(session, None)

    def set_apart(self, session: Subscriber) -> None:
        """Use its descriptor no more."""
        subscription = self.sessions.get(session)
        if subscription is None or subscription.descriptor is None:
            return
        if self._in_step.pop(subscription.descriptor, None) is not None:
            subscription.upto = self._upto
        else:
            del self._waiting[subscription.descriptor]
            subscription.upto = self._waiting_upto
        subscription.descriptor = None
        self._apart[session] = subscription

    def deliver(self, batch: Batch) -> None:
        """Write the batch to every session, once."""
        if self._apart or not batch.for_all:
            for _ in self.turns(batch):
                pass
        else:
            self._upto = batch.last
            self._write(self._in_step, batch)

    def turns(self, batch: Batch) -> Iterator[None]:
        """The same, with a pause after every ``SESSIONS_PER_TURN``. The iterator is to be
        exhausted before the next batch."""
        if not batch.for_all:
            for session in list(self._in_step.values()):
                self.set_apart(session)
        self._waiting, self._in_step = self._in_step, {}
        self._waiting_upto, self._upto = self._upto, batch.last
        while self._waiting:
            turn = self._next_in_step()
            self._in_step |= turn
            self._write(turn, batch)
            yield
        apart = list(self._apart)  # now: some may have fallen out of step before their turn
        for start in range(0, len(apart), SESSIONS_PER_TURN):
            for session in apart[start : start + SESSIONS_PER_TURN]:
                self._write_apart(session, batch)
            yield

    def catch_up(self, session: Subscriber, world: World) -> list[Change] | None:
        """What a session that was paused is to be told, as it is now; None where it missed
        nothing."""
        subscription = self.sessions.get(session)
        if subscription is None or subscription.outbox is None:
            return None
        changes = subscription.outbox.release(world)
        subscription.outbox = None
        subscription.upto = world.place
        return changes

    def _next_in_step(self) -> dict[int, Subscriber]:
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

    def _write_apart(self, session: Subscriber, batch: Batch) -> None:
        subscription = self._apart.get(session)
        if subscription is None or subscription.upto > batch.last:
            return  # it has gone, or has joined again meanwhile
        if batch.for_all and subscription.upto < batch.first and not session.paused:
            session.write(batch.joined)
            self._count(len(batch.deltas), len(batch.joined))
        else:
            self._write_selected(session, subscription, batch)
        subscription.upto = batch.last
        descriptor = session.descriptor
        if descriptor is not None:
            subscription.descriptor = descriptor
            self._in_step[descriptor] = session
            del self._apart[session]

    def _write_selected(
        self, session: Subscriber, subscription: Subscription, batch: Batch
    ) -> None:
        """To a session that has some of the batch already, may not hear of all of it, or does
        not keep up."""
        chosen = [
            number
            for number, delta in enumerate(batch.deltas)
            if delta.place > subscription.upto and _may_hear(subscription, delta)
        ]
        if session.paused:
            if subscription.outbox is None:
                subscription.outbox = Outbox(subscription.joined_at)
            subscription.outbox.hold(batch.deltas[number] for number in chosen)
            self._counters.conflated += len(chosen)
        elif chosen:
            frames = b"".join(batch.frames[number] for number in chosen)
            session.write(frames)
            self._count(len(chosen), len(frames))

    def _count(self, deliveries: int, size: int) -> None:
        self._counters.deliveries += deliveries
        self._counters.bytes += size


def _is_restricted(delta: Delta) -> bool:
    return isinstance(delta.change, Removal) and delta.change.told_before is not None


def _may_hear(subscription: Subscription, delta: Delta) -> bool:
    told_before = delta.change.told_before if isinstance(delta.change, Removal) else None
    return told_before is None or subscription.joined_at < told_before

"""The snapshot that joins and lists of users are served from: a world's users, encoded and
compressed once, whatever the number of clients.

It is the world at one sequence number. For a join, what changed since is sent after it, folded.
When that tail has grown long the snapshot is made again, and joins are served from the former one
meanwhile.

A list of users (`get_user_data`, and over HTTP) has no tail. It waits for a snapshot that includes
everything up to the request, so each change can cause one more snapshot. The pauses between these
keep their share of the CPU below a bound, whatever the number of requests and changes.
"""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from d_back_core.chain.world import ChangeTracker, Removal, World
from d_back_core.clock import Clock
from d_back_core.providers.validation import SLICE
from d_back_core.wire import protocol
from d_back_core.wire.frames import (
    WORTH_DEFLATING,
    Body,
    Piece,
    message,
    piece,
    stored,
    text_frame,
)

TAIL_SHARE = 50
"""The tail is long when more than one in so many users has changed."""
OLD_SHARE = 10
"""With more than one in so many, joins wait for a new snapshot: the tail is not compressed."""
REST = 4
"""A list of users begins a snapshot only so many times its last duration after the last one."""


class Encoded(Struct, frozen=True):
    """The users at one moment as bytes."""

    users: Piece
    body: Body
    """The same as the body of an HTTP answer; it shares the bytes."""


class CachedSnapshot:
    """The users at one moment, and the frames that bring a client from there to the present."""

    def __init__(
        self, world: World, tracker: ChangeTracker, encoded: Encoded, seq: int, position: int
    ) -> None:
        self.tracker = tracker
        self.users = encoded.users
        self.position = position
        """The world's position at that moment."""
        self._encoded = encoded
        self._world = world
        self._seq = seq
        """The number of the moment."""
        self._frames: dict[str, bytes] = {}
        """By uid, all at that number."""
        self._tail = b""
        self._tail_seq = seq

    def http(self) -> Body:
        """Return the users as the body of an HTTP answer."""
        return self._encoded.body

    def user_data(self, *, deflate: bool) -> tuple[bytes, ...]:
        """Return the users as a ``user_data`` frame, in pieces."""
        head = protocol.user_data_head(self._world.server_id)
        return self._message(head, protocol.USER_DATA_END, deflate=deflate)

    def server_join(self, head: bytes, *, deflate: bool) -> tuple[bytes, ...]:
        """Return the users as a ``server-join`` frame that begins with this head, in pieces."""
        return self._message(head, protocol.JOIN_END, deflate=deflate)

    def _message(self, head: bytes, end: bytes, *, deflate: bool) -> tuple[bytes, ...]:
        if deflate and self.users.deflated:
            return message((stored(head), self.users, stored(end)), deflate=True)
        return message((Piece(head, b""), self.users, Piece(end, b"")), deflate=False)

    def tail(self) -> tuple[int, bytes]:
        """Return the number of the ``server-join``, and the frames to send behind it: the newest
        state of each user that has changed, and the removal of those who were in the snapshot; no
        chat (R30).

        Only the last frame has the present number: a client that loses the connection before it
        resumes from the number of the snapshot (R48).
        """
        seq = self._world.seq
        lately = list(self.tracker.lately())
        if lately or seq != self._tail_seq:
            for uid in lately:
                frame = self._frame(uid, self._seq)
                if frame is None:
                    self._frames.pop(uid, None)
                else:
                    self._frames[uid] = frame
            self._tail, self._tail_seq = self._joined(seq), seq
        return (self._seq if self._frames else seq), self._tail

    def _joined(self, seq: int) -> bytes:
        if not self._frames:
            return b""
        *uids, last = self._frames
        final = self._frame(last, seq, resync=True) or b""
        return b"".join((*(self._frames[uid] for uid in uids), final))

    def _frame(self, uid: str, seq: int, *, resync: bool = False) -> bytes | None:
        user = self._world.visible(uid)
        if user is None and not self.tracker.touched[uid]:
            return None
        change = Removal(uid=uid) if user is None else self._world.introduced(user)
        return text_frame(protocol.delta(self._world.server_id, seq, change, resync=resync))


class SnapshotCache:
    """One world's users, encoded; shared by all joins."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.world = world
        self._clock = clock
        self._rested_at = 0.0
        """When a list of users may begin the next snapshot of a large world."""
        self._cached: CachedSnapshot | None = None
        self._making: asyncio.Task[None] | None = None

    async def ready(self) -> CachedSnapshot:
        """The users at some earlier moment: encoded in slices, compressed in a thread, and shared
        by all joins; of a small world they are always those of now. ``tail`` goes with it as long
        as the caller does not wait for anything else."""
        if self._is_small:
            if not self._is_exact:
                self._make_at_once()
        elif self._is_outdated(TAIL_SHARE):
            self._making = self._making or asyncio.create_task(self._make())
            if self._is_outdated(OLD_SHARE):
                # Shielded: all joins share it, and one client that leaves must not end it.
                await asyncio.shield(self._making)
        if self._cached is None:  # it has been trimmed meanwhile
            return await self.ready()
        return self._cached

    async def current(self) -> CachedSnapshot:
        """The users at a moment that is not before the call."""
        wanted = self.world.position
        while True:
            cached = self._cached
            if cached is not None and not (cached.tracker.touched and cached.position < wanted):
                return cached
            if self._is_small:
                self._make_at_once()
                continue
            rest = self._rested_at - self._clock.time()
            if self._making is None and rest > 0:
                await self._clock.sleep(rest)
                continue  # another call has begun meanwhile, or has even finished
            self._making = self._making or asyncio.create_task(self._make())
            await asyncio.shield(self._making)

    def trim(self) -> None:
        """Drop a snapshot that is out of date for most users: its tracker grows without a bound
        if no client joins."""
        cached = self._cached
        if cached is None or self._making is not None:
            return
        if len(cached.tracker.touched) > 2 * len(self.world.users) + SLICE:
            self._replace(None)

    def close(self) -> None:
        """Stop encoding; no client joins any more."""
        if self._making is not None:
            self._making.cancel()

    def _is_outdated(self, share: int) -> bool:
        cached = self._cached
        return cached is None or len(cached.tracker.touched) * share > len(self.world.users)

    @property
    def _is_small(self) -> bool:
        return self._making is None and len(self.world.users) <= SLICE

    @property
    def _is_exact(self) -> bool:
        return self._cached is not None and not self._cached.tracker.touched

    def _make_at_once(self) -> None:
        seq, position = self.world.seq, self.world.position
        encoded = _encoded([protocol.users_json(self.world.shown())], *self._head_and_tag())
        self._replace(CachedSnapshot(self.world, self.world.track(), encoded, seq, position))

    def _head_and_tag(self) -> tuple[bytes, str]:
        """Return the beginning of the HTTP body, and what identifies the body of now."""
        tag = f"{self.world.epoch}-{self.world.position}"
        return protocol.user_data_head(self.world.server_id), tag

    async def _make(self) -> None:
        # All before the users are read, in one step: what changes from here on is in the tail.
        tracker, seq, position = self.world.track(), self.world.seq, self.world.position
        head, tag = self._head_and_tag()
        began = self._clock.time()
        try:
            users = self.world.shown()
            parts = []
            for start in range(0, len(users), SLICE):
                parts.append(protocol.users_json(users[start : start + SLICE]))
                await asyncio.sleep(0)
            encoded = await asyncio.to_thread(_encoded, parts, head, tag)
            self._replace(CachedSnapshot(self.world, tracker, encoded, seq, position))
        except BaseException:  # cancelled, too: the tracker would grow as long as the world lives
            self.world.untrack(tracker)
            raise
        finally:
            self._making = None
            now = self._clock.time()
            self._rested_at = now + REST * (now - began)

    def _replace(self, cached: CachedSnapshot | None) -> None:
        former, self._cached = self._cached, cached
        if former is not None:
            self.world.untrack(former.tracker)


def _encoded(parts: Sequence[bytes], head: bytes, tag: str) -> Encoded:
    plain = b"{" + b",".join(parts) + b"}"
    users = piece(plain) if len(plain) >= WORTH_DEFLATING else Piece(plain, b"")
    return Encoded(users, Body.of(head, users, protocol.USER_DATA_END, tag))

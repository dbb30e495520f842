"""The snapshot that joins are served from: a world's users, encoded and compressed once.

It is the world at one sequence number; what changed since is sent after it, folded. When that tail
has grown long the snapshot is made again, and joins are served from the former one meanwhile.
"""

import asyncio
from collections.abc import Sequence

from d_back_core.chain.world import ChangeTracker, Presence, Removal, World
from d_back_core.providers.validation import SLICE
from d_back_core.wire import protocol
from d_back_core.wire.frames import WORTH_DEFLATING, Piece, piece, text_frame

TAIL_SHARE = 50
"""The tail is long when more than one in so many users has changed."""
OLD_SHARE = 10
"""With more than one in so many, joins wait for a new snapshot: the tail is not compressed."""


class CachedSnapshot:
    """The users at one moment, and the frames that bring a client from there to the present."""

    def __init__(self, world: World, tracker: ChangeTracker, users: Piece, seq: int) -> None:
        self.tracker = tracker
        self.users = users
        self._world = world
        self._seq = seq
        """The number of the moment."""
        self._frames: dict[str, bytes] = {}
        """By uid, all at that number."""
        self._tail = b""
        self._tail_seq = seq

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
        change = Removal(uid=uid) if user is None else Presence.introducing(user)
        return text_frame(protocol.delta(self._world.server_id, seq, change, resync=resync))


class SnapshotCache:
    """One world's users, encoded; shared by all joins."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._cached: CachedSnapshot | None = None
        self._making: asyncio.Task[None] | None = None

    async def ready(self) -> CachedSnapshot:
        """The users at some earlier moment, as the end of a payload: encoded in slices,
        compressed in a thread, and shared by all joins; of a small world they are always those
        of now. ``tail`` goes with it as long as the caller does not wait for anything else."""
        if self._making is None and len(self.world.users) <= SLICE:
            if self._cached is None or self._cached.tracker.touched:
                self._make_at_once()
        elif self._is_outdated(TAIL_SHARE):
            self._making = self._making or asyncio.create_task(self._make())
            if self._is_outdated(OLD_SHARE):
                # Shielded: all joins share it, and one client that leaves must not end it.
                await asyncio.shield(self._making)
        if self._cached is None:  # it has been trimmed meanwhile
            return await self.ready()
        return self._cached

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

    def _make_at_once(self) -> None:
        encoded = _encoded([protocol.users_json(self.world.shown())])
        self._replace(CachedSnapshot(self.world, self.world.track(), encoded, self.world.seq))

    async def _make(self) -> None:
        # Both before the users are read, in one step: what changes from here on is in the tail.
        tracker, seq = self.world.track(), self.world.seq
        try:
            users = self.world.shown()
            parts = []
            for start in range(0, len(users), SLICE):
                parts.append(protocol.users_json(users[start : start + SLICE]))
                await asyncio.sleep(0)
            encoded = await asyncio.to_thread(_encoded, parts)
            self._replace(CachedSnapshot(self.world, tracker, encoded, seq))
        except BaseException:
            self.world.untrack(tracker)  # it would grow as long as the world lives
            raise
        finally:
            self._making = None

    def _replace(self, cached: CachedSnapshot | None) -> None:
        former, self._cached = self._cached, cached
        if former is not None:
            self.world.untrack(former.tracker)


def _encoded(parts: Sequence[bytes]) -> Piece:
    plain = b"{" + b",".join(parts) + b"}" + protocol.JOIN_END
    return piece(plain, last=True) if len(plain) >= WORTH_DEFLATING else Piece(plain, b"")

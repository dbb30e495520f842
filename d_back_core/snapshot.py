"""The snapshot that joins are served from: a world's users, encoded and compressed once.

It is the world at one sequence number; what changed since is sent after it, folded. When that tail
has grown long the snapshot is made again, and joins are served from the former one meanwhile.
"""

import asyncio
from collections.abc import Sequence

from d_back_core import protocol
from d_back_core.border import SLICE
from d_back_core.frames import WORTH_DEFLATING, Piece, piece, text_frame
from d_back_core.world import Mark, Presence, Removal, World

TAIL_SHARE = 50
"""The tail is long when more than one in so many users has changed."""
OLD_SHARE = 10
"""With more than one in so many, joins wait for a new snapshot: the tail is not compressed."""


class Edition:
    """The users at one moment, and what to send behind them."""

    def __init__(self, world: World, mark: Mark, users: Piece) -> None:
        self.mark = mark
        self.users = users
        self._world = world
        self._frames: dict[str, bytes] = {}
        """By uid, all at the number ``_before``."""
        self._before = -1
        self._tail = b""
        self._tail_seq = -1

    def tail(self) -> bytes:
        """Frames of what changed since, all at the present number: the newest state of each user,
        and the removal of those who were in the snapshot; no chat. What did not change since the
        last call is not encoded again."""
        seq = self._world.seq
        lately = list(self.mark.lately())
        if not lately and seq == self._tail_seq:
            return self._tail
        before = 10 ** len(str(seq)) - 1
        if before != self._before:  # the number has a digit more, and so has every frame
            self._before, self._frames = before, {}
            lately = list(self.mark.touched)
        for uid in lately:
            frame = self._frame(uid)
            if frame is None:
                self._frames.pop(uid, None)
            else:
                self._frames[uid] = frame
        joined = b"".join(self._frames.values())
        self._tail, self._tail_seq = protocol.renumbered(joined, before, seq), seq
        return self._tail

    def _frame(self, uid: str) -> bytes | None:
        user = self._world.visible(uid)
        if user is None and not self.mark.touched[uid]:
            return None
        change = Removal(uid=uid) if user is None else Presence.introducing(user)
        return text_frame(protocol.delta(self._world.server_id, self._before, change))


class Snapshot:
    """One world's users, encoded; shared by all joins."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._edition: Edition | None = None
        self._making: asyncio.Task[None] | None = None

    async def ready(self) -> Edition:
        """The users at some earlier moment, as the end of a payload: encoded in slices,
        compressed in a thread, and shared by all joins; of a small world they are always those
        of now. ``tail`` goes with it as long as the caller does not wait for anything else."""
        if self._making is None and len(self.world.users) <= SLICE:
            if self._edition is None or self._edition.mark.touched:
                self._make_at_once()
        elif self._is_outdated(TAIL_SHARE):
            self._making = self._making or asyncio.create_task(self._make())
            if self._is_outdated(OLD_SHARE):
                await asyncio.shield(self._making)
        if self._edition is None:  # it has been trimmed meanwhile
            return await self.ready()
        return self._edition

    def trim(self) -> None:
        """Forget what has changed where nobody will want to know: it would grow without end."""
        edition = self._edition
        if edition is None or self._making is not None:
            return
        if len(edition.mark.touched) > 2 * len(self.world.users) + SLICE:
            self._replace(None)

    def close(self) -> None:
        """Nobody joins any more."""
        if self._making is not None:
            self._making.cancel()

    def _is_outdated(self, share: int) -> bool:
        edition = self._edition
        return edition is None or len(edition.mark.touched) * share > len(self.world.users)

    def _make_at_once(self) -> None:
        encoded = _encoded([protocol.users_json(self.world.shown())])
        self._replace(Edition(self.world, self.world.mark(), encoded))

    async def _make(self) -> None:
        mark = self.world.mark()
        try:
            users = self.world.shown()
            parts = []
            for start in range(0, len(users), SLICE):
                parts.append(protocol.users_json(users[start : start + SLICE]))
                await asyncio.sleep(0)
            encoded = await asyncio.to_thread(_encoded, parts)
            self._replace(Edition(self.world, mark, encoded))
        except BaseException:
            self.world.unmark(mark)
            raise
        finally:
            self._making = None

    def _replace(self, edition: Edition | None) -> None:
        former, self._edition = self._edition, edition
        if former is not None:
            self.world.unmark(former.mark)


def _encoded(parts: Sequence[bytes]) -> Piece:
    plain = b"{" + b",".join(parts) + b"}" + protocol.JOIN_END
    return piece(plain, last=True) if len(plain) >= WORTH_DEFLATING else Piece(plain, b"")

"""The snapshot that joins are served from: a world's users, encoded and compressed once.

It is the world at one sequence number; what changed since is sent after it, folded. It is made
again when that tail has grown long.
"""

import asyncio
from collections.abc import Iterator, Sequence

from d_back_core import protocol
from d_back_core.border import SLICE
from d_back_core.frames import WORTH_DEFLATING, Piece, piece
from d_back_core.world import Change, Presence, Removal, World

TAIL_SHARE = 50
"""The tail is long when more than one in so many users has changed."""


class Snapshot:
    """One world's users, encoded; shared by all joins."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._users: Piece | None = None
        self._making: asyncio.Task[None] | None = None

    @property
    def outdated(self) -> bool:
        """Whether so much has changed that it is better made again; of a small world anything."""
        users, touched = len(self.world.users), len(self.world.touched)
        return touched * TAIL_SHARE > users or (touched > 0 and users <= SLICE)

    async def ready(self) -> Piece:
        """The users at the last mark of the world, as the end of a payload: encoded in slices,
        compressed in a thread, and shared by concurrent joins. `tail` goes with it as long as
        the caller does not wait for anything else."""
        made = False
        while self._users is None or (self.outdated and not made):
            if self._making is None and len(self.world.users) <= SLICE:
                self._users = _encoded([protocol.users_json(self.world.mark())])
            else:
                self._making = self._making or asyncio.create_task(self._make())
                await asyncio.shield(self._making)
            made = True
        return self._users

    def trim(self) -> None:
        """Forget what has changed where nobody will want to know: it would grow without end."""
        if self._making is None and len(self.world.touched) > 2 * len(self.world.users) + SLICE:
            self._users = None
            self.world.unmark()

    def close(self) -> None:
        """Nobody joins any more."""
        if self._making is not None:
            self._making.cancel()

    async def _make(self) -> None:
        try:
            self._users = None
            users = self.world.mark()
            parts = []
            for start in range(0, len(users), SLICE):
                parts.append(protocol.users_json(users[start : start + SLICE]))
                if start:
                    await asyncio.sleep(0)
            self._users = await asyncio.to_thread(_encoded, parts)
        finally:
            self._making = None

    def tail(self) -> Iterator[Change]:
        """What changed since: the newest state of each user, and the removal of those who were
        in the snapshot; no chat."""
        for uid, was_visible in self.world.touched.items():
            user = self.world.visible(uid)
            if user is not None:
                yield Presence.introducing(user)
            elif was_visible:
                yield Removal(uid=uid)


def _encoded(parts: Sequence[bytes]) -> Piece:
    plain = b"{" + b",".join(parts) + b"}" + protocol.JOIN_END
    return piece(plain, last=True) if len(plain) >= WORTH_DEFLATING else Piece(plain, b"")

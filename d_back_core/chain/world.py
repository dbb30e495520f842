"""The world of one server: its effective users, and each change of them with its number.

Pure: who asks feeds it effective users and takes the deltas out.
"""

import secrets
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from msgspec import UNSET, Struct, UnsetType

from d_back_core.models import EffectiveUser, Message, Status


class Presence(Struct, frozen=True, kw_only=True, gc=False):
    """A user came or changed; the unchanged fields are ``UNSET``, the status is always there."""

    uid: str
    status: Status
    username: str | UnsetType = UNSET
    role_color: str | UnsetType = UNSET
    known_before: int | None = None
    """Only sessions that joined at an earlier place knew of the user until now (0: none did;
    None: all did)."""

    @classmethod
    def introducing(cls, user: EffectiveUser, known_before: int | None = 0) -> "Presence":
        """All of a user."""
        return cls(
            uid=user.uid,
            status=user.status,
            username=user.username,
            role_color=user.role_color,
            known_before=known_before,
        )


class Removal(Struct, frozen=True, kw_only=True, gc=False):
    """A user is gone. ``known_before`` is as in `Presence`: others are not to hear of it."""

    uid: str
    known_before: int | None = None


WorldChange: TypeAlias = Presence | Removal | Message


class Delta(Struct, frozen=True, gc=False):
    """One change of a world, at its sequence number.

    ``place`` counts all deltas. ``seq``, which clients see, does not count those that only some
    sessions may hear of: so nobody sees a gap.
    """

    seq: int
    position: int
    change: WorldChange


class ChangeTracker:
    """What has changed in a world since a moment."""

    def __init__(self) -> None:
        self.touched: dict[str, bool] = {}
        """The uids, and whether they were visible at that moment."""
        self._lately: dict[str, None] = {}

    def touch(self, uid: str, *, visible: bool) -> None:
        """That user is about to change."""
        self.touched.setdefault(uid, visible)
        self._lately[uid] = None

    def lately(self) -> Iterable[str]:
        """The uids that were touched since the last call."""
        lately, self._lately = self._lately, {}
        return lately


class World:
    """The effective state of one server.

    The only deltas that some sessions may not hear of are removals of users whom
    ``hide_offline`` hid from those who joined later; they carry the ``seq`` before them.
    """

    def __init__(
        self,
        server_id: str,
        users: Mapping[str, EffectiveUser],
        *,
        hide_offline: bool = False,
        history: int = 1024,
    ) -> None:
        self.server_id = server_id
        self.hide_offline = hide_offline
        self.epoch = secrets.token_hex(8)
        self.seq = 0
        self.position = 0
        self.users = dict(users)
        self._pending: list[Delta] = []
        self._history: deque[Delta] = deque()
        self._history_size = history
        self._reaches_to = 0
        self._hidden_at: dict[str, int] = {}
        self._trackers: list[ChangeTracker] = []

    def swap(self, users: Mapping[str, EffectiveUser]) -> None:
        """Make these the users; what differs becomes deltas."""
        for uid in [uid for uid in self.users if uid not in users]:
            self.put(uid, None)
        for uid, user in users.items():
            self.put(uid, user)

    def put(self, uid: str, user: EffectiveUser | None) -> None:
        """Make this the user of that uid (None: there is none)."""
        before = self.users.get(uid)
        if user == before:
            return
        if user is None:
            del self.users[uid]
        else:
            self.users[uid] = user
        known, shown = self._shows(before), self._shows(user)
        for tracker in self._trackers:
            tracker.touch(uid, visible=known is not None)
        if shown is not None and known is not None:
            self._change(_differing(known, shown))
        elif shown is not None:
            known_before = self._hidden_at.pop(uid, 0)
            self._change(Presence.introducing(shown, known_before))
        elif known is not None:
            if user is None:
                self._change(Removal(uid=uid))
            else:
                self._change(Presence(uid=uid, status=user.status))
                self._hidden_at[uid] = self.position
        elif user is None and (hidden_at := self._hidden_at.pop(uid, None)) is not None:
            self._add(Removal(uid=uid, known_before=hidden_at))

    def say(self, message: Message) -> bool:
        """Pass chat on; False where nobody is shown the author."""
        if self.visible(message.uid) is None:
            return False
        self._change(message)
        return True

    def hide(self, *, offline: bool) -> None:
        """Begin or end to hide users who are offline. Who comes to light is introduced; who is
        shown already stays so for those who know of them."""
        if offline == self.hide_offline:
            return
        self.hide_offline = offline
        self.position += 1  # tells those who know of them from those who join later
        for user in self.users.values():
            if user.status != "offline":
                continue
            for tracker in self._trackers:
                tracker.touch(user.uid, visible=offline)
            if offline:
                self._hidden_at[user.uid] = self.position
            else:
                known_before = self._hidden_at.pop(user.uid, 0)
                self._change(Presence.introducing(user, known_before))

    def visible(self, uid: str) -> EffectiveUser | None:
        """That user, where clients may be told of it."""
        return self._shows(self.users.get(uid))

    def is_known(self, uid: str, joined_at: int) -> bool:
        """Return True if a session that joined at that position knows the user: it is visible, or
        was so at some moment since the session joined."""
        return self.visible(uid) is not None or joined_at < self._hidden_at.get(uid, 0)

    @property
    def pending(self) -> Sequence[Delta]:
        """The deltas since the last `take`, in order."""
        return self._pending

    def since(self, seq: int) -> list[Delta] | None:
        """The deltas after that number, for who knows all up to it; None where the history does
        not reach back, or where the number is none of this world's."""
        if not self._reaches_to <= seq <= self.seq:
            return None
        return [each for each in self._history if each.seq + is_unnumbered(each) > seq]

    def track(self) -> ChangeTracker:
        """What changes from here on is told to the tracker that this returns, until `unmark`."""
        tracker = ChangeTracker()
        self._trackers.append(tracker)
        return tracker

    def untrack(self, tracker: ChangeTracker) -> None:
        """Nobody asks what changed since then."""
        self._trackers.remove(tracker)

    def shown(self) -> list[EffectiveUser]:
        """The users that a client is told of when it joins."""
        if not self.hide_offline:
            return list(self.users.values())
        return [user for user in self.users.values() if user.status != "offline"]

    def take(self) -> list[Delta]:
        """The deltas since the last call, in order."""
        taken, self._pending = self._pending, []
        return taken

    def _shows(self, user: EffectiveUser | None) -> EffectiveUser | None:
        hidden = self.hide_offline and user is not None and user.status == "offline"
        return None if hidden else user

    def _change(self, change: WorldChange) -> None:
        self.seq += 1
        self._add(change)

    def _add(self, change: WorldChange) -> None:
        self.position += 1
        delta = Delta(self.seq, self.position, change)
        self._pending.append(delta)
        self._history.append(delta)
        if len(self._history) > self._history_size:
            lost = self._history.popleft()
            self._reaches_to = lost.seq + is_unnumbered(lost)


def is_unnumbered(delta: Delta) -> bool:
    """Return True if the delta carries the number before it, without raising it."""
    return isinstance(delta.change, Removal) and delta.change.known_before is not None


def _differing(known: EffectiveUser, user: EffectiveUser) -> Presence:
    return Presence(
        uid=user.uid,
        status=user.status,
        username=user.username if known.username != user.username else UNSET,
        role_color=user.role_color if known.role_color != user.role_color else UNSET,
    )

"""The world of one server: its effective users, and each change of them with its number.

Pure: who asks feeds it effective users and takes the deltas out.
"""

import secrets
from collections.abc import Mapping
from typing import TypeAlias

from msgspec import UNSET, Struct, UnsetType

from d_back_core.models import EffectiveUser, Message, Status


class Presence(Struct, frozen=True, kw_only=True, gc=False):
    """A user came or changed; the unchanged fields are ``UNSET``, the status is always there."""

    uid: str
    status: Status
    username: str | UnsetType = UNSET
    role_color: str | UnsetType = UNSET


class Removal(Struct, frozen=True, kw_only=True, gc=False):
    """A user is gone. ``told_before``: only sessions that joined at an earlier sequence number
    were ever told of the user (None: all were)."""

    uid: str
    told_before: int | None = None


Change: TypeAlias = Presence | Removal | Message


class Delta(Struct, frozen=True, gc=False):
    """One change of a world, at its sequence number."""

    seq: int
    change: Change


class World:
    """The effective state of one server.

    ``seq`` counts the deltas without a gap. One kind does not count: the removal of a user whom
    ``hide_offline`` hides from those who joined later. It goes to some sessions only, and
    carries the number of the delta before it.
    """

    def __init__(
        self, server_id: str, users: Mapping[str, EffectiveUser], *, hide_offline: bool = False
    ) -> None:
        self.server_id = server_id
        self.hide_offline = hide_offline
        self.epoch = secrets.token_hex(8)
        self.seq = 0
        self.users = dict(users)
        self._pending: list[Delta] = []
        self._hidden_at: dict[str, int] = {}

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
        if shown is not None:
            self._hidden_at.pop(uid, None)
            self._change(_presence(known, shown))
        elif known is not None:
            if user is None:
                self._change(Removal(uid=uid))
            else:
                self._change(Presence(uid=uid, status=user.status))
                self._hidden_at[uid] = self.seq
        elif user is None and (hidden_at := self._hidden_at.pop(uid, None)) is not None:
            removal = Removal(uid=uid, told_before=hidden_at)
            self._pending.append(Delta(self.seq, removal))

    def say(self, message: Message) -> bool:
        """Pass chat on; False where nobody is shown the author."""
        if self._shows(self.users.get(message.uid)) is None:
            return False
        self._change(message)
        return True

    def hide(self, *, offline: bool) -> None:
        """Begin or end to hide users who are offline. Who comes to light is introduced; who is
        shown already stays so for those who know of them."""
        if offline == self.hide_offline:
            return
        self.hide_offline = offline
        for user in self.users.values():
            if user.status == "offline" and offline:
                # Says nothing new, but its number tells who knows of them from who joins later.
                self._change(Presence(uid=user.uid, status=user.status))
                self._hidden_at[user.uid] = self.seq
            elif user.status == "offline":
                self._change(_presence(None, user))
        if not offline:
            self._hidden_at.clear()

    def shown(self) -> list[EffectiveUser]:
        """The users that a client is told of when it joins."""
        return [user for user in self.users.values() if self._shows(user) is not None]

    def take(self) -> list[Delta]:
        """The deltas since the last call, in order."""
        taken, self._pending = self._pending, []
        return taken

    def _shows(self, user: EffectiveUser | None) -> EffectiveUser | None:
        hidden = self.hide_offline and user is not None and user.status == "offline"
        return None if hidden else user

    def _change(self, change: Change) -> None:
        self.seq += 1
        self._pending.append(Delta(self.seq, change))


def _presence(known: EffectiveUser | None, user: EffectiveUser) -> Presence:
    """All of a user who was not known, or what differs."""
    changed = known is None or known.username != user.username
    recolored = known is None or known.role_color != user.role_color
    return Presence(
        uid=user.uid,
        status=user.status,
        username=user.username if changed else UNSET,
        role_color=user.role_color if recolored else UNSET,
    )

"""The world of one server: its effective users, and every change of them as a numbered delta.

Pure: the caller puts effective users in and takes the deltas out.

Two counters number the deltas:

- ``seq`` is the number that clients see. A client that knows all deltas up to ``seq`` knows the
  world, so for every client it must grow without a gap.
- ``position`` counts all deltas and every change of ``hide_offline``. Clients never see it. It
  orders a session's join against the moment at which a user was hidden.

They differ because of ``hide_offline``. A user who goes offline is not removed: clients that know
the user see an offline user, and clients that join later see no user. When this user is removed
at last, the removal concerns the first clients only. It must not raise ``seq``: the others do not
receive it, and would see a gap. Such a delta is *unnumbered*: it carries the ``seq`` of the
delta before it, and ``known_before``, the position at which the user was hidden. The same
``known_before`` on a `Presence` says which sessions see the user come back, and which see a new
user.
"""

import secrets
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypeGuard

from msgspec import UNSET, Struct, UnsetType, structs

from d_back_core.models import (
    Chat,
    EffectiveUser,
    Message,
    MessageDeleted,
    MessageEdited,
    Status,
)


class Presence(Struct, frozen=True, kw_only=True, gc=False):
    """A user came or changed. Unchanged fields are ``UNSET``; the status is always set."""

    uid: str
    status: Status
    username: str | UnsetType = UNSET
    role_color: str | UnsetType = UNSET
    extra: Mapping[str, str | None] | UnsetType = UNSET
    """The extra texts that changed; None: the text is gone."""
    known_before: int | None = None
    """Sessions that joined before this position know the user already; the others do not.
    0: no session knows the user. None: all sessions do."""

    @classmethod
    def introducing(
        cls, user: EffectiveUser, known_before: int | None = 0, keys: Iterable[str] = ()
    ) -> "Presence":
        """Return a presence with all fields of the user. ``keys`` are those of the extra texts
        that a session may know: it must forget the ones that the user has not."""
        extra: dict[str, str | None] = {key: user.extra.get(key) for key in keys}
        return cls(
            uid=user.uid,
            status=user.status,
            username=user.username,
            role_color=user.role_color,
            extra=extra or user.extra or UNSET,
            known_before=known_before,
        )


class Removal(Struct, frozen=True, kw_only=True, gc=False):
    """A user is gone. Only sessions that know the user receive it; ``known_before`` is as in
    `Presence`."""

    uid: str
    known_before: int | None = None


class ChatCleared(Struct, frozen=True, gc=False):
    """Too many messages are gone to name them: a client forgets all that have an id."""


Correction: TypeAlias = MessageEdited | MessageDeleted
WorldChange: TypeAlias = Presence | Removal | Message | Correction | ChatCleared


class Delta(Struct, frozen=True, gc=False):
    """One change of a world, with the world's ``seq`` and ``position`` after it."""

    seq: int
    position: int
    change: WorldChange


class ChangeTracker:
    """The users that have changed since `World.track`."""

    def __init__(self) -> None:
        self.touched: dict[str, bool] = {}
        """uid → True if the user was visible when tracking began."""
        self._lately: dict[str, None] = {}

    def touch(self, uid: str, *, visible: bool) -> None:
        """Record that the user changes. ``visible``: before this change."""
        self.touched.setdefault(uid, visible)  # only the first change knows the state at `track`
        self._lately[uid] = None

    def lately(self) -> Iterable[str]:
        """Return the uids that were touched since the last call."""
        lately, self._lately = self._lately, {}
        return lately


class World:
    """The effective state of one server.

    ``epoch`` identifies this incarnation: a ``seq`` of another epoch means nothing here.
    ``history`` is the number of deltas kept for clients that resume.
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
        self._complete_since = 0
        """The lowest ``seq`` to resume from: all later deltas are in the history."""
        self._hidden_at: dict[str, int] = {}
        """uid → the position at which ``hide_offline`` hid the user. Sessions that joined before
        it know the user."""
        self._trackers: list[ChangeTracker] = []
        self._extra_keys: frozenset[str] = frozenset()

    def show_extra(self, keys: frozenset[str]) -> None:
        """Users may have these extra texts from now on. Former keys stay known: a session that
        missed the change must forget their texts."""
        self._extra_keys |= keys

    def introduced(self, user: EffectiveUser) -> Presence:
        """Return a presence with all fields, for sessions that may know the user."""
        return Presence.introducing(user, None, self._extra_keys)

    def swap(self, users: Mapping[str, EffectiveUser]) -> None:
        """Replace all users; the differences become deltas."""
        for uid in [uid for uid in self.users if uid not in users]:
            self.put(uid, None)
        for uid, user in users.items():
            self.put(uid, user)

    def put(self, uid: str, user: EffectiveUser | None) -> None:
        """Set or (None) remove the user; the difference becomes a delta."""
        before = self.users.get(uid)
        if user == before:
            return
        if user is None:
            del self.users[uid]
        else:
            self.users[uid] = user
        known, shown = self._if_visible(before), self._if_visible(user)
        for tracker in self._trackers:
            tracker.touch(uid, visible=known is not None)
        if shown is not None and known is not None:
            self._change(_differing(known, shown), self.introduced(shown))
        elif shown is not None:
            known_before = self._hidden_at.pop(uid, 0)
            keys = self._extra_keys if known_before else ()
            self._change(Presence.introducing(shown, known_before, keys))
        elif known is not None:
            if user is None:
                self._change(Removal(uid=uid))
            else:  # hidden: to the sessions that know the user it is offline, not removed
                hidden = Presence(uid=uid, status=user.status)
                self._change(hidden, self.introduced(user))
                # After the delta: a session that joins from here on does not know the user.
                self._hidden_at[uid] = self.position
        elif user is None and (hidden_at := self._hidden_at.pop(uid, None)) is not None:
            # Only some sessions receive it, so it must not raise ``seq``.
            self._add(Removal(uid=uid, known_before=hidden_at))

    def say(self, chat: Chat) -> bool:
        """Add chat as a delta; False if its author is not visible."""
        if isinstance(chat, MessageDeleted):
            self._correct(chat)
        elif self.visible(chat.uid) is None:
            return False
        elif isinstance(chat, MessageEdited):
            self._correct(chat)
        self._change(chat)
        return True

    def has_said(self, correction: Correction) -> bool:
        """Return True if a delta that is still kept has that message."""
        return any(is_about(delta.change, correction) for delta in self._history)

    def _correct(self, correction: Correction) -> None:
        """Change the earlier deltas of that message: no client may receive its former text from
        now on, not even one that resumes. Their numbers stay, so that there is no gap."""
        for deltas in (self._pending, self._history):
            for number, delta in enumerate(deltas):
                if is_about(delta.change, correction):
                    change = corrected(delta.change, correction)
                    deltas[number] = structs.replace(delta, change=change)

    def hide(self, *, offline: bool) -> None:
        """Set ``hide_offline``.

        If it is turned off, hidden users are introduced to the sessions that do not know them.
        If it is turned on, sessions keep the offline users that they know.
        """
        if offline == self.hide_offline:
            return
        self.hide_offline = offline
        # A step without a delta: sessions that joined so far know the users that are hidden now,
        # and a session that joins next, before any other delta, does not.
        self.position += 1
        for user in self.users.values():
            if user.status != "offline":
                continue
            for tracker in self._trackers:
                tracker.touch(user.uid, visible=offline)
            if offline:
                self._hidden_at[user.uid] = self.position
            else:
                known_before = self._hidden_at.pop(user.uid, 0)
                keys = self._extra_keys if known_before else ()
                self._change(Presence.introducing(user, known_before, keys))

    def visible(self, uid: str) -> EffectiveUser | None:
        """Return the user as clients see it; None if it is missing or hidden."""
        return self._if_visible(self.users.get(uid))

    def is_known(self, uid: str, joined_at: int) -> bool:
        """Return True if a session that joined at that position knows the user: it is visible, or
        was so at some moment since the session joined."""
        return self.visible(uid) is not None or joined_at < self._hidden_at.get(uid, 0)

    @property
    def pending(self) -> Sequence[Delta]:
        """The deltas since the last `take`, in order."""
        return self._pending

    def since(self, seq: int) -> list[Delta] | None:
        """Return the deltas that a client lacks which knows everything up to ``seq``. They have
        all fields of each user: the client may have received newer changes already, and lost the
        connection before it received their number (R48). One of them can be a removal.

        None if the history does not go back that far, or if ``seq`` is ahead of this world.
        """
        if not self._complete_since <= seq <= self.seq:
            return None
        # An unnumbered delta has the seq of the delta before it, so a client with this very seq
        # may or may not have received it. Sending it again is harmless, a gap is not.
        return [each for each in self._history if each.seq + is_unnumbered(each) > seq]

    def track(self) -> ChangeTracker:
        """Return a tracker that records all changes from now on, until `untrack`."""
        tracker = ChangeTracker()
        self._trackers.append(tracker)
        return tracker

    def untrack(self, tracker: ChangeTracker) -> None:
        """Stop recording changes in the tracker."""
        self._trackers.remove(tracker)

    def shown(self) -> list[EffectiveUser]:
        """Return the users of a snapshot, for a client that joins."""
        if not self.hide_offline:
            return list(self.users.values())
        return [user for user in self.users.values() if user.status != "offline"]

    def take(self) -> list[Delta]:
        """Return the deltas since the last call, in order."""
        taken, self._pending = self._pending, []
        return taken

    def _if_visible(self, user: EffectiveUser | None) -> EffectiveUser | None:
        hidden = self.hide_offline and user is not None and user.status == "offline"
        return None if hidden else user

    def _change(self, change: WorldChange, complete: Presence | None = None) -> None:
        """Add a numbered delta. ``complete`` is the change with all fields of the user."""
        self.seq += 1
        self._add(change, complete)

    def _add(self, change: WorldChange, complete: Presence | None = None) -> None:
        self.position += 1
        delta = Delta(self.seq, self.position, change)
        self._pending.append(delta)
        if complete is not None:
            delta = Delta(self.seq, self.position, complete)
        self._history.append(delta)
        if len(self._history) > self._history_size:
            dropped = self._history.popleft()
            # A client at the seq of a dropped unnumbered delta may lack it.
            self._complete_since = dropped.seq + is_unnumbered(dropped)


def message_key(chat: Chat) -> tuple[str, str | None]:
    """Return what identifies a message of one server."""
    return chat.channel, chat.id


def is_about(change: WorldChange, correction: Correction) -> TypeGuard[Chat]:
    """True if the change is that message, or an earlier edit of it."""
    return isinstance(change, Chat) and message_key(change) == message_key(correction)


def corrected(earlier: Chat, correction: Correction) -> Chat:
    """Return what becomes of a message, or an edit of it, by a later edit or its deletion."""
    if isinstance(correction, MessageDeleted) or isinstance(earlier, MessageEdited):
        return correction
    if isinstance(earlier, MessageDeleted):
        return earlier
    return structs.replace(earlier, message=correction.message)


def is_unnumbered(delta: Delta) -> bool:
    """True if the delta did not raise ``seq`` but carries that of the delta before it."""
    return isinstance(delta.change, Removal) and delta.change.known_before is not None


def _differing(known: EffectiveUser, user: EffectiveUser) -> Presence:
    return Presence(
        uid=user.uid,
        status=user.status,
        username=user.username if known.username != user.username else UNSET,
        role_color=user.role_color if known.role_color != user.role_color else UNSET,
        extra=_differing_extra(known.extra, user.extra) if known.extra != user.extra else UNSET,
    )


def _differing_extra(known: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str | None]:
    keys = {**known, **extra}
    return {key: extra.get(key) for key in keys if known.get(key) != extra.get(key)}

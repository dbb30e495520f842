"""What waits for a session whose client does not read fast enough: bounded by the number of users
and ``MAX_CHAT``."""

from collections import deque

from d_back_core.chain.world import Delta, Presence, Removal, World, WorldChange, is_unnumbered
from d_back_core.models import Message

MAX_CHAT = 50


class Backlog:
    """The uids that have changed, and the latest chat, since the session stopped reading."""

    def __init__(self, joined_at: int, first: Delta) -> None:
        """``first`` is the first delta that is held back."""
        self.seq = first.seq if is_unnumbered(first) else first.seq - 1
        """The number up to which the client has everything: it may resume from there."""
        self._joined_at = joined_at
        self._known: dict[str, bool] = {}
        """Every uid that has changed, and whether the client knew the user before."""
        self._chat: deque[Message] = deque(maxlen=MAX_CHAT)
        self.hold(first)

    def hold(self, delta: Delta) -> None:
        """Remember what this delta changes; later ones replace it."""
        match delta.change:
            case Message() as message:
                self._chat.append(message)
            case Presence() | Removal() as change:
                # Only the first one decides: the client receives none of those that follow.
                before = change.known_before
                known = before is None or self._joined_at < before
                self._known.setdefault(change.uid, known)

    def release(self, world: World) -> list[WorldChange]:
        """Return the present state of each user, in full, or its removal; then the chat.

        Afterwards the client knows exactly the users that a session knows which joined at the
        same position and never stopped reading. Later removals rely on it (R48).
        """
        changes: list[WorldChange] = []
        for uid, known in self._known.items():
            user = world.users.get(uid)
            if user is not None and world.is_known(uid, self._joined_at):
                changes.append(Presence.introducing(user))
            elif known:  # gone, or gone and back as a hidden user
                changes.append(Removal(uid=uid))
        # Chat last: its authors must be known before they speak.
        changes.extend(message for message in self._chat if world.visible(message.uid))
        return changes

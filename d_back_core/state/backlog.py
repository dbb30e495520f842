"""What waits for a session whose client does not read fast enough: bounded by the number of users,
``MAX_CHAT`` and ``MAX_CORRECTIONS``.

Of the chat only the latest is kept. But a message that the client has shown must not keep a text
that is edited or deleted: of each such message the last correction is kept. If they become too
many, the client forgets all messages that it has (`ChatCleared`).
"""

from collections import deque

from msgspec import structs

from d_back_core.chain.world import (
    ChatCleared,
    Correction,
    Delta,
    Presence,
    Removal,
    World,
    WorldChange,
    is_about,
    is_unnumbered,
    message_key,
)
from d_back_core.models import Message, MessageDeleted, MessageEdited, deletion_of

MAX_CHAT = 50
MAX_CORRECTIONS = 1000


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
        self._corrections: dict[tuple[str, str | None], Correction] = {}
        """Edits and deletions of messages that the client may have."""
        self._chat_cleared = False
        self.hold(first)

    def hold(self, delta: Delta) -> None:
        """Remember what this delta changes; later ones replace it."""
        match delta.change:
            case Message() as message:
                self._chat.append(message)
            case MessageEdited() | MessageDeleted() as correction:
                self._correct(correction)
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
        changes: list[WorldChange] = [ChatCleared()] if self._chat_cleared else []
        for uid, known in self._known.items():
            user = world.users.get(uid)
            if user is not None and world.is_known(uid, self._joined_at):
                changes.append(world.introduced(user))
            elif known:  # gone, or gone and back as a hidden user
                changes.append(Removal(uid=uid))
        # Chat last: its authors must be known before they speak.
        changes.extend(message for message in self._chat if world.visible(message.uid))
        changes.extend(
            deletion_of(each)
            if isinstance(each, MessageEdited) and world.visible(each.uid) is None
            else each
            for each in self._corrections.values()
        )
        return changes

    def _correct(self, correction: Correction) -> None:
        for number, message in enumerate(self._chat):
            if is_about(message, correction):  # the client has never received it
                if isinstance(correction, MessageEdited):
                    self._chat[number] = structs.replace(message, message=correction.message)
                else:
                    del self._chat[number]
                return
        self._corrections[message_key(correction)] = correction
        if len(self._corrections) > MAX_CORRECTIONS:
            self._corrections.clear()
            self._chat_cleared = True

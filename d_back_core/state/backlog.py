"""What waits for a session whose client does not read fast enough: bounded by the number of
users and ``MAX_CHAT``."""

from collections import deque
from collections.abc import Iterable

from d_back_core.chain.world import Delta, Presence, Removal, World, WorldChange
from d_back_core.models import Message

MAX_CHAT = 50


class Backlog:
    """The uids that changed, and the latest chat."""

    def __init__(self, joined_at: int) -> None:
        self._joined_at = joined_at
        self._told: dict[str, bool] = {}
        """Every uid that changed, and whether the client had been told of it before."""
        self._chat: deque[Message] = deque(maxlen=MAX_CHAT)

    def hold(self, deltas: Iterable[Delta]) -> None:
        """Keep what these deltas are about."""
        for delta in deltas:
            match delta.change:
                case Message() as message:
                    self._chat.append(message)
                case Presence() | Removal() as change:
                    before = change.known_before
                    told = before is None or self._joined_at < before
                    self._told.setdefault(change.uid, told)

    def release(self, world: World) -> list[WorldChange]:
        """Each of the users as they are now, in full, or their removal; then the chat."""
        changes: list[WorldChange] = []
        for uid, told in self._told.items():
            user = world.visible(uid)
            if user is not None:
                changes.append(Presence.introducing(user))
            elif told:
                hidden = world.users.get(uid)
                gone = Removal(uid=uid)
                # In full: of a session that resumed nobody knows whether it was ever introduced.
                changes.append(gone if hidden is None else Presence.introducing(hidden))
        changes.extend(message for message in self._chat if world.visible(message.uid))
        return changes

"""What a frame tells, in words that a terminal can be given."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import UNSET

from d_back_core.client import ClientWorld
from d_back_core.models import STATUSES, EffectiveUser
from d_back_core.wire import protocol

ORDER = ("online", "idle", "dnd", "offline")
"""The statuses as they are shown, from top to bottom."""
_BLANK = re.compile(r"[\t\n\r\x0b\x0c\x85\u2028\u2029]+")
_OBEYED = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal does not show but does: control characters, and those that turn the direction
of what follows. Those that join emoji stay."""


class Sentence(NamedTuple):
    """Something that happened; harmless in a terminal, and on one line."""

    name: str
    """Who or what it is about."""
    color: str
    """The role colour of who it is about, or ""."""
    text: str
    is_message: bool = False


def harmless(text: str) -> str:
    """The text on one line, with U+FFFD for each character that a terminal would obey."""
    return _OBEYED.sub("\ufffd", _BLANK.sub(" ", text))


def told(frame: protocol.ServerMessage, world: ClientWorld) -> Sentence | None:
    """What the frame tells, compared with a world that is still without it; None: nothing that
    people would miss."""
    match frame:
        case protocol.ServerJoin(data=joined):
            text = f"({joined.request.server}): {counted(joined.users.values())}"
            return Sentence(harmless(joined.server_name), "", harmless(text))
        case protocol.PresenceFrame(data=presence):
            return _presence(presence, world.users.get(presence.uid))
        case protocol.MessageFrame(data=said):
            author = world.users.get(said.uid)
            name, color = (author.username, author.role_color) if author else (said.uid, "")
            return Sentence(harmless(name), color, harmless(said.message), is_message=True)
        case protocol.Resumed():
            return Sentence("connection", "", "goes on where it was")
        case protocol.Error(data=reason):
            return Sentence("gateway", "", f"says: {harmless(reason.message)}")
    return None


def lost(code: int | None) -> Sentence:
    """That the connection is gone, for now."""
    why = "the server is gone" if code is None else f"closed with {code}"
    return Sentence("connection", "", f"lost ({why}); connecting again")


def counted(users: Iterable[EffectiveUser | protocol.WireUser]) -> str:
    """``4 members: 2 online, 1 idle, 1 dnd, 0 offline``."""
    counts = Counter(user.status for user in users)
    parts = ", ".join(f"{counts[status]} {status}" for status in ORDER)
    return f"{counts.total()} members: {parts}"


def _presence(presence: protocol.WirePresence, known: EffectiveUser | None) -> Sentence | None:
    color = known.role_color if known else ""
    if presence.role_color is not UNSET:
        color = presence.role_color
    status = presence.status if presence.status in STATUSES else "offline"
    name = presence.username
    if name is UNSET:
        name = known.username if known else presence.uid
    if presence.delete is True:
        text = "left"
    elif known is None:
        text = f"came, {status}"
    elif known.username != name:
        text = f"is the new name of {harmless(known.username)}"
    elif known.status != status:
        text = f"is {status}"
    else:
        return None
    return Sentence(harmless(name), color, text)

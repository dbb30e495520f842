"""Describes frames in text that is safe to write to a terminal."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import UNSET

from d_back_core.client import (
    ClientWorld,
    EffectiveUser,
    Error,
    MessageDeleteFrame,
    MessageEditFrame,
    MessageFrame,
    PresenceFrame,
    Resumed,
    ServerJoin,
    ServerMessage,
    WireMessage,
    WireMessageEdit,
    WirePresence,
    WireUser,
)

STATUSES = ("online", "idle", "dnd", "offline")
"""The statuses in the order of display."""
_BLANK = re.compile(r"[\t\n\r\x0b\x0c\x85\u2028\u2029]+")
_CONTROL = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that a terminal executes: control characters and bidi overrides. The joiners of emoji
are not among them."""


class Description(NamedTuple):
    """One line about a frame; safe for a terminal."""

    name: str
    """The user, or the part of d-back, that the line is about."""
    color: str
    """The role color of the user, or ""."""
    text: str
    is_message: bool = False
    key: tuple[str, str] | None = None
    """The channel and the id of a message that has one."""


def sanitized(text: str) -> str:
    """Return the text on one line, with U+FFFD instead of each character that a terminal would
    execute."""
    return _CONTROL.sub("\ufffd", _BLANK.sub(" ", text))


def describe(frame: ServerMessage, world: ClientWorld) -> Description | None:
    """Describe a frame, compared with the world before it. None if it changes nothing that people
    look for, such as a color."""
    match frame:
        case ServerJoin(data=joined):
            text = f"({joined.request.server}): {status_counts(joined.users.values())}"
            return Description(sanitized(joined.server_name), "", sanitized(text))
        case PresenceFrame(data=presence):
            return _describe_presence(presence, world.users.get(presence.uid))
        case MessageFrame(data=message):
            return _describe_message(message, world, sanitized(message.message))
        case MessageEditFrame(data=edit):
            return _describe_message(edit, world, f"{sanitized(edit.message)} (edited)")
        case MessageDeleteFrame(data=gone):
            what = "messages were" if gone.id is UNSET else "a message was"
            return Description("chat", "", f"{what} deleted")
        case Resumed():
            return Description("connection", "", "resumed")
        case Error(data=reason):
            return Description("gateway", "", f"error: {sanitized(reason.message)}")
    return None


def _describe_message(
    message: WireMessage | WireMessageEdit, world: ClientWorld, text: str
) -> Description:
    author = world.users.get(message.uid)
    name, color = (author.username, author.role_color) if author else (message.uid, "")
    key = None if message.id is UNSET else (message.channel, message.id)
    return Description(sanitized(name), color, text, is_message=True, key=key)


def describe_loss(code: int | None) -> Description:
    """Describe a lost connection; ``code`` as for `Listener.lost`."""
    reason = "the server is gone" if code is None else f"closed with {code}"
    return Description("connection", "", f"lost ({reason}); reconnecting")


def status_counts(users: Iterable[EffectiveUser | WireUser]) -> str:
    """Return ``4 members: 2 online, 1 idle, 1 dnd, 0 offline``."""
    counts = Counter(user.status for user in users)
    parts = ", ".join(f"{counts[status]} {status}" for status in STATUSES)
    return f"{counts.total()} members: {parts}"


def _describe_presence(presence: WirePresence, known: EffectiveUser | None) -> Description | None:
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
        text = f"joined, {status}"
    elif known.username != name:
        text = f"is the new name of {sanitized(known.username)}"
    elif known.status != status:
        text = f"is {status}"
    else:
        return None
    return Description(sanitized(name), color, text)

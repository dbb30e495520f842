"""Validate every value of a provider where it enters the core.

The rest of the core and the clients rely on it: one wrong value in a frame can break d-zone.
Providers are other people's code, and their data is often edited by hand, so an invalid value must
not affect the valid ones beside it:

- an invalid field counts as not supplied, so it does not hide a valid one of a lower layer;
- an invalid key drops its record, and an invalid id drops its event;
- a record's own uid that differs from its key is an error, and the key counts (R4);
- each is counted, and logged once per provider and path, because a source repeats its mistakes.

A subclass of ``str`` may override comparison and hashing, so ids are stored as `plain` copies.
"""

import asyncio
import logging
from collections.abc import Mapping
from reprlib import Repr
from typing import Any, TypeAlias

from msgspec import structs

from d_back_core.chain.layers import R
from d_back_core.models import (
    AccessRevoked,
    Chat,
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    UserChanged,
    UserRemoved,
    channel_id,
    checked,
    deletion_of,
    is_id,
    is_text,
    is_usual,
    moment,
    plain,
)

Patch: TypeAlias = UserChanged | UserRemoved | ServerChanged | ServerRemoved

SLICE = 1000
"""Records that are checked or merged in one turn of the event loop."""

MAX_PRINTED_BITS = 1000
"""Bits; larger integers are not printed. Python refuses to convert very large ones."""

log = logging.getLogger("d_back.chain")


class _BoundedRepr(Repr):
    """Never raises, and takes bounded time for large values."""

    def repr_int(self, x: int, level: int) -> str:
        large = x.bit_length() > MAX_PRINTED_BITS
        return "<a very large number>" if large else super().repr_int(x, level)


_bounded_repr = _BoundedRepr()
_bounded_repr.maxstring = _bounded_repr.maxother = 80


class ValidationLog:
    """Counts the invalid values of one provider by path, and logs the first one of each path."""

    def __init__(self, name: str) -> None:
        self.counts: dict[str, int] = {}
        self._name = name

    def __call__(self, path: str, value: object) -> None:
        # By path, not by value: a source has few paths, and its values never end.
        if path not in self.counts:
            text = _bounded_repr.repr(value)
            log.warning("provider %s: %s: refused %.80s", self._name, path, text)
        self.counts[path] = self.counts.get(path, 0) + 1


async def checked_records(
    answer: Mapping[Any, Any], kind: type[R], validation_log: ValidationLog
) -> dict[str, R]:
    """Return what is valid in a provider's answer; yields to the event loop every ``SLICE``."""
    path = "servers" if kind is Server else "users"
    records: dict[str, R] = {}
    # A copy of the items: the provider may change its mapping while this yields to the loop.
    for count, (key, record) in enumerate(list(answer.items()), 1):
        if not is_id(key):
            validation_log(f"{path}: key", key)
        elif not isinstance(record, kind):
            validation_log(f"{path}: record", record)
        elif is_usual(record):
            records[plain(key)] = record
        else:
            own = getattr(record, "uid", key)  # a subclass may have one
            if own != key:
                validation_log(f"{path}.uid", own)
            # Field by field: an invalid colour must not cost the valid name.
            records[plain(key)] = checked(record, path, validation_log)
        if count % SLICE == 0:
            await asyncio.sleep(0)
    return records


def checked_event(event: object, validation_log: ValidationLog) -> Event | None:
    """Return the event without its invalid fields; None if it cannot be used at all."""
    if not isinstance(event, Event):
        validation_log("events", event)
        return None
    # A `Reload` without a server_id means all; in any other event None is a mistake.
    reloads_all = isinstance(event, Reload) and event.server_id is None
    if not is_id(event.server_id) and not reloads_all:
        validation_log("events.server_id", event.server_id)
        return None
    match event:
        case UserChanged() | UserRemoved() | Message() | MessageEdited() if not is_id(event.uid):
            validation_log("events.uid", event.uid)
            return None
        case AccessRevoked() if not is_id(event.person):
            validation_log("events.person", event.person)
            return None
    known = checked(event, "events", validation_log)
    return _checked_chat(known, validation_log) if isinstance(known, Chat) else known


def _checked_chat(chat: Chat, validation_log: ValidationLog) -> Chat | None:
    changed: dict[str, Any] = {}
    name = chat.channel_name
    if name is not None and not isinstance(name, str):
        validation_log("events.channel_name", name)
        changed["channel_name"] = None
    channel = channel_id(chat.channel)
    if channel != chat.channel:
        changed["channel"] = channel
    if chat.id is not None:
        message_id = channel_id(chat.id, "message")
        if message_id != chat.id:
            changed["id"] = message_id
    elif not isinstance(chat, Message):  # it names no message
        validation_log("events.id", chat.id)
        return None
    fit = structs.replace(chat, **changed) if changed else chat
    return fit if isinstance(fit, MessageDeleted) else _checked_text(fit, validation_log)


def _checked_text(chat: Message | MessageEdited, validation_log: ValidationLog) -> Chat | None:
    if not is_text(chat.message):
        # Empty text is common, as in an image without a caption: it is not a mistake.
        if chat.message != "":
            validation_log("events.message", chat.message)
        return None if isinstance(chat, Message) else deletion_of(chat)
    if chat.at is None:
        return chat
    at = moment(chat.at)
    if at is None:
        validation_log("events.at", chat.at)
    return structs.replace(chat, at=at)

"""The border: every value that comes from other people's code is checked where it comes in.

A value that is not valid never stops the rest: it is left out, counted, and logged once per
provider and path.
"""

import asyncio
import logging
from collections.abc import Mapping
from reprlib import Repr
from typing import Any, TypeAlias

from msgspec import structs

from d_back_core.chain.layers import R
from d_back_core.models import (
    Event,
    Message,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    UserChanged,
    UserRemoved,
    channel_id,
    checked,
    is_id,
    is_text,
    plain,
)

Patch: TypeAlias = UserChanged | UserRemoved | ServerChanged | ServerRemoved

SLICE = 1000
"""Records that are checked or merged before the event loop gets its turn."""

MAX_SHOWN_BITS = 1000

log = logging.getLogger("d_back.chain")


class _Shown(Repr):
    """Never raises, and stops early where a value is large."""

    def repr_int(self, x: int, level: int) -> str:
        """Without the digits of one that has more of them than Python prints."""
        large = x.bit_length() > MAX_SHOWN_BITS
        return "<a very large number>" if large else super().repr_int(x, level)


_shown = _Shown()
_shown.maxstring = _shown.maxother = 80


class ValidationLog:
    """The values of one provider that were refused: counted by path, and logged once each."""

    def __init__(self, name: str) -> None:
        self.counts: dict[str, int] = {}
        self._name = name

    def __call__(self, path: str, value: object) -> None:
        if path not in self.counts:
            shown = _shown.repr(value)
            log.warning("provider %s: %s: refused %.80s", self._name, path, shown)
        self.counts[path] = self.counts.get(path, 0) + 1


async def checked_records(
    answer: Mapping[Any, Any], kind: type[R], validation_log: ValidationLog
) -> dict[str, R]:
    """What is valid in a provider's answer; the loop gets its turn in between."""
    path = "servers" if kind is Server else "users"
    records: dict[str, R] = {}
    for count, (key, record) in enumerate(list(answer.items()), 1):
        if not is_id(key):
            validation_log(f"{path}: key", key)
        elif not isinstance(record, kind):
            validation_log(f"{path}: record", record)
        else:
            records[plain(key)] = checked(record, path, validation_log)
        if count % SLICE == 0:
            await asyncio.sleep(0)
    return records


def checked_event(event: object, validation_log: ValidationLog) -> Event | None:
    """The event with what is valid in it; None where nothing of it can be used."""
    if not isinstance(event, Event):
        validation_log("events", event)
        return None
    everywhere = isinstance(event, Reload) and event.server_id is None
    if not is_id(event.server_id) and not everywhere:
        validation_log("events.server_id", event.server_id)
        return None
    match event:
        case UserChanged() | UserRemoved() | Message() if not is_id(event.uid):
            validation_log("events.uid", event.uid)
            return None
    known = checked(event, "events", validation_log)
    return _checked_message(known, validation_log) if isinstance(known, Message) else known


def _checked_message(message: Message, validation_log: ValidationLog) -> Message | None:
    if not is_text(message.message):
        if message.message != "":
            validation_log("events.message", message.message)
        return None
    name = message.channel_name
    if name is not None and not isinstance(name, str):
        validation_log("events.channel_name", name)
        name = None
    channel = channel_id(message.channel)
    if channel == message.channel and name is message.channel_name:
        return message
    return structs.replace(message, channel=channel, channel_name=name)

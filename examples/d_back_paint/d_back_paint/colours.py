"""The file of colours: how it is read, and what is different in a new one."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec

from d_back_core import UserChanged

COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")

Colours: TypeAlias = Mapping[str, Mapping[str, str]]
"""server_id → uid → ``#rrggbb``."""


def read(path: Path) -> Colours:
    """The file as it is now. Raises ``OSError``, and ``ValueError`` with the place in it."""
    try:
        colours = msgspec.toml.decode(path.read_bytes(), type=dict[str, dict[str, str]])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for server_id, members in colours.items():
        for uid, colour in members.items():
            if not COLOUR.fullmatch(colour):
                raise ValueError(f"{path}: {server_id}.{uid} '{colour}': is no colour (#rrggbb)")
    return colours


def changes(before: Colours, after: Colours) -> Iterator[UserChanged]:
    """What makes the one of the other; a colour that is gone is taken back."""
    for server_id in before.keys() | after.keys():
        old, new = before.get(server_id, {}), after.get(server_id, {})
        for uid in old.keys() | new.keys():
            if old.get(uid) != new.get(uid):
                yield UserChanged(server_id=server_id, uid=uid, role_color=new.get(uid))

"""The columns of the two tables, ``servers`` and ``users``, and the values to store in them."""

from collections.abc import Sequence
from typing import TypeAlias

from d_back_core import UNSET, Server, User

Key: TypeAlias = tuple[str, str]
"""The key of a user: a server_id and a user_id."""

USER_FIELDS = ("username", "status", "role_color")
SERVER_FIELDS = ("name", "public_id", "is_default", "passworded", "enabled")
KEPT_UNLESS_SAID = frozenset({"passworded", "enabled"})
"""Columns that a record without them leaves as they are: to clear them would open a protected
server, or show a disabled one."""

_ATTRIBUTES = {"public_id": "id", "is_default": "default"}
"""The attributes of `Server` that are called otherwise than their column."""


def user_values(user: User, fields: Sequence[str] = USER_FIELDS) -> list[object]:
    """Return the values to store; None for a field that is not set."""
    return [_value(getattr(user, field)) for field in fields]


def server_values(server: Server, fields: Sequence[str] = SERVER_FIELDS) -> list[object]:
    """Return the values to store; None for a field that is not set."""
    return [_value(getattr(server, _ATTRIBUTES.get(field, field))) for field in fields]


def _value(value: object) -> object:
    return None if value is UNSET else value

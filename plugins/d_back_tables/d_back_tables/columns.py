"""The columns of the two tables, ``servers`` and ``users``, and the values to store in them."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from d_back_core import UNSET, Server, User

Key: TypeAlias = tuple[str, str]
"""The key of a user: a server_id and a user_id."""

USER_FIELDS = ("username", "status", "role_color", "extra")
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
    if isinstance(value, Mapping):
        # Sorted, so that equal texts are equal values. PostgreSQL does not take \u0000 in JSON.
        texts = {key: str(text).replace("\0", "") for key, text in sorted(value.items())}
        return msgspec.json.encode(texts).decode()
    return None if value is UNSET else value


def extra_of(stored: Any) -> Any:  # noqa: ANN401  the core checks it
    """Return the extra texts in a column. A value that is not JSON is returned as it is: the core
    refuses and reports it."""
    if stored is None:
        return UNSET
    try:
        return msgspec.json.decode(stored)
    except (msgspec.DecodeError, ValueError, TypeError):
        return stored

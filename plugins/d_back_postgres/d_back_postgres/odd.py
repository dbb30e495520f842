"""Values that the core refuses: of a row that has them now, the former ones must go."""

import re
from typing import TypeAlias, get_args

from msgspec import UNSET

from d_back_core import ServerChanged, Status, UserChanged

Changed: TypeAlias = UserChanged | ServerChanged

STATUSES = frozenset(get_args(Status))
_ROLE_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
_PUBLIC_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def taken_back(event: Changed) -> Changed | None:
    """What must follow the event: the core refuses (and reports) a value that is not valid, which
    in an event leaves the former one in place; this takes it back. None: nothing is refused.

    The flags are not among them: they are read as booleans (see `flags`).
    """
    odd = {
        field: None
        for field in event.__struct_fields__
        if (value := getattr(event, field)) is not None
        and value is not UNSET
        and not _is_valid(field, value)
    }
    if not odd:
        return None
    if isinstance(event, UserChanged):
        return UserChanged(server_id=event.server_id, uid=event.uid, **odd)
    return ServerChanged(server_id=event.server_id, **odd)


def _is_valid(field: str, value: object) -> bool:
    if field == "extra":
        return isinstance(value, dict)
    if field not in {"username", "name", "status", "role_color", "id"}:
        return True
    if not isinstance(value, str):
        return False
    if field == "status":
        return value in STATUSES
    if field == "role_color":
        return _ROLE_COLOR.fullmatch(value) is not None
    return _PUBLIC_ID.fullmatch(value) is not None if field == "id" else bool(value.strip())

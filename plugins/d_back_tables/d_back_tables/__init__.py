"""What the database plugins of d-back share: no SQL, no connection, only what both would copy."""

from d_back_tables.columns import (
    KEPT_UNLESS_SAID,
    SERVER_FIELDS,
    USER_FIELDS,
    Key,
    extra_of,
    server_values,
    user_values,
)
from d_back_tables.filling import Filling, nearest, read, written
from d_back_tables.grouping import Group, grouped
from d_back_tables.wanted import Wanted

__all__ = [
    "KEPT_UNLESS_SAID",
    "SERVER_FIELDS",
    "USER_FIELDS",
    "Filling",
    "Group",
    "Key",
    "Wanted",
    "extra_of",
    "grouped",
    "nearest",
    "read",
    "server_values",
    "user_values",
    "written",
]

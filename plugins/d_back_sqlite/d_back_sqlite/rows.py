"""What the tables hold, as records of d-back.

The values are passed on as they are. The core checks them, reads flags such as 1 and "f", and
assumes the cautious value for a guard that it cannot read.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from d_back_core import UNSET, Server, User
from d_back_tables import SERVER_FIELDS, USER_FIELDS, Filling, extra_of

ALL_SERVERS = f"SELECT server_id, {', '.join(SERVER_FIELDS)} FROM servers ORDER BY server_id"  # noqa: S608  names of columns, here and below
ONE_SERVER = f"SELECT user_id, {', '.join(USER_FIELDS)} FROM users WHERE server_id = ?"  # noqa: S608
ALL_USERS = f"SELECT server_id, user_id, {', '.join(USER_FIELDS)} FROM users"  # noqa: S608


def servers(connection: sqlite3.Connection) -> dict[str, Server]:
    """Return all servers. Disabled ones, too: they hide those of other providers."""
    return {
        server_id: Server(
            name=name,
            id=public_id,
            default=is_default,
            passworded=UNSET if passworded is None else passworded,  # only false opens a server
            enabled=enabled,
        )
        for server_id, name, public_id, is_default, passworded, enabled in connection.execute(
            ALL_SERVERS
        )
    }


def users(connection: sqlite3.Connection, server_id: str) -> dict[str, User] | None:
    """Return the users of that server; None if it has neither a row nor users."""
    found = {uid: _user(fields) for uid, *fields in connection.execute(ONE_SERVER, (server_id,))}
    listed = "SELECT 1 FROM servers WHERE server_id = ?"
    if not found and connection.execute(listed, (server_id,)).fetchone() is None:
        return None
    return found


def _user(fields: Sequence[Any]) -> User:
    username, status, role_color, extra = fields
    return User(username=username, status=status, role_color=role_color, extra=extra_of(extra))


def everything(connection: sqlite3.Connection) -> Filling:
    """Return all servers and users, of one moment."""
    connection.execute("BEGIN")
    try:
        all_users = {
            (server_id, uid): _user(fields)
            for server_id, uid, *fields in connection.execute(ALL_USERS)
        }
        return Filling(servers(connection), all_users)
    finally:
        connection.execute("COMMIT")

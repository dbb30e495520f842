"""What a recorder writes. Each function is called in a transaction, and writes what is new."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec import Struct, UnsetType

from d_back_core import (
    Change,
    Event,
    Server,
    ServerChanged,
    ServerRemoved,
    Snapshot,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_tables import (
    KEPT_UNLESS_SAID,
    SERVER_FIELDS,
    USER_FIELDS,
    Group,
    Key,
    grouped,
    server_values,
    user_values,
)

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
BEFORE = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?)"
_ABSENT = "coalesce({row}.status, 'offline') = 'offline'"
_SEEN = f"""CASE WHEN {_ABSENT.format(row="users")} AND {_ABSENT.format(row="excluded")}
THEN coalesce(users.last_seen, excluded.last_seen) ELSE excluded.last_seen END"""
"""A user is seen while it is not offline, and for the last time when it goes offline."""


def _upsert(table: str, keys: Sequence[str], fields: Sequence[str], seen: str) -> str:
    columns = (*keys, *fields)
    changes = [
        f"{field} = coalesce(excluded.{field}, {table}.{field})"
        if field in KEPT_UNLESS_SAID
        else f"{field} = excluded.{field}"
        for field in fields
    ]
    return (
        f"INSERT INTO {table} ({', '.join(columns)}, last_seen)"  # noqa: S608  names of columns
        f" VALUES ({', '.join('?' * len(columns))}, {NOW})"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET"
        f" {', '.join(changes)}, last_seen = {seen}"
    )


UPSERT_SERVER = _upsert("servers", ("server_id",), SERVER_FIELDS, "excluded.last_seen")
UPSERT_USER = _upsert("users", ("server_id", "user_id"), USER_FIELDS, _SEEN)
REMOVE_SERVER = "DELETE FROM servers WHERE server_id = ?"
REMOVE_USER = "DELETE FROM users WHERE server_id = ? AND user_id = ?"
SHOW_AS_OFFLINE = (
    f"UPDATE users SET status = 'offline', last_seen = {NOW}"  # noqa: S608
    f" WHERE server_id = ? AND user_id = ? AND NOT {_ABSENT.format(row='users')}"
)

T = TypeVar("T")


class Old(Struct, frozen=True):
    """What has not been seen for a time."""

    servers: list[str]
    users: list[Key]


def record(
    connection: sqlite3.Connection, changes: Iterable[Change], *, keep_offline: bool
) -> list[Event]:
    """Store these changes, in order. Return what has changed in the tables."""
    writer = _Writer(connection, keep_offline=keep_offline)
    for group in grouped(changes):
        if isinstance(group, Snapshot):
            writer.keep_only(group)
        else:
            writer.put(group)
    return writer.events


class _Writer:
    def __init__(self, connection: sqlite3.Connection, *, keep_offline: bool) -> None:
        self.events: list[Event] = []
        self._connection = connection
        self._keep_offline = keep_offline

    def put(self, group: Group) -> None:
        """Store these servers, then these users."""
        for server_id, server in group.servers.items():
            if server is None:
                self._remove_server(server_id)
            else:
                self._connection.execute(UPSERT_SERVER, (server_id, *server_values(server)))
                self.events.append(_server_event(server_id, server))
        given = {key: user for key, user in group.users.items() if user is not None}
        self._remove_users(group.users.keys() - given.keys())
        self._connection.executemany(
            UPSERT_USER, [(*key, *user_values(user)) for key, user in given.items()]
        )
        self.events += [_user_event(*key, user) for key, user in given.items()]

    def keep_only(self, snapshot: Snapshot) -> None:
        """Remove every other server, or user of the server, that a recorder has stored."""
        if snapshot.server_id is not None:
            stored = self._remembered(snapshot.server_id)
            self._remove_users(
                (snapshot.server_id, uid) for uid in stored if uid not in snapshot.keys
            )
            return
        listed = "SELECT server_id FROM servers WHERE last_seen IS NOT NULL"
        having_users = "SELECT DISTINCT server_id FROM users WHERE last_seen IS NOT NULL"
        rows = self._connection.execute(f"{listed} UNION {having_users}")
        for (server_id,) in rows.fetchall():
            if server_id not in snapshot.keys:
                self._remove_server(server_id, "AND last_seen IS NOT NULL")

    def _remove_server(self, server_id: str, condition: str = "") -> None:
        removed = self._connection.execute(f"{REMOVE_SERVER} {condition}", (server_id,))
        if removed.rowcount:
            self.events.append(ServerRemoved(server_id=server_id))
        self._remove_users((server_id, uid) for uid in self._remembered(server_id))

    def _remembered(self, server_id: str) -> list[str]:
        """The users of that server that a recorder, or an import, has stored."""
        rows = self._connection.execute(
            "SELECT user_id FROM users WHERE server_id = ? AND last_seen IS NOT NULL",
            (server_id,),
        )
        return [uid for (uid,) in rows]

    def _remove_users(self, keys: Iterable[Key]) -> None:
        for server_id, uid in keys:
            if self._keep_offline:
                removed = self._connection.execute(SHOW_AS_OFFLINE, (server_id, uid))
                event: Event = UserChanged(server_id=server_id, uid=uid, status="offline")
            else:
                removed = self._connection.execute(REMOVE_USER, (server_id, uid))
                event = UserRemoved(server_id=server_id, uid=uid)
            if removed.rowcount:
                self.events.append(event)


def _user_event(server_id: str, uid: str, user: User) -> UserChanged:
    return UserChanged(
        server_id=server_id,
        uid=uid,
        username=_or_none(user.username),
        status=_or_none(user.status),
        role_color=_or_none(user.role_color),
        extra=_or_none(user.extra),
    )


def _server_event(server_id: str, server: Server) -> ServerChanged:
    return ServerChanged(
        server_id=server_id,
        name=_or_none(server.name),
        id=_or_none(server.id),
        default=_or_none(server.default),
        passworded=server.passworded,  # kept unless said, as in the table
        enabled=server.enabled,
    )


def _or_none(value: T | UnsetType | None) -> T | None:
    """What is not set is stored as NULL, and so takes back what was there."""
    return None if isinstance(value, UnsetType) else value


def old(connection: sqlite3.Connection, seconds: float) -> Old:
    """Return the keys of all rows that were seen last before this time."""
    age = (f"-{seconds:.3f} seconds",)
    found_servers = connection.execute(
        f"SELECT server_id FROM servers WHERE last_seen < {BEFORE}",  # noqa: S608
        age,
    )
    found_users = connection.execute(
        f"SELECT server_id, user_id FROM users WHERE last_seen < {BEFORE}",  # noqa: S608
        age,
    )
    return Old([row[0] for row in found_servers.fetchall()], found_users.fetchall())


def forget(connection: sqlite3.Connection, rows: Old, seconds: float) -> None:
    """Delete these rows, except those that were seen meanwhile."""
    age = f"-{seconds:.3f} seconds"
    connection.executemany(
        f"{REMOVE_SERVER} AND last_seen < {BEFORE}",
        [(server_id, age) for server_id in rows.servers],
    )
    connection.executemany(
        f"{REMOVE_USER} AND last_seen < {BEFORE}", [(*key, age) for key in rows.users]
    )

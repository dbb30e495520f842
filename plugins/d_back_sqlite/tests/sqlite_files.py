"""What the tests share: files with rows, and records to store."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from d_back_core import Server, ServerSet, Snapshot, User, UserSet
from d_back_core.models import EffectiveUser
from d_back_sqlite.database import Database
from d_back_testing import ScriptedProvider

WITHIN = 15.0
"""Seconds in which a change of the file must be noticed (R49)."""
COLUMNS = " (server_id, user_id, username, status, role_color, last_seen)"
"""The columns of users whose values tests insert."""
ADA = User(username="Ada", status="online", role_color="#ff6b6b")
BO = User(username="Bo", status="idle", role_color="#4ecdc4")
PLAZA = """
INSERT INTO servers VALUES ('1', 'Plaza', 0, 1, 1, 'plaza', NULL);
INSERT INTO users (server_id, user_id, username, status, role_color, last_seen) VALUES
    ('1', '7', 'Ada', 'online', '#ff6b6b', NULL), ('1', '8', 'Bo', 'idle', '#4ecdc4', NULL);
"""


def make(path: Path, script: str = "") -> None:
    """Make the tables in that file and run the script."""
    database = Database(path, logging.getLogger("test"))
    with closing(database):
        database.open()
        database.connection.executescript(script)


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def files_in(folder: Path) -> set[str]:
    """The names of all files in it."""
    return {each.name for each in folder.iterdir()}


def execute(path: Path, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Run a statement as another process would, on a connection of its own; the rows."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        return connection.execute(statement, arguments).fetchall()


def stored(path: Path) -> dict[tuple[str, str], tuple[Any, ...]]:
    """What the table of users holds, by key."""
    rows = execute(path, "SELECT server_id, user_id, username, status, role_color FROM users")
    return {(row[0], row[1]): row[2:] for row in rows}


def shown(path: Path) -> dict[str, EffectiveUser]:
    """What a client should see of server 1 in that file."""
    return {
        uid: EffectiveUser(uid, name or uid, status or "offline", color or "#ffffff")
        for (server_id, uid), (name, status, color) in stored(path).items()
        if server_id == "1"
    }


def town() -> ScriptedProvider:
    """A source with one server and two users."""
    return ScriptedProvider(
        {"1": Server(name="Plaza", id="plaza", default=True)}, {"1": {"7": ADA, "8": BO}}
    )


def said(uid: str, user: User = ADA, server_id: str = "1") -> UserSet:
    return UserSet(server_id=server_id, uid=uid, user=user)


def listed(server_id: str = "1", **fields: Any) -> ServerSet:  # noqa: ANN401
    return ServerSet(server_id=server_id, server=Server(**{"name": "Plaza", "id": "p"} | fields))


def complete(*keys: str, server_id: str | None = "1") -> Snapshot:
    return Snapshot(server_id=server_id, keys=frozenset(keys))

"""What is asked of the database, and what its rows say."""

import asyncio
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import asyncpg
from msgspec import UNSET, Struct, field

from d_back_core import Server, User
from d_back_postgres.database import Database
from d_back_postgres.flags import FlagReader
from d_back_postgres.relations import Relation, Relations, quoted
from d_back_tables import SERVER_FIELDS, USER_FIELDS, Key, extra_of

if TYPE_CHECKING:
    from d_back_postgres.database import Session

SLICE = 1000
"""Rows that are made records of before the event loop gets its turn."""


class Members:
    """The answer for one server."""

    def __init__(self, users: dict[str, User], *, known: bool, listed: bool) -> None:
        self.users = users
        self.known = known
        """Whether there is a row of the server."""
        self.listed = listed
        """Whether there is one, and it is not disabled."""


class Whole(Struct):
    """What was read in one snapshot of the database."""

    servers: dict[str, Server] | None = None
    """None: not asked for, or taken already."""
    members: dict[str, Members] = field(default_factory=dict)


class Reading:
    """Reads the relations as they were found once; raises what asyncpg raises.

    Rows that are sent together are read in one snapshot (repeatable read): two statements of
    their own could see a state that never existed.
    """

    def __init__(self, database: Database, relations: Relations, flags: FlagReader) -> None:
        self._database = database
        self._flags = flags
        self._relations = relations
        users, servers = relations.users, relations.servers
        self._server_id = users.columns["server_id"]
        self._user_id = users.columns["user_id"]
        self._listed_id = servers.columns["server_id"]
        fields = _selected(users, USER_FIELDS, "u")
        shown = _selected(servers, SERVER_FIELDS, "s")
        self._all_servers = (
            f"SELECT {_text(servers, 'server_id', 's')}, {shown} FROM {servers.source} AS s"  # noqa: S608  names are quoted, here and below
            " ORDER BY 1"
        )
        self._some_servers = (
            f"SELECT k.server_id, {_there(servers, 's')} AS there, {shown}"  # noqa: S608
            f" FROM unnest($1::text[]) AS k (server_id) LEFT JOIN {servers.source} AS s"
            f" ON {self._equals(servers, 'server_id', 's')}"
        )
        self._one_server = (
            f"SELECT {_there(servers, 's')} AS known, {_column(servers, 'enabled', 's')},"  # noqa: S608
            f" {_there(users, 'u')} AS there, {_text(users, 'user_id', 'u')}, {fields}"
            " FROM (SELECT $1::text AS listed_id, $2::text AS server_id) AS k"
            f" LEFT JOIN {servers.source} AS s"
            f" ON {self._listed_id.equals(f's.{quoted(self._listed_id.name)}', 'k.listed_id')}"
            f" LEFT JOIN {users.source} AS u ON {self._equals(users, 'server_id', 'u')}"
        )
        self._some_users = (
            f"SELECT k.server_id, k.user_id, {_there(users, 'u')} AS there, {fields}"  # noqa: S608
            " FROM unnest($1::text[], $2::text[]) AS k (server_id, user_id)"
            f" LEFT JOIN {users.source} AS u ON {self._equals(users, 'server_id', 'u')}"
            f" AND {self._equals(users, 'user_id', 'u')}"
        )

    async def servers(self) -> dict[str, Server]:
        """All servers, disabled ones included."""
        async with self._database.session() as session:
            return await self._servers(session)

    async def members(self, server_id: str) -> Members:
        """The users of one server and whether it is there, of one moment, by one query."""
        async with self._database.session() as session:
            return await self._members(session, server_id)

    async def whole(self, server_ids: Collection[str], *, listed: bool) -> Whole:
        """The users of these servers and, with ``listed``, all servers, in one snapshot."""
        whole = Whole()
        if not server_ids and not listed:
            return whole
        async with self._database.snapshot() as session:
            if listed:
                whole.servers = await self._servers(session)
            for server_id in server_ids:
                whole.members[server_id] = await self._members(session, server_id)
        return whole

    async def changed(
        self, server_ids: Collection[str], keys: Collection[Key]
    ) -> tuple[Mapping[str, Server | None], Mapping[Key, User | None]]:
        """These servers and users as they are now; None for one that is not there."""
        if not server_ids and not keys:
            return {}, {}
        async with self._database.snapshot() as session:
            servers = await self._some_servers_of(session, server_ids) if server_ids else {}
            users = await self._some_users_of(session, keys) if keys else {}
        return servers, users

    async def _servers(self, session: "Session") -> dict[str, Server]:
        rows = await self._database.fetch(self._all_servers, session=session)
        return {row["server_id"]: self._server(row) for row in rows}

    async def _members(self, session: "Session", server_id: str) -> Members:
        listed_id = server_id if self._listed_id.fits(server_id) else None
        users_id = server_id if self._server_id.fits(server_id) else None
        rows = await self._database.fetch(self._one_server, listed_id, users_id, session=session)
        users: dict[str, User] = {}
        for count, row in enumerate(rows, 1):
            if row["there"]:
                users[row["user_id"]] = _user(row)
            if count % SLICE == 0:
                await asyncio.sleep(0)
        known = rows[0]["known"]
        enabled = self._flag("enabled", rows[0]) if known else None
        return Members(users, known=known, listed=known and enabled is not False)

    async def _some_servers_of(
        self, session: "Session", server_ids: Collection[str]
    ) -> Mapping[str, Server | None]:
        keys = [each for each in server_ids if self._listed_id.fits(each)]
        rows = await self._database.fetch(self._some_servers, keys, session=session)
        return {row["server_id"]: self._server(row) if row["there"] else None for row in rows}

    async def _some_users_of(
        self, session: "Session", keys: Collection[Key]
    ) -> Mapping[Key, User | None]:
        fit = [key for key in keys if self._server_id.fits(key[0]) and self._user_id.fits(key[1])]
        server_ids, uids = [key[0] for key in fit], [key[1] for key in fit]
        rows = await self._database.fetch(self._some_users, server_ids, uids, session=session)
        return {
            (row["server_id"], row["user_id"]): _user(row) if row["there"] else None
            for row in rows
        }

    def _server(self, row: asyncpg.Record) -> Server:
        passworded = self._flag("passworded", row)
        return Server(
            name=row["name"],
            id=row["public_id"],
            default=self._flag("is_default", row),
            passworded=UNSET if passworded is None else passworded,  # only false opens a server
            enabled=self._flag("enabled", row),
        )

    def _flag(self, key: str, row: asyncpg.Record) -> bool | None:
        return self._flags.read(self._relations.servers, key, row[key])

    @staticmethod
    def _equals(relation: Relation, key: str, alias: str) -> str:
        column = relation.columns[key]
        return column.equals(f"{alias}.{quoted(column.name)}", f"k.{key}")


def _user(row: asyncpg.Record) -> User:
    # None, not UNSET, where there is nothing: in an event that would leave the former value.
    return User(
        username=row["username"],
        status=row["status"],
        role_color=row["role_color"],
        extra=extra_of(row["extra"]),
    )


def _selected(relation: Relation, fields: tuple[str, ...], alias: str) -> str:
    return ", ".join(_column(relation, field, alias) for field in fields)


def _column(relation: Relation, key: str, alias: str) -> str:
    """The column as a text, NULL if there is no such column."""
    if key not in relation.columns:
        return f"NULL::text AS {key}"
    return _text(relation, key, alias)


def _text(relation: Relation, key: str, alias: str) -> str:
    return f"{alias}.{quoted(relation.columns[key].name)}::text AS {key}"


def _there(relation: Relation, alias: str) -> str:
    """SQL for whether a left join found a row."""
    return f"{alias}.{quoted(relation.columns['server_id'].name)} IS NOT NULL"

"""What the configuration names, found in the database: two relations and their columns."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import asdict

from d_back_postgres.config import PostgresConfig
from d_back_postgres.failure import DatabaseError
from d_back_tables import nearest

if TYPE_CHECKING:
    from d_back_postgres.database import Session

Kind: TypeAlias = Literal["text", "integer", "other"]

CHANNEL = "d_back"
"""Where the triggers notify."""
TRIGGERS = frozenset({"d_back_insert", "d_back_update", "d_back_delete", "d_back_truncate"})
COMMAND = "d-back postgres init"
LARGEST = 10**131072
"""Of what PostgreSQL calls an integer, ``numeric`` included, none is larger."""

_TABLE = """
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind IN ('r', 'p') AS is_table,
       array(SELECT tgname::text FROM pg_trigger
             WHERE tgrelid = c.oid AND tgenabled IN ('O', 'A')) AS triggers
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass($1::text) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
_COLUMNS = """
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type,
       format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) AS base
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
_TABLES = """
SELECT c.relname::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND CASE WHEN $1::text IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = $1::text END
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal, whatever ``standard_conforming_strings`` says."""
    doubled = text.replace("'", "''").replace("\\", "\\\\")
    return f" E'{doubled}'" if "\\" in text else f"'{doubled}'"


def qualified(schema: str | None, name: str) -> str:
    """A table's name as an SQL identifier, in that schema or wherever it is found."""
    return quoted(name) if schema is None else f"{quoted(schema)}.{quoted(name)}"


class Column(Struct, frozen=True):
    """A column that was found."""

    name: str
    type: str
    """As ``format_type`` writes it: it can be cast to."""
    kind: Kind
    base: str
    """The type without its modifier; of a domain, what it is made of."""

    def fits(self, key: str) -> bool:
        """Whether there can be a value that, as a text, is this key."""
        if self.kind == "integer":
            digits = key.removeprefix("-")
            canonical = digits.isascii() and digits.isdigit() and str(int(digits)) == digits
            return canonical and key != "-0" and _in_range(int(key), self.type)
        return "\x00" not in key

    def equals(self, column: str, key: str) -> str:
        """SQL that compares a column of this kind with a key, a text; by its index if it can."""
        if self.kind == "integer":
            return f"{column} = ({key})::{self.type}"
        return f"{column} = {key}" if self.kind == "text" else f"{column}::text = {key}"


class Relation(Struct, frozen=True, kw_only=True):
    """A table or a query that was found."""

    key: str
    """``users`` or ``servers``."""
    source: str
    """SQL for FROM."""
    columns: Mapping[str, Column]
    """What is called by the key is in this column; without the key there is none."""
    identity: tuple[str, str] | None
    """Schema and name of a table; None for a view or a query, which have no notifications."""
    triggers: bool
    """Whether its changes are notified."""

    def column(self, key: str, alias: str) -> str:
        """SQL for what is called by the key, NULL where there is no such column."""
        found = self.columns.get(key)
        return f"NULL::text AS {key}" if found is None else f"{alias}.{quoted(found.name)}"


class Relations(Struct, frozen=True):
    """What a provider reads, and records to."""

    users: Relation
    servers: Relation

    @property
    def live(self) -> bool:
        """Whether all changes are notified."""
        return self.users.triggers and self.servers.triggers


async def found(session: "Session", config: PostgresConfig) -> Relations:
    """What the configuration names; raises `DatabaseError` where something is not there."""
    users = await _relation(
        session, config.schema, "users", config.users_table, config.users_query
    )
    servers = await _relation(
        session, config.schema, "servers", config.servers_table, config.servers_query
    )
    return Relations(
        _named(users, asdict(config.users_columns)),
        _named(servers, asdict(config.servers_columns)),
    )


async def _relation(
    session: "Session", schema: str | None, key: str, table: str, query: str | None
) -> Relation:
    """The relation with all its columns, each called by its own name."""
    if query is not None:
        return await _query(session, key, query)
    source = qualified(schema, table)
    row = await session.fetchrow(_TABLE, source)
    if row is None:
        rows = await session.fetch(_TABLES, schema)
        near = nearest(table, {row["name"] for row in rows})
        raise DatabaseError(f"there is no table '{table}' {near}: `{COMMAND}` makes it")
    columns = await session.fetch(_COLUMNS, row["oid"])
    return Relation(
        key=key,
        source=source,
        columns={
            each["name"]: Column(each["name"], each["type"], _kind(each["base"]), each["base"])
            for each in columns
        },
        identity=(row["schema"], row["name"]) if row["is_table"] else None,
        triggers=TRIGGERS.issubset(row["triggers"]),
    )


async def _query(session: "Session", key: str, query: str) -> Relation:
    # A comment at its end must not swallow the bracket.
    source = f"({query.strip().rstrip(';').rstrip()}\n)"
    row = await session.fetchrow(
        f"SELECT q.* FROM (SELECT 1) AS one LEFT JOIN {source} AS q ON false"  # noqa: S608  the operator's
    )
    names = [] if row is None else list(row.keys())
    types = ", ".join(f"pg_typeof(q.{quoted(name)})::text" for name in names) or "NULL"
    row = await session.fetchrow(
        f"SELECT {types} FROM (SELECT 1) AS one LEFT JOIN {source} AS q ON false"  # noqa: S608  as above
    )
    columns = {
        name: Column(name, type_name, _kind(type_name), type_name)
        for name, type_name in zip(names, row or (), strict=True)
    }
    return Relation(key=key, source=source, columns=columns, identity=None, triggers=False)


def _named(relation: Relation, names: dict[str, str | None]) -> Relation:
    """The relation with its columns called by our keys."""
    columns = {}
    for key, name in names.items():
        column = relation.columns.get(key if name is None else name)
        if column is not None:
            columns[key] = column
        elif name:
            where = f"'{relation.source}'" if relation.identity else f"{relation.key}_query"
            near = nearest(name, relation.columns)
            hint = f"; see {relation.key}_columns"
            raise DatabaseError(f"{where} has no column '{name}' {near}{hint}")
    return Relation(
        key=relation.key,
        source=relation.source,
        columns=columns,
        identity=relation.identity,
        triggers=relation.triggers,
    )


def _kind(type_name: str) -> Kind:
    if type_name in {"smallint", "integer", "bigint", "numeric"}:
        return "integer"
    return "text" if type_name in {"text", "character varying"} else "other"


def _in_range(number: int, type_name: str) -> bool:
    bits = {"smallint": 15, "integer": 31, "bigint": 63}.get(type_name)
    limit = LARGEST if bits is None else 1 << bits
    return -limit <= number < limit

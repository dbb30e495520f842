"""The tables of `PostgresConfig` as numbered SQL scripts, each of which may be run again.

In a script ``{users}``, ``{users.status}``, ``{schema}`` … stand for names of the configuration,
``{users!}`` for the arguments of a trigger. A line whose column
the configuration leaves out is left out, and so is a statement (they are separated by blank
lines) whose table is a query there.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files

import asyncpg
from msgspec import Struct
from msgspec.structs import asdict

from d_back_postgres.config import PostgresConfig
from d_back_postgres.database import Database
from d_back_postgres.relations import found, literal, qualified, quoted

MIGRATIONS_TABLE = "d_back_migrations"
NOTIFY_FUNCTION = "d_back_notify"
NOTED = "INSERT INTO {migrations} (version) VALUES ({version}) ON CONFLICT (version) DO NOTHING;"
ALONE = "SELECT pg_advisory_xact_lock(hashtext('d-back postgres init'))"
LOCK_TIMEOUT = "1s"
"""The longest wait for a table that others use: those who come later wait behind it."""
NOT_WATCHED = frozenset({"last_seen"})
"""Columns whose changes are not notified."""
MAY_BE_MISSING = frozenset({"extra"})
"""Columns that tables of an earlier version do not have; a ``?`` marks them for the trigger."""

_PLACEHOLDER = re.compile(r"\{([a-z_.]+)(!?)\}")


class Migration(Struct, frozen=True):
    """One script, for one configuration."""

    version: int
    title: str
    sql: str


def migrations(
    config: PostgresConfig, *, with_schema: bool = True, noted: bool = True
) -> list[Migration]:
    """All of them, in order; without making the schema, where that is there already (it takes a
    right that the owner of a schema need not have), or without noting that they were run."""
    names = _names(config)
    if not with_schema:
        names["schema"] = None
    scripts = sorted(
        (each for each in files(__package__).joinpath("migrations").iterdir()),
        key=lambda each: each.name,
    )
    made = []
    for script in scripts:
        number, _, title = script.name.removesuffix(".sql").partition("_")
        template = script.read_text(encoding="utf-8")
        if noted:
            template += "\n\n" + NOTED.replace("{version}", str(int(number)))
        sql = "\n\n".join(_statements(template, names, config)) + "\n"
        made.append(Migration(int(number), title, sql))
    return made


def migrations_table(config: PostgresConfig) -> str:
    """SQL for the table that says which were run."""
    return qualified(config.schema, MIGRATIONS_TABLE)


async def migrate(database: Database, config: PostgresConfig) -> list[Migration]:
    """Run all of them, in one transaction; those that were run before change nothing."""
    async with database.transaction() as connection:
        # Two at the same time would both make the same tables.
        await connection.execute(ALONE)
        schema = quoted(config.schema or "")
        there = await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", schema)
        scripts = migrations(config, with_schema=not there)
        for script in scripts:
            await connection.execute(script.sql)
    return scripts


async def make_triggers(database: Database, config: PostgresConfig) -> None:
    """Make only the triggers and their function, unless they are there."""
    scripts = migrations(config, noted=False)
    notify = next(script for script in scripts if script.title == "notify")
    async with database.transaction() as connection:
        await connection.execute(ALONE)
        if not (await found(connection, config)).live:  # another process may have made them
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            await connection.execute(notify.sql)


async def version(database: Database, config: PostgresConfig) -> int | None:
    """The newest that was run; None where none was."""
    try:
        rows = await database.fetch(f"SELECT max(version) FROM {migrations_table(config)}")  # noqa: S608  quoted
    except asyncpg.UndefinedTableError:
        return None
    newest: int | None = rows[0][0]
    return newest


def _statements(
    template: str, names: Mapping[str, str | None], config: PostgresConfig
) -> Iterator[str]:
    for statement in re.split(r"\n\s*\n", template.strip()):
        tables = {"users", "servers", "schema"} & {
            key.partition(".")[0] for key, _ in _PLACEHOLDER.findall(statement)
        }
        if any(names[table] is None for table in tables):
            continue
        lines = []
        for line in statement.splitlines():
            keys = [key for key, _ in _PLACEHOLDER.findall(line)]
            if all(names[key] is not None for key in keys):
                lines.append(_PLACEHOLDER.sub(lambda match: _put(match, names, config), line))
            elif line.lstrip().startswith("ALTER"):
                lines = []
                break
        if lines:
            yield "\n".join(lines)


def _put(match: re.Match[str], names: Mapping[str, str | None], config: PostgresConfig) -> str:
    key, arguments = match.groups()
    return _arguments(key, config) if arguments else names[key] or ""


def _names(config: PostgresConfig) -> dict[str, str | None]:
    """SQL for each name; None where the configuration has none."""
    names: dict[str, str | None] = {
        "schema": None if config.schema is None else quoted(config.schema),
        "migrations": migrations_table(config),
        "notify": qualified(config.schema, NOTIFY_FUNCTION),
        "users": qualified(config.schema, config.users_table),
        "servers": qualified(config.schema, config.servers_table),
    }
    if config.users_query is not None:
        names["users"] = None
    if config.servers_query is not None:
        names["servers"] = None
    for table in ("users", "servers"):
        for key, name in _columns(table, config).items():
            names[f"{table}.{key}"] = quoted(name) if name else None
    return names


def _columns(table: str, config: PostgresConfig) -> dict[str, str]:
    columns = config.users_columns if table == "users" else config.servers_columns
    return {key: key if name is None else name for key, name in asdict(columns).items()}


def _arguments(table: str, config: PostgresConfig) -> str:
    """How many columns are the key, then the columns to watch, the key's first."""
    columns = _columns(table, config)
    watched = [
        ("?" if key in MAY_BE_MISSING else "") + name
        for key, name in columns.items()
        if name and key not in NOT_WATCHED
    ]
    keys = 2 if table == "users" else 1
    return ", ".join([literal(str(keys)), *(literal(name) for name in watched)])

"""What ``d-back postgres status`` finds."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import asyncpg
from msgspec import Struct

from d_back_postgres.config import PostgresConfig
from d_back_postgres.database import Database
from d_back_postgres.failure import FAILURES, DatabaseError
from d_back_postgres.migrations import migrations, version
from d_back_postgres.relations import COMMAND, Relation, found

PATIENCE = 2.0
"""Seconds that a notification may take to come."""


class Line(Struct, frozen=True):
    """One finding."""

    what: str
    says: str
    fine: bool = True


async def status(database: Database, config: PostgresConfig) -> list[Line]:
    """Look at everything that there is; raises what asyncpg raises where nothing is."""
    lines = [Line("database", f"PostgreSQL {(await database.fetch('SHOW server_version'))[0][0]}")]
    newest, current = len(migrations(config)), await version(database, config)
    fine = current == newest
    said = f"version {current} of {newest}" if current is not None else "not made here"
    lines.append(Line("tables", said if fine else f"{said} (see `{COMMAND}`)", fine))
    try:
        async with database.session() as session:
            relations = await found(session, config)
    except DatabaseError as error:
        return [*lines, Line("tables", str(error), fine=False)]
    for relation in (relations.servers, relations.users):
        lines.extend(await _of(database, relation))
    listens = await _listens(database)
    says = "possible" if listens else "not possible: set transaction_pooler, and refresh to poll"
    lines.append(Line("LISTEN", says, listens or config.transaction_pooler))
    return lines


async def _of(database: Database, relation: Relation) -> list[Line]:
    rows = (await database.fetch(f"SELECT count(*) FROM {relation.source} AS t"))[0][0]  # noqa: S608  quoted
    name = f"{relation.key}_query" if relation.identity is None else ".".join(relation.identity)
    return [Line(relation.key, f"{name}, {rows} rows"), *_triggers(relation)]


def _triggers(relation: Relation) -> Iterator[Line]:
    if relation.identity is None:
        yield Line(f"{relation.key} triggers", "none (a query or view): polled")
    elif relation.triggers:
        yield Line(f"{relation.key} triggers", "present")
    else:
        yield Line(f"{relation.key} triggers", f"missing: polled (see `{COMMAND}`)", fine=False)


async def _listens(database: Database) -> bool:
    """Whether a notification of one connection reaches another."""
    channel, heard = f"d_back_{uuid4().hex}", asyncio.Event()
    connection = await database.connect()
    try:
        await connection.add_listener(channel, lambda *_: heard.set())
        await database.fetch("SELECT pg_notify($1, '')", channel)
        async with asyncio.timeout(PATIENCE):
            await heard.wait()
    except (*FAILURES, asyncpg.PostgresError):
        return False
    finally:
        connection.terminate()
    return True

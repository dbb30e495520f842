"""``d-back postgres init``, ``status`` and ``import``."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import Progress

from d_back_core import command_config
from d_back_postgres.config import PostgresConfig
from d_back_postgres.database import Database
from d_back_postgres.failure import DatabaseError, told
from d_back_postgres.memory import Memory
from d_back_postgres.migrations import migrate, migrations
from d_back_postgres.relations import found
from d_back_postgres.status import status
from d_back_tables import Filling, Group, grouped, read

T = TypeVar("T")

of_provider = click.option(
    "--provider",
    metavar="NAME",
    default="postgres",
    help="The provider whose configuration to use.",
)


@click.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL instead of running it.")
@of_provider
def init(*, as_sql: bool, provider: str) -> None:
    """Make the tables and triggers, or bring them up to date.

    Running it again changes nothing.
    """
    config = command_config(PostgresConfig, provider)
    if as_sql:
        for script in migrations(config):
            click.echo(f"-- {script.version:04} {script.title}\n\n{script.sql}")
        return
    for script in _run(config, lambda database: migrate(database, config)):
        click.echo(f"{script.version:04} {script.title}: done")


@click.command("status")
@of_provider
@click.pass_context
def status_command(ctx: click.Context, /, *, provider: str) -> None:
    """Print what the database has; exit status 1 if something is missing."""
    config = command_config(PostgresConfig, provider)
    lines = _run(config, lambda database: status(database, config))
    width = max(len(line.what) for line in lines)
    for line in lines:
        click.echo(f"{line.what:<{width}}  {line.says}")
    if not all(line.fine for line in lines):
        ctx.exit(1)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@of_provider
def import_command(*, file: Path, provider: str) -> None:
    """Store the servers and users of FILE, all or none of them.

    FILE is .json, {"servers": [...], "users": [...]}, or .csv with a line of column names, of
    users or of servers. The names are those of d-back, whatever the columns are called in the
    database. What is there already is replaced, row by row; nothing is removed.
    """
    config = command_config(PostgresConfig, provider)
    filling = read(file)
    left_out = _run(config, lambda database: _store(database, config, filling))
    rest = f"; {left_out} left out" if left_out else ""
    click.echo(f"{len(filling.servers)} servers, {len(filling.users)} users{rest}")


def _run(config: PostgresConfig, work: Callable[[Database], Awaitable[T]]) -> T:
    """Do that with the database; an error is one line."""

    async def connected() -> T:
        database = Database(config)
        try:
            with told():
                await database.open()
                return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(connected())
    except DatabaseError as error:
        raise click.ClickException(str(error)) from error


async def _store(database: Database, config: PostgresConfig, filling: Filling) -> int:
    """Store it all in one transaction; how many rows the tables refused."""
    async with database.session() as session:
        relations = await found(session, config)
    memory = Memory(database, relations, logging.getLogger("d_back.providers.postgres"))
    total = len(filling.servers) + len(filling.users)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("import", total=total)
        async with database.transaction() as session:
            for group in grouped(filling.changes()):
                if isinstance(group, Group):  # a file has no snapshots
                    await memory.put(session, group)
                    progress.advance(task, len(group.servers) + len(group.users))
    return memory.refused


COMMANDS = (init, status_command, import_command)

"""``d-back sqlite status``, ``import``, ``export`` and ``vacuum``. They may be used while a
gateway runs, which notices what they change."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from d_back_core import command_config
from d_back_sqlite import recording, rows
from d_back_sqlite.config import SqliteConfig
from d_back_sqlite.database import Database, migrations
from d_back_sqlite.failure import StoreError, told
from d_back_sqlite.owner import Owner
from d_back_tables import read, written

log = logging.getLogger("d_back.providers.sqlite")

of_provider = click.option(
    "--provider",
    metavar="NAME",
    default="sqlite",
    help="The provider whose configuration to use.",
)


@click.command("status")
@of_provider
@click.pass_context
def status(ctx: click.Context, /, *, provider: str) -> None:
    """Print what the file has; exit status 1 if it is missing or cannot be used."""
    path = command_config(SqliteConfig, provider).file
    if not path.exists():
        click.echo(f"file     {path}, missing: a gateway makes it when it starts")
        ctx.exit(1)
    with _opened(path, read_only=True) as database:
        connection = database.connection
        count, seen = connection.execute("SELECT count(*), max(last_seen) FROM users").fetchone()
        servers = connection.execute("SELECT count(*) FROM servers").fetchone()[0]
        click.echo(f"file     {path}, {_size(database)}")
        click.echo(f"gateway  {'uses it now' if Owner(path).is_held() else 'does not use it'}")
        click.echo(f"tables   version {database.version()} of {len(migrations())}")
        click.echo(f"servers  {servers} rows")
        click.echo(f"users    {count} rows, last seen {seen or 'never'}")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@of_provider
def import_command(*, file: Path, provider: str) -> None:
    """Store the servers and users of FILE, all or none of them.

    FILE is .json, {"servers": [...], "users": [...]}, or .csv with a line of column names, of
    users or of servers. What is there already is replaced, row by row; nothing is removed.
    """
    config = command_config(SqliteConfig, provider)
    filling = read(file)
    if config.path is None:
        config.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _opened(config.file) as database, database.transaction() as connection:
        recording.record(connection, filling.changes(), keep_offline=False)
    click.echo(f"{len(filling.servers)} servers, {len(filling.users)} users")


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@of_provider
def export(*, file: Path, provider: str) -> None:
    """Write all servers and users into FILE, a .json that `import` reads; -: standard output."""
    if str(file) != "-" and file.suffix.lower() != ".json":
        raise click.ClickException(f"{file}: expected a .json file, or -")
    with _opened(command_config(SqliteConfig, provider).file, read_only=True) as database:
        filling = rows.everything(database.connection)
    try:
        with click.open_file(str(file), "wb") as out:
            out.write(written(filling))
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror or error}") from error
    click.echo(f"{len(filling.servers)} servers, {len(filling.users)} users", err=True)


@click.command("vacuum")
@of_provider
def vacuum(*, provider: str) -> None:
    """Write the file again without the space of deleted rows, and without a trace of them."""
    path = command_config(SqliteConfig, provider).file
    if not path.exists():
        raise click.ClickException(f"'{path}' does not exist")
    with _opened(path) as database:
        before = _size(database)
        database.connection.execute("VACUUM")
        click.echo(f"{before} before, {_size(database)} now")


@contextmanager
def _opened(path: Path, *, read_only: bool = False) -> Iterator[Database]:
    """Open the file beside a gateway; what fails is one line."""
    database = Database(path, log)
    try:
        with told(path):
            database.check_folder()
            if read_only:
                database.open_read_only()
            else:
                database.open()
                # To write the log back changes the file in a way that a running gateway could not
                # tell from a file that was overwritten. It does it itself.
                database.connection.execute("PRAGMA wal_autocheckpoint = 0")
            yield database
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    finally:
        database.close()


def _size(database: Database) -> str:
    """The size of the file when its log is written back."""
    query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    size = float(database.connection.execute(query).fetchone()[0])
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004  of the unit
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size:.0f} bytes"
        size /= 1024
    return f"{size:.3g} GiB"


COMMANDS = (status, import_command, export, vacuum)

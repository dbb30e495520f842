"""A file of its own for each test, and gateways that use it."""

import asyncio
import logging
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, closing
from inspect import isawaitable
from pathlib import Path
from typing import Any, Protocol

import pytest
from joined_clients import PATIENCE, Join, join

from d_back_core import Clock, Context, File
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.stats import Stats
from d_back_sqlite import SqliteConfig, SqliteProvider

sys.path.insert(0, str(Path(__file__).parent))  # for the module that the tests share

from sqlite_files import PLAZA, make

__all__ = ["Join", "join"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file of a test is; it does not exist yet."""
    return tmp_path / "memory.sqlite3"


@pytest.fixture
def plaza(path: Path) -> Path:
    """A file with one server and two users."""
    make(path, PLAZA)
    return path


class Health:
    """What a provider reports of itself."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stats: Callable[[], Stats] = Stats

    def context(self, *, probe: bool = False, clock: Clock | None = None) -> Context:
        """A context that notes it."""
        return Context(
            name="sqlite",
            log=logging.getLogger("d_back.providers.sqlite"),
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

    async def __call__(
        self,
        path: Path,
        *,
        probe: bool = False,
        clock: Clock | None = None,
        **options: Any,  # noqa: ANN401
    ) -> SqliteProvider: ...


@pytest.fixture
async def begin(health: Health) -> AsyncIterator[Begin]:
    begun = []

    async def begun_with(
        path: Path,
        *,
        probe: bool = False,
        clock: Clock | None = None,
        **options: Any,  # noqa: ANN401
    ) -> SqliteProvider:
        provider = SqliteProvider(SqliteConfig(path=File(path), **options))
        begun.append(provider)
        await provider.start(health.context(probe=probe, clock=clock))
        return provider

    yield begun_with
    for provider in begun:
        await provider.stop()


class Serve(Protocol):
    """Serves a chain until the test ends; ``given`` are further providers, ``options`` the keys of
    ``[providers.sqlite]``."""

    async def __call__(
        self,
        path: Path,
        given: Mapping[str, object] | None = None,
        *,
        order: tuple[str, ...] = ("sqlite",),
        recorders: tuple[str, ...] = (),
        **options: Any,  # noqa: ANN401
    ) -> WebSocketServer: ...


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as servers:

        async def served(
            path: Path,
            given: Mapping[str, object] | None = None,
            *,
            order: tuple[str, ...] = ("sqlite",),
            recorders: tuple[str, ...] = (),
            **options: Any,  # noqa: ANN401
        ) -> WebSocketServer:
            chain = {"order": order, "recorders": recorders, "failback_after": "100ms"}
            table = {
                "gateway": {"host": "127.0.0.1", "port": 0},
                "chain": chain,
                "providers": {"sqlite": {"path": str(path), **options}},
            }
            server = WebSocketServer(config=parse(table), providers=given)
            return await servers.enter_async_context(server)

        yield served


class Until(Protocol):
    """Returns when the condition holds."""

    async def __call__(
        self,
        condition: Callable[[], object],
        *,
        seconds: float = PATIENCE,
        turn: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0.01),
    ) -> None: ...


@pytest.fixture
def until() -> Until:
    async def holds(condition: Callable[[], object]) -> object:
        held = condition()
        return await held if isawaitable(held) else held

    async def held(
        condition: Callable[[], object],
        *,
        seconds: float = PATIENCE,
        turn: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0.01),
    ) -> None:
        async with asyncio.timeout(seconds):
            while not await holds(condition):
                await turn()

    return held


@pytest.fixture
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of another program, for locks; closed after the test."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection

"""APIs to pull from, gateways, and programs that push to them."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec
import pytest
from joined_clients import Join, join

from d_back_core import Clock, Context
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_http import HttpProvider

sys.path.insert(0, str(Path(__file__).parent))  # for the module that the tests share

from http_api import PATIENCE, SECRET, Api, pulling

__all__ = ["Join", "join"]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """An API that answers."""
    api = Api()
    await api.begin()
    yield api
    await api.end()


class Health:
    """What a provider reports of itself."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.holds: Callable[[str], bool] = lambda _: True

    def context(self, *, probe: bool = False, clock: Clock | None = None) -> Context:
        """A context that notes it."""
        return Context(
            name="http",
            log=logging.getLogger("d_back.providers.http"),
            clock=clock or Clock(),
            probe=probe,
            degraded=self.said.append,
            recovered=lambda: self.said.append("recovered"),
            holds=self.holds,
        )


@pytest.fixture
def health() -> Health:
    return Health()


class Begin(Protocol):
    """Makes a provider that pulls from the API, and starts it; it is stopped after the test."""

    async def __call__(
        self,
        api: Api,
        *,
        clock: Clock | None = None,
        **options: Any,  # noqa: ANN401
    ) -> HttpProvider: ...


@pytest.fixture
async def begin(health: Health) -> AsyncIterator[Begin]:
    begun = []

    async def begun_with(
        api: Api,
        *,
        clock: Clock | None = None,
        **options: Any,  # noqa: ANN401
    ) -> HttpProvider:
        provider = HttpProvider(pulling(api, **options))
        begun.append(provider)
        await provider.start(health.context(clock=clock))
        return provider

    yield begun_with
    for provider in begun:
        await provider.stop()


class Serve(Protocol):
    """Serves a chain until the test ends; ``options`` are the keys of ``[providers.http]``."""

    async def __call__(
        self,
        given: Mapping[str, object] | None = None,
        *,
        order: tuple[str, ...] = ("http",),
        recorders: tuple[str, ...] = (),
        sqlite: Path | None = None,
        limits: Mapping[str, object] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> WebSocketServer: ...


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as servers:

        async def served(
            given: Mapping[str, object] | None = None,
            *,
            order: tuple[str, ...] = ("http",),
            recorders: tuple[str, ...] = (),
            sqlite: Path | None = None,
            limits: Mapping[str, object] | None = None,
            **options: Any,  # noqa: ANN401
        ) -> WebSocketServer:
            providers: dict[str, object] = {"http": options}
            http = ["http"] if "push" in options else []
            if sqlite is not None:
                providers["sqlite"] = {"path": str(sqlite)}
            table: dict[str, object] = {
                "gateway": {"host": "127.0.0.1", "port": 0, "http": http},
                "chain": {"order": order, "recorders": recorders, "startup_timeout": "500ms"},
                "providers": providers,
                "limits": limits or {},
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
        turn: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0.01),
    ) -> None: ...


@pytest.fixture
def until() -> Until:
    async def held(
        condition: Callable[[], object],
        *,
        turn: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0.01),
    ) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await turn()

    return held


class Push(Protocol):
    """Sends a request to the gateway; the status, and the JSON of the answer."""

    async def __call__(
        self,
        server: WebSocketServer,
        method: str,
        path: str,
        content: object = None,
        **headers: str,
    ) -> tuple[int, Any]: ...


@pytest.fixture
async def push() -> AsyncIterator[Push]:
    async with aiohttp.ClientSession() as session:

        async def pushed(
            server: WebSocketServer,
            method: str,
            path: str,
            content: object = None,
            **headers: str,
        ) -> tuple[int, Any]:
            given = {"Authorization": f"Bearer {SECRET}"} | {
                name.replace("_", "-"): value for name, value in headers.items()
            }
            url = f"http://127.0.0.1:{server.port}{path}"
            body = content if isinstance(content, bytes) else msgspec.json.encode(content)
            stream = None if content is None else BytesIO(body)
            async with session.request(method, url, headers=given, data=stream) as response:
                is_json = response.content_type == "application/json"
                return response.status, await response.json() if is_json else None

        yield pushed

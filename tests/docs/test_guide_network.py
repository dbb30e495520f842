"""``networked-provider.md``: its provider, with a real source that ends and is silent."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from docs_pages import blocks

from d_back_core import Secret
from d_back_testing import ProviderContract, logged, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from d_back_testing import RunningGateway

PATIENCE = 60.0
TOKEN = "right"


class Relay:
    """The source: it has members, and tells those who are connected what changes."""

    def __init__(self) -> None:
        self.members = {"7": "Ada", "8": "Bob"}
        self.port = 0
        self.is_silent = False
        self.pings = 0
        self._visitors: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def begin(self) -> None:
        """Listen, on the port of before."""
        self._server = await asyncio.start_server(self._visit, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        """Close all connections, and accept no other; may be called twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for each in [*self._visitors]:
                each.close()
            while self._visitors:  # noqa: ASYNC110  they end in their next step
                await asyncio.sleep(0)

    def change(self, uid: str, name: str | None) -> None:
        """Add, rename or remove a member."""
        if name is None:
            del self.members[uid]
        else:
            self.members[uid] = name
        for each in self._visitors:
            each.write(json.dumps({"uid": uid, "name": name}).encode() + b"\n")

    async def _visit(self, lines: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        given = json.loads(await lines.readline() or b"{}").get("token")
        answer = {"members": self.members} if given == TOKEN else {"error": "it is unknown"}
        writer.write(json.dumps(answer).encode() + b"\n")
        self._visitors.add(writer)
        try:
            while await lines.readline():
                self.pings += 1
                if not self.is_silent:
                    writer.write(b'{"pong": true}\n')
        except ConnectionError:
            pass
        finally:
            self._visitors.discard(writer)
            writer.close()


@pytest.fixture
def module(tmp_path: Path) -> dict[str, Any]:
    """The program of the page."""
    return shown(tmp_path)


def shown(folder: Path) -> dict[str, Any]:
    (block,) = blocks("networked-provider.md", "python")
    path = folder / str(block.title)
    path.write_text(block.text)
    spec = spec_from_file_location("relay_of_the_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where the contract looks for the provider's own code
    spec.loader.exec_module(module)
    return vars(module)


def made(module: dict[str, Any], relay: Relay, token: str = TOKEN) -> Any:  # noqa: ANN401  of the page
    config = module["RelayConfig"](host="127.0.0.1", port=relay.port, token=Secret(token))
    return module["RelayProvider"](config)


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    relay = Relay()
    await relay.begin()
    yield relay
    await relay.end()


class TestRelay(ProviderContract):
    """The relay is ended, and begins again."""

    options: ClassVar = {"host": "relay.example.org", "port": 7000, "token": TOKEN}

    async def provider(self, tmp_path: Path) -> AsyncIterator[object]:
        self.relay = Relay()
        await self.relay.begin()  # on the event loop of the check
        yield made(shown(tmp_path), self.relay)
        await self.relay.end()

    def unavailable(self, tmp_path: Path) -> object:
        nowhere = Relay()
        nowhere.port = 1
        return made(shown(tmp_path), nowhere)

    async def trigger_event(self) -> None:
        self.relay.change("7", self.relay.members["7"] + "!")

    async def lose_source(self) -> None:
        await self.relay.end()

    async def restore_source(self) -> None:
        self.relay.members["8"] += "?"
        await self.relay.begin()


async def changes_to(gateway: RunningGateway, health: str, seconds: float = 0.1) -> None:
    """Let time pass until the provider has that health."""
    async with asyncio.timeout(PATIENCE):
        while gateway.health("relay") != health:
            await gateway.advance(seconds)
            await asyncio.sleep(0.01)


async def test_a_connection_that_is_closed(module: dict[str, Any], relay: Relay) -> None:
    """Clients keep the last members, and receive the difference when the source is back."""
    async with served({"relay": made(module, relay)}) as gateway:
        world = await gateway.join()
        await relay.end()
        await changes_to(gateway, "degraded")
        assert set(world.users) == {"7", "8"}
        relay.members = {"7": "Ada L."}
        await relay.begin()
        await changes_to(gateway, "ready")
        async with asyncio.timeout(PATIENCE):
            await world.until(lambda world: set(world.users) == {"7"})
            await world.until(lambda world: world.users["7"].username == "Ada L.")
        assert world.joins == 1
        await relay.end()


async def test_a_source_that_is_silent(module: dict[str, Any], relay: Relay) -> None:
    """A source that answers stays; one that does not is lost, although its connection is open."""
    async with served({"relay": made(module, relay)}) as gateway:
        for number in range(1, 4):
            await gateway.advance(module["QUIET"])
            async with asyncio.timeout(PATIENCE):
                while relay.pings < number:  # noqa: ASYNC110  of another connection
                    await asyncio.sleep(0.01)
            relay.change("7", f"Ada {number}")  # it arrives after the answer
            world = await gateway.join()
            async with asyncio.timeout(PATIENCE):
                await world.until(lambda w: w.users["7"].username == f"Ada {number}")  # noqa: B023  it is awaited
        assert gateway.health("relay") == "ready"
        relay.is_silent = True
        with logged() as log:
            await changes_to(gateway, "degraded", module["QUIET"])
        assert any("is silent" in line for line in log.warnings)
        await relay.end()


async def test_a_wrong_token(module: dict[str, Any], relay: Relay) -> None:
    """The operator has to correct it: the source is not asked again, and no log shows it."""
    with logged() as log:
        async with served({"relay": made(module, relay, "wrong-horse")}) as gateway:
            await gateway.advance(3600)
            assert gateway.health("relay") == "failed"
    assert sum("start: ConfigError: token: it is unknown" in line for line in log.lines) == 1
    assert "wrong-horse" not in str(log.lines)

"""Several edges on one machine behind one port, with the files that the guide shows."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from docs_pages import ROOT, blocks
from nats_nodes import ADA, BOB, PASSWORDS, PATIENCE, NatsCluster, guide_users, unwritten
from ports import free_ports
from proxies import HOST, Door, needs, nginx
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection
from websockets.exceptions import InvalidStatus

from d_back_core import Server, UserChanged, UserRemoved, WebSocketServer
from d_back_core import config as configuration
from d_back_core.client import ClientWorld, connect
from d_back_testing import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conftest import Until

pytestmark = [pytest.mark.long, needs("nginx")]

EDGES = ("3001", "3002")
"""The ports of the guide."""
ADDRESSES = [f"127.0.0.{number}" for number in range(2, 14)]
"""Of clients. nginx gives each edge some of them."""


def shown(language: str, beginning: str) -> str:
    """Return the block of the guide that begins with these words."""
    found = [each.text for each in blocks("cluster.md", language)]
    (text,) = [each for each in found if each.startswith(beginning)]
    return text


def unit(folder: Path) -> str:
    """Return the unit of the edges, as the guide's command makes it."""
    (command,) = re.findall(r"^sed .*", shown("sh", "sed "), re.MULTILINE)
    command = command.replace("/etc/systemd/system", str(folder))
    subprocess.run(["sh", "-ec", command], cwd=ROOT, check=True)  # noqa: S603, S607
    return (folder / "d-back-edge@.service").read_text()


class Machine:
    """The processes of one machine."""

    def __init__(self, folder: Path) -> None:
        self.source = ScriptedProvider(
            {"1": Server(name="Plaza", id="plaza")}, {"1": {"7": ADA, "8": BOB}}
        )
        self.ports = dict(zip(EDGES, free_ports(len(EDGES)), strict=True))
        self.connections: dict[str, ClientConnection] = {}
        """The last one of each address."""
        self._folder = folder
        self._edges: dict[str, asyncio.subprocess.Process] = {}
        self.door = Door(0, None)

    def write(self, name: str, url: str, *further: tuple[str, str]) -> Path:
        """Write a configuration of the guide, for NATS at another port."""
        text = shown("toml", f"# /etc/d-back/{name}")
        for old, new in (("[providers.nats]", f'[providers.nats]\nurls = ["{url}"]'), *further):
            assert old in text
            text = text.replace(old, new)
        path = self._folder / name
        path.write_text(text)
        return path

    async def start(self, edge: str) -> None:
        """Start an edge as its unit does, and return when it is ready."""
        port = str(self.ports[edge])
        (line,) = re.findall(r"^ExecStart=(.*)$", unit(self._folder), re.MULTILINE)
        line = line.replace("/opt/d-back/bin/d-back", f"{sys.executable} -m d_back_core")
        line = line.replace("/etc/d-back", str(self._folder)).replace("%i", port)
        kept = {key: each for key, each in os.environ.items() if not key.startswith("D_BACK_")}
        with (self._folder / f"{edge}.log").open("ab") as log:
            self._edges[edge] = await asyncio.create_subprocess_exec(
                *shlex.split(line), env=kept | PASSWORDS, stdout=log, stderr=log
            )
        await self.answers(edge, 200)

    async def answers(self, edge: str, status: int) -> None:
        """Return when that is the answer of an edge to the question if it is ready."""
        async with asyncio.timeout(PATIENCE):
            while await self._status(edge) != status:  # noqa: ASYNC110  there is no event
                await asyncio.sleep(0.05)

    async def _status(self, edge: str) -> int:
        try:
            return await Door(self.ports[edge], None).get("/readyz")
        except OSError:
            return 0

    def stop(self, edge: str) -> None:
        """Stop an edge as systemd does."""
        self._edges[edge].terminate()

    async def kill(self, edge: str) -> None:
        """End an edge as a crash does; may be called twice."""
        process = self._edges[edge]
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def end(self) -> None:
        for edge in self._edges:
            await self.kill(edge)
            print((self._folder / f"{edge}.log").read_text())  # noqa: T201  pytest shows it

    async def open(self, address: str) -> ClientConnection:
        """Connect to nginx from that address."""
        self.connections[address] = connection = await open_connection(
            f"wss://{HOST}:{self.door.port}/",
            host="127.0.0.1",
            port=self.door.port,
            ssl=self.door.tls,
            local_addr=(address, 0),
            # Loopback addresses have no limits. Of an edge that trusts them, this one counts.
            additional_headers={"X-Forwarded-For": address.replace("127.0.0", "203.0.113")},
            proxy=None,
        )
        return connection


@asynccontextmanager
async def machine(
    folder: Path, until: Until, monkeypatch: pytest.MonkeyPatch, *changes: tuple[str, str]
) -> AsyncIterator[Machine]:
    """Everything of the guide; ``changes`` are made to what it shows of the edges."""
    here = Machine(folder)
    cluster = NatsCluster(folder, 1, guide_users())
    cluster.start()
    # The URL of a client is its address: `connect` cannot be given one.
    monkeypatch.setattr("d_back_core.client._opened", here.open)
    for name, secret in {**PASSWORDS, "DISCORD_TOKEN": "x"}.items():
        monkeypatch.setenv(name, secret)
    here.write("edge.toml", cluster.urls[0], *changes)
    path = here.write("origin.toml", cluster.urls[0])
    origin = configuration.load(path, os.environ)
    upstream = shown("nginx", "upstream ")
    for edge in EDGES:
        assert f"127.0.0.1:{edge} " in upstream
        upstream = upstream.replace(f":{edge} ", f":{here.ports[edge]} ")
    try:
        async with WebSocketServer(
            0, "127.0.0.1", config=origin, providers={"discord": here.source}
        ) as server:
            await until(lambda: unwritten(server) == 0)
            for edge in EDGES:
                await here.start(edge)
            async with nginx(folder, 3000, upstream) as here.door:
                yield here
    finally:
        await here.end()
        cluster.kill()


@asynccontextmanager
async def clients(addresses: list[str]) -> AsyncIterator[dict[str, ClientWorld]]:
    """Join a client from each of these addresses."""
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        yield {each: await stack.enter_async_context(connect(each)) for each in addresses}


async def test_the_clients_of_a_killed_edge_go_to_the_other(
    folder: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They reconnect to the present state; the clients of the other edge notice nothing."""
    async with machine(folder, until, monkeypatch) as here, clients(ADDRESSES) as worlds:
        before = dict(here.connections)
        assert all(set(world.users) == {"7", "8"} for world in worlds.values())
        await here.kill(EDGES[0])
        here.source.emit(
            UserChanged(server_id="1", uid="7", status="dnd"),
            UserRemoved(server_id="1", uid="8"),
            UserChanged(server_id="1", uid="9", username="Cid", status="online"),
        )
        for world in worlds.values():
            await world.until(lambda w: statuses(w) == {"7": "dnd", "9": "online"})
        moved = {each for each in worlds if here.connections[each] is not before[each]}
        assert {each for each, world in worlds.items() if world.joins > 1} == moved
        assert moved not in (set(), set(worlds))
        await here.start(EDGES[0])
        await here.kill(EDGES[1])
        here.source.emit(UserChanged(server_id="1", uid="9", status="idle"))
        for world in worlds.values():
            await world.until(lambda w: statuses(w) == {"7": "dnd", "9": "idle"})


def statuses(world: ClientWorld) -> dict[str, str]:
    return {uid: user.status for uid, user in world.users.items()}


async def test_a_client_returns_to_its_edge_and_resumes(
    folder: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that lost its connection gets no other snapshot, as with one process."""
    async with machine(folder, until, monkeypatch) as here, clients(ADDRESSES) as worlds:
        for connection in list(here.connections.values()):
            connection.transport.abort()
        for world in worlds.values():
            await world.until(lambda w: w.resumes)
        assert {world.joins for world in worlds.values()} == {1}


async def test_limits_per_address_hold_over_all_edges(
    folder: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address gets as many connections as the configuration of one edge says."""
    trusting = ('trusted_proxies = ["127.0.0.1"]', 'trusted_proxies = ["127.0.0.0/8"]')
    limited = ("[limits]", "[limits]\nconnections_per_address = 2")
    async with machine(folder, until, monkeypatch, trusting, limited) as here:
        for address in ADDRESSES:
            async with await here.open(address), await here.open(address):
                with pytest.raises(InvalidStatus, match="429"):
                    await here.open(address)


async def test_new_clients_of_an_edge_that_stops_go_to_the_other(
    folder: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it closes its connections over `drain_time`, it refuses others, and nginx does not."""
    drains = ("[gateway]", '[gateway]\ndrain_time = "60s"')
    async with machine(folder, until, monkeypatch, drains) as here, clients(ADDRESSES):
        here.stop(EDGES[0])
        await here.answers(EDGES[0], 503)
        async with clients([f"127.0.1.{number}" for number in range(2, 14)]) as others:
            assert all(set(world.users) == {"7", "8"} for world in others.values())
        await here.answers(EDGES[0], 503)


@needs("systemd-analyze")
def test_the_unit_of_the_edges(folder: Path) -> None:
    """Systemd understands what the guide makes of the unit; the instance is the port."""
    text = unit(folder)
    assert "ExecStart=/opt/d-back/bin/d-back --config /etc/d-back/edge.toml --port %i " in text
    path = folder / "d-back-edge@3001.service"
    path.write_text(text.replace("/opt/d-back/bin/d-back", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

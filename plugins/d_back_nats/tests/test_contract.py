"""The provider keeps the contract, over a real NATS that an origin fills."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from nats_nodes import NatsCluster, unwritten

from d_back_core import Server, User, UserChanged, WebSocketServer
from d_back_core.config import parse
from d_back_nats import NatsConfig, NatsProvider
from d_back_testing import ProviderContract, ScriptedProvider

if TYPE_CHECKING:
    from conftest import Until


@pytest.fixture
def cluster(folder: Path) -> Iterator[NatsCluster]:
    found = NatsCluster(folder, 1)
    found.start()
    yield found
    found.kill()


class TestEdge(ProviderContract):
    """One server with one user, as an edge sees them."""

    options: ClassVar = {"urls": ["nats://127.0.0.1:4222"]}
    color = ""

    async def provider(self, cluster: NatsCluster, until: "Until") -> AsyncIterator[NatsProvider]:
        await cluster.up()
        self.cluster = cluster
        ada = User(username="Ada", status="online", role_color="#ff6b6b")
        self.town = ScriptedProvider({"1": Server(name="Town")}, {"1": {"7": ada}})
        urls = list(cluster.urls)
        table = {
            "gateway": {"host": "127.0.0.1", "port": 0},
            "chain": {"order": ["town"], "recorders": ["nats"]},
            "providers": {"nats": {"urls": urls}},
        }
        async with WebSocketServer(config=parse(table), providers={"town": self.town}) as origin:
            await origin.live.settled()
            await until(lambda: unwritten(origin) == 0)
            yield NatsProvider(NatsConfig(urls=tuple(urls)))

    def unavailable(self) -> NatsProvider:
        return NatsProvider(NatsConfig(urls=("nats://127.0.0.1:1",)))

    async def trigger_event(self) -> None:
        self.town.emit(UserChanged(server_id="1", uid="7", status="dnd"))

    async def lose_source(self) -> None:
        self.cluster.kill()

    async def restore_source(self) -> None:
        self.color = "#4ecdc4" if self.color != "#4ecdc4" else "#ffffff"
        self.town.emit(UserChanged(server_id="1", uid="7", role_color=self.color))
        self.cluster.start()
        await self.cluster.up()

"""Fixtures of the core's tests."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from packages import Packages
from peers import Dial, Peer
from websockets.asyncio.client import connect

from d_back_core.embedding.server import WebSocketServer

# On a busy machine examples take longer to make and to run; that is no error of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For a second Python: what differs there differs for any example.
settings.register_profile("few", settings.get_profile("busy"), max_examples=10)
settings.load_profile("busy")  # --hypothesis-profile=few comes after it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what takes long first, so that no process of pytest-xdist is the last one to end."""
    items.sort(key=lambda item: not any(map(item.get_closest_marker, ("slow", "long"))))


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Connect to a server until the test ends."""
    async with AsyncExitStack() as connections:

        async def dialled(
            server: WebSocketServer, path: str = "", *, greeted: bool = True
        ) -> Peer:
            connection = connect(server.url + path, max_size=None, max_queue=None)
            peer = Peer(await connections.enter_async_context(connection))
            if greeted:
                await peer.expect("server-list")
            return peer

        yield dialled


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """A folder of distributions that is on the path for one test."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    packages = Packages(site)
    yield packages
    for module in packages.modules:
        sys.modules.pop(module, None)

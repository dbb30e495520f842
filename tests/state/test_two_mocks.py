"""Two instances of one plugin in one chain, ordered by the file."""

from pathlib import Path

import pytest

from d_back_core.client import connect
from d_back_core.config import load
from d_back_core.embedding.server import WebSocketServer

FILE = """
[chain]
order = [{order}]
[providers.a]
use = "mock"
seed = 1
users = 5
presence_interval = 0
message_interval = 0
[providers.b]
use = "mock"
seed = 2
users = 5
presence_interval = 0
message_interval = 0
mode = "merge"
"""


async def names(folder: Path, order: str) -> dict[str, str]:
    """Uid → username, as a client sees them with that order."""
    file = folder / "d-back.toml"
    file.write_text(FILE.format(order=order))
    config = load(file, {}, port=0)
    async with WebSocketServer(config=config) as server, connect(server.url) as world:
        return {uid: user.username for uid, user in world.users.items()}


async def test_the_order_in_the_file_decides_every_field(tmp_path: Path) -> None:
    """The first of them supplies what both know; what only one knows is there in both orders."""
    pytest.importorskip("d_back_mock")
    a, b = await names(tmp_path, '"a"'), await names(tmp_path, '"b"')
    shared = a.keys() & b.keys()
    assert any(a[uid] != b[uid] for uid in shared)
    assert await names(tmp_path, '"a", "b"') == b | a
    assert await names(tmp_path, '"b", "a"') == a | b

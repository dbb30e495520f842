"""By which ids clients join a server (R12)."""

import asyncio
import json
from urllib.parse import quote

from peers import Dial
from sample_users import ADA

from d_back_core import Server, ServerChanged
from d_back_core.embedding.server import WebSocketServer
from d_back_testing import ScriptedProvider, served

OLD = "Straße!"


async def http_status(url: str, path: str) -> tuple[int, bytes]:
    """Return the status and the body of an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def street() -> ScriptedProvider:
    return ScriptedProvider({"1": Server(name="One", id=OLD)}, {"1": {"7": ADA}})


async def test_r12_a_client_joins_by_the_id_that_the_provider_gave() -> None:
    """The wire carries a slug of it."""
    async with served({"a": street()}) as gateway:
        client = await gateway.connect_and_join(OLD)
        assert client.users.keys() == {"7"}
        [server] = client.world.servers.values()
        assert server.id == "strasse"
        assert client.world.public_id == "strasse"


async def test_r12_an_http_client_may_use_the_id_that_the_provider_gave() -> None:
    """The request names it percent-encoded."""
    async with served({"a": street()}) as gateway:
        status, body = await http_status(gateway.url, f"/api/servers/{quote(OLD)}")
        assert status == 200
        assert json.loads(body)["users"].keys() == {"7"}


async def test_r12_a_client_joins_by_the_id_of_an_event() -> None:
    """A provider may give its server another id; the public id stays."""
    a = street()
    async with served({"a": a}) as gateway:
        a.emit(ServerChanged(server_id="1", id="Gasse 7"))
        await gateway.settle()
        client = await gateway.connect_and_join("Gasse 7")
        assert client.world.public_id == "strasse"


async def test_r12_a_client_joins_by_the_id_that_a_callback_returns(dial: Dial) -> None:
    """A program that embeds the gateway may use any id, as it always could."""
    server = WebSocketServer(0, "127.0.0.1")
    server.on_get_server_data(lambda _: {"1": {"id": OLD, "name": "One"}})
    server.on_get_user_data(lambda _: {"7": {"uid": "7", "username": "Ada", "status": "online"}})
    async with server:
        client = await dial(server)
        joined = await client.join(OLD)
        assert joined["request"] == {"server": "strasse"}
        assert joined["users"].keys() == {"7"}

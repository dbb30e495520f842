"""Small programs with callbacks, as an embedding programmer writes them first."""

import json
import threading
from typing import Any

from peers import Dial
from websockets.asyncio.client import connect

from d_back.mock import MockDataProvider
from d_back.server import WebSocketServer
from d_back_core import Server, User
from d_back_testing import ManualClock, ScriptedProvider

ADA = {"uid": "7", "username": "Ada", "status": "online", "roleColor": "#5865f2"}
BO = {"uid": "8", "username": "Bo", "status": "idle", "roleColor": "#ffffff"}
MOCK_SERVER = "232769614004748288"


async def ada(server_id: str) -> dict[str, Any]:  # noqa: ARG001  the same everywhere
    return {"7": dict(ADA)}


async def plaza(server_id: str | None = None) -> dict[str, Any]:
    servers = {
        "1": {"id": "1", "name": "Plaza", "passworded": False, "is_default": True, "enabled": True}
    }
    return {server_id: servers.get(server_id, {})} if server_id else servers


async def test_the_callback_pair_is_all_that_clients_get(dial: Dial) -> None:
    """With both callbacks the list and the users are theirs, and nothing of the mock shows."""
    server = WebSocketServer(port=0, host="localhost")
    server.on_get_user_data(ada)
    server.on_get_server_data(plaza)
    async with server:
        peer = await dial(server, greeted=False)
        listed = (await peer.expect("server-list"))["data"]
        assert listed == {"1": {"id": "1", "name": "Plaza", "default": True, "passworded": False}}
        assert (await peer.join())["users"] == {"7": ADA}


async def test_a_user_callback_alone_has_the_mock_s_servers(dial: Dial) -> None:
    """The mock lists its servers, and every one of them has the callback's users only."""
    server = WebSocketServer(port=0)
    server.on_get_user_data(ada)
    async with server:
        for wanted in ("dworld", "docs", "repos"):
            assert (await (await dial(server)).join(wanted))["users"] == {"7": ADA}


async def test_a_test_of_a_custom_provider_asks_for_user_data() -> None:
    """A pytest-asyncio test connects inside the block and asks once: any id that the callback
    answers for is answered, listed or not."""
    server = WebSocketServer(port=0, host="localhost")
    server.on_get_user_data(ada)
    async with server, connect(f"ws://localhost:{server.port}") as websocket:
        await websocket.recv()
        for server_id in (MOCK_SERVER, "987654321"):
            await websocket.send(json.dumps({"type": "get_user_data", "serverId": server_id}))
            data = json.loads(await websocket.recv())
            assert data == {"type": "user_data", "serverId": server_id, "users": {"7": ADA}}


async def test_a_hybrid_function_takes_what_it_finds(dial: Dial) -> None:
    """A callback that asks one source, then another, and merges a third decides by itself."""
    sources: dict[str, dict[str, Any]] = {"api": {}, "database": {"7": dict(ADA)}, "cache": {}}

    async def hybrid(server_id: str) -> dict[str, Any]:  # noqa: ARG001
        users = dict(sources["api"]) or dict(sources["database"])
        users.update(sources["cache"])
        return users

    server = WebSocketServer(port=0)
    server.on_get_user_data(hybrid)
    async with server:
        assert (await (await dial(server)).join())["users"] == {"7": ADA}
        sources["cache"]["8"] = dict(BO)
        assert (await (await dial(server)).join())["users"] == {"7": ADA, "8": BO}


async def test_the_hybrid_chain_is_three_lines(dial: Dial) -> None:
    """A callback above configured providers: where it has nothing, they answer."""
    below = ScriptedProvider({"1": Server(name="Plaza"), "2": Server(name="Garden")})
    below.users_answers = {"1": {"9": User(username="Cy")}, "2": {"9": User(username="Cy")}}
    server = WebSocketServer(port=0, providers={"below": below})
    server.on_get_user_data(lambda server_id: {"7": dict(ADA)} if server_id == "1" else {})
    async with server:
        assert set((await (await dial(server)).join("1"))["users"]) == {"7"}
        assert set((await (await dial(server)).join("2"))["users"]) == {"9"}


async def test_refresh_data_fetches_again_and_tells_the_clients(dial: Dial) -> None:
    """After a refresh broadcast who is joined gets what the callback says now, and then the
    frame itself."""
    users = {"7": dict(ADA)}
    server = WebSocketServer(port=0)
    server.on_get_user_data(lambda server_id: users, ttl=3600)  # noqa: ARG005
    server.on_get_server_data(plaza, ttl=3600)
    async with server:
        peer = await dial(server)
        await peer.join()
        users["8"] = dict(BO)
        await server.broadcast_message({"type": "refresh_data", "serverId": "1"})
        assert (await peer.expect("presence"))["data"] == BO
        assert await peer.receive() == {"type": "refresh_data", "serverId": "1"}


async def test_a_ttl_is_the_cache_that_programs_wrote_by_hand(dial: Dial) -> None:
    """Within its ttl a callback is not asked again; the first join after it asks once."""
    clock, asked = ManualClock(), []

    async def fetched(server_id: str) -> dict[str, Any]:
        asked.append(server_id)
        return {"7": {**ADA, "username": f"Ada {len(asked)}"}}

    server = WebSocketServer(port=0, clock=clock)
    server.on_get_user_data(fetched, ttl=300)
    server.on_get_server_data(plaza)
    async with server:
        for _ in range(3):
            assert (await (await dial(server)).join())["users"]["7"]["username"] == "Ada 1"
        await clock.advance(300)
        assert (await (await dial(server)).join())["users"]["7"]["username"] == "Ada 2"
        assert asked == ["1", "1"]


async def test_missing_fields_get_defaults(dial: Dial) -> None:
    """What a program's validation filled in, the core does: name, status and colour."""
    server = WebSocketServer(port=0)
    server.on_get_user_data(lambda server_id: {"7": {}, "8": {"status": "asleep"}})  # noqa: ARG005
    server.on_get_server_data(plaza)
    default = {"status": "offline", "roleColor": "#ffffff"}
    async with server:
        assert (await (await dial(server)).join())["users"] == {
            uid: {"uid": uid, "username": uid, **default} for uid in ("7", "8")
        }


async def test_a_blocking_function_runs_in_a_thread(dial: Dial) -> None:
    """A plain function runs on the event loop; one that blocks beside it, with blocking=True."""
    threads: dict[str, int] = {}
    server = WebSocketServer(port=0)

    @server.on_get_user_data(blocking=True)
    def blocks(server_id: str) -> dict[str, Any]:  # noqa: ARG001
        threads["users"] = threading.get_ident()
        return {"7": dict(ADA)}

    @server.on_get_server_data
    def quick() -> dict[str, Any]:
        threads["servers"] = threading.get_ident()
        return {"1": {"name": "Plaza"}}

    async with server:
        assert (await (await dial(server)).join())["users"] == {"7": ADA}
        assert threads["servers"] == threading.get_ident()
        assert threads["users"] != threading.get_ident()


async def test_the_old_mock_is_a_pair_of_callbacks(dial: Dial) -> None:
    """The mock data of d-back 0.0.x can be registered as it could then."""
    server = WebSocketServer(port=0)
    mock = MockDataProvider(server)
    server.on_get_server_data(mock.get_mock_server_data)
    server.on_get_user_data(mock.get_mock_user_data)
    async with server:
        joined = await (await dial(server)).join()
        assert joined["request"] == {"server": "dworld"}
        assert joined["users"] == mock.get_mock_user_data(MOCK_SERVER)

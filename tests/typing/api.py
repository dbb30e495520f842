"""Every call of the embedding API, for mypy and pyright; never run."""

from os import PathLike
from pathlib import Path
from typing import Any, Optional, assert_type

from d_back import MockDataProvider, __version__
from d_back import WebSocketServer as CompatServer
from d_back.mock import MockDataProvider as SameProvider
from d_back.server import WebSocketServer as SameServer
from d_back_core import WebSocketServer
from d_back_core.config import Config, parse
from d_back_testing import ManualClock, ScriptedProvider

Entries = dict[str, Any]

server = WebSocketServer()
server = WebSocketServer(3000, "localhost")
server = WebSocketServer(port=0, host="0.0.0.0", config=None, providers=None)  # noqa: S104
server = WebSocketServer(
    config=parse({}), providers={"club": ScriptedProvider()}, clock=ManualClock()
)
old = CompatServer(port=3000)
old = SameServer()

assert_type(server.host, str)
assert_type(server.port, int)
assert_type(server.url, str)
assert_type(server.config, Config)
assert_type(server.static_dir, Path | None)
server.host, server.port = "::1", 3001
server.static_dir = "./dist"
server.static_dir = Path("dist")
server.static_dir = None
assert_type(len(server.connections), int)


# Users


async def users(server_id: str) -> Entries:
    return {"7": {"uid": "7", "username": server_id}}


def plain_users(server_id: str) -> dict[str, dict[str, str]] | None:
    return {"7": {"uid": "7", "username": server_id}}


async def all_users() -> Entries:
    return {}


server.on_get_user_data(users)
server.on_get_user_data(users, ttl=60)
server.on_get_user_data(plain_users, ttl=0.5, blocking=True)
server.on_get_user_data(all_users)
server.on_get_user_data(callback=users)
server.on_get_user_data(lambda server_id: {server_id: {}})
server.on_get_user_data(MockDataProvider(server).get_mock_user_data)


@server.on_get_user_data
async def decorated(server_id: str) -> Entries:
    return {server_id: {}}


@server.on_get_user_data(ttl=60, blocking=True)
def decorated_with_arguments(server_id: str) -> Entries:
    return {server_id: {}}


async def still_as_they_were() -> None:
    assert_type(await decorated("1"), dict[str, Any])
    assert_type(decorated_with_arguments("1"), dict[str, Any])


# Servers


async def servers(server_id: Optional[str] = None) -> Entries:  # noqa: UP045  as programs have it
    return {server_id or "1": {"name": "Plaza"}}


async def one_or_all(server_id: str | None) -> Entries | None:
    return {server_id: {}} if server_id else None


server.on_get_server_data(servers)
server.on_get_server_data(one_or_all, ttl=60)
server.on_get_server_data(all_users, blocking=False)
server.on_get_server_data(dict)
server.on_get_server_data(SameProvider().get_mock_server_data)


@server.on_get_server_data(ttl=5)
def decorated_servers() -> Entries:
    return {}


# Access


async def validate(token: str, user_info: dict[str, Any], server_id: str) -> bool:
    return bool(token and user_info and server_id)


@server.on_validate_discord_user
def validate_everywhere(token: str, user_info: dict[str, Any]) -> bool:
    return bool(token and user_info)


server.on_validate_discord_user(validate)
server.on_validate_discord_user(blocking=True)(validate_everywhere)


async def client_id(server_id: str) -> str:
    return server_id


@server.on_get_client_id
def no_client_id() -> str | None:
    return None


server.on_get_client_id(client_id, ttl=60)
server.on_get_client_id(ttl=60, blocking=True)(no_client_id)


# Pages


async def page(path: str) -> tuple[str, str] | None:
    return ("text/html", path)


@server.on_static_request
def file(path: str) -> tuple[str, PathLike[str]] | None:
    return ("text/html", Path(path))


server.on_static_request(page)
server.on_static_request(blocking=True)(file)
server.on_static_request(lambda path: ("application/octet-stream", path.encode()))


# Its life, and broadcasts


async def life() -> None:
    async with server as same:
        assert_type(same, WebSocketServer)
        await server.broadcast_presence("1", "7", "idle")
        await server.broadcast_presence(
            server="1", uid="7", status="online", username="Ada", role_color="#112233", delete=True
        )
        await server.broadcast_message("1", "7", "hello", "general")
        await server.broadcast_message(server="1", uid="7", message="hello", channel="general")
        await server.broadcast_message({"type": "refresh_data", "serverId": "1"})
        await server.broadcast_client_id_update("1", "100")
        await server.broadcast_client_id_update(server="1", client_id=None)
        await server.reload(parse({}))
    await server.start()
    await server.run_forever()
    await server.stop()
    assert_type(__version__, str)

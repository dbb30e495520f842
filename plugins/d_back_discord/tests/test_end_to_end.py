"""Through the whole gateway, to a client."""

import asyncio

import discord_payloads as say
import pytest
from aiohttp import ClientSession
from discord_core import PATIENCE
from discord_loopback import Loopback
from discord_worlds import ADA, GENERAL, QUIET, club, update

from d_back_core import JoinError
from d_back_core.client import ClientWorld, connect
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.models import EffectiveUser
from d_back_core.wire import protocol


def configured(loopback: Loopback, **tables: object) -> WebSocketServer:
    options = {
        "token": loopback.token,
        "api_url": loopback.api_url,
        "gateway_url": loopback.gateway_url,
        "opt_out_role": "quiet",
    }
    table = {"chain": {"order": ["discord"]}, "providers": {"discord": options}, **tables}
    return WebSocketServer(port=0, config=parse(table))


async def seen(world: ClientWorld, condition: object) -> None:
    async with asyncio.timeout(PATIENCE):
        await world.until(condition)  # type: ignore[arg-type]


async def test_world(loopback: Loopback) -> None:
    """A client sees the guild, and then what happens in it."""
    loopback.guilds = [club()]
    async with configured(loopback) as server, connect(server.url) as world:
        await seen(world, lambda world: len(world.users) == 5)
        assert (world.public_id, world.name) == ("dworld", "D-World")
        assert world.client_id == say.APPLICATION_ID
        ada = EffectiveUser(say.uid(1), "Ada L.", "online", "#ff0000")
        assert world.users[say.uid(1)] == ada
        frames = aiter(world.events())
        await loopback.dispatch("MESSAGE_CREATE", say.message(ADA, "Hello", GENERAL))
        frame = await anext(frames)
        assert isinstance(frame, protocol.MessageFrame)
        assert frame.data.message == "Hello"
        await loopback.dispatch("PRESENCE_UPDATE", say.presence(1, "dnd", say.GUILD_ID))
        await seen(world, lambda world: world.users[say.uid(1)].status == "dnd")
        await loopback.dispatch("GUILD_MEMBER_UPDATE", update(ADA, roles=[QUIET]))
        await seen(world, lambda world: say.uid(1) not in world.users)


async def test_late_members(loopback: Loopback) -> None:
    """A client that joined while the members were on their way gets them when they are there."""
    loopback.guilds = [club(member_count=300)]
    loopback.hold_members = True
    async with configured(loopback) as server, connect(server.url) as world:
        assert world.users == {}
        await loopback.release_members()
        await seen(world, lambda world: len(world.users) == 5)


async def test_login(loopback: Loopback) -> None:
    """A protected server lets in a member who logs in with Discord, as d-zone does it."""
    loopback.guilds = [club()]
    loopback.people["t"] = say.uid(1), say.APPLICATION_ID
    policy = {say.GUILD_ID: {"passworded": True}}
    async with (
        configured(loopback, servers=policy) as server,
        ClientSession() as http,
        http.ws_connect(server.url) as client,
    ):
        await client.receive_json()
        claim = {"server": "dworld", "discordToken": "t", "discordUser": {"id": say.uid(1)}}
        await client.send_json({"type": "connect", "data": claim})
        joined = await client.receive_json(timeout=PATIENCE)
    assert joined["type"] == "server-join"
    assert joined["data"]["clientId"] == say.APPLICATION_ID


async def test_protected(loopback: Loopback) -> None:
    """A protected server refuses a client without a login."""
    loopback.guilds = [club()]
    policy = {say.GUILD_ID: {"passworded": True, "alias": "club"}}
    async with configured(loopback, servers=policy) as server:
        with pytest.raises(JoinError):
            async with connect(server.url, "club", discord_token="wrong"):
                pass


async def test_refused(loopback: Loopback, caplog: pytest.LogCaptureFixture) -> None:
    """A refused token is logged in one line, and the start is not tried again."""
    loopback.token = "another"
    server = configured(loopback)
    loopback.token = "token"
    async with server:
        lines = [line for line in caplog.messages if "token" in line]
    assert len(lines) == 1
    assert lines[0].startswith("provider discord: start: ConfigError: token: Discord refuses it")
    assert lines[0].endswith("; not tried again until the configuration changes")
    assert len(loopback.requests) == 1

"""Programs around a discord.py bot, as an embedding programmer writes them."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import discord
import discord_offline as offline
import pytest
from discord.ext import commands
from discord_offline import GUILD
from peers import Dial, Peer, until

from d_back.server import WebSocketServer

ADA = {"uid": "7", "username": "Ada", "status": "online", "roleColor": "#3498db"}


def guild_users(bot: commands.Bot) -> Callable[[str], Any]:
    async def users(server_id: str) -> dict[str, Any]:
        guild = bot.get_guild(int(server_id))
        if guild is None:
            return {}
        return {
            str(member.id): {
                "uid": str(member.id),
                "username": member.display_name,
                "status": str(member.status),
                "roleColor": str(member.color),
            }
            for member in guild.members
        }

    return users


def guild_list(bot: commands.Bot) -> Callable[..., Any]:
    async def servers(server_id: str | None = None) -> dict[str, Any]:
        listed = {
            str(guild.id): {"id": str(guild.id), "name": guild.name, "enabled": True}
            for guild in bot.guilds
        }
        return {server_id: listed.get(server_id, {})} if server_id else listed

    return servers


def bot_program(server: WebSocketServer) -> commands.Bot:
    """A bot that serves its guilds, and begins when Discord says that it is ready."""
    bot = commands.Bot("!", intents=discord.Intents.all())
    server.on_get_user_data(guild_users(bot))
    server.on_get_server_data(guild_list(bot))

    @bot.event
    async def on_ready() -> None:
        await server.start()

    @bot.event
    async def on_presence_update(before: discord.Member, after: discord.Member) -> None:
        if before.status != after.status:
            guild_id, uid = str(after.guild.id), str(after.id)
            await server.broadcast_presence(guild_id, uid, str(after.status))

    return bot


async def connected(server: WebSocketServer, dial: Dial) -> Peer:
    await until(lambda: server.port != 0)
    return await dial(server)


async def test_the_bot_serves_its_guild(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who joins gets the guild's members as discord.py knows them; the first open server is the
    default where none is flagged."""
    server = WebSocketServer(port=0)
    async with offline.running(bot_program(server), monkeypatch):
        joined = await (await connected(server, dial)).join()
        assert joined["request"] == {"server": GUILD}
        assert joined["serverName"] == "Plaza"
        assert joined["users"]["7"] == ADA
        assert joined["users"]["8"]["status"] == "idle"
        await server.stop()


async def test_a_presence_of_discord_reaches_who_is_joined_and_who_joins_later(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """on_presence_update broadcasts, and the next join says the same."""
    server = WebSocketServer(port=0)
    async with offline.running(bot_program(server), monkeypatch) as discord_:
        peer = await connected(server, dial)
        await peer.join()
        discord_.emit("PRESENCE_UPDATE", offline.presence("7", "dnd"))
        assert (await peer.expect("presence"))["data"] == {"uid": "7", "status": "dnd"}
        later = await (await dial(server)).join()
        assert later["users"]["7"]["status"] == "dnd"
        await server.stop()


async def test_a_second_on_ready_joins_the_run(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When Discord's session is lost, on_ready comes again; clients stay, nothing is raised."""
    server = WebSocketServer(port=0)
    bot = bot_program(server)
    failed: list[str] = []

    @bot.event
    async def on_error(event: str, *_: object, **__: object) -> None:
        failed.append(event)

    async with offline.running(bot, monkeypatch) as discord_:
        peer = await connected(server, dial)
        await peer.join()
        readies = asyncio.ensure_future(bot.wait_for("ready"))
        discord_.become_ready()
        await readies
        await server.broadcast_presence(GUILD, "8", "online")
        assert (await peer.expect("presence"))["data"] == {"uid": "8", "status": "online"}
        assert not failed
        await server.stop()


class Zone(commands.Cog):
    """A cog that serves the guilds of its bot from load to unload, with all five callbacks."""

    def __init__(self, bot: commands.Bot) -> None:
        self.bot = bot
        self.server = WebSocketServer(port=0)
        self.client_id = "100"
        self.server.on_get_server_data(guild_list(bot))
        self.server.on_get_user_data(guild_users(bot))
        self.server.on_validate_discord_user(self.validate)
        self.server.on_get_client_id(self.get_client_id)
        self.server.on_static_request(self.page)
        self.task = asyncio.create_task(self.server.start())

    async def cog_unload(self) -> None:
        await self.server.stop()
        await self.task

    async def validate(self, token: str, user_info: dict[str, Any], server_id: str) -> bool:
        guild = self.bot.get_guild(int(server_id))
        member = guild and guild.get_member(int(user_info["id"]))
        return token == "a token" and member is not None

    async def get_client_id(self, server_id: str) -> str:  # noqa: ARG002  one for all
        return self.client_id

    async def page(self, path: str) -> tuple[str, str] | None:
        return ("text/plain", "the zone") if path == "/zone" else None

    @commands.Cog.listener()
    async def on_presence_update(self, _: discord.Member, after: discord.Member) -> None:
        await self.server.broadcast_presence(GUILD, str(after.id), str(after.status))

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        channel = str(message.channel.id)
        await self.server.broadcast_message(
            GUILD, str(message.author.id), message.content, channel
        )

    @commands.Cog.listener()
    async def on_member_remove(self, member: discord.Member) -> None:
        await self.server.broadcast_presence(GUILD, str(member.id), "offline", delete=True)

    async def use_client_id(self, client_id: str) -> None:
        self.client_id = client_id
        await self.server.broadcast_client_id_update(GUILD, client_id)


async def one_life(bot: commands.Bot, discord_: offline.Discord, dial: Dial) -> weakref.ref[Any]:
    """Load the cog, let things happen, and unload it."""
    zone = Zone(bot)
    await bot.add_cog(zone)
    peer = await connected(zone.server, dial)
    joined = await peer.join(GUILD)
    assert joined["users"]["7"] == ADA
    assert joined["clientId"] == "100"
    discord_.emit("PRESENCE_UPDATE", offline.presence("7", "idle"))
    assert (await peer.expect("presence"))["data"] == {"uid": "7", "status": "idle"}
    discord_.emit("MESSAGE_CREATE", offline.message("8", "Bo", "hello"))
    said = {"uid": "8", "message": "hello", "channel": offline.CHANNEL}
    assert (await peer.expect("message"))["data"] == said
    await zone.use_client_id("200")
    assert (await peer.expect("update-clientid"))["data"] == {"clientId": "200"}
    gone = {"guild_id": GUILD, "user": offline.user("8", "Bo")}
    discord_.emit("GUILD_MEMBER_REMOVE", gone)
    assert (await peer.expect("presence"))["data"]["delete"] is True
    await bot.remove_cog("Zone")
    assert await peer.closed() == 1001
    discord_.emit("GUILD_MEMBER_ADD", offline.member("8", "Bo") | {"guild_id": GUILD})
    discord_.emit("PRESENCE_UPDATE", offline.presence("7", "online"))
    return weakref.ref(zone.server)


async def test_a_cog_is_loaded_and_unloaded_twice_without_a_leak(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cog with all five callbacks comes and goes twice in one process; each time its server
    ends with it: no task, no listening socket and no object stays."""
    bot = commands.Bot("!", intents=discord.Intents.all())
    async with offline.running(bot, monkeypatch) as discord_:
        before = asyncio.all_tasks()
        first = await one_life(bot, discord_, dial)
        second = await one_life(bot, discord_, dial)
        await until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})
        gc.collect()
        assert first() is None
        assert second() is None

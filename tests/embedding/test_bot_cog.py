"""A cog of a Discord bot, written for d-back 0.0.18, from its load to its unload. Only Discord's
objects are stubs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from peers import Dial, until

from d_back.server import WebSocketServer


@dataclass
class Member:
    """A member of a guild."""

    id: int
    name: str
    status: str = "offline"


@dataclass
class Guild:
    """A guild that the bot is in."""

    id: int
    name: str
    members: dict[int, Member] = field(default_factory=dict)


@dataclass
class Bot:
    """What a cog sees of a bot: no guilds before the bot has connected."""

    guilds: dict[int, Guild] = field(default_factory=dict)


class Cog:
    """Shows the members who are online, as a cog for 0.0.18 did it."""

    def __init__(self, bot: Bot) -> None:
        self.bot = bot
        self.protected: set[int] = set()
        self.server = WebSocketServer(port=0, host="127.0.0.1")
        self.server.on_get_server_data(self.servers)
        self.server.on_get_user_data(self.users)
        self.server.on_validate_discord_user(self.validate)
        self.task: asyncio.Task[None] | None = None

    async def cog_load(self) -> None:
        self.task = asyncio.create_task(self.server.start())

    async def cog_unload(self) -> None:
        assert self.task is not None
        await self.server.stop()
        await self.task

    async def servers(self) -> dict[str, Any]:
        return {
            str(guild.id): {
                "id": guild.name.lower(),
                "name": guild.name,
                "default": True,
                "passworded": guild.id in self.protected,
            }
            for guild in self.bot.guilds.values()
        }

    async def users(self, server_id: str) -> dict[str, Any]:
        guild = self.bot.guilds.get(int(server_id))
        members = [] if guild is None else guild.members.values()
        return {
            str(each.id): {"uid": str(each.id), "username": each.name, "status": each.status}
            for each in members
            if each.status != "offline"
        }

    async def validate(self, token: str, user: dict[str, Any], server_id: str) -> bool:  # noqa: ARG002
        return int(user["id"]) in self.bot.guilds[int(server_id)].members

    async def on_presence_update(self, guild: Guild, member: Member) -> None:
        gone = member.status == "offline"
        await self.server.broadcast_presence(
            str(guild.id), str(member.id), member.status, username=member.name, delete=gone
        )

    async def on_message(self, guild: Guild, member: Member, text: str) -> None:
        await self.server.broadcast_message(str(guild.id), str(member.id), text, "1")

    async def protect(self, guild: Guild) -> None:
        self.protected.add(guild.id)
        await self.server.broadcast_message({"type": "refresh_data"})


@asynccontextmanager
async def loaded(bot: Bot) -> AsyncIterator[Cog]:
    """Load the cog, and unload it at the end."""
    cog = Cog(bot)
    await cog.cog_load()
    try:
        await until(lambda: cog.server.port != 0)
        yield cog
    finally:
        await cog.cog_unload()


def guild_of_two() -> Guild:
    return Guild(1001, "Plaza", {7: Member(7, "Ada"), 8: Member(8, "Bo")})


async def test_guilds_that_come_after_the_load_are_shown(dial: Dial) -> None:
    """Before, the list is empty, and a join of the default is refused; then it is filled for a
    client that is connected, without any server of the mock."""
    bot = Bot()
    async with loaded(bot) as cog:
        waiting = await dial(cog.server, greeted=False)
        assert (await waiting.expect("server-list"))["data"] == {}
        early = await dial(cog.server)
        await early.ask()
        assert (await early.expect("error"))["data"]["code"] == "no_server"
        bot.guilds[1001] = guild_of_two()
        assert set((await waiting.expect("server-list-update"))["data"]) == {"1001"}
        assert (await waiting.join())["users"] == {}


async def test_r1_members_come_and_go_while_a_viewer_is_there(dial: Dial) -> None:
    """A viewer who joined while all were offline sees a member come online, speak and leave, the
    last one as well, and come back."""
    guild = guild_of_two()
    ada = guild.members[7]
    async with loaded(Bot({guild.id: guild})) as cog:
        viewer = await dial(cog.server)
        assert (await viewer.join("plaza"))["users"] == {}
        for _ in range(2):
            ada.status = "online"
            await cog.on_presence_update(guild, ada)
            await cog.on_message(guild, ada, "hello")
            assert (await viewer.expect("presence"))["data"]["username"] == "Ada"
            assert (await viewer.expect("message"))["data"]["message"] == "hello"
            assert set((await (await dial(cog.server)).join())["users"]) == {"7"}
            ada.status = "offline"
            await cog.on_presence_update(guild, ada)
            assert (await viewer.expect("presence"))["data"]["delete"] is True
            assert (await (await dial(cog.server)).join())["users"] == {}


async def test_r25_a_guild_that_becomes_protected_is_closed(dial: Dial) -> None:
    """The viewer loses access, a stranger is refused, and a member who logs in is let in."""
    guild = guild_of_two()
    guild.members[7].status = "online"
    async with loaded(Bot({guild.id: guild})) as cog:
        viewer = await dial(cog.server)
        assert set((await viewer.join())["users"]) == {"7"}
        await cog.protect(guild)
        await viewer.expect("server-list-update")
        assert (await viewer.expect("error"))["data"]["code"] == "unauthorized"
        await viewer.expect("refresh_data")
        await viewer.ask("plaza", discordToken="t", discordUser={"id": "9", "username": "Cy"})
        assert (await viewer.refusal())[0] == "authentication_failed"
        user = {"id": "7", "username": "Ada"}
        joined = await viewer.join("plaza", discordToken="t", discordUser=user)
        assert set(joined["users"]) == {"7"}


@pytest.mark.parametrize("turns", [0, 1, 20])
async def test_an_unload_right_after_the_load_leaves_nothing(turns: int) -> None:
    """Wherever the start is, nothing listens and no task runs after the unload."""
    before = asyncio.all_tasks()
    cog = Cog(Bot())
    await cog.cog_load()
    for _ in range(turns):
        await asyncio.sleep(0)
    await cog.cog_unload()
    assert cog.server.server is None
    await until(lambda: asyncio.all_tasks() <= before)

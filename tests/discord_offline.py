"""A Discord for a bot without a network: discord.py itself, with its gateway fed by the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from discord.ext import commands
from peers import PATIENCE

BOT = "900"
GUILD = "4200"
CHANNEL = "4300"


def user(uid: str, name: str) -> dict[str, Any]:
    """A user object."""
    return {"id": uid, "username": name, "discriminator": "0", "avatar": None}


def member(uid: str, name: str, *roles: str) -> dict[str, Any]:
    """A guild member object."""
    since = "2020-01-01T00:00:00+00:00"
    return {
        "user": user(uid, name),
        "roles": list(roles),
        "joined_at": since,
        "deaf": False,
        "mute": False,
        "flags": 0,
    }


def presence(uid: str, status: str) -> dict[str, Any]:
    """A presence update."""
    return {
        "guild_id": GUILD,
        "user": {"id": uid},
        "status": status,
        "activities": [],
        "client_status": {"desktop": status},
    }


def role(role_id: str, color: int) -> dict[str, Any]:
    """A role object."""
    return {
        "id": role_id,
        "name": f"role {role_id}",
        "color": color,
        "colors": {"primary_color": color},
        "hoist": False,
        "position": 0 if role_id == GUILD else 1,
        "permissions": "0",
        "managed": False,
        "mentionable": False,
        "flags": 0,
    }


def guild() -> dict[str, Any]:
    """A guild with Ada (online, coloured), Bo (idle) and the bot."""
    members = [member("7", "Ada", "71"), member("8", "Bo"), member(BOT, "gateway")]
    channel = {"id": CHANNEL, "type": 0, "name": "general", "position": 0}
    return {
        "id": GUILD,
        "name": "Plaza",
        "owner_id": "7",
        "roles": [role(GUILD, 0), role("71", 0x3498DB)],
        "channels": [channel | {"permission_overwrites": []}],
        "members": members,
        "member_count": len(members),
        "presences": [presence("7", "online"), presence("8", "idle")],
    }


def message(uid: str, name: str, content: str) -> dict[str, Any]:
    """A chat message."""
    return {
        "id": "1",
        "type": 0,
        "channel_id": CHANNEL,
        "guild_id": GUILD,
        "author": user(uid, name),
        "content": content,
        "timestamp": "2020-01-01T00:00:00+00:00",
        "edited_timestamp": None,
        "tts": False,
        "mention_everyone": False,
        "mentions": [],
        "mention_roles": [],
        "attachments": [],
        "embeds": [],
        "pinned": False,
    }


class Discord:
    """The far end of the bot's gateway."""

    def __init__(self, bot: commands.Bot) -> None:
        self._bot = bot
        self._closed = asyncio.Event()

    def emit(self, event: str, payload: dict[str, Any]) -> None:
        """Let the bot receive an event of the gateway."""
        self._bot._connection.parsers[event](payload)  # noqa: SLF001  there is no public way in

    def become_ready(self) -> None:
        """What Discord sends after a login, and again after a session that was lost."""
        unavailable = {"id": GUILD, "unavailable": True}
        application = {"id": "901", "flags": 0}
        ready = {"user": user(BOT, "gateway"), "guilds": [unavailable], "application": application}
        self.emit("READY", ready)
        self.emit("GUILD_CREATE", guild())

    async def connect(self, *, reconnect: bool = True) -> None:  # noqa: ARG002  as Client.connect
        """Serve the bot until it is closed."""
        self.become_ready()
        await self._closed.wait()

    def close(self) -> None:
        """End the connection."""
        self._closed.set()


@asynccontextmanager
async def running(bot: commands.Bot, monkeypatch: Any) -> AsyncIterator[Discord]:  # noqa: ANN401
    """Run the bot as ``bot.run`` does, without a network."""
    discord = Discord(bot)

    async def logged_in(*_: object) -> dict[str, Any]:
        return user(BOT, "gateway")

    async def application(*_: object) -> dict[str, Any]:
        named = {"id": "901", "name": "gateway", "description": "", "icon": None, "flags": 0}
        public = {"verify_key": "", "bot_public": False, "bot_require_code_grant": False}
        return named | public | {"owner": user("7", "Ada")}

    monkeypatch.setattr(bot.http, "static_login", logged_in)
    monkeypatch.setattr(bot.http, "application_info", application)
    monkeypatch.setattr(bot, "connect", discord.connect)
    monkeypatch.setattr(bot._connection, "guild_ready_timeout", 0.01)  # noqa: SLF001
    task = asyncio.create_task(bot.start("no token"))
    try:
        async with asyncio.timeout(PATIENCE):
            while not bot.is_ready() and not task.done():  # noqa: ASYNC110  wait_until_ready raises before the login
                await asyncio.sleep(0)
        yield discord
    finally:
        await bot.close()
        discord.close()
        await task

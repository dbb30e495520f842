"""The provider keeps the contract, over a Discord on the loopback interface."""

from collections.abc import AsyncIterator
from typing import ClassVar

import discord_payloads as say
from discord_loopback import TOKEN, serving
from discord_worlds import club

from d_back_core import Secret
from d_back_discord import DiscordConfig, DiscordProvider
from d_back_discord.waits import Waits
from d_back_testing import ProviderContract


class TestBot(ProviderContract):
    """A bot of our own in one guild."""

    server_id = say.GUILD_ID
    options: ClassVar = {
        "token": TOKEN,  # of another shape than Discord's: it is for another server
        "api_url": "http://127.0.0.1/api",
        "gateway_url": "ws://127.0.0.1/gateway",
    }
    status = "idle"
    """Bob's."""

    async def provider(self) -> AsyncIterator[DiscordProvider]:
        async with serving() as loopback:
            loopback.guilds.append(club())
            self.loopback = loopback
            yield DiscordProvider(
                DiscordConfig(
                    token=Secret(TOKEN),
                    api_url=loopback.api_url,
                    gateway_url=loopback.gateway_url,
                ),
                waits=Waits(reconnect=0.01, new_session=0.0, between_identifies=0.0),
            )

    async def unavailable(self) -> AsyncIterator[DiscordProvider]:
        async for provider in self.provider():
            self.loopback.open_to_gateway = False
            yield provider

    async def trigger_event(self) -> None:
        await self.loopback.dispatch("PRESENCE_UPDATE", say.presence(1, "dnd", say.GUILD_ID))

    async def lose_source(self) -> None:
        self.loopback.open_to_gateway = self.loopback.resumable = False
        self.loopback.cut()

    async def restore_source(self) -> None:
        self.status = "offline" if self.status == "idle" else "idle"
        presences = [say.presence(1, "online"), say.presence(2, self.status)]
        self.loopback.guilds = [club(presences=presences)]
        self.loopback.open_to_gateway = True

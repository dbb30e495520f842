"""A cog that serves the guilds of a discord.py bot, so that d-zone can show them.

In your bot, with the folder of this package on the path::

    await bot.load_extension("d_back_cog")

The bot's intents must include ``members``, ``presences`` and ``message_content``. Members with the
role `OPT_OUT_ROLE` are not shown; only channels that @everyone may read are heard.
"""

from contextlib import AsyncExitStack

from discord.ext import commands

from d_back_core import WebSocketServer
from d_back_discord import DiscordConfig, DiscordProvider

HOST, PORT = "localhost", 3000
OPT_OUT_ROLE = "not on the web"


class DBack(commands.Cog):
    """Listens as long as it is loaded; the bot need not be connected yet."""

    def __init__(self, bot: commands.Bot, port: int = PORT) -> None:
        provider = DiscordProvider.from_bot(bot, DiscordConfig(opt_out_role=OPT_OUT_ROLE))
        self.server = WebSocketServer(port=port, host=HOST, providers={"discord": provider})
        self._running = AsyncExitStack()

    async def cog_load(self) -> None:
        await self._running.enter_async_context(self.server)

    async def cog_unload(self) -> None:
        await self._running.aclose()

    @commands.command("zone")
    async def zone(self, ctx: commands.Context[commands.Bot]) -> None:
        """Say where this guild can be seen."""
        if ctx.guild is not None:
            await ctx.send(f"{self.server.url}, server {ctx.guild.id}")


async def setup(bot: commands.Bot) -> None:
    """What ``load_extension`` calls."""
    await bot.add_cog(DBack(bot))

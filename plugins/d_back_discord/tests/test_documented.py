"""What the README says is so, and the example works."""

import importlib
import re
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import discord
import discord_payloads as say
import pytest
from discord.ext import commands
from discord.gateway import DiscordWebSocket
from discord.http import Route
from discord_core import until
from discord_loopback import TOKEN, Loopback
from discord_worlds import club
from yarl import URL

from d_back_core import config as configuration
from d_back_core.client import connect
from d_back_core.config import decoding
from d_back_discord import DiscordConfig, WidgetConfig

PLUGIN = Path(__file__).parents[1]
EXAMPLES = PLUGIN.parents[1] / "examples"
README = (PLUGIN / "README.md").read_text(encoding="utf-8")


def test_options() -> None:
    """Every option has a row in the README's table, and every row is an option."""
    documented = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert documented == list(DiscordConfig.__struct_fields__)


def test_defaults() -> None:
    """The default that the README gives for the chat is the one that holds."""
    assert f'| `chat` | `"{DiscordConfig().chat}"` |' in README


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
def test_configurations(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's configurations are valid."""
    monkeypatch.setenv("DISCORD_TOKEN", "token")
    (tmp_path / "discord-token").write_text("token")
    table = tomllib.loads("\n".join(line.removeprefix("   ") for line in block.splitlines()))
    config = configuration.parse(table, tmp_path / "d-back.toml")
    (name,) = config.chain.order
    kind = WidgetConfig if name == "widget" else DiscordConfig
    decoding.decode(kind, config.provider(name).options, "README.md", tmp_path)


@pytest.fixture
async def bot(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[commands.Bot]:
    """A bot of another author, which connects to the loopback."""
    monkeypatch.setattr(Route, "BASE", loopback.api_url)
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", URL(loopback.gateway_url))
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    intents = discord.Intents.default()
    intents.members = intents.presences = intents.message_content = True
    async with commands.Bot("!", intents=intents, guild_ready_timeout=0.05) as bot:
        yield bot
    await until(lambda: not loopback.wires)


async def test_cog(bot: commands.Bot, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cog serves the bot's guilds, from before the bot is connected until it is unloaded."""
    loopback.guilds = [club()]
    d_back_cog = importlib.import_module("d_back_cog")  # its folder is on the path only here
    monkeypatch.setattr(d_back_cog, "OPT_OUT_ROLE", "blue")
    cog = d_back_cog.DBack(bot, port=0)
    await bot.login(TOKEN)
    await bot.add_cog(cog)
    assert cog.server.port
    running = bot.loop.create_task(bot.connect())
    await until(bot.is_ready)
    async with connect(cog.server.url) as world:
        await world.until(lambda world: len(world.users) == 4)
        assert say.uid(1) not in world.users
        await bot.remove_cog("DBack")
    await bot.close()
    await running

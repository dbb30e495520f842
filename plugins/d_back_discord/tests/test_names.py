"""Names in the options that match nothing on Discord are reported (R45)."""

from typing import Any

import discord_payloads as say
import msgspec
import pytest
from discord_core import until
from discord_loopback import Loopback
from discord_worlds import club

from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_discord import DiscordConfig
from d_back_testing import ManualClock

DANGLING = {
    "guilds": "matches nothing",
    "ignore_users": "matches nothing",
    "roles": "matches nothing (did you mean 'blue'?)",
    "opt_out_role": "matches nothing (did you mean 'quiet'?)",
    "require_role": "matches nothing (did you mean 'red'?)",
    "ignore_channels": "matches nothing (did you mean 'general'?)",
    "listen_channels": "matches nothing (did you mean 'lounge'?)",
}
"""Option → what is said of a name in it that matches nothing."""

WRONG: dict[str, Any] = {
    "guilds": [say.GUILD_ID, "7"],
    "ignore_users": [say.uid(1), "8"],
    "roles": ["Blue", "red"],
    "opt_out_role": "Quiet",
    "require_role": "RED",
    "ignore_channels": ["#secret", "#genral"],
    "listen_channels": ["general", "#longue"],
}
OTHER_TEXTS = {"chat", "info_command", "info_url", "api_url", "gateway_url", "shards", "extra"}
"""Options whose texts name nothing on Discord."""


def test_every_option_that_names_something_is_here() -> None:
    """A new option with texts has to be reported, or listed as one that names nothing."""
    texts = {
        field.name
        for field in msgspec.structs.fields(DiscordConfig)
        if "str" in str(field.type) or "Literal" in str(field.type)
    }
    assert texts == DANGLING.keys() | OTHER_TEXTS


async def test_r45_names_that_match_nothing(
    loopback: Loopback, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is logged once, when the guilds and their members have come; others are not."""
    loopback.guilds = [club()]
    discord = {
        "token": loopback.token,
        "api_url": loopback.api_url,
        "gateway_url": loopback.gateway_url,
        **WRONG,
    }
    config = parse(
        {
            "chain": {"order": ["discord"]},
            "providers": {"discord": discord},
            "servers": {say.GUILD_ID: {"eager": True, "ignore_channels": ["general", "gen"]}},
        }
    )

    def said() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.name == "d_back.names"]

    names = {
        "guilds": "7",
        "ignore_users": "8",
        "roles": "Blue",
        "opt_out_role": "Quiet",
        "require_role": "RED",
        "ignore_channels": "#genral",
        "listen_channels": "#longue",
    }
    expected = {
        f"built-in defaults: providers.discord.{key} '{names[key]}': {problem}"
        for key, problem in DANGLING.items()
    }
    expected.add(
        f"built-in defaults: servers.{say.GUILD_ID}.ignore_channels 'gen':"
        " matches no channel (did you mean 'general'?)"
    )
    async with WebSocketServer(0, config=config, clock=clock):
        await until(lambda: len(said()) >= len(expected))
    assert sorted(said()) == sorted(expected)

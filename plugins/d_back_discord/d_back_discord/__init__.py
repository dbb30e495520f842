"""A Discord bot as a provider: every guild that the bot is in is a server.

`run` is one run with its parts. `connection` is the bot that the provider runs itself: `client` is
discord.py's part of it, REST and objects; `shard` and `gateway` are the connections, and
`identify_budget` decides when a new session may begin. `embedded` is a bot of the embedding
program. `widget` is another provider, which needs no bot. `guilds`, `layer` and `members` make
servers and users of what discord.py holds. `chat`, `channels`, `thread_lookup` and `text` decide
which messages pass, and make text of them. `access` and `oauth` decide who may join a protected
server.
"""

import warnings

with warnings.catch_warnings():
    # discord.py imports it for voice, which is not used here; ends with its 2.8 or Python 3.12.
    warnings.filterwarnings("ignore", "'audioop' is deprecated", DeprecationWarning)
    import discord  # noqa: F401

from d_back_discord.config import DiscordConfig
from d_back_discord.provider import DiscordProvider
from d_back_discord.widget import WidgetConfig, WidgetProvider

__all__ = ["DiscordConfig", "DiscordProvider", "WidgetConfig", "WidgetProvider"]

"""A Discord bot as provider: every guild that it is in is a server.

`run` is one run with its parts; `connection` and `client` are the bot that the provider runs
itself, `embedded` one that somebody else runs. `guilds`, `layer` and `members` make servers and
users of what discord.py holds; `chat`, `channels` and `text` decide which messages pass, and make
text of them. `oauth` is who may join a protected server.
"""

import warnings

with warnings.catch_warnings():
    # discord.py imports it for voice, which nobody uses here; ends with its 2.8 or Python 3.12.
    warnings.filterwarnings("ignore", "'audioop' is deprecated", DeprecationWarning)
    import discord  # noqa: F401

from d_back_discord.config import DiscordConfig
from d_back_discord.provider import DiscordProvider

__all__ = ["DiscordConfig", "DiscordProvider"]

"""``[providers.discord]``: the options."""

import os
import re
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct
from yarl import URL

from d_back_core import ConfigError, Secret

ExtraKey: TypeAlias = Literal["activity", "avatar", "bot"]
Chat: TypeAlias = Literal["off", "activity", "text"]

TOKEN_VARIABLE = "DISCORD_TOKEN"  # noqa: S105  the name of the variable

TOKEN = re.compile(r"[\w-]{8,}\.[\w-]{4,}\.[\w-]{16,}", re.ASCII)
"""A token of Discord; other servers have others."""


class DiscordConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.discord]``. Roles and channels are named by id or by name, in every guild."""

    token: Secret | None = None
    """The bot's token; unset: that of the environment variable ``DISCORD_TOKEN``."""
    shards: Literal["auto"] | Annotated[int, Meta(ge=1, le=1000)] = "auto"
    """Connections to Discord's gateway; ``"auto"``: as many as Discord recommends."""
    guilds: frozenset[str] | None = None
    """Ids of the only guilds that are served; unset: every guild that the bot is in."""
    chat: Chat = "text"
    """What passes of a message: nothing, only that a member writes, or the text."""
    bots: bool | None = None
    """True: bots are shown, and their chat passes. False: neither. Unset: they are shown, and
    their chat does not pass."""
    bot_members: bool | None = None
    """Show bots. Unset: as ``bots``."""
    bot_chat: bool | None = None
    """Pass the chat of other bots. Unset: as ``bots``."""
    ignore_users: frozenset[str] = frozenset()
    """Ids of members who are never shown."""
    ignore_offline: bool = False
    """Leave offline members out until they come online."""
    roles: frozenset[str] | None = None
    """Show only members with one of these roles."""
    opt_out_role: str | None = None
    """Members with this role are not shown."""
    ignore_channels: frozenset[str] = frozenset()
    """Channels whose chat does not pass."""
    listen_channels: frozenset[str] | None = None
    """The only channels whose chat passes, even if @everyone may not read them. Unset: those that
    @everyone may read."""
    require_role: str | None = None
    """A protected server lets in only members with this role."""
    extra: frozenset[ExtraKey] = frozenset()
    """Further texts of a member that are read. Clients receive those in ``gateway.extra``."""
    info_command: str | None = None
    """A message of exactly this text is answered with ``info_url``. Unset: no message is."""
    info_url: str | None = None
    """The address of a page that shows the server; the answer adds ``?s=SERVER_ID``."""
    api_url: str | None = None
    """REST of another server with Discord's API, with its version:
    ``http://localhost:8080/api/v10``. Only together with ``gateway_url``."""
    gateway_url: str | None = None
    """The gateway of that server: ``ws://localhost:8080/``."""

    def __post_init__(self) -> None:
        if self.token is not None and self.token.is_hash:
            raise ValueError("token: expected the token itself, got a hash")
        if (self.info_command is None) != (self.info_url is None):
            raise ValueError("info_command and info_url: only together")
        if self.info_command is not None and not self.info_command.strip():
            raise ValueError("info_command: expected a text that is not blank")
        # One without the other would hand the token to the wrong side.
        if (self.api_url is None) != (self.gateway_url is None):
            raise ValueError("api_url and gateway_url: only together")
        check_url("info_url", self.info_url, {"http", "https"})
        check_url("api_url", self.api_url, {"http", "https"})
        check_url("gateway_url", self.gateway_url, {"ws", "wss"})

    @property
    def shows_bots(self) -> bool:
        """True if bots are among the members who are shown."""
        return _first(self.bot_members, self.bots, default=True)

    @property
    def passes_bot_chat(self) -> bool:
        """True if the chat of other bots passes."""
        return _first(self.bot_chat, self.bots, default=False)


def _first(*choices: bool | None, default: bool) -> bool:
    return next((choice for choice in choices if choice is not None), default)


def token_of(config: DiscordConfig) -> Secret:
    """The configured token, or the environment's; raises `ConfigError` without any."""
    found = os.environ.get(TOKEN_VARIABLE, "") if config.token is None else config.token.reveal()
    found = found.strip().removeprefix("Bot ").strip()  # as in the header of a request
    if not found:
        raise ConfigError(
            f"token: is missing; set the environment variable {TOKEN_VARIABLE}, or"
            ' token = { file = "PATH" }'
        )
    if config.api_url is None and TOKEN.fullmatch(found) is None:
        raise ConfigError(
            "token: is not the token of a bot, which has three parts with dots between; the client"
            " secret or the public key of the application does not work"
        )
    return Secret(found)


def check_url(key: str, text: str | None, schemes: set[str]) -> None:
    if text is None:
        return
    problem = f"{key} '{text}': expected a URL ({', '.join(sorted(schemes))})"
    try:
        url = URL(text)
    except ValueError as error:
        raise ValueError(problem) from error
    if url.scheme not in schemes or not url.host:
        raise ValueError(problem)

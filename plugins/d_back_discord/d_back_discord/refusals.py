"""The reasons why Discord refuses the bot, in the operator's words."""

import re

import discord

from d_back_core import ConfigError
from d_back_discord.gateway import ConnectionEndedError
from d_back_discord.intents import PORTAL, not_allowed, privileged

UNAUTHORIZED = 401

_CLOSED = {
    4010: "Discord's gateway refuses the shard (4010)",
    4011: "the bot is in too many guilds for one connection (4011: sharding required)",
    4012: "Discord's gateway refuses the version of its protocol (4012)",
    4013: "Discord's gateway refuses the intents (4013)",
}

RATE_LIMITED = 429
DEFAULT_PAUSE = 60.0
"""Seconds without a request after a limit without a Retry-After."""


class PauseError(ConnectionError):
    """Discord, or what stands before it, allows no request for ``seconds``."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


def token_refused() -> ConfigError:
    return ConfigError(
        f"token: Discord refuses it; see {PORTAL} → your application → Bot → Reset Token"
    )


def intents_missing(names: list[str]) -> ConfigError:
    listed = ", ".join(names)
    return ConfigError(
        f"privileged intents are switched off: {listed}; switch them on at {PORTAL}"
        " → your application → Bot → Privileged Gateway Intents"
    )


def explained(
    error: BaseException, application: discord.AppInfo | None, needed: discord.Intents
) -> BaseException:
    """Return a `ConfigError` for what the operator can repair, and a `PauseError` for a limit;
    every other error as it is."""
    match error:
        case discord.LoginFailure():
            return token_refused()
        case discord.HTTPException(status=status) if status == UNAUTHORIZED:
            return token_refused()
        case discord.RateLimited(retry_after=seconds):
            return PauseError("Discord limits the requests", seconds)
        case discord.HTTPException() if error.status == RATE_LIMITED or _is_page(error):
            return PauseError(_shortened(error), _retry_after(error))
        case ConnectionEndedError(code=4014):
            return intents_missing(not_allowed(application, needed) or privileged(needed))
        case ConnectionEndedError(code=4004):
            return token_refused()
        case ConnectionEndedError(code=code) if code in _CLOSED:
            return ConfigError(_CLOSED[code])
    return error


def _is_page(error: discord.HTTPException) -> bool:
    """Return True if a page for browsers came: it is from what stands before Discord."""
    return error.text.lstrip().startswith("<")


def _shortened(error: discord.HTTPException) -> str:
    if not _is_page(error):
        return f"Discord limits the requests (status {error.status})"
    title = re.search(r"<title>([^<]{1,100})</title>", error.text)
    named = f": {' '.join(title[1].split())}" if title is not None else ""
    return f"a page instead of Discord's answer (status {error.status}, of Cloudflare){named}"


def _retry_after(error: discord.HTTPException) -> float:
    try:
        return max(0.0, float(error.response.headers.get("Retry-After", "")))
    except ValueError:
        return DEFAULT_PAUSE

"""Why Discord does not let the bot in, in the operator's words."""

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
    error: Exception, application: discord.AppInfo | None, needed: discord.Intents
) -> Exception:
    """What the operator can mend is a `ConfigError`; everything else is left as it is."""
    match error:
        case discord.LoginFailure():
            return token_refused()
        case discord.HTTPException(status=status) if status == UNAUTHORIZED:
            return token_refused()
        case ConnectionEndedError(code=4014):
            return intents_missing(not_allowed(application, needed) or privileged(needed))
        case ConnectionEndedError(code=4004):
            return token_refused()
        case ConnectionEndedError(code=code) if code in _CLOSED:
            return ConfigError(_CLOSED[code])
    return error

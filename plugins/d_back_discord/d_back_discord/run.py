"""One run of the provider, from a start to a stop: its parts, and how events reach them."""

from typing import Any

import discord
from discord.ext.commands import AutoShardedBot
from msgspec import Struct

from d_back_core import Credentials, Secret
from d_back_discord import intents
from d_back_discord.chat import Chat
from d_back_discord.config import DiscordConfig
from d_back_discord.connection import Connection
from d_back_discord.embedded import Bot, Embedded
from d_back_discord.guilds import Guilds
from d_back_discord.health import Health
from d_back_discord.host import Host
from d_back_discord.identify_budget import IdentifyBudget
from d_back_discord.info import InfoCommand
from d_back_discord.layer import Surroundings
from d_back_discord.member_requests import MemberRequests
from d_back_discord.members import Rules, is_role
from d_back_discord.oauth import Authorization
from d_back_discord.public_ids import PublicIds
from d_back_discord.stream import Stream

GUILD_EVENTS = (
    "guild_available",
    "guild_join",
    "guild_remove",
    "guild_unavailable",
    "guild_update",
    "guild_role_update",
    "guild_role_delete",
    "member_join",
    "member_update",
    "raw_member_remove",
    "presence_update",
    "raw_presence_update",
    "user_update",
)


class Kept(Struct):
    """What outlives a run."""

    public_ids: PublicIds
    budget: IdentifyBudget


class Run:
    """Everything between a start and a stop; a new start makes a new one."""

    def __init__(
        self,
        config: DiscordConfig,
        kept: Kept,
        host: Host,
        *,
        token: Secret | None = None,
        bot: Bot | None = None,
    ) -> None:
        self.stream = Stream()
        self._config = config
        self._log = host.log
        self._health = Health(host, self._shard_changed)
        rules = Rules(config)
        self._requests = MemberRequests(self._current, host.clock, host.log)
        around = Surroundings(
            rules=rules,
            put=self.stream.put,
            current=self._current,
            clock=host.clock,
            log=host.log,
            requests=self._requests,
        )
        self.guilds = Guilds(around, self._health, config.guilds, kept.public_ids)
        self._chat = Chat(config, rules, self.stream.put)
        self._info = InfoCommand(config, host.clock, host.log)
        self._authorization = Authorization(config.api_url, host.clock, host.log)
        # discord.py names the shard only where its client has several.
        prefix = "" if bot is not None and not isinstance(bot, AutoShardedBot) else "shard_"
        self._handlers = {event: getattr(self.guilds, event) for event in GUILD_EVENTS} | {
            f"{prefix}connect": self.guilds.connect,
            f"{prefix}disconnect": self._health.disconnected,
            f"{prefix}resumed": self._health.resumed,
            "message": self._message,
            "rate_limited": self._requests.rate_limited,
        }
        self._connection = None
        if token is not None:
            self._connection = Connection(config, token, host, self, kept.budget)
        self._embedded = None
        if bot is not None:
            needed = intents.wanted(config)
            self._embedded = Embedded(bot, needed, self.heard, tuple(self._handlers))

    async def log_in(self) -> int | None:
        """Log in over REST and stay out of the gateway; the id of the bot's application."""
        if self._connection is None:
            return None
        return (await self._connection.log_in()).application_id

    async def begin(self) -> None:
        """Connect, or listen to the bot; raises `ConfigError` for what the operator must mend."""
        if self._connection is not None:
            await self._connection.open()
        if self._embedded is not None:
            self._embedded.open()
            self.follow(self._embedded.bot)

    async def end(self) -> None:
        """Give everything back; may be called twice."""
        self.stream.end()
        self._health.close()
        if self._embedded is not None:
            self._embedded.close()
        if self._connection is not None:
            await self._connection.close()
        self.guilds.close()
        await self._info.close()
        await self._authorization.close()

    async def authorize(self, server_id: str, credentials: Credentials) -> bool | None:
        """Whether the token is of this application, of the person who claims it (where anybody
        does: a token alone speaks for its owner), and they are a member of that guild."""
        layer = self.guilds.layers.get(server_id)
        application_id = self.guilds.client_id
        if layer is None or application_id is None or credentials.discord_token is None:
            return None
        claimed = credentials.discord_user
        verdict = await self._authorization.owner(credentials.discord_token, application_id)
        reason = verdict.reason
        if verdict.user_id is not None:
            if claimed is not None and claimed.get("id") != verdict.user_id:
                reason = "the token is not of the user who is claimed"
            else:
                reason = self._objection(layer.guild, verdict.user_id)
        if reason:
            self._log.warning("guild '%s': a login is refused: %s", layer.guild.name, reason)
        return not reason

    def _objection(self, guild: discord.Guild, user_id: str) -> str:
        """Why that person may not come in, or ""."""
        member = guild.get_member(int(user_id)) if user_id.isdecimal() else None
        if member is None:
            return "the user is no member"
        role = self._config.require_role
        if role is not None and not any(is_role(each, role) for each in member.roles):
            return f"the member lacks the role '{role}'"
        return ""

    def follow(self, client: discord.Client) -> None:
        """Take from this client what there is, and what its events bring."""
        if client.is_ready():
            for shard in {0, *(guild.shard_id for guild in client.guilds)}:
                self._health.connected(shard, anew=False)
        self.guilds.adopt(client)

    def lost(self, shard: int, reason: str) -> None:
        """The session of that shard is over, and what is known of it gets old."""
        self._health.lost(reason, shard)

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take in an event of discord.py."""
        handler = self._handlers.get(event)
        if handler is None:
            return
        try:
            handler(*arguments)
        except Exception:  # noqa: BLE001  raised into discord.py's parser it would end the connection
            self._log.exception("the event '%s' cannot be taken in", event)

    def _message(self, message: discord.Message) -> None:
        layer = self.guilds.layer(message.guild)
        if layer is None:
            return
        user = self.guilds.client.user if self.guilds.client is not None else None
        self._info.hear(message)
        self._chat.hear(message, layer, None if user is None else user.id)

    def _shard_changed(self, shard: int) -> None:
        self.guilds.reload(shard)

    def _current(self, guild: discord.Guild) -> bool:
        return self.guilds.current(guild)

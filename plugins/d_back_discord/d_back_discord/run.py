"""One run of the provider, from a start to a stop: its parts, and the way of events to them."""

from typing import Any

import discord
from discord.ext.commands import AutoShardedBot
from msgspec import Struct

from d_back_core import Secret
from d_back_discord import intents
from d_back_discord.access import Access
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
from d_back_discord.member_events import MemberEvents
from d_back_discord.member_requests import MemberRequests
from d_back_discord.members import Rules
from d_back_discord.oauth import Authorization
from d_back_discord.public_ids import PublicIds
from d_back_discord.stream import Stream
from d_back_discord.thread_lookup import ThreadLookup

GUILD_EVENTS = (
    "guild_available",
    "guild_join",
    "guild_remove",
    "guild_unavailable",
    "guild_update",
)
MEMBER_EVENTS = (
    "guild_role_update",
    "guild_role_delete",
    "member_join",
    "member_update",
    "raw_member_remove",
    "presence_update",
    "raw_presence_update",
    "user_update",
)
ACCESS_EVENTS = ("raw_member_remove", "member_update", "guild_role_update", "guild_role_delete")


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
        self._host = host
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
        self._threads = ThreadLookup(host.clock, self._unknown_channel)
        self._chat = Chat(config, rules, self.stream.put, self._threads)
        self._unknown = 0
        self._info = InfoCommand(config, host.clock, host.log)
        self._authorization = Authorization(config.api_url, host.clock, host.log)
        self.access = Access(config, self._authorization, self.guilds, self.stream.put, host.log)
        # discord.py names the shard only if its client has several.
        prefix = "" if bot is not None and not isinstance(bot, AutoShardedBot) else "shard_"
        members = MemberEvents(self.guilds)
        self._handlers = {event: getattr(self.guilds, event) for event in GUILD_EVENTS}
        self._handlers |= {event: getattr(members, event) for event in MEMBER_EVENTS}
        self._handlers |= {
            f"{prefix}connect": self.guilds.connect,
            f"{prefix}disconnect": self._health.disconnected,
            f"{prefix}resumed": self._health.resumed,
            "message": self._message,
            "raw_message_edit": self._message_edit,
            "raw_message_delete": self._message_delete,
            "raw_bulk_message_delete": self._messages_delete,
            "member_ban": self.access.member_ban,
            "rate_limited": self._requests.rate_limited,
        }
        self._of_access = {event: getattr(self.access, event) for event in ACCESS_EVENTS}
        self._connection = None
        if token is not None:
            self._connection = Connection(config, token, host, self, kept.budget)
        self._embedded = None
        if bot is not None:
            needed = intents.wanted(config)
            self._embedded = Embedded(bot, needed, self.on_event, tuple(self._handlers))

    async def log_in(self) -> int | None:
        """Log in over REST and stay out of the gateway; the id of the bot's application."""
        if self._connection is None:
            return None
        return (await self._connection.log_in()).application_id

    async def begin(self) -> None:
        """Connect, or listen to the bot; raises `ConfigError` if only the operator can help."""
        if self._connection is not None:
            await self._connection.open()
        if self._embedded is not None:
            self._embedded.open()
            self.follow(self._embedded.bot)

    async def end(self) -> None:
        """Release everything; may be called twice."""
        self.stream.end()
        self._health.close()
        if self._embedded is not None:
            self._embedded.close()
        if self._connection is not None:
            await self._connection.close()
        self.guilds.close()
        await self._threads.close()
        await self._info.close()
        await self._authorization.close()

    def follow(self, client: discord.Client) -> None:
        """Take in the guilds of this client, and follow its events."""
        if client.is_ready():
            for shard in {0, *(guild.shard_id for guild in client.guilds)}:
                self._health.connected(shard, again=False)
        self.guilds.adopt(client)

    def lost(self, shard: int, reason: str) -> None:
        """Note that the session of that shard is over: what is known of it gets out of date."""
        self._health.lost(reason, shard)

    def failed(self, error: BaseException) -> None:
        """End the run: its stream raises."""
        self.stream.fail(error)

    def on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take in an event of discord.py."""
        handler = self._handlers.get(event)
        if handler is None:
            return
        try:
            handler(*arguments)
            if event in self._of_access:
                self._of_access[event](*arguments)
        except Exception:  # noqa: BLE001  raised into discord.py's parser it would end the connection
            self._log.exception("cannot take in the event '%s'", event)

    def _message(self, message: discord.Message) -> None:
        layer = self.guilds.layer(message.guild)
        if layer is not None:
            self._info.on_message(message)
            self._chat.on_message(message, layer, self._me)

    def _message_edit(self, edit: discord.RawMessageUpdateEvent) -> None:
        layer = self.guilds.layer(edit.message.guild)
        if layer is not None:
            self._chat.on_edit(edit.message, layer, self._me)

    def _message_delete(self, deletion: discord.RawMessageDeleteEvent) -> None:
        layer = self.guilds.layers.get(str(deletion.guild_id))
        if layer is not None:
            self._chat.on_deletion(deletion.message_id, deletion.channel_id, layer)

    def _messages_delete(self, deletion: discord.RawBulkMessageDeleteEvent) -> None:
        layer = self.guilds.layers.get(str(deletion.guild_id))
        if layer is not None:
            for message_id in sorted(deletion.message_ids):
                self._chat.on_deletion(message_id, deletion.channel_id, layer)

    def _unknown_channel(self, message: discord.Message) -> None:
        """Count a message in a thread that was never announced, and that cannot be looked up."""
        self._unknown += 1
        self._host.gauge("messages in unknown channels", self._unknown)
        if self._unknown == 1:
            self._log.warning(
                "a message in channel %d of guild '%s' does not pass: Discord has not announced"
                " the channel, and it cannot be looked up; more of them are only counted",
                message.channel.id,
                message.guild.name if message.guild is not None else "",
            )

    @property
    def _me(self) -> int | None:
        user = self.guilds.client.user if self.guilds.client is not None else None
        return None if user is None else user.id

    def _shard_changed(self, shard: int) -> None:
        self.guilds.reload(shard)

    def _current(self, guild: discord.Guild) -> bool:
        return self.guilds.current(guild)

"""discord.py's client as the provider runs it: REST, and the objects of events.

The gateway is ours: `Shard` hands each event to `OwnClient.take`.
"""

import logging
from collections.abc import Callable
from typing import Any

import discord
from discord.http import HTTPClient, Route
from yarl import URL

from d_back_discord.config import DiscordConfig
from d_back_discord.gateway import DEFAULT_URL, Gateway
from d_back_discord.state import OwnState

MAX_RATE_LIMIT = 30.0


class DirectedHTTP(HTTPClient):
    """Speaks to the configured server instead of Discord's.

    discord.py has no option for it: REST addresses begin with the class attribute ``Route.BASE``,
    and to change it would change it for every bot in the process. All addresses pass through this
    method, so a subclass of our own client's own part can turn them.
    """

    def __init__(self, api_url: str, **options: Any) -> None:  # noqa: ANN401  discord.py's
        super().__init__(**options)
        self._api_url = api_url.rstrip("/")

    async def request(self, route: Route, **options: Any) -> Any:  # noqa: ANN401  discord.py's
        if route.url.startswith(Route.BASE):
            route.url = self._api_url + route.url.removeprefix(Route.BASE)
        return await super().request(route, **options)


class OwnClient(discord.Client):
    """Passes every event to ``on_event`` at once, in the order of the gateway, without a task for
    each. ``on_event`` may not raise.
    """

    def __init__(
        self,
        config: DiscordConfig,
        intents: discord.Intents,
        on_event: Callable[[str, tuple[Any, ...]], None],
        log: logging.Logger,
    ) -> None:
        self.gateway_url = DEFAULT_URL if config.gateway_url is None else URL(config.gateway_url)
        self.gateways: Callable[[int], Gateway | None] = lambda _shard: None
        """The connection of a shard, while there is one."""
        self._api_url = config.api_url
        self._on_event = on_event
        self._log = log
        self.state: OwnState
        super().__init__(
            intents=intents,
            chunk_guilds_at_startup=False,
            # The presence of a member who has not arrived yet comes in no other way.
            enable_raw_presences=True,
            max_messages=None,
            max_ratelimit_timeout=MAX_RATE_LIMIT,
        )

    def use_shards(self, count: int, gateways: Callable[[int], Gateway | None]) -> None:
        """Set the number of shards, before the first event."""
        self.shard_count = self._connection.shard_count = count
        self.state.shard_ids = range(count)
        self.gateways = gateways

    def take(self, event: str, fields: Any, shard: int) -> None:  # noqa: ANN401  any JSON
        """Make objects of an event, and pass it on. One that discord.py cannot parse is skipped
        and logged; only READY raises."""
        parse = self._connection.parsers.get(event)
        if parse is None:
            return
        match event:
            case "READY":
                fields["shard"] = [shard, self.shard_count]
                parse(fields)
                return
            case "RESUMED":
                fields = {"__shard_id__": shard}
        try:
            parse(fields)
        except Exception as error:  # noqa: BLE001  a new kind of event raises whatever it raises
            self._skip(event, fields, error)

    def dispatch(self, event: str, /, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  discord.py's
        super().dispatch(event, *args, **kwargs)
        self._on_event(event, args)

    def _skip(self, event: str, fields: Any, error: Exception) -> None:  # noqa: ANN401  any JSON
        fields = fields if isinstance(fields, dict) else {}
        key = "id" if event.startswith("GUILD_") and "guild_id" not in fields else "guild_id"
        guild_id = str(fields.get(key, ""))
        guild = self.get_guild(int(guild_id)) if guild_id.isdecimal() else None
        where = f"guild {guild_id}" if guild is None else f"guild '{guild.name}' ({guild_id})"
        self._log.warning(
            "an event %s of %s is skipped: discord.py cannot parse it: %s: %s",
            event,
            where,
            type(error).__name__,
            error,
        )
        if event in {"GUILD_CREATE", "GUILD_UPDATE"} and guild is not None:
            # Half of it may have been taken in, roles without those that hide members.
            guild.unavailable = True
            self.dispatch("guild_unavailable", guild)

    def _get_websocket(self, guild_id: int | None = None, *, shard_id: int | None = None) -> Any:  # noqa: ANN401  the part of discord.py's connection that its objects use
        if shard_id is None:
            shard_id = ((guild_id or 0) >> 22) % (self.shard_count or 1)
        gateway = self.gateways(shard_id)
        if gateway is None:
            raise ConnectionError("there is no connection to Discord")
        return gateway

    def _get_state(self, **options: Any) -> OwnState:  # noqa: ANN401
        # discord.py's own AutoShardedClient replaces its parts here, too: the state gets
        # ``self.http``, and nothing is connected yet.
        if self._api_url is not None:
            self.http = DirectedHTTP(
                self._api_url, loop=self.loop, max_ratelimit_timeout=MAX_RATE_LIMIT
            )
        self.state = OwnState(
            dispatch=self.dispatch,
            handlers=self._handlers,
            hooks=self._hooks,
            http=self.http,
            **options,
        )
        return self.state

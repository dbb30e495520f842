"""discord.py's client as the provider runs it, and where it connects to."""

from collections.abc import Callable
from typing import Any, Self

import aiohttp
import discord
from discord.gateway import DiscordWebSocket
from discord.http import HTTPClient, Route
from discord.state import ConnectionState
from yarl import URL

from d_back_core import Clock
from d_back_discord.config import DiscordConfig

IDENTIFY_PAUSE = 5.0
"""Seconds before a new session, so that Discord does not refuse it as too soon."""
MAX_RATE_LIMIT = 30.0
READY_TIMEOUT = 0.05
"""discord.py is ready when no guild has come for so long. Nobody waits for that, but a task of
discord.py's ends only then. (Not 0: on Python 3.11 it would lose guilds that came at once.)"""


class DirectedHTTP(HTTPClient):
    """Speaks to the configured server in place of Discord's.

    discord.py has no option for it: REST addresses begin with the class attribute
    ``Route.BASE``, the gateway's with ``DiscordWebSocket.DEFAULT_GATEWAY``, and to change one of
    them would change it for every bot in the process. All addresses pass through these two
    methods, so a subclass of our own client's own part can turn them. What the server names
    itself, the address to resume at, is left as it is.
    """

    def __init__(self, api_url: str, gateway_url: str, **options: Any) -> None:  # noqa: ANN401  discord.py's
        super().__init__(**options)
        self._api_url = api_url.rstrip("/")
        self._gateway_url = URL(gateway_url)

    async def request(self, route: Route, **options: Any) -> Any:  # noqa: ANN401  discord.py's
        if route.url.startswith(Route.BASE):
            route.url = self._api_url + route.url.removeprefix(Route.BASE)
        return await super().request(route, **options)

    async def ws_connect(self, url: str, *, compress: int = 0) -> aiohttp.ClientWebSocketResponse:
        asked = URL(url)
        if asked.origin() == DiscordWebSocket.DEFAULT_GATEWAY.origin():
            url = str(self._gateway_url.update_query(asked.query))
        return await super().ws_connect(url, compress=compress)


class OwnClient(discord.Client):
    """Tells every event at once, in the order of the gateway, without a task for each.

    ``heard`` may not raise: it would end the connection.
    """

    def __init__(
        self,
        config: DiscordConfig,
        intents: discord.Intents,
        heard: Callable[[str, tuple[Any, ...]], None],
        clock: Clock,
    ) -> None:
        self._directed = config.api_url, config.gateway_url
        self._heard = heard
        self._clock = clock
        super().__init__(
            intents=intents,
            # Members are asked for guild by guild, when it has come: see `Layer`.
            chunk_guilds_at_startup=False,
            guild_ready_timeout=READY_TIMEOUT,
            # Of members who have not arrived yet there is no other presence.
            enable_raw_presences=True,
            max_messages=None,
            max_ratelimit_timeout=MAX_RATE_LIMIT,
        )

    def dispatch(self, event: str, /, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  discord.py's
        super().dispatch(event, *args, **kwargs)
        self._heard(event, args)

    async def before_identify_hook(self, _shard_id: int | None, *, initial: bool = False) -> None:
        """Wait as discord.py does, by our clock."""
        if not initial:
            await self._clock.sleep(IDENTIFY_PAUSE)

    def _get_state(self, **options: Any) -> ConnectionState[Self]:  # noqa: ANN401  discord.py's
        # Where discord.py's own AutoShardedClient brings its other parts: what is made here gets
        # ``self.http``, and nothing has been connected yet.
        api_url, gateway_url = self._directed
        if api_url is not None and gateway_url is not None:
            self.http = DirectedHTTP(
                api_url, gateway_url, loop=self.loop, max_ratelimit_timeout=MAX_RATE_LIMIT
            )
        return super()._get_state(**options)

"""What there is to configure, and the hooks. Without ``events``, d-back asks ``servers`` and
``users`` again every ``refresh``, and sends to clients what is different."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct
from yarl import URL

from d_back_core import ConfigError, Context, Secret, Server, Status, User, hookimpl
from d_back_lobby.api import Api, UnauthorizedError

STATES: Mapping[str, Status] = {"playing": "online", "away": "idle", "in_match": "dnd"}
"""What the lobby says of a player, in the words of d-back; anything else is offline."""


class Options(Struct, frozen=True, kw_only=True):
    """The table of the provider in d-back.toml."""

    url: Annotated[str, Meta(examples=["https://lobby.example.org/api"])]
    """Where the lobby is."""
    token: Secret | None = None

    def __post_init__(self) -> None:
        """Refuse what is no address."""
        try:
            url = URL(self.url)
        except ValueError as error:
            raise ValueError(f"url: {error}") from error
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError(f"url '{self.url}': is no address (http://… or https://…)")


class Provider:
    """Each room is a server, each player a user."""

    Config = Options
    hook_version = 1

    def __init__(self, config: Options) -> None:
        self._config = config
        self._api: Api | None = None

    @hookimpl
    async def start(self, context: Context) -> None:
        """Ask once, so that a wrong token fails at the start and is not tried again and again."""
        token = self._config.token
        self._api = Api(self._config.url, None if token is None else token.reveal())
        try:
            rooms = await self._api.rooms()
        except UnauthorizedError as error:
            raise ConfigError("token: the lobby does not know it") from error
        context.log.info("%d rooms", len(rooms))

    @hookimpl
    async def stop(self) -> None:
        """Close the connections."""
        if self._api is not None:
            await self._api.close()
            self._api = None

    @hookimpl
    async def servers(self) -> Mapping[str, Server] | None:
        """The rooms; private ones are protected."""
        if self._api is None:
            return None
        rooms = await self._api.rooms()
        return {room.id: Server(name=room.title, passworded=room.private) for room in rooms}

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        """The players in a room."""
        players = None if self._api is None else await self._api.players(server_id)
        if players is None:
            return None
        return {
            player.id: User(
                username=player.name,
                status=STATES.get(player.state, "offline"),
                role_color=player.team,
            )
            for player in players
        }

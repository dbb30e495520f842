"""All guilds that are served: they join, leave, and are unavailable for a while."""

from collections.abc import Iterator

import discord

from d_back_core import (
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
)
from d_back_discord.health import Health, Timer
from d_back_discord.layer import Layer, Surroundings
from d_back_discord.public_ids import PublicIds

PATIENCE = 3.0
"""Seconds that a guild may take to come after the one before it."""
SHARD_PATIENCE = 30.0
"""Seconds that a shard may take to come after the one before it."""


class Guilds:
    """Makes layers and events of the guilds of Discord's client.

    The methods from `connect` on are discord.py's events of the same names.
    """

    def __init__(
        self,
        around: Surroundings,
        health: Health,
        admitted: frozenset[str] | None,
        public_ids: PublicIds,
    ) -> None:
        self.client: discord.Client | None = None
        self.layers: dict[str, Layer] = {}
        self.listed = False
        """True once Discord has listed all guilds."""
        self._around = around
        self._health = health
        self._admitted = admitted
        self._public_ids = public_ids
        self.client_id: str | None = None
        """The id of the bot's application, with which clients log in."""
        self._missing: dict[int, set[int]] = {}
        """The guilds that have not come yet in the session of each shard."""
        self._waiting: Timer | None = None

    def servers(self) -> dict[str, Server] | None:
        """Return all guilds whose name is known; None until Discord has listed them all."""
        if not self.listed:
            return None
        return {
            server_id: Server(
                name=layer.guild.name,
                id=self._public_ids[server_id],
                client_id=self.client_id,
            )
            for server_id, layer in self.layers.items()
        }

    def users(self, server_id: str) -> dict[str, User] | None:
        layer = self.layers.get(server_id)
        if layer is None:
            return None
        if lost := self._health.lost_alone(layer.guild.shard_id):
            raise ConnectionError(f"shard {layer.guild.shard_id}: {lost}")
        return layer.answer()

    def reload(self, shard: int) -> None:
        """Reload the guilds of a shard that is lost, or is back."""
        for layer in self._of_shard(shard):
            self._around.put(Reload(server_id=layer.server_id))

    def layer(self, guild: discord.Guild | None) -> Layer | None:
        """Return the layer of a guild that is served."""
        return None if guild is None else self.layers.get(str(guild.id))

    def current(self, guild: discord.Guild) -> bool:
        """Return True if the client still keeps this object up to date."""
        return self.client is not None and self.client.get_guild(guild.id) is guild

    def adopt(self, client: discord.Client) -> None:
        """Follow this client; one that is ready has its guilds already."""
        self.client = client
        if client.is_ready():
            for guild in client.guilds:
                self._missing.setdefault(guild.shard_id, set())
                if not guild.unavailable:
                    self.guild_available(guild)
            self._stop_waiting()

    def close(self) -> None:
        """Cancel everything that is under way."""
        self._cancel_wait()
        for layer in self.layers.values():
            layer.halt()

    def connect(self, shard: int = 0) -> None:
        """Begin a new session: every guild of the shard comes again, and its former state stays in
        use until then."""
        if self.client is None:
            return
        again = any(not self.current(layer.guild) for layer in self._of_shard(shard))
        self._missing[shard] = {
            guild.id
            for guild in self.client.guilds
            if guild.shard_id == shard and self._admits(guild) and not self._has_come(guild)
        }
        self._health.connected(shard, again=again)
        self._settle(shard)

    def guild_available(self, guild: discord.Guild) -> None:
        if self._admits(guild):
            self._take(guild)
            self._missing.get(guild.shard_id, set()).discard(guild.id)
            self._settle(guild.shard_id)

    guild_join = guild_available

    def guild_remove(self, guild: discord.Guild) -> None:
        self._missing.get(guild.shard_id, set()).discard(guild.id)
        if self.layer(guild) is not None:
            self._drop(str(guild.id))

    def guild_unavailable(self, guild: discord.Guild) -> None:
        layer = self.layer(guild)
        if layer is not None and not layer.unavailable:
            self._around.log.warning("guild '%s' is unavailable on Discord's side", guild.name)
            layer.lose()

    def guild_update(self, before: discord.Guild, after: discord.Guild) -> None:
        layer = self.layer(after)
        if layer is None:
            return
        if before.name != after.name:
            self._around.put(ServerChanged(server_id=layer.server_id, name=after.name))
        layer.sweep()

    def _take(self, guild: discord.Guild) -> None:
        server_id = str(guild.id)
        layer = self.layers.get(server_id)
        if layer is None:
            layer = self.layers[server_id] = Layer(guild, self._around)
            if self.listed:
                self._around.log.info("guild '%s': the bot has joined it", guild.name)
                self._announce(layer)
        elif layer.guild.name != guild.name:
            self._around.put(ServerChanged(server_id=server_id, name=guild.name))
        layer.fill(guild)
        self._note_application()

    def _settle(self, shard: int, *, final: bool = False) -> None:
        """Finish the shard's session once every guild of it has come, or when the time is over
        (``final``): what has not come then is gone or unavailable."""
        missing = self._missing.get(shard)
        if self.client is None or missing is None:
            return
        if missing and not final:
            if self._health.unsettled(shard) or not self.listed:
                self._wait(PATIENCE)
            return
        if final or self._health.unsettled(shard):
            for layer in [*self._of_shard(shard)]:
                if self.client.get_guild(layer.guild.id) is None:
                    self._drop(layer.server_id)
        for guild_id in missing:
            guild = self.client.get_guild(guild_id)
            if guild is not None:
                self._accept_missing(guild)
        missing.clear()
        self._health.settled(shard)
        self._list(final=final)

    def _accept_missing(self, guild: discord.Guild) -> None:
        """Take a guild that has not come as it is."""
        if not guild.unavailable:  # a bot that requests members itself reports it later
            self._take(guild)
        elif (layer := self.layer(guild)) is not None:
            self.guild_unavailable(layer.guild)
        else:
            self._around.log.warning("guild %s is unavailable on Discord's side", guild.id)

    def _list(self, *, final: bool) -> None:
        """Publish the list of guilds when every shard has brought its own."""
        if self.listed or self.client is None:
            return
        of_one = self.client.shard_id is not None  # the other shards of that bot run elsewhere
        expected = 1 if of_one else self.client.shard_count or 1
        if not final and (len(self._missing) < expected or any(self._missing.values())):
            self._wait(SHARD_PATIENCE)
            return
        self._cancel_wait()
        self._name()
        self.listed = True
        self._around.put(Reload())

    def _has_come(self, guild: discord.Guild) -> bool:
        layer = self.layer(guild)
        return not guild.unavailable and layer is not None and layer.guild is guild

    def _of_shard(self, shard: int) -> Iterator[Layer]:
        return (layer for layer in self.layers.values() if layer.guild.shard_id == shard)

    def _wait(self, patience: float) -> None:
        self._cancel_wait()
        self._waiting = self._around.clock.call_later(patience, self._stop_waiting)

    def _stop_waiting(self) -> None:
        self._waiting = None
        for shard in [*self._missing]:
            self._settle(shard, final=True)
        self._list(final=True)

    def _cancel_wait(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _drop(self, server_id: str) -> None:
        layer = self.layers.pop(server_id)
        layer.halt()
        self._around.log.info("guild '%s': the bot has left it", layer.guild.name)
        self._around.put(ServerRemoved(server_id=server_id))

    def _announce(self, layer: Layer) -> None:
        self._name()
        server_id = layer.server_id
        public_id = self._public_ids[server_id]
        changed = ServerChanged(
            server_id=server_id, name=layer.guild.name, id=public_id, client_id=self.client_id
        )
        self._around.put(changed)

    def _name(self) -> None:
        names = {server_id: layer.guild.name for server_id, layer in self.layers.items()}
        self._public_ids.assign(names)

    def _note_application(self) -> None:
        """Publish the id of the bot's application, with which clients log in, if it is new."""
        application = self.client.application_id if self.client is not None else None
        client_id = None if application is None else str(application)
        if client_id == self.client_id:
            return
        self.client_id = client_id
        for server_id in self.layers if self.listed else ():
            self._around.put(ServerChanged(server_id=server_id, client_id=client_id))

    def _admits(self, guild: discord.Guild) -> bool:
        return self._admitted is None or str(guild.id) in self._admitted

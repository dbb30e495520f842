"""The options, and the hooks.

``start`` connects, joins and asks for the members; ``events`` only drains the connection, and
raises when it is lost. Nothing here reconnects: d-back keeps the last state, calls ``stop``, and
``start`` again after growing waits, and then fetches everything.
"""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

from msgspec import Meta, Struct

from d_back_core import Context, Event, Secret, Server, User, hookimpl, is_id
from d_back_irc.channels import Channels
from d_back_irc.connection import Connection, ConnectionLostError

NICK = re.compile(r"[A-Za-z\[\]\\`_^{|}][A-Za-z0-9\[\]\\`_^{|}-]*")
CHANNEL = re.compile(r"[#&+!][!-+\--~]+")
"""Printable ASCII without spaces and commas."""


class Options(Struct, frozen=True, kw_only=True):
    """The table of the provider in d-back.toml."""

    host: str
    channels: Annotated[tuple[str, ...], Meta(examples=[["#plaza"]])]
    """The channels whose members are shown, such as ``#plaza``; all are one server of d-back."""
    port: int = 6697
    tls: bool = True
    nick: str = "d-back"
    password: Secret | None = None
    name: str | None = None
    """The name that clients show. Default: the host."""
    server_id: str = "irc"
    """The id of the server. With that of another provider's server, both show in one."""

    def __post_init__(self) -> None:
        """Reject values that the types allow."""
        if not self.channels:
            raise ValueError("channels: must not be empty")
        for channel in self.channels:
            if not CHANNEL.fullmatch(channel) or not is_id(channel):
                raise ValueError(f"channels: '{channel}' is not a channel such as #plaza")
        if not NICK.fullmatch(self.nick):
            raise ValueError(f"nick '{self.nick}': is not a nick")
        if not 0 < self.port < 65536:  # noqa: PLR2004  the largest port
            raise ValueError(f"port '{self.port}': expected 1 to 65535")
        if not is_id(self.server_id):
            raise ValueError(f"server_id '{self.server_id}': is not an id")


class Provider:
    """The members of some channels, as one server."""

    Config = Options
    hook_version = 1

    def __init__(self, config: Options) -> None:
        self._config = config
        self._connection: Connection | None = None
        self._channels: Channels | None = None
        """None unless we are in the channels, and know who else is."""

    @hookimpl
    async def start(self, context: Context) -> None:
        """Connect, join, and read until all members are known. What happens from then on waits in
        the connection for ``events``."""
        config = self._config
        connection = Connection(config.host, config.port, context.clock, tls=config.tls)
        self._connection = connection  # before it is open: `stop` follows a failed start, too
        channels = Channels(config.server_id, config.channels)
        channels.nick = await connection.open(config.nick, config.password)
        # A probe asks who is there, but does not join.
        connection.send("NAMES" if context.probe else "JOIN", ",".join(config.channels))
        while not channels.are_complete:
            channels.apply(await connection.read())
        self._channels = channels
        context.log.info("in %d channels as %s", len(config.channels), channels.nick)

    @hookimpl
    async def stop(self) -> None:
        """Leave. A stream that is being read ends."""
        connection, self._connection, self._channels = self._connection, None, None
        if connection is not None:
            await connection.close()

    @hookimpl
    async def servers(self) -> Mapping[str, Server] | None:
        """The network, as one server; None while we are not in it."""
        if self._channels is None:
            return None
        return {self._config.server_id: Server(name=self._config.name or self._config.host)}

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        """Everyone who is in one of the channels."""
        if self._channels is None or server_id != self._config.server_id:
            return None
        return self._channels.users()

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        """Members who come, go, and take another nick, and messages. Raises when the connection is
        lost."""
        connection, channels = self._connection, self._channels
        if connection is None or channels is None:
            return
        try:
            while True:
                for event in channels.apply(await connection.read()):
                    yield event
        except ConnectionLostError:
            if self._connection is not connection:
                return  # `stop` has closed it
            self._channels = None  # what it holds is out of date from now on
            raise

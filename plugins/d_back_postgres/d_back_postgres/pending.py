"""What has changed and is still to be fetched: keys only, each once, and never without bound."""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

import msgspec
from msgspec import Struct, field

from d_back_tables import Key

MAX_USERS = 1000
"""Users of one server past which it is fetched whole."""
MAX_SERVERS = 1000
"""Servers past which everything is fetched."""


class Batch(Struct):
    """What changed since the last one."""

    resumed: bool = False
    """Whether the connection that listens was lost and is there again."""
    everything: bool = False
    servers: set[str] = field(default_factory=set)
    """Servers whose rows changed."""
    whole: set[str] = field(default_factory=set)
    """Servers of which any user may have changed."""
    users: dict[str, set[str]] = field(default_factory=dict)
    """Users that changed, by server."""

    @property
    def keys(self) -> list[Key]:
        """The users that changed."""
        return [(server_id, uid) for server_id, uids in self.users.items() for uid in uids]


_payload: msgspec.json.Decoder[tuple[str, str, dict[str, list[str] | None] | None]] = (
    msgspec.json.Decoder(tuple[str, str, dict[str, list[str] | None] | None])
)


class Pending:
    """Gathers what notifications say until it is taken."""

    def __init__(
        self, users: tuple[str, str] | None = None, servers: tuple[str, str] | None = None
    ) -> None:
        self.watch(users, servers)
        self._batch = Batch()
        self._filled = asyncio.Event()
        self._ended = False

    def watch(self, users: tuple[str, str] | None, servers: tuple[str, str] | None) -> None:
        """Note what is notified for these tables from now on."""
        self._users = users
        self._servers = servers

    def notified(self, payload: str) -> None:
        """Note what a notification of the triggers says; of other tables, or of a program that
        writes something else on the channel, nothing is."""
        try:
            schema, name, keys = _payload.decode(payload)
        except msgspec.DecodeError:
            return
        table = (schema, name)
        if table not in {self._users, self._servers}:
            return
        if keys is None:
            self._batch.everything = True
        elif table == self._users:
            for server_id, uids in keys.items():
                self._note(server_id, uids)
        else:
            self._batch.servers.update(keys)
        self._bound()
        self._filled.set()

    def outdated(self, server_id: str) -> None:
        """Note that this server is to be fetched whole."""
        self._note(server_id, None)
        self._filled.set()

    def resumed(self) -> None:
        """Note that changes may have been missed."""
        self._batch.resumed = self._batch.everything = True
        self._filled.set()

    async def take(
        self, timeout: AbstractAsyncContextManager[object] | None = None
    ) -> Batch | None:
        """What changed, as soon as there is something, or when the timeout has passed an empty
        batch; None once it has ended."""
        with suppress(TimeoutError):
            async with timeout or nullcontext():
                await self._filled.wait()
        return None if self._ended else self.drain()

    def drain(self) -> Batch:
        """What changed so far."""
        batch, self._batch = self._batch, Batch()
        self._filled.clear()
        return batch

    def end(self) -> None:
        """End every `take`."""
        self._ended = True
        self._filled.set()

    def _note(self, server_id: str, uids: list[str] | None) -> None:
        if server_id in self._batch.whole:
            return
        if uids is not None:
            noted = self._batch.users.setdefault(server_id, set())
            noted.update(uids)
            if len(noted) <= MAX_USERS:
                return
        self._batch.users.pop(server_id, None)
        self._batch.whole.add(server_id)

    def _bound(self) -> None:
        batch = self._batch
        if len(batch.servers) + len(batch.whole) + len(batch.users) > MAX_SERVERS:
            batch.everything = True
        if batch.everything:
            batch.servers.clear()
            batch.whole.clear()
            batch.users.clear()

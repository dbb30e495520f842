"""Changes that the core has not taken yet: each user and server once, chat up to a bound."""

import asyncio
from collections import deque

from msgspec import Struct, field

from d_back_nats.records import Chat

MAX_CHAT = 1000


class Batch(Struct):
    """What changed since the last one."""

    revoked: dict[tuple[str, str], None] = field(default_factory=dict)
    """(server_id, person) of grants that have ended."""
    servers: dict[str, None] = field(default_factory=dict)
    users: dict[tuple[str, str], None] = field(default_factory=dict)
    """(server_id, uid) in the order of the last change of each."""
    reloads: dict[str, None] = field(default_factory=dict)
    """Servers that the core should fetch again."""
    chat: deque[Chat] = field(default_factory=lambda: deque(maxlen=MAX_CHAT))


class Pending:
    """Gathers what changes until it is taken."""

    def __init__(self) -> None:
        self._batch = Batch()
        self._filled = asyncio.Event()
        self._ended = False

    def revoke(self, server_id: str, person: str) -> None:
        """That grant has ended."""
        self._batch.revoked[server_id, person] = None
        self._filled.set()

    def server(self, server_id: str) -> None:
        """That server's record changed."""
        self._batch.servers[server_id] = None
        self._filled.set()

    def user(self, server_id: str, uid: str) -> None:
        """That user changed."""
        self._batch.users[server_id, uid] = None
        self._filled.set()

    def reload(self, server_id: str) -> None:
        """The users of that server must be fetched again."""
        self._batch.reloads[server_id] = None
        self._filled.set()

    def add_chat(self, chat: Chat) -> None:
        """Add chat; if the core does not take it, the oldest is dropped."""
        self._batch.chat.append(chat)
        self._filled.set()

    async def take(self) -> Batch | None:
        """Return what changed, as soon as there is something; None after `end`."""
        await self._filled.wait()
        if self._ended:
            return None
        batch, self._batch = self._batch, Batch()
        self._filled.clear()
        return batch

    def end(self) -> None:
        """End every `take`."""
        self._ended = True
        self._filled.set()

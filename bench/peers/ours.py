"""Our gateway, the whole of it, with one provider; ``--uvloop`` runs it on that.

``--prepared``: the provider makes its records before the server starts, so that a join includes
nothing of the provider's.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from typing import cast

from bench.peers.load import STATUSES, Load, Presence, obey, server_id, uid
from d_back_core import Event, Server, Status, User, UserChanged, hookimpl
from d_back_core.config import ChainConfig, Config, LimitsConfig
from d_back_core.embedding.server import WebSocketServer


class Provider:
    """Says what the control pipe lets happen."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._stream: asyncio.Queue[Event] = asyncio.Queue()
        self._prepared = _users(load.users) if "--prepared" in sys.argv else None

    async def burst(self, count: int) -> None:
        """Put so many events into the stream at once."""
        for event in self._load.events(count):
            self._stream.put_nowait(_changed(event))

    @hookimpl
    async def servers(self) -> Mapping[str, Server]:
        return {
            server_id(number): Server(
                id=f"s{number}", name=f"Server {number}", default=number == 0, passworded=False
            )
            for number in range(self._load.servers)
        }

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User]:  # noqa: ARG002  all alike
        return self._prepared or _users(self._load.users)

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        while True:
            yield await self._stream.get()


def _users(count: int) -> dict[str, User]:
    status = cast("Status", STATUSES[0])
    return {
        uid(number): User(username=f"User {number}", status=status, role_color="#3498db")
        for number in range(count)
    }


def _changed(event: Presence) -> UserChanged:
    status = cast("Status", event.status)
    return UserChanged(server_id=event.server_id, uid=event.uid, status=status)


async def main() -> None:
    """Serve until standard input ends."""
    provider = Provider(Load())
    config = Config(
        chain=ChainConfig(order=("bench",)), limits=LimitsConfig(connections=1_000_000)
    )
    gateway = WebSocketServer(0, "127.0.0.1", config=config, providers={"bench": provider})
    async with gateway:
        await obey(gateway.port, provider.burst)


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())

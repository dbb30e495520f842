"""``websockets`` with its default settings, and its own ``broadcast``."""

import asyncio

from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.peers.load import JOIN_JSON, LIST_JSON, Load, obey


async def main() -> None:
    """Serve until standard input ends."""
    load = Load()
    joined: set[ServerConnection] = set()

    async def session(connection: ServerConnection) -> None:
        await connection.send(LIST_JSON)
        await connection.recv()
        await connection.send(JOIN_JSON)
        joined.add(connection)
        try:
            await connection.wait_closed()
        finally:
            joined.discard(connection)

    async def burst(count: int) -> None:
        for event in load.events(count):
            broadcast(joined, event.json())

    async with serve(session, "127.0.0.1", 0) as server:
        await obey(next(iter(server.sockets)).getsockname()[1], burst)


if __name__ == "__main__":
    asyncio.run(main())

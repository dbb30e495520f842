"""d-back 0.0.18 as published, with callbacks; runs in an environment of its own."""

import asyncio
import contextlib
import os
from importlib import import_module
from typing import Any

from bench.peers.load import STATUSES, Load, obey, server_id, uid


async def main() -> None:
    """Serve until standard input ends."""
    load = Load()
    servers = {
        server_id(number): {
            "id": f"s{number}",
            "name": f"Server {number}",
            "default": number == 0,
            "passworded": False,
        }
        for number in range(load.servers)
    }
    users = {key: _users(load.users) for key in servers}
    d_back: Any = import_module("d_back.server")  # there are no types for it
    server = d_back.WebSocketServer(0, "127.0.0.1")

    async def get_servers() -> dict[str, dict[str, Any]]:
        return servers

    async def get_users(key: str) -> dict[str, dict[str, str]]:
        return users[key]

    async def burst(count: int) -> None:
        for event in load.events(count):
            users[event.server_id][event.uid]["status"] = event.status
            await server.broadcast_presence(event.server_id, event.uid, event.status)

    server.on_get_server_data(get_servers)
    server.on_get_user_data(get_users)
    serving = asyncio.create_task(server.start())
    while server.server is None:  # noqa: ASYNC110  it tells in no other way
        await asyncio.sleep(0.01)
    await obey(next(iter(server.server.sockets)).getsockname()[1], burst)
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _users(count: int) -> dict[str, dict[str, str]]:
    return {
        uid(number): {
            "uid": uid(number),
            "username": f"User {number}",
            "status": STATUSES[0],
            "roleColor": "#3498db",
        }
        for number in range(count)
    }


if __name__ == "__main__":
    # It prints several lines for every event and join; reading them must cost no peer anything.
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):  # noqa: PTH123
        asyncio.run(main())

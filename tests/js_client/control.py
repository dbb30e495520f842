"""Gateways that a test in another process starts and changes, over a socket.

A request is one JSON object in a line, and is answered by another one; see
``clients/js/test/gateway.js``.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from d_back_core import (
    Message,
    MessageDeleted,
    MessageEdited,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
    WebSocketServer,
)
from d_back_core.config import parse
from d_back_testing import ScriptedProvider

SERVERS = {
    "1": Server(name="The club", id="club", default=True),
    "2": Server(name="The pub", id="pub"),
}
USERS = {
    "1": {
        "11": User(username="Ada", status="online", role_color="#e8743b"),
        "12": User(username="Bob", status="idle", role_color="#4ecdc4"),
        "13": User(username="Cid", status="dnd", role_color="#5f27cd"),
    },
    "2": {"21": User(username="Zoe", status="online", role_color="#96ceb4")},
}

Fields = dict[str, Any]


class Gateway:
    """One gateway, with the provider behind it."""

    def __init__(self, options: Fields, port: int = 0) -> None:
        users = options.get("users")
        people = {"1": {uid: User(**each) for uid, each in users.items()}} if users else USERS
        self.provider = ScriptedProvider({} if options.get("empty") else SERVERS, people)
        password = options.get("password")
        policies = {"2": {"password": password}} if password else {}
        config = parse(
            {
                "gateway": {"extra": options.get("extra", [])},
                "chain": {"order": ["club"]},
                "servers": policies,
            }
        )
        self.server = WebSocketServer(
            port, "127.0.0.1", config=config, providers={"club": self.provider}
        )


class Control:
    """Carries out the requests of one connection."""

    def __init__(self) -> None:
        self._gateways: list[Gateway] = []
        self._running = AsyncExitStack()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._running:
            async for line in reader:
                request = json.loads(line)
                action = getattr(self, f"do_{request.pop('action')}")
                writer.write(json.dumps(await self._carry_out(action, request)).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _carry_out(
        self, action: Callable[..., Awaitable[Fields | None]], request: Fields
    ) -> Fields:
        try:
            return await action(**request) or {}
        except Exception as error:  # noqa: BLE001  the test in the other process is to see it
            return {"error": repr(error)}

    async def do_start(self, **options: Any) -> Fields:  # noqa: ANN401  JSON
        gateway = Gateway(options)
        self._gateways.append(gateway)
        await self._running.enter_async_context(gateway.server)
        return {"id": len(self._gateways) - 1, "url": gateway.server.url}

    async def do_restart(self, id: int, **options: Any) -> None:  # noqa: A002, ANN401  JSON
        self._gateways[id] = Gateway(options, port=self._gateways[id].server.port)
        await self._running.enter_async_context(self._gateways[id].server)

    async def do_stop(self, id: int) -> None:  # noqa: A002
        await self._gateways[id].server.stop()

    async def do_change(self, id: int, server: str, uid: str, fields: Fields) -> None:  # noqa: A002
        change = UserChanged(server_id=server, uid=uid, **fields)
        self._gateways[id].provider.emit(change)

    async def do_remove(self, id: int, uid: str) -> None:  # noqa: A002
        self._gateways[id].provider.emit(UserRemoved(server_id="1", uid=uid))

    async def do_say(self, id: int, uid: str, text: str, message: str | None = None) -> None:  # noqa: A002
        said = Message(server_id="1", uid=uid, message=text, channel="7", id=message)
        self._gateways[id].provider.emit(said)

    async def do_edit(self, id: int, uid: str, text: str, message: str) -> None:  # noqa: A002
        edited = MessageEdited(server_id="1", uid=uid, message=text, channel="7", id=message)
        self._gateways[id].provider.emit(edited)

    async def do_delete(self, id: int, message: str) -> None:  # noqa: A002
        deleted = MessageDeleted(server_id="1", channel="7", id=message)
        self._gateways[id].provider.emit(deleted)

    async def do_list(self, id: int, server: str) -> None:  # noqa: A002
        each = SERVERS[server]
        change = ServerChanged(server_id=server, id=each.id, name=each.name, default=each.default)
        self._gateways[id].provider.emit(change)

    async def do_unlist(self, id: int, server: str) -> None:  # noqa: A002
        self._gateways[id].provider.emit(ServerRemoved(server_id=server))

    async def do_cut(self, id: int) -> None:  # noqa: A002
        for connection in self._gateways[id].server.connections:
            connection.transport.abort()

    async def do_close(self, id: int, code: int) -> None:  # noqa: A002
        for connection in self._gateways[id].server.connections:
            await connection.close(code)

    async def do_counts(self, id: int) -> Fields:  # noqa: A002
        server = self._gateways[id].server
        counters = server.live.counters
        counted = {"joins": counters.joins, "resumes": counters.resumes}
        return {**counted, "connections": len(server.connections)}


@asynccontextmanager
async def controlled() -> AsyncIterator[int]:
    """Accept tests that need gateways. Yields the port."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(Control().serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)
        await asyncio.wait([task])

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
    await asyncio.gather(*serving)

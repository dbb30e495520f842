"""Messages of a real gateway and of its clients, in both directions."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from websockets.asyncio.client import connect

from d_back_core import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Server,
    ServerChanged,
    User,
    UserChanged,
    UserRemoved,
    WebSocketServer,
)
from d_back_core.config import parse
from d_back_testing import ScriptedProvider

PATIENCE = 60.0
CHAT: dict[str, Any] = {"server_id": "1", "uid": "7", "channel": "c"}
MANY = 1001
"""Deletions after which a client that reads too slowly forgets all messages."""
MISSED: tuple[tuple[str, tuple[Event, ...]], ...] = (
    ("presence", (UserChanged(server_id="1", uid="7", status="dnd"),)),
    ("message", (Message(**CHAT, message="missed"),)),
    ("message-edit", (MessageEdited(**CHAT, message="edited", id="m"),)),
    ("message-delete", (MessageDeleted(server_id="1", channel="c", id="m"),)),
    (
        "message-delete",
        tuple(MessageDeleted(server_id="1", channel="c", id=str(each)) for each in range(MANY)),
    ),
)
"""What a client misses, and the type of the last frame that brings it up to date."""
Frame: TypeAlias = dict[str, Any]


class Traffic(NamedTuple):
    """What one client has sent and received, and which frame was the answer to which."""

    sent: list[Frame]
    received: list[Frame]
    answers: list[tuple[Frame, Frame]]


class Listener:
    """A client that keeps every frame, and can wait for one."""

    def __init__(self, receive: Callable[[], Any], send: Callable[[str], Any]) -> None:
        self.traffic = Traffic([], [], [])
        self._receive = receive
        self._send = send

    async def until(self, kind: str) -> Frame:
        while True:
            async with asyncio.timeout(PATIENCE):
                frame: Frame = json.loads(await self._receive())
            self.traffic.received.append(frame)
            if frame["type"] == kind:
                return frame

    async def ask(self, kind: str, request: Frame) -> Frame:
        self.traffic.sent.append(request)
        await self._send(json.dumps(request))
        answer = await self.until(kind)
        self.traffic.answers.append((request, answer))
        return answer


async def conversation() -> Traffic:
    """Every type of message, with and without each optional field."""
    servers = {"1": Server(name="One", client_id="99"), "2": Server(name="Two", default=True)}
    ada = User(username="Ada", status="idle", extra={"avatar": "https://example.org/a.png"})
    script = ScriptedProvider(servers, {"1": {"7": ada, "9": User(username="Cid")}, "2": {}})
    config = parse(
        {
            "gateway": {"extra": ["avatar", "mood"]},
            "chain": {"order": ["mine"]},
            "limits": {"message_burst": 100},
        }
    )
    server = WebSocketServer(port=0, config=config, providers={"mine": script})
    async with server, connect(server.url) as client:
        told = Listener(client.recv, client.send)
        await told.until("server-list")
        for request in ({"type": "connect"}, {"type": "connect", "data": {}}):
            await told.ask("server-join", request)
        login = {"server": "1", "password": "p", "discordToken": "t", "discordUser": {"id": "77"}}
        welcome = await told.ask("server-join", {"type": "connect", "data": login})
        script.emit(
            UserChanged(server_id="1", uid="8", username="Bob", status="dnd"),
            UserChanged(server_id="1", uid="8", role_color="#123456"),
            UserChanged(server_id="1", uid="7", extra={"mood": "sunny"}),
            UserRemoved(server_id="1", uid="8"),
        )
        while (await told.until("presence"))["data"].get("delete") is not True:
            pass
        script.emit(ServerChanged(server_id="1", client_id=None))
        await told.until("update-clientid")
        at = datetime(2026, 11, 30, 20, 15, 30, 500_000, tzinfo=UTC)
        for kind, event in (
            ("message", Message(**CHAT, message="hi")),
            ("message", Message(**CHAT, message="hi", id="m", at=at)),
            ("message-edit", MessageEdited(**CHAT, message="ho", id="m", at=at)),
            ("message-edit", MessageEdited(**CHAT, message="hum", id="m")),
            ("message-delete", MessageDeleted(server_id="1", channel="c", id="m")),
        ):
            script.emit(event)
            await told.until(kind)
        await told.ask("user_data", {"type": "get_user_data", "serverId": "1"})
        await told.ask("server_data", {"type": "get_server_data"})
        await told.ask("server_data", {"type": "get_server_data", "serverId": "1"})
        await told.ask("error", {"type": "connect", "data": {"server": "nowhere"}})
        await told.ask("error", {"type": "get_user_data", "serverId": "nowhere"})
        await told.ask("error", {"type": "get_server_data", "serverId": "nowhere"})
        resume = {"epoch": welcome["data"]["epoch"], "seq": welcome["data"]["seq"]}
        await told.ask("resumed", {"type": "connect", "data": {"server": "1", "resume": resume}})
        await server.broadcast_message({"type": "refresh_data"})
        await told.until("refresh_data")
        await server.broadcast_message({"type": "refresh_data", "serverId": "1"})
        await told.until("refresh_data")
        for kind, events in MISSED:  # the client reads too slowly
            (connection,) = server.connections
            connection.pause_writing()
            connection.observer.fall_behind()
            script.emit(*events)
            await server.live.settle()
            connection.resume_writing()
            connection.observer.recover()
            await told.until(kind)
        script.emit(ServerChanged(server_id="2", name="Second"))
        await told.until("server-list-update")
        script.emit(ServerChanged(server_id="1", passworded=True))
        await told.until("error")
        script.emit(ServerChanged(server_id="2", enabled=False))
        while not (await told.until("server-list-update")).get("removed"):
            pass
        return told.traffic

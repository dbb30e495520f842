"""The demo servers as they are at the beginning, as plain dictionaries for callbacks."""

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any, Protocol, get_args

from d_back_core import Status
from d_back_mock import demo
from d_back_mock.chat import CHANNEL, LINES

STATUS_INTERVAL, MESSAGE_INTERVAL = 4.0, 5.0
"""Seconds, as in d-back 0.0.x."""


class Joined(Protocol):
    """A connection of d-back 0.0.x that has joined a server."""

    discordServer: str  # noqa: N815  its name in d-back 0.0.x

    async def send(self, text: str, /) -> Any:  # noqa: ANN401
        """Send a frame; raises if the connection is closed."""


class MockDataProvider:
    """The mock data of d-back 0.0.x: the same servers and users at every call."""

    def __init__(self, server_instance: object = None) -> None:
        """``server_instance`` is what d-back 0.0.x needed here; it is not looked at."""
        self.server = server_instance
        self._communities = {each.server_id: each for each in demo.communities()}

    def get_mock_server_data(self) -> dict[str, dict[str, Any]]:
        """``{server_id: {"id", "name", "passworded", "default" (only of the default one)}}``."""
        return {
            server_id: {
                "id": community.server.id,
                "name": community.server.name,
                **({"default": True} if community.server.default else {}),
                "passworded": community.server.passworded,
            }
            for server_id, community in self._communities.items()
        }

    def get_mock_user_data(
        self, discord_server_id: str | None = None
    ) -> dict[str, dict[str, str]]:
        """``{uid: {"uid", "username", "status", "roleColor"}}``; empty for any other server."""
        community = self._communities.get(discord_server_id or "")
        if community is None:
            return {}
        members = map(community.members.__getitem__, range(len(community.members)))
        return {
            member.uid: {
                "uid": member.uid,
                "username": member.username,
                "status": member.status,
                "roleColor": member.role_color,
            }
            for member in members
        }

    async def periodic_status_updates(self, websocket: Joined) -> None:
        """Send that connection a random status every 4 s, until `send` raises."""
        while True:
            await asyncio.sleep(STATUS_INTERVAL)
            status = random.choice(get_args(Status))  # noqa: S311
            await self._send(websocket, "presence", {"status": status})

    async def periodic_messages(self, websocket: Joined) -> None:
        """Send that connection a line of chat every 5 s, until `send` raises."""
        while True:
            await asyncio.sleep(MESSAGE_INTERVAL)
            said = {"message": random.choice(LINES), "channel": CHANNEL}  # noqa: S311
            await self._send(websocket, "message", said)

    async def _send(self, websocket: Joined, kind: str, content: Mapping[str, str]) -> None:
        """Send a frame of a random user, if the server has users."""
        server_id = websocket.discordServer
        uids = list(self.get_mock_user_data(server_id))
        if uids:
            frame = {"uid": random.choice(uids), **content}  # noqa: S311
            await websocket.send(json.dumps({"type": kind, "server": server_id, "data": frame}))

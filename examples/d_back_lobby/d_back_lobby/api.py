"""The lobby's HTTP API: what it answers, and how it is asked.

``GET /rooms`` lists the rooms; ``GET /rooms/ID/players`` lists who is in one of them, or answers
404. A wrong token is answered with 401. What has not changed since it was last asked need not be
sent again (``ETag``).
"""

from typing import TypeVar

import msgspec
from aiohttp import ClientSession
from msgspec import Struct
from yarl import URL

NOT_MODIFIED, UNAUTHORIZED, NOT_FOUND = 304, 401, 404

T = TypeVar("T", bound=Struct)


class Room(Struct, frozen=True):
    id: str
    title: str
    private: bool = False


class Rooms(Struct, frozen=True):
    rooms: list[Room]


class Player(Struct, frozen=True):
    id: str
    name: str
    state: str
    team: str | None = None
    """The colour of the player's team, ``#rrggbb``."""


class Players(Struct, frozen=True):
    players: list[Player]


class UnauthorizedError(Exception):
    """The lobby does not know the token."""


class Api:
    """One session with the lobby, until `close`."""

    def __init__(self, url: str, token: str | None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._session = ClientSession(headers=headers)
        self._url = URL(url)
        self._known: dict[URL, tuple[str, bytes]] = {}
        """What was answered last, and its ETag."""

    async def close(self) -> None:
        await self._session.close()

    async def rooms(self) -> list[Room]:
        """All rooms. Raises `UnauthorizedError`, and what aiohttp and msgspec raise."""
        answer = await self._get(Rooms, "rooms")
        if answer is None:
            raise LookupError(f"there is no lobby at {self._url}")
        return answer.rooms

    async def players(self, room_id: str) -> list[Player] | None:
        """Who is in that room; None where there is no such room. Raises as `rooms`."""
        answer = await self._get(Players, "rooms", room_id, "players")
        return None if answer is None else answer.players

    async def _get(self, kind: type[T], *parts: str) -> T | None:
        url = self._url.joinpath(*parts)
        tag, body = self._known.get(url, ("", b""))
        headers = {"If-None-Match": tag} if tag else {}
        async with self._session.get(url, headers=headers) as response:
            if response.status == UNAUTHORIZED:
                raise UnauthorizedError
            if response.status == NOT_FOUND:
                self._known.pop(url, None)
                return None
            if response.status != NOT_MODIFIED:
                response.raise_for_status()
                body = await response.read()
        answer = msgspec.json.decode(body, type=kind)
        if new_tag := response.headers.get("ETag"):
            self._known[url] = new_tag, body
        return answer

"""The provider against a real HTTP server on this machine, and in a real gateway."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from d_back_core import Secret
from d_back_core.client import ClientWorld, connect
from d_back_lobby import Options, Provider
from d_back_testing import ProviderContract, RunningGateway, logged, served

ROOMS = {"r1": "Lounge", "r2": "Arena"}
ADA = {"id": "7", "name": "Ada", "state": "playing", "team": "#ff6b6b"}
BOB = {"id": "8", "name": "Bob", "state": "away"}


class Lobby:
    """A lobby with two rooms, whose answers a test may change."""

    def __init__(self) -> None:
        self.players: dict[str, object] = {"r1": [ADA, BOB], "r2": []}
        self.version = 1
        """What it calls its present state; the same state is not sent twice."""
        self.broken = False
        self.asked: list[str] = []
        """Each path, with the status of the answer."""
        application = web.Application()
        application.router.add_get("/api/rooms", self._rooms)
        application.router.add_get("/api/rooms/{room}/players", self._players)
        self._server = TestServer(application)

    @property
    def options(self) -> Options:
        return Options(url=str(self._server.make_url("/api")), token=Secret("right"))

    def change(self, room_id: str, *players: object) -> None:
        self.players[room_id] = list(players)
        self.version += 1

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Lobby"]:
        async with self._server:
            yield self

    async def _rooms(self, request: web.Request) -> web.Response:
        rooms = [
            {"id": each, "title": title, "private": each == "r2"} for each, title in ROOMS.items()
        ]
        return self._answer(request, {"rooms": rooms})

    async def _players(self, request: web.Request) -> web.Response:
        room = request.match_info["room"]
        known = room in self.players
        return self._answer(request, {"players": self.players[room]} if known else None)

    def _answer(self, request: web.Request, answer: object) -> web.Response:
        response = self._response(request, answer)
        self.asked.append(f"{request.path.removeprefix('/api/')} {response.status}")
        return response

    def _response(self, request: web.Request, answer: object) -> web.Response:
        tag = f'"{self.version}"'
        if self.broken:
            return web.Response(status=500)
        if request.headers.get("Authorization") != "Bearer right":
            return web.Response(status=401)
        if answer is None:
            return web.Response(status=404)
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.json_response(answer, headers={"ETag": tag})


async def until(world: ClientWorld, condition: Callable[[ClientWorld], object]) -> None:
    """Wait for what must happen; the minute is for machines that are busy."""
    async with asyncio.timeout(60):
        await world.until(condition)


class TestContract(ProviderContract):
    """What d-back expects of every provider."""

    async def provider(self) -> AsyncIterator[Provider]:
        """One for a lobby that runs meanwhile."""
        async with Lobby().open() as lobby:
            yield Provider(lobby.options)


@pytest.fixture
async def lobby() -> AsyncIterator[Lobby]:
    async with Lobby().open() as lobby:
        yield lobby


@pytest.fixture
async def gateway(lobby: Lobby) -> AsyncIterator[RunningGateway]:
    """A gateway with the provider; its clock stands still."""
    tables = {"lobby": {"refresh": "10s", "grace": "30s"}}
    async with served({"lobby": Provider(lobby.options)}, tables=tables) as gateway:
        yield gateway


async def test_clients_see_who_is_in_a_room(gateway: RunningGateway) -> None:
    """With name, state and team."""
    async with connect(gateway.url, "lounge") as world:
        seen = {user.username: (user.status, user.role_color) for user in world.users.values()}
    assert seen == {"Ada": ("online", "#ff6b6b"), "Bob": ("idle", "#ffffff")}


async def test_clients_see_what_has_changed_when_it_is_asked_again(
    gateway: RunningGateway, lobby: Lobby
) -> None:
    """Every ``refresh``; nothing is reloaded."""
    async with connect(gateway.url, "lounge") as world:
        lobby.change("r1", ADA | {"state": "in_match"})
        await gateway.advance(10)
        await until(world, lambda world: world.users.keys() == {"7"})
        await until(world, lambda world: world.users["7"].status == "dnd")
        assert world.joins == 1


async def test_what_has_not_changed_is_not_sent_again(
    gateway: RunningGateway, lobby: Lobby
) -> None:
    """The lobby says so, and the provider knows what it was."""
    async with connect(gateway.url, "lounge") as world:
        lobby.asked.clear()
        await gateway.advance(10)
        assert set(lobby.asked) == {"rooms 304", "rooms/r1/players 304"}
        assert len(world.users) == 2


async def test_a_private_room_is_protected(gateway: RunningGateway) -> None:
    """No provider vouches for a client, so none is let in."""
    async with connect(gateway.url, "lounge") as world:
        protected = {each.id: each.passworded for each in world.servers.values()}
    assert protected == {"lounge": False, "arena": True}


async def test_a_lobby_that_fails_is_shown_as_it_was(
    gateway: RunningGateway, lobby: Lobby
) -> None:
    """The failure is logged once; d-back asks again, and the clients receive what has changed."""
    async with connect(gateway.url, "lounge") as world:
        lobby.broken = True
        with logged() as log:
            await gateway.advance(30)
        assert sorted(line.partition(": Client")[0] for line in log.warnings) == [
            "WARNING d_back.providers: provider lobby: servers",
            "WARNING d_back.providers: provider lobby: users",
        ]
        assert len(world.users) == 2
        lobby.broken = False
        lobby.change("r1", ADA)
        await gateway.advance(30)
        await until(world, lambda world: world.users.keys() == {"7"})


async def test_a_room_that_is_not_there_is_not_ours(lobby: Lobby) -> None:
    """The next provider is asked."""
    async with served({"lobby": (provider := Provider(lobby.options))}):
        assert await provider.users("r9") is None


async def test_a_wrong_token_is_the_operator_s_to_mend(lobby: Lobby) -> None:
    """It is not tried again, and the token is not told."""
    provider = Provider(Options(url=lobby.options.url, token=Secret("wrong")))
    async with served({"lobby": provider}) as gateway:
        asked = len(lobby.asked)
        await gateway.advance(3600)
        assert gateway.health("lobby") == "failed"
        assert len(lobby.asked) == asked
    assert repr(provider).count("wrong") == 0


@pytest.mark.parametrize("url", ["lobby.example.org", "ftp://lobby", "http://", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """At start, with the key's name."""
    with pytest.raises(ValueError, match=r"^url"):
        Options(url=url)

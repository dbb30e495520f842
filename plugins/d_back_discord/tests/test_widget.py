"""The provider without a bot: public widgets, on a REST server of the loopback interface."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import aiohttp
import discord_payloads as say
import pytest
from aiohttp import web

from d_back_core import ConfigError, Context, Server, User
from d_back_core.client import connect
from d_back_core.config import parse
from d_back_core.config.decoding import decode
from d_back_core.embedding.server import WebSocketServer
from d_back_discord import WidgetConfig, WidgetProvider
from d_back_testing import ManualClock, ProviderContract

OTHER = "400000000000000001"


def widget(*members: dict[str, Any], name: str = "D-World") -> dict[str, Any]:
    """As Discord sends it: ids are places in the list."""
    common = {"discriminator": "0000", "avatar": None}
    return {
        "id": say.GUILD_ID,
        "name": name,
        "instant_invite": "https://discord.com/invite/abcdefg",
        "channels": [{"id": say.snowflake(1), "name": "lounge", "position": 2}],
        "members": [{"id": str(place), **common, **each} for place, each in enumerate(members)],
        "presence_count": len(members),
    }


def person(name: str, status: str = "online", avatar: str = "a") -> dict[str, Any]:
    return {
        "username": name,
        "status": status,
        "avatar_url": f"https://cdn.discordapp.com/widget-avatars/{avatar}",
    }


class Widgets:
    """Discord, as far as the provider sees it."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self.status: int | None = None
        self.code = 50004
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        answer = self.answers.get(request.match_info["guild"])
        status = self.status or (403 if answer is None else 200)
        body: Any = answer if status == 200 else {"message": "Widget Disabled", "code": self.code}
        headers = {"Content-Type": "application/json"} | self.headers
        return web.Response(body=json.dumps(body).encode(), status=status, headers=headers)


@pytest.fixture
async def widgets() -> AsyncIterator[Widgets]:
    async with serving() as served:
        yield served


@asynccontextmanager
async def serving() -> AsyncIterator[Widgets]:
    """Serve widgets until the block ends."""
    widgets, app = Widgets(), web.Application()
    app.router.add_get("/guilds/{guild}/widget.json", widgets.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    widgets.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    widgets.answers[say.GUILD_ID] = widget(person("ada"), person("bob", "idle"))
    try:
        yield widgets
    finally:
        await runner.cleanup()


@pytest.fixture
async def provider(widgets: Widgets, context: Context) -> AsyncIterator[WidgetProvider]:
    config = WidgetConfig(guilds=[say.GUILD_ID, OTHER], api_url=widgets.url)
    provider = WidgetProvider(config)
    await provider.start(context)
    yield provider
    await provider.stop()


@pytest.fixture
def context(clock: ManualClock) -> Context:
    return Context(
        name="widget",
        log=logging.getLogger("d_back.providers.widget"),
        clock=clock,
        degraded=lambda _reason: None,
        recovered=lambda: None,
    )


async def test_members(provider: WidgetProvider) -> None:
    """Members have their names and statuses, and nothing that the widget does not know."""
    assert await provider.servers() == {say.GUILD_ID: Server(name="D-World")}
    users = await provider.users(say.GUILD_ID)
    assert users is not None
    assert list(users.values()) == [
        User(username="ada", status="online"),
        User(username="bob", status="idle"),
    ]


async def test_extra(widgets: Widgets, context: Context) -> None:
    """Avatar and game are read if the operator names them."""
    playing = person("ada") | {"game": {"name": "Chess"}}
    widgets.answers[say.GUILD_ID] = widget(playing)
    config = decode(
        WidgetConfig,
        {"guilds": [say.GUILD_ID], "api_url": widgets.url, "extra": ["avatar", "activity"]},
        "d-back.toml: providers.widget",
    )
    provider = WidgetProvider(config)
    await provider.start(context)
    (ada,) = (await provider.users(say.GUILD_ID) or {}).values()
    assert ada.extra == {
        "activity": "Chess",
        "avatar": "https://cdn.discordapp.com/widget-avatars/a",
    }
    await provider.stop()


async def test_one_request_for_both(provider: WidgetProvider, widgets: Widgets) -> None:
    """The list and the users that are asked for together cost one request for each guild."""
    await provider.servers()
    await provider.users(say.GUILD_ID)
    assert widgets.asked == 2


async def test_uids_stay(provider: WidgetProvider, widgets: Widgets, clock: ManualClock) -> None:
    """A uid stays when another member goes, and when the address of the avatar changes."""
    before = await provider.users(say.GUILD_ID) or {}
    widgets.answers[say.GUILD_ID] = widget(person("bob", "dnd", avatar="b"))
    await clock.advance(60)
    after = await provider.users(say.GUILD_ID) or {}
    bob = next(uid for uid, user in before.items() if user.username == "bob")
    assert after == {bob: User(username="bob", status="dnd")}


async def test_same_names(provider: WidgetProvider, widgets: Widgets) -> None:
    """Members of the same name are distinguished by their avatars."""
    twins = person("ada", avatar="a"), person("ada", avatar="b")
    widgets.answers[say.GUILD_ID] = widget(*twins)
    assert len(await provider.users(say.GUILD_ID) or {}) == 2


async def test_widget_is_off(
    provider: WidgetProvider, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A guild whose widget is off is not in the list, its users are not known, and the log says
    once where to switch it on."""
    for _ in range(2):
        assert OTHER not in (await provider.servers() or {})
        assert await provider.users(OTHER) is None
        await clock.advance(60)
    assert caplog.text.count(f"guild {OTHER} has no widget: its owner switches it on at") == 1


async def test_unknown_guild(
    provider: WidgetProvider, widgets: Widgets, caplog: pytest.LogCaptureFixture
) -> None:
    """So is a guild that does not exist, and the log says so."""
    widgets.code = 10004
    assert OTHER not in (await provider.servers() or {})
    assert f"Discord knows no guild {OTHER}" in caplog.text


async def test_refused_on_the_way(provider: WidgetProvider, widgets: Widgets) -> None:
    """A 403 that is not from Discord itself does not mean that the widget is off."""
    widgets.status, widgets.code = 403, 1015
    with pytest.raises(ConnectionError, match="status 403"):
        await provider.users(say.GUILD_ID)


async def test_one_guild_fails(
    provider: WidgetProvider, widgets: Widgets, clock: ManualClock
) -> None:
    """A guild whose widget cannot be read stays in the list, and the others are read."""
    widgets.answers[OTHER] = widget(person("cid"), name="Other")
    both = {say.GUILD_ID: Server(name="D-World"), OTHER: Server(name="Other")}
    assert await provider.servers() == both
    await clock.advance(60)
    widgets.answers[say.GUILD_ID] = widget(name="New")
    widgets.answers[OTHER] = {"name": 7}
    assert await provider.servers() == both | {say.GUILD_ID: Server(name="New")}
    with pytest.raises(ConnectionError, match="unreadable widget"):
        await provider.users(OTHER)


async def test_other_guild(provider: WidgetProvider, widgets: Widgets) -> None:
    """A guild that is not configured is not asked for."""
    assert await provider.users("400000000000000009") is None
    assert widgets.asked == 0


async def test_rate_limit(provider: WidgetProvider, widgets: Widgets, clock: ManualClock) -> None:
    """After a 429 no request goes out before its time."""
    widgets.status, widgets.headers = 429, {"Retry-After": "120"}
    with pytest.raises(ConnectionError, match="limits the requests"):
        await provider.users(say.GUILD_ID)
    widgets.status = None
    await clock.advance(100)
    with pytest.raises(ConnectionError, match="for 20 s"):
        await provider.users(say.GUILD_ID)
    assert widgets.asked == 1
    await clock.advance(20)
    assert len(await provider.users(say.GUILD_ID) or {}) == 2


async def test_failure(provider: WidgetProvider, widgets: Widgets) -> None:
    """Where Discord fails, the call fails: an empty guild would be wrong."""
    widgets.status = 500
    with pytest.raises(ConnectionError, match="status 500"):
        await provider.servers()


async def invite(server: WebSocketServer, path: str) -> tuple[int, str | None]:
    """The status, and where the answer leads to."""
    url = f"http://127.0.0.1:{server.port}{path}"
    async with aiohttp.ClientSession() as http, http.get(url, allow_redirects=False) as answer:
        return answer.status, answer.headers.get("Location")


@asynccontextmanager
async def gateway(widgets: Widgets, password: str | None = None) -> AsyncIterator[WebSocketServer]:
    """A gateway with the widget, after its first answer."""
    provider = WidgetProvider(WidgetConfig(guilds=[say.GUILD_ID, OTHER], api_url=widgets.url))
    table: dict[str, Any] = {"gateway": {"http": ["widget"]}, "chain": {"order": ["widget"]}}
    if password is not None:
        table["servers"] = {say.GUILD_ID: {"password": password}}
    async with WebSocketServer(0, config=parse(table), providers={"widget": provider}) as server:
        async with connect(server.url, say.GUILD_ID, password=password) as world:
            await world.until(lambda world: bool(world.users))
        yield server


async def test_invite(widgets: Widgets) -> None:
    """The address of a guild on the gateway leads to the invite link of its widget."""
    async with gateway(widgets) as server:
        link = "https://discord.com/invite/abcdefg"
        assert await invite(server, f"/invite/{say.GUILD_ID}") == (302, link)
        assert (await invite(server, f"/invite/{OTHER}"))[0] == 404


@pytest.mark.parametrize("link", [None, "javascript:alert(1)"])
async def test_no_invite(widgets: Widgets, link: str | None) -> None:
    """A widget without a link, which its owner can choose, has no such address."""
    widgets.answers[say.GUILD_ID]["instant_invite"] = link
    async with gateway(widgets) as server:
        assert (await invite(server, f"/invite/{say.GUILD_ID}"))[0] == 404


async def test_no_invite_of_a_protected_server(widgets: Widgets) -> None:
    """Of a server that is protected here, no link is handed out."""
    async with gateway(widgets, password="secret") as server:
        assert (await invite(server, f"/invite/{say.GUILD_ID}"))[0] == 404


@pytest.mark.parametrize("guilds", [[], ["dworld"]])
def test_refused_options(guilds: list[str]) -> None:
    """At least one guild is needed, and by its id."""
    with pytest.raises(ConfigError, match="guilds"):
        decode(WidgetConfig, {"guilds": guilds}, "d-back.toml: providers.widget")


class TestWidget(ProviderContract):
    """The widget of one guild."""

    server_id = say.GUILD_ID
    options: ClassVar = {"guilds": [say.GUILD_ID]}

    async def provider(self) -> AsyncIterator[WidgetProvider]:
        async with serving() as widgets:
            yield WidgetProvider(WidgetConfig(guilds=[say.GUILD_ID], api_url=widgets.url))

    async def unavailable(self) -> AsyncIterator[WidgetProvider]:
        async with serving() as widgets:
            widgets.status = 500
            yield WidgetProvider(WidgetConfig(guilds=[say.GUILD_ID], api_url=widgets.url))

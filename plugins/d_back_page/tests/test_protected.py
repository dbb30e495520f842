"""Protected servers: passwords, and the login at Discord."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from page_browser import MEMBERS, ONE, club, gateway, visiting
from playwright.async_api import Browser, Route

from d_back_core import Server, ServerChanged, User, UserChanged
from d_back_testing import ScriptedProvider

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

CLOSED = {"1": {"password": "open sesame"}}


async def test_a_password_is_asked_for(browser: Browser, tmp_path: Path) -> None:
    """A wrong one is refused, the right one lets the visitor in."""
    server = gateway({"club": club()}, policies=CLOSED)
    async with server, visiting(browser, server) as visitor:
        await visitor.page.goto(f"{visitor.url}?s=club")
        dialog = visitor.page.get_by_role("dialog", name="Access required")
        await dialog.wait_for()
        await visitor.shot(tmp_path, "access")
        assert not await dialog.get_by_role("button", name="Log in with Discord").is_visible()
        await visitor.page.keyboard.type("wrong")
        await visitor.page.keyboard.press("Enter")
        await dialog.get_by_text("Access was refused.").wait_for()
        assert await visitor.rows() == []
        await dialog.get_by_label("Password").fill("open sesame")
        await dialog.get_by_role("button", name="Join").click()
        await visitor.until("document.querySelectorAll('.member').length === 4")
        assert not await dialog.is_visible()
        assert "sesame" not in visitor.page.url
        kept = "JSON.stringify(localStorage) + JSON.stringify(sessionStorage)"
        assert "sesame" not in await visitor.page.evaluate(kept)


async def test_who_does_not_know_it_may_go_elsewhere(browser: Browser) -> None:
    """The page shows the default server behind the dialog, and keeps it."""
    servers = {**ONE, "2": Server(name="The pub", id="pub")}
    script = ScriptedProvider(
        servers, {"1": MEMBERS, "2": {"21": User(username="Fay", status="online")}}
    )
    server = gateway({"club": script}, policies={"2": {"password": "sesame"}})
    async with server, visiting(browser, server) as visitor:
        await visitor.open("?s=pub")
        await visitor.page.get_by_role("dialog").wait_for()
        await visitor.until("document.querySelectorAll('.member').length === 4")
        await visitor.page.keyboard.press("Escape")
        await visitor.page.get_by_role("dialog").wait_for(state="hidden")
        assert await visitor.page.get_by_label("Server").input_value() == "club"


async def test_a_password_that_was_refused_is_not_tried_again(browser: Browser) -> None:
    """Each try counts against the address: the next time the visitor is asked first."""
    servers = {**ONE, "2": Server(name="The pub", id="pub")}
    script = ScriptedProvider(servers, {"1": MEMBERS, "2": {}})
    server = gateway({"club": script}, policies={"2": {"password": "sesame"}})
    async with server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.page.get_by_label("Server").select_option("pub")
        dialog = visitor.page.get_by_role("dialog")
        await dialog.get_by_label("Password").fill("wrong")
        await visitor.page.keyboard.press("Enter")
        await dialog.get_by_text("Access was refused.").wait_for()
        await visitor.page.keyboard.press("Escape")
        script.offered.clear()
        await visitor.page.get_by_label("Server").select_option("pub")
        await dialog.wait_for()
        assert not await dialog.get_by_text("Access was refused.").is_visible()
        assert [offered.password for offered, _ in script.offered] == [None]


async def test_a_server_that_closes_asks_who_is_in_it(browser: Browser) -> None:
    """A server that becomes protected is joined again with the password."""
    script = club()
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        script.emit(ServerChanged(server_id="1", passworded=True))
        await visitor.page.get_by_role("dialog", name="Access required").wait_for()
        script.authorize_answer = True
        await visitor.page.keyboard.type("anything")
        await visitor.page.keyboard.press("Enter")
        await visitor.page.get_by_role("dialog").wait_for(state="hidden")
        script.emit(UserChanged(server_id="1", uid="11", status="dnd"))
        await visitor.until_rows(
            ("Bob", "idle"), ("Ada", "dnd"), ("Cid", "dnd"), ("Dot", "offline")
        )


async def test_who_is_shut_out_does_not_look_at_a_still_picture(browser: Browser) -> None:
    """A visitor without the password of a server that became protected comes to the open one."""
    servers = {**ONE, "2": Server(name="The pub", id="pub")}
    script = ScriptedProvider(
        servers, {"1": MEMBERS, "2": {"21": User(username="Fay", status="online")}}
    )
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open("?s=pub")
        script.emit(ServerChanged(server_id="2", passworded=True))
        await visitor.page.get_by_role("button", name="Not now").click()
        await visitor.until("document.querySelectorAll('.member').length === 4")


class Discord:
    """Stands where discord.com would be asked, and sends people back as it does."""

    def __init__(self) -> None:
        self.asked: dict[str, list[str]] = {}

    async def answer(self, route: Route) -> None:
        self.asked = parse_qs(urlsplit(route.request.url).query)
        state = self.asked["state"][0]
        token = f"access_token=right&token_type=Bearer&expires_in=604800&state={state}"
        location = f"{self.asked['redirect_uri'][0]}#{token}"
        await route.fulfill(status=302, headers={"Location": location})


def closed_by_discord() -> ScriptedProvider:
    servers = {
        "1": Server(name="The club", id="club", passworded=True),
        "2": Server(name="The pub", id="pub", default=True, client_id="4242"),
    }
    return ScriptedProvider(servers, {"1": MEMBERS, "2": {}})


async def test_discord_sends_people_back_with_a_token(browser: Browser) -> None:
    """The client id of the open server is used; the token is offered, and not left in the
    address."""
    script = closed_by_discord()
    discord = Discord()
    server = gateway({"club": script})
    async with server, visiting(browser, server) as visitor:
        await visitor.page.goto(f"{visitor.url}?s=club")
        await visitor.page.get_by_role("button", name="Log in with Discord").wait_for()
        await visitor.page.route(re.compile("https://discord.com/"), discord.answer)
        script.authorize_answer = True
        await visitor.page.get_by_role("button", name="Log in with Discord").click()
        await visitor.until("document.querySelectorAll('.member').length === 4")
        assert discord.asked["client_id"] == ["4242"]
        assert discord.asked["response_type"] == ["token"]
        assert discord.asked["scope"] == ["identify"]
        assert discord.asked["redirect_uri"] == [visitor.url]
        assert script.offered[-1][0].discord_token == "right"
        assert visitor.page.url == f"{visitor.url}?s=club"
        assert [urlsplit(url).netloc for url in visitor.elsewhere] == ["discord.com"]
        visitor.elsewhere.clear()


async def test_a_token_that_was_not_asked_for_is_not_used(browser: Browser) -> None:
    """A link with a foreign token logs no visitor in (RFC 6749, 10.12)."""
    script = closed_by_discord()
    server = gateway({"club": script})
    async with server, visiting(browser, server) as visitor:
        await visitor.page.goto(f"{visitor.url}?s=club#access_token=theirs&state=guessed")
        await visitor.page.get_by_role("dialog", name="Access required").wait_for()
        assert all(each.discord_token is None for each, _ in script.offered)
        assert "theirs" not in visitor.page.url

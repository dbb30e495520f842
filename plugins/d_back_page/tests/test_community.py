"""``<d-back-community>`` on pages of other sites: strict ones, wild ones, and for everyone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from page_browser import MEMBERS, ONE, PATIENCE, artefacts, club, cut_off, gateway, violations
from playwright.async_api import Browser, Page, Route

from d_back_core import (
    Message,
    MessageDeleted,
    MessageEdited,
    Server,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_core.embedding.server import WebSocketServer
from d_back_page import PageConfig
from d_back_testing import ScriptedProvider

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

WILD = """
    body * { font-size: 40px !important; color: lime !important; letter-spacing: 9px !important;
        line-height: 3 !important; text-transform: uppercase !important; float: left;
        padding: 30px !important; border: 9px dashed red !important; opacity: 0.4 !important;
        transform: rotate(8deg) !important; filter: blur(2px) !important;
        background: hotpink !important; box-sizing: content-box !important; }
    :root { font-size: 60px; direction: rtl; }
    li { list-style: square !important; } p { margin: 90px !important; }
"""


@asynccontextmanager
async def foreign(
    browser: Browser,
    server: WebSocketServer,
    body: str,
    *,
    head: str = "",
    csp: str | None = None,
    **context: Any,  # noqa: ANN401  those of Browser.new_context
) -> AsyncIterator[Page]:
    """A page of another site with this body, which loads the element from the gateway. It must
    not complain."""
    base = f"http://127.0.0.1:{server.port}/"
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A site</title>{head}'
        f'<script type="module" src="{base}page/v1/d-back-community.js"></script></head>'
        f"<body><main><h1>A site</h1>{body.replace('GATEWAY', base)}</main></body></html>"
    )
    policy = csp.replace("GATEWAY", f"127.0.0.1:{server.port}") if csp else "object-src 'none'"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = (
            "HTTP/1.1 200 OK",
            "Content-Type: text/html",
            f"Content-Security-Policy: {policy}",
        )
        head = "".join(f"{line}\r\n" for line in (*lines, f"Content-Length: {len(html)}"))
        writer.write(f"{head}Connection: close\r\n\r\n{html}".encode())
        await writer.drain()
        writer.close()

    opened = await browser.new_context(**context)
    page = await opened.new_page()
    complaints: list[str] = []
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None,
    )
    site = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        # Another origin than the gateway's, and of the same machine: browsers do not let pages of
        # other machines load anything from this one.
        await page.goto(f"http://localhost:{site.sockets[0].getsockname()[1]}/")
        yield page
        assert complaints == []
    finally:
        await opened.close()
        site.close()


async def names(page: Page) -> list[str]:
    """The members that are listed, from top to bottom."""
    found: list[str] = await page.locator("d-back-community li bdi").all_inner_texts()
    return found


async def test_members_are_listed_by_status_and_follow_changes(browser: Browser) -> None:
    """Names in their groups, the number of those who are there, and every change."""
    script = club()
    body = '<d-back-community src="GATEWAY" server="club"></d-back-community>'
    async with gateway({"club": script}) as server, foreign(browser, server, body) as page:
        await page.get_by_text("3 online").wait_for()
        assert await names(page) == ["Ada", "Bob", "Cid"]
        assert await page.get_by_role("group", name="The club").is_visible()
        online = page.get_by_role("list", name="Online: 1")
        assert await online.get_by_role("listitem").all_inner_texts() == ["Ada"]
        script.emit(UserChanged(server_id="1", uid="14", status="online"))
        script.emit(UserRemoved(server_id="1", uid="12"))
        await page.get_by_role("list", name="Online: 2").wait_for()
        await page.get_by_text("Bob").wait_for(state="detached")
        assert await names(page) == ["Ada", "Dot", "Cid"]
        await cut_off(server)
        script.emit(UserChanged(server_id="1", uid="11", username="Ada L."))
        await page.get_by_text("Ada L.").wait_for()


async def test_the_gateway_of_the_file_is_the_default(browser: Browser) -> None:
    """Without attributes, it shows the default server of the gateway that it comes from."""
    body = "<d-back-community></d-back-community>"
    async with gateway({"club": club()}) as server, foreign(browser, server, body) as page:
        await page.get_by_text("3 online").wait_for()
        await page.evaluate("document.querySelector('d-back-community').remove()")
        while server.connections:
            await page.wait_for_timeout(20)


async def test_what_is_written_is_shown_if_the_page_wants_it(browser: Browser) -> None:
    """In a bubble below the member in a column, at the bottom of a card, and else nowhere."""
    script = club()
    body = """
        <d-back-community id="quiet" src="GATEWAY"></d-back-community>
        <d-back-community id="column" src="GATEWAY" chat></d-back-community>
        <d-back-community id="card" src="GATEWAY" size="card" chat></d-back-community>
    """
    async with gateway({"club": script}) as server, foreign(browser, server, body) as page:
        await page.locator("d-back-community li").nth(8).wait_for()
        script.emit(Message(server_id="1", uid="12", message="<b>hello</b>", channel="7"))
        await page.locator("#column li", has_text="Bob").get_by_text("<b>hello</b>").wait_for()
        await page.locator("#card .latest", has_text="Bob <b>hello</b>").wait_for()
        assert await page.locator("#quiet").get_by_text("hello").count() == 0
        script.emit(Message(server_id="1", uid="11", message="helo", channel="7", id="5"))
        await page.get_by_text("helo").nth(1).wait_for()
        script.emit(MessageEdited(server_id="1", uid="11", message="aha", channel="7", id="5"))
        await page.get_by_text("aha").nth(1).wait_for()
        script.emit(MessageDeleted(server_id="1", channel="7", id="5"))
        await page.get_by_text("aha").first.wait_for(state="detached")
        await page.evaluate("document.querySelector('#column').toggleAttribute('chat')")
        await page.locator("#column").get_by_text("hello").wait_for(state="detached")


async def test_a_strict_policy_is_enough(browser: Browser, tmp_path: Path) -> None:
    """The page allows the gateway's scripts and connections, and no inline style."""
    csp = (
        "default-src 'none'; script-src http://GATEWAY; connect-src ws://GATEWAY; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    body = '<d-back-community src="GATEWAY" chat join="https://discord.gg/x"></d-back-community>'
    async with (
        gateway({"club": club()}) as server,
        foreign(browser, server, body, csp=csp) as page,
    ):
        await page.get_by_text("3 online").wait_for()
        cube = page.locator("d-back-community li .cube").first
        role = await cube.evaluate("(cube) => getComputedStyle(cube).getPropertyValue('--role')")
        assert role == "#e8743b"
        await page.screenshot(path=artefacts(tmp_path) / "community-csp.png")


PIXEL = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'


async def test_avatars_stand_for_cubes_if_page_and_operator_allow_them(browser: Browser) -> None:
    """Only with the attribute, and only over HTTPS; a broken one leaves the cube. The policy of
    the page names their host."""
    host = "https://cdn.example"
    avatars = {"11": f"{host}/a.svg", "12": f"{host}/broken.svg", "13": "http://cdn.example/c.svg"}
    users = {
        uid: User(username=str(MEMBERS[uid].username), status="online", extra={"avatar": avatar})
        for uid, avatar in avatars.items()
    }
    csp = (
        "default-src 'none'; script-src http://GATEWAY; connect-src ws://GATEWAY; "
        f"img-src {host}; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    server = gateway(
        {"club": ScriptedProvider(ONE, {"1": users})}, policies={"1": {"extra": ["avatar"]}}
    )
    body = '<d-back-community src="GATEWAY"></d-back-community>'

    async def answer(route: Route) -> None:
        body = b"x" if "broken" in route.request.url else PIXEL
        await route.fulfill(body=body, content_type="image/svg+xml")

    async with server, foreign(browser, server, body, csp=csp) as page:
        await page.get_by_text("3 online").wait_for()
        images = page.locator("d-back-community li img")
        assert await images.count() == 0
        await page.route(f"{host}/*", answer)
        await page.evaluate(
            "document.querySelector('d-back-community').toggleAttribute('avatars')"
        )
        cubes = page.locator("d-back-community li .cube:visible")
        await cubes.nth(1).wait_for()
        await (
            page.locator("d-back-community li", has_text="Bob").locator(".cube").wait_for()
        )  # its picture is broken
        await page.locator("d-back-community li", has_text="Ada").locator("img").wait_for()
        assert await images.count() == 2


async def test_wild_rules_of_the_page_do_not_reach_it(browser: Browser, tmp_path: Path) -> None:
    """It is drawn exactly as in a page without rules."""
    style = f"<style>{WILD}</style>"
    plain = "<style>body { margin: 0; } main { display: block; }</style>"
    box = "display: block; width: 300px; position: absolute; left: 0; top: 0; margin: 0"
    body = f"""
        <d-back-community src="GATEWAY" theme="light" join="https://discord.gg/x" style="{box}">
        </d-back-community>
    """
    pictures = []
    async with gateway({"club": club()}) as server:
        for name, head in (("plain", plain), ("wild", style)):
            async with foreign(browser, server, body, head=head) as page:
                await page.get_by_text("3 online").wait_for()
                await page.evaluate(
                    "document.body.append(document.querySelector('d-back-community'))"
                )
                await page.evaluate("document.querySelector('main').remove()")
                # Only its own box is compared: what is around it belongs to the page.
                await page.evaluate("document.body.style.cssText = 'all: initial !important'")
                await page.get_by_text("3 online").wait_for()
                path = artefacts(tmp_path) / f"community-{name}.png"
                element = page.locator("d-back-community")
                pictures.append(await element.screenshot(path=path))
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_for_everybody(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """Axe finds nothing in any size, and the keyboard reaches the link and the list."""
    script = club()
    sizes = ("column", "card", "badge")
    body = "".join(
        f'<d-back-community src="GATEWAY" size="{size}" chat join="https://discord.gg/x"'
        ' style="max-width: 320px; margin: 16px"></d-back-community>'
        for size in sizes
    )
    head = '<meta name="color-scheme" content="light dark">'
    traits: dict[str, Any] = {"color_scheme": scheme, "reduced_motion": "reduce"}
    async with (
        gateway({"club": script}) as server,
        foreign(browser, server, body, head=head, **traits) as page,
    ):
        await page.get_by_text("3 online").nth(2).wait_for()
        script.emit(Message(server_id="1", uid="11", message="good morning", channel="7"))
        await page.get_by_text("good morning").nth(1).wait_for()
        assert await violations(page) == []
        focused = "document.activeElement.shadowRoot?.activeElement?.className"
        found = []
        for _ in range(5):
            await page.keyboard.press("Tab")
            found.append(await page.evaluate(focused))
        assert found == ["", "people", "", "people", ""]
        await page.screenshot(path=artefacts(tmp_path) / f"community-{scheme}.png", full_page=True)


async def test_its_words_follow_the_page_and_the_browser(browser: Browser) -> None:
    """A German page, a German browser, and the attribute, which wins."""
    body = """
        <div><d-back-community src="GATEWAY" join="https://discord.gg/x"></d-back-community></div>
        <div lang="de-AT"><d-back-community src="GATEWAY" size="card"></d-back-community></div>
        <div lang="de"><d-back-community src="GATEWAY" lang="en"></d-back-community></div>
    """
    async with gateway({"club": club()}) as server, foreign(browser, server, body) as page:
        await page.locator("d-back-community li").nth(8).wait_for()
        idle = page.locator("d-back-community .idle .label span")
        assert await idle.all_inner_texts() == ["Idle: 1", "Abwesend: 1", "Idle: 1"]
    async with (
        gateway({"club": club()}) as server,
        foreign(browser, server, body, locale="de-DE") as page,
    ):
        await page.evaluate("document.documentElement.removeAttribute('lang')")
        await page.evaluate("document.querySelector('d-back-community').setAttribute('max', 5)")
        await page.get_by_role("link", name="Beitreten").wait_for()


async def test_it_says_what_is_wrong(browser: Browser) -> None:
    """A protected community, one that does not exist, and one without a member online."""
    servers = {**ONE, "2": Server(name="The pub", id="pub"), "3": Server(name="Void", id="void")}
    script = ScriptedProvider(servers, {"1": MEMBERS, "2": MEMBERS, "3": {}})
    body = "".join(
        f'<d-back-community src="GATEWAY" server="{server}"></d-back-community>'
        for server in ("pub", "atlantis", "void")
    )
    async with (
        gateway({"club": script}, policies={"2": {"password": "sesame"}}) as server,
        foreign(browser, server, body) as page,
    ):
        await page.get_by_text("This community is protected.").wait_for()
        await page.get_by_text("This community is not available now.").wait_for()
        await page.get_by_text("No member is online.").wait_for()


async def test_a_frame_shows_one_server(browser: Browser, tmp_path: Path) -> None:
    """Where the operator allows the page; attributes come from the query."""
    body = '<iframe src="GATEWAYembed/club?size=card&lang=de" title="Club" height="400"></iframe>'
    page_config = PageConfig(frame_ancestors=("*",))
    async with (
        gateway({"club": club()}, page=page_config) as server,
        foreign(browser, server, body) as page,
    ):
        frame = page.frame_locator("iframe")
        await frame.get_by_text("Abwesend: 1").wait_for()
        assert await frame.locator("li bdi").all_inner_texts() == ["Ada", "Bob", "Cid"]
        assert await violations(page) == []
        await page.screenshot(path=artefacts(tmp_path) / "community-frame.png")


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "http://[", ""])
async def test_only_an_address_of_the_web_is_a_link(browser: Browser, address: str) -> None:
    """Anything else is left out."""
    body = f'<d-back-community src="GATEWAY" join="{address}"></d-back-community>'
    async with gateway({"club": club()}) as server, foreign(browser, server, body) as page:
        await page.get_by_text("3 online").wait_for()
        assert await page.get_by_role("link").count() == 0


async def test_five_thousand_members_are_not_all_in_the_document(
    browser: Browser, tmp_path: Path
) -> None:
    """A hundred of each status are listed, and how many more there are."""
    users = {
        str(number): User(
            username=f"Member {number:04}", status="idle" if number % 3 else "online"
        )
        for number in range(5000)
    }
    script = ScriptedProvider(ONE, {"1": users})
    body = (
        '<d-back-community src="GATEWAY" style="height: 400px; width: 260px"></d-back-community>'
    )
    async with gateway({"club": script}) as server, foreign(browser, server, body) as page:
        await page.get_by_text("5,000 online").wait_for()
        assert await page.locator("d-back-community li").count() == 200
        await page.get_by_text("and 1,567 more").wait_for()
        await page.screenshot(path=artefacts(tmp_path) / "community-5000.png")

"""What the browser tests share: a gateway with scripted providers, and visitors in a real
Chromium that may reach no other host and whose console must stay silent."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, ConsoleMessage, Error, Page, async_playwright

from d_back_core import Secret, Server, User
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_page import PageConfig, PageProvider
from d_back_testing import ScriptedProvider

CHROMIUM = shutil.which("chromium")
LOST = re.compile(
    r"net::ERR_(CONNECTION_\w+|EMPTY_RESPONSE|INTERNET_DISCONNECTED)|WebSocket connection to"
)
"""What Chromium says by itself about a line that broke."""
PATIENCE = 60_000.0
"""ms after which what a test waits for is taken for lost; the machine may be busy."""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
TOKEN = "a-token-of-the-operator"
PROTECTED = PageConfig(token=Secret(TOKEN))
ONE = {"1": Server(name="The club", id="club", default=True)}
MEMBERS = {
    "11": User(username="Ada", status="online", role_color="#e8743b"),
    "12": User(username="Bob", status="idle", role_color="#4ecdc4"),
    "13": User(username="Cid", status="dnd", role_color="#5f27cd"),
    "14": User(username="Dot", status="offline", role_color="#96ceb4"),
}


def club() -> ScriptedProvider:
    """One server with four members."""
    return ScriptedProvider(ONE, {"1": MEMBERS})


def require_chromium() -> None:
    """Skip the test where there is no browser; in CI that is a failure."""
    if CHROMIUM is not None:
        return
    if os.environ.get("D_BACK_CI"):
        pytest.fail("there is no chromium: .ci/run is to install it")
    pytest.skip("there is no chromium here (Debian: apt-get install chromium)")


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """A Chromium."""
    require_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


def gateway(
    providers: Mapping[str, object],
    *,
    port: int = 0,
    page: PageConfig | None = None,
    tables: Mapping[str, Any] | None = None,
    policies: Mapping[str, Any] | None = None,
    chain: Mapping[str, Any] | None = None,
) -> WebSocketServer:
    """A gateway with these providers, in this order, and the page."""
    config = parse(
        {
            "gateway": {"http": ["page"]},
            "chain": {"order": list(providers), **(chain or {})},
            "limits": {"chat_burst": 10_000},
            "providers": tables or {},
            "servers": policies or {},
        }
    )
    given = {**providers, "page": PageProvider(page or PageConfig())}
    return WebSocketServer(port, "127.0.0.1", config=config, providers=given)


class Visitor:
    """A visitor with the page open. `leave` fails where the page misbehaved meanwhile."""

    def __init__(self, page: Page, server: WebSocketServer) -> None:
        self.page = page
        self.server = server
        self.tolerated: re.Pattern[str] | None = None
        """What the browser itself may say on the console."""
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/"

    async def open(self, query: str = "") -> None:
        """Open the page, and wait until it is live."""
        await self.page.goto(self.url + query)
        await self.until("document.body.dataset.link === 'live'")

    async def be_operator(self) -> None:
        """Have given the token in this tab before."""
        kept = f"sessionStorage.setItem('d-back operator', '{TOKEN}')"
        await self.page.add_init_script(kept)

    async def until(self, condition: str, argument: object = None) -> None:
        """Wait until that JavaScript is true. It is evaluated again and again from outside: the
        page's policy forbids the way in which Playwright's own waiting does it inside."""
        async with asyncio.timeout(PATIENCE / 1000):
            while not await self._holds(condition, argument):  # noqa: ASYNC110  of the page
                await asyncio.sleep(0.02)  # the browser gets its turn

    async def _holds(self, condition: str, argument: object) -> bool:
        try:
            return bool(await self.page.evaluate(condition, argument))
        except Error as error:
            if "navigation" in error.message or "context was destroyed" in error.message:
                return False  # the page is being left for another one
            raise

    async def text(self, selector: str) -> str:
        """What is to be read there."""
        return await self.page.locator(selector).inner_text()

    async def rows(self) -> list[tuple[str, str]]:
        """The names and statuses in the list, from top to bottom."""
        found: list[tuple[str, str]] = await self.page.evaluate(
            """[...document.querySelectorAll('.member')]
                .sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)
                .map((row) => [row.children[1].textContent, row.dataset.status])"""
        )
        return [(name, status) for name, status in found]

    async def until_rows(self, *expected: tuple[str, str]) -> None:
        """Wait until these are the rows, in this order."""
        wanted = "\n".join(f"{name} {status}" for name, status in expected)
        await self.until(
            """(wanted) => [...document.querySelectorAll('.member')]
                .sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)
                .map((row) => `${row.children[1].textContent} ${row.dataset.status}`)
                .join("\\n") === wanted""",
            wanted,
        )

    async def drawn(self) -> None:
        """Wait until two frames have been drawn."""
        await self.page.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    async def shot(self, folder: Path, name: str) -> None:
        """Keep a picture of what is to be seen."""
        await self.drawn()
        await self.page.screenshot(path=artefacts(folder) / f"{name}.png")

    async def leave(self) -> None:
        """Close the page; it must not have complained, nor asked anybody else for anything."""
        await self.page.context.close()
        assert self.complaints == []
        assert self.elsewhere == []

    def _said(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        if self.tolerated is None or not self.tolerated.search(message.text):
            self.complaints.append(message.text)

    def _asked(self, url: str) -> None:
        host = urlsplit(url).netloc
        if host != urlsplit(self.url).netloc:
            self.elsewhere.append(url)


def artefacts(folder: Path) -> Path:
    """Where pictures are kept: where ``D_BACK_SCREENSHOTS`` says, or else with the test."""
    kept = Path(os.environ.get("D_BACK_SCREENSHOTS") or folder)
    kept.mkdir(parents=True, exist_ok=True)
    return kept


@asynccontextmanager
async def visiting(
    browser: Browser,
    server: WebSocketServer,
    **context: Any,  # noqa: ANN401  those of Browser.new_context
) -> AsyncIterator[Visitor]:
    """A visitor whose browser has these traits; it must behave until the block ends."""
    context.setdefault("viewport", {"width": 1280, "height": 800})
    visitor = Visitor(await (await browser.new_context(**context)).new_page(), server)
    try:
        yield visitor
    except BaseException:
        await visitor.page.context.close()
        raise
    await visitor.leave()


async def violations(page: Page) -> list[str]:
    """What axe has found, and where."""
    found: list[dict[str, Any]] = (await Axe().run(page)).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:120]}: {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


async def cut_off(server: WebSocketServer) -> None:
    """Lose all connections, as a broken line does."""
    for connection in server.connections:
        connection.transport.abort()
    while server.connections:  # noqa: ASYNC110  what has no event
        await asyncio.sleep(0.01)  # until the gateway has noticed

"""The operator's panel: what it shows of the chain, and to whom."""

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from page_browser import (
    LOST,
    MEMBERS,
    ONE,
    PROTECTED,
    TOKEN,
    Visitor,
    club,
    gateway,
    visiting,
)
from playwright.async_api import Browser

from d_back_core import Secret, Server, User
from d_back_core.embedding.server import WebSocketServer
from d_back_page import PageConfig
from d_back_testing import ScriptedProvider

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

DOWN = RuntimeError("connection to db.internal refused")


def fail(script: ScriptedProvider) -> None:
    """Let a provider fail for good."""
    script.servers_answer = DOWN
    script.users_answers = dict.fromkeys(script.users_answers, DOWN)
    script.hang.add("events")
    script.emit(DOWN)


async def test_a_failover_is_shown_as_it_happens(browser: Browser, tmp_path: Path) -> None:
    """Who took over, and each change that clients saw by it; the page stays where it is."""
    above, below = club(), club()
    below.users_answers["1"] = {
        "11": MEMBERS["11"],
        "12": User(username="Bob", status="online", role_color="#4ecdc4"),
        "13": MEMBERS["13"],
        "15": User(username="Eve", status="dnd", role_color="#ffd166"),
    }
    tables = {"discord": {"grace": 0.05}}
    server = gateway({"discord": above, "postgres": below}, tables=tables, page=PROTECTED)
    async with server, visiting(browser, server) as visitor:
        await visitor.be_operator()
        await visitor.open()
        await visitor.page.get_by_role("button", name="Chain").click()
        answers = visitor.page.locator("#answers li")
        await answers.get_by_text("discord", exact=True).wait_for()
        assert await states(visitor) == {"discord": "answers", "postgres": "waits"}
        await visitor.page.get_by_text("No provider has taken over").wait_for()
        fail(above)
        await answers.get_by_text("postgres", exact=True).wait_for()
        exchange = visitor.page.locator(".exchange")
        await exchange.wait_for()
        assert re.search(
            r"The club\s+discord\s+→\s+postgres\s+3 changes", await exchange.inner_text()
        )
        assert await exchange.locator("ul li").all_inner_texts() == [
            "Dot left",
            "Bob Idle → Online",
            "Eve joined, Do not disturb",
        ]
        assert await states(visitor) == {"discord": "waits", "postgres": "answers"}
        await visitor.page.get_by_text("connection to db.internal refused").wait_for()
        opener = visitor.page.get_by_role("button", name="Chain")
        assert await opener.get_attribute("data-health") == "failed"
        await visitor.until_rows(
            ("Ada", "online"), ("Bob", "online"), ("Cid", "dnd"), ("Eve", "dnd")
        )
        assert (server.live.counters.joins, server.live.counters.resumes) == (1, 0)
        await visitor.shot(tmp_path, "failover")


async def states(visitor: Visitor) -> dict[str, str]:
    """What each provider does."""
    found: dict[str, str] = await visitor.page.locator("#providers li").evaluate_all(
        """(rows) => Object.fromEntries(rows.map((row) =>
            [row.querySelector("b").textContent, row.querySelector(".used-word").textContent]))"""
    )
    return found


async def test_a_token_opens_the_panel(browser: Browser) -> None:
    """With one configured, to be here is not enough; a wrong one is refused with a word."""
    server = gateway({"club": club()}, page=PageConfig(token=Secret(TOKEN)))
    async with server, visiting(browser, server) as visitor:
        await visitor.open()
        assert not await visitor.page.get_by_role("button", name="Chain").is_visible()
        await visitor.page.get_by_role("button", name="Operator").click()
        keys = visitor.page.get_by_role("dialog", name="For the operator")
        await keys.get_by_label("Token").fill("something-else-entirely")
        await keys.get_by_role("button", name="Open").click()
        await keys.get_by_text("The token is wrong.").wait_for()
        await keys.get_by_label("Token").fill(TOKEN)
        await keys.get_by_role("button", name="Open").click()
        await visitor.page.locator("#answers li").get_by_text("club", exact=True).wait_for()
        await visitor.page.reload()
        await visitor.page.get_by_role("button", name="Chain").wait_for()
        kept = "JSON.stringify(localStorage) + document.cookie + location.href"
        assert TOKEN not in await visitor.page.evaluate(kept)


async def asked(server: WebSocketServer, path: str, **headers: str) -> tuple[int, Any]:
    """The status and the JSON at a path, as a program asks for it."""
    lines = {"Host": f"127.0.0.1:{server.port}"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines["Connection"] = "close"
    sent = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"GET {path} HTTP/1.1\r\n{sent}\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    status = int(head.split()[1])
    return status, msgspec.json.decode(body) if b"application/json" in head else body


OPERATOR = {"Authorization": f"Bearer {TOKEN}"}


async def test_the_chain_is_shown_to_the_operator() -> None:
    """With the token: providers but the page itself, errors, and who answers."""
    async with gateway({"club": club()}, page=PROTECTED) as server:
        told = (200, {"operator": True, "token": True, "channels": {}})
        assert await asked(server, "/page/operator", **OPERATOR) == told
        await asked(server, "/api/servers/club")  # now it is held
        status, chain = await asked(server, "/page/chain", **OPERATOR)
    assert status == 200
    assert [each["name"] for each in chain["providers"]] == ["club"]
    (held,) = chain["servers"]
    assert (held["server_id"], held["providers"], held["users"]) == ("1", ["club"], 4)


async def test_the_panel_warns_of_what_the_log_says(browser: Browser) -> None:
    """Names that match nothing, a server that keeps its last state, a provider's own numbers."""
    script = club()
    server = gateway(
        {"club": script},
        page=PROTECTED,
        tables={"club": {"grace": 0.05}},
        policies={"clubb": {"alias": "x"}},
    )
    async with server, visiting(browser, server, locale="de-DE") as visitor:
        await visitor.be_operator()
        await visitor.open()
        assert script.context is not None
        script.context.gauge("identifies in 24 h", 1234)
        await visitor.page.get_by_role("button", name="Kette").click()
        await visitor.page.get_by_text("servers.clubb: matches no server").wait_for()
        await visitor.page.get_by_text("identifies in 24 h: 1.234").wait_for()
        fail(script)
        await visitor.page.get_by_text("server 1: no provider answers").wait_for()
        await visitor.page.get_by_text("letzter Stand").wait_for()
        opener = visitor.page.get_by_role("button", name="Kette")
        assert await opener.get_attribute("data-health") == "failed"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Connection": "keep-alive"},
        {"Host": "localhost"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
    ],
)
@pytest.mark.parametrize("page", [PageConfig(), PROTECTED])
async def test_r32_the_chain_is_denied_by_default(
    page: PageConfig, headers: dict[str, str]
) -> None:
    """Without the token a client is no operator, whatever it sends and wherever it is: a proxy on
    this machine looks like a browser on it."""
    async with gateway({"club": club()}, page=page) as server:
        assert (await asked(server, "/page/chain", **headers))[0] == 401
        told = (200, {"operator": False, "token": page is PROTECTED, "channels": {}})
        assert await asked(server, "/page/operator", **headers) == told


async def test_a_page_of_another_site_cannot_read_the_chain(browser: Browser) -> None:
    """Not even one that the operator has open beside, on the same machine."""
    server, other = gateway({"club": club()}), gateway({"club": club()})
    async with server, other, visiting(browser, other) as visitor:
        visitor.tolerated = re.compile("404|401")
        await visitor.page.goto(f"{visitor.url}evil")  # the plain 404, which has no policy
        told = "(url) => fetch(url).then((answer) => answer.status)"
        assert (
            await visitor.page.evaluate(told, f"http://127.0.0.1:{server.port}/page/chain") == 401
        )
        visitor.elsewhere.clear()


async def test_others_are_told_of_no_hidden_server_and_no_error() -> None:
    """What everyone may read says neither."""
    servers = {**ONE, "2": Server(name="Lair", id="lair", enabled=False)}
    script = ScriptedProvider(servers, {"1": MEMBERS, "2": MEMBERS})
    async with gateway({"club": script}, page=PROTECTED) as server:
        script.emit(DOWN)
        await server.live.settle()
        chain = (await asked(server, "/page/chain", **OPERATOR))[1]
        assert "db.internal" in str(chain["errors"])
        for path in ("/api/servers", "/api/health", "/page/operator"):
            _, answer = await asked(server, path, X_Forwarded_For="203.0.113.9")
            assert "air" not in str(answer)
            assert "db.internal" not in str(answer)


@pytest.mark.parametrize("token", ["", "short", "fifteen-letters"])
async def test_a_token_that_could_be_guessed_is_refused(token: str) -> None:
    """It may be tried as often as one likes."""
    with pytest.raises(ValueError, match="shorter than 16"):
        PageConfig(token=Secret(token))


async def test_a_hash_is_no_token() -> None:
    """No visitor could offer it."""
    with pytest.raises(ValueError, match="got a hash"):
        PageConfig(token=Secret("scrypt$16384$salt$8$1$" + "x" * 88))


async def test_after_a_lost_line_the_panel_says_that_it_does_not_know(browser: Browser) -> None:
    """What it shows may be wrong by then; once the connection is back, it no longer says so."""
    script = club()
    async with (
        gateway({"club": script}, page=PROTECTED) as server,
        visiting(browser, server) as visitor,
    ):
        visitor.tolerated = LOST
        await visitor.be_operator()
        await visitor.open()
        opener = visitor.page.get_by_role("button", name="Chain")
        await opener.click()
        await visitor.page.locator("#answers li").wait_for()
        assert not await visitor.page.locator("#chain-stale").is_visible()
        await server.stop()
        await visitor.page.locator("#chain-stale", has_text="This was the state").wait_for()
        assert await opener.get_attribute("data-health") == "unknown"
        async with gateway({"club": club()}, port=server.port, page=PROTECTED):
            await visitor.page.locator("#chain-stale").wait_for(state="hidden")
            await visitor.until("document.querySelector('#chain-open').dataset.health === 'ready'")

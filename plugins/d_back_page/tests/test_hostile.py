"""Names and messages of people who mean harm: shown as they are, and harmless."""

from pathlib import Path

import pytest
from page_browser import ONE, gateway, visiting
from playwright.async_api import Browser

from d_back_core import Message, Server, User, UserChanged
from d_back_testing import ScriptedProvider

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

HTML = '<img src=x onerror="window.owned=1"><script>window.owned=1</script><b>bold</b>'
HOSTILE = {
    "html": HTML,
    "attribute": '" onmouseover="window.owned=1" x="',
    "override": "\u202egnp.exe\u202d",
    "unclosed": "\u2067\u2067\u2067right to left",
    "marks": "Z" + "\u0300" * 3000 + "algo",
    "long": "W" * 10_000,
    "lines": "one\n\n\n\n\n\ntwo\ttabs\u2028three",
    "prototype": "constructor",
    "proto": "__proto__",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 40,
    "template": "${window.owned=1} {{window.owned=1}}",
    "link": "javascript:window.owned=1",
}


def hostile() -> ScriptedProvider:
    """Everyone in it means harm, and so does the server."""
    users = {
        str(number): User(username=text, status="online", role_color="#e8743b")
        for number, text in enumerate(HOSTILE.values(), 1)
    }
    users["99"] = User(username="Ada", status="online", role_color="#ffffff")
    servers = {**ONE, "2": Server(name=HTML, id="html"), "3": Server(name="__proto__", id="p")}
    return ScriptedProvider(servers, {"1": users, "2": users, "3": users})


HARMED = """() => ({
    owned: window.owned ?? null,
    elements: document.querySelectorAll("main img, main script, main b b, main [onerror]").length,
    wide: document.documentElement.scrollWidth > innerWidth,
    high: document.documentElement.scrollHeight > innerHeight,
})"""
UNHARMED = {"owned": None, "elements": 0, "wide": False, "high": False}


@pytest.mark.parametrize("server_id", ["club", "html", "p"])
async def test_hostile_names_are_texts(browser: Browser, tmp_path: Path, server_id: str) -> None:
    """In the list, on the plaza, in the titles and in the choice of servers."""
    async with gateway({"club": hostile()}) as server, visiting(browser, server) as visitor:
        await visitor.open(f"?s={server_id}")
        await visitor.until("document.querySelectorAll('.member').length === 13")
        names = {name for name, _ in await visitor.rows()}
        assert {HTML[:60] + "…", "Ada"} <= names
        assert all(len(name) <= 60 * 30 for name in names)
        for row in await visitor.page.locator(".member").all():
            box = await row.bounding_box()
            assert box is not None
            assert box["height"] == 40
        await visitor.page.locator(".member").first.click()
        await visitor.drawn()
        assert await visitor.page.evaluate(HARMED) == UNHARMED
        await visitor.shot(tmp_path, f"hostile-{server_id}")


async def test_hostile_messages_are_texts(browser: Browser, tmp_path: Path) -> None:
    """In bubbles and in the log; each line keeps to itself."""
    script = hostile()
    server = gateway({"club": script})
    async with server, visiting(browser, server, reduced_motion="reduce") as visitor:
        await visitor.open()
        for number, text in enumerate(HOSTILE.values(), 1):
            script.emit(Message(server_id="1", uid=str(number), message=text, channel="7"))
        script.emit(Message(server_id="1", uid="99", message="good morning", channel="7"))
        await visitor.until("document.querySelectorAll('#talk p').length === 13")
        lines = await visitor.page.locator("#talk p").all_inner_texts()
        assert HTML in lines[0]
        assert lines[-1].startswith("Ada good morning")
        assert max(map(len, lines)) < 400 * 30
        await visitor.drawn()
        assert await visitor.page.evaluate(HARMED) == UNHARMED
        assert await visitor.page.evaluate(
            """[...document.querySelectorAll("bdi")].every((each) =>
                getComputedStyle(each).unicodeBidi === "isolate")"""
        )
        for bubble in await visitor.page.locator(".bubble .said").all():
            box = await bubble.bounding_box()
            assert box is not None
            assert box["height"] <= 130
            assert box["width"] <= 260
        await visitor.shot(tmp_path, "hostile-messages")


async def test_an_override_turns_no_other_text_around(browser: Browser) -> None:
    """What stands after a name with an unclosed override is where it always is."""
    script = ScriptedProvider(ONE, {"1": {"1": User(username="\u202egnp", status="online")}})
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        script.emit(Message(server_id="1", uid="1", message="hi \u202eyou", channel="7"))
        await visitor.until("document.querySelectorAll('#talk p').length === 1")
        assert await visitor.page.evaluate(
            """() => {
                const [author, said, time] = ["b", "p > bdi", "time"].map((each) =>
                    document.querySelector("#talk " + each).getBoundingClientRect());
                return author.right <= said.left + 1 && said.right <= time.left + 1;
            }"""
        )


async def test_a_bad_colour_is_no_style(browser: Browser) -> None:
    """What is no colour never reaches the page's styles: the user has the colour of the uid."""
    script = ScriptedProvider(ONE, {"1": {"1": User(username="Ada", status="online")}})
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        script.emit(
            UserChanged(server_id="1", uid="1", role_color="red;background:url(//evil.example)"),
            UserChanged(server_id="1", uid="1", status="idle"),
        )
        await visitor.until_rows(("Ada", "idle"))
        row = visitor.page.locator(".member")
        assert await row.evaluate("(row) => row.style.getPropertyValue('--role')") == "#4f99cf"

"""The plaza: zoom and pan, who speaks, crowds, and the card of a member."""

import re
from pathlib import Path

import pytest
from page_browser import LOST, ONE, Visitor, club, cut_off, gateway, visiting
from playwright.async_api import Browser, Position

from d_back_core import Message, User, UserChanged
from d_back_page import PageConfig
from d_back_testing import ScriptedProvider

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

SHOWN = "import(new URL('page/app.js', location)).then(({ plaza }) => plaza"
AVATAR = "https://cdn.discordapp.com/avatars/11/a.png"


async def view(visitor: Visitor) -> dict[str, float]:
    """How the plaza is seen: zoom, and the way from its middle."""
    found: dict[str, float] = await visitor.page.evaluate(
        f"{SHOWN}.view).then(({{ zoom, x, y }}) => ({{ zoom, x, y }}))"
    )
    return found


async def until_view(visitor: Visitor, condition: str) -> None:
    await visitor.until(f"{SHOWN}.view).then(({{ zoom, x, y }}) => {condition})")


async def test_the_plaza_is_zoomed_and_moved(browser: Browser) -> None:
    """By buttons, keys, the wheel and a drag, which picks no member; 0 shows everything again."""
    server = gateway({"club": club()})
    async with server, visiting(browser, server, reduced_motion="reduce") as visitor:
        await visitor.open()
        assert await view(visitor) == {"zoom": 1, "x": 0, "y": 0}
        await visitor.page.get_by_role("button", name="Zoom in").click()
        await until_view(visitor, "zoom === 1.5")
        await visitor.page.get_by_role("button", name="Zoom out").click()
        await until_view(visitor, "zoom === 1")
        await visitor.page.locator("#plaza").focus()
        await visitor.page.keyboard.press("+")
        await visitor.page.keyboard.press("ArrowLeft")
        await until_view(visitor, "zoom > 1 && x > 0 && y === 0")
        await visitor.page.keyboard.press("0")
        await until_view(visitor, "zoom === 1 && x === 0")
        box = await visitor.page.locator("#plaza").bounding_box()
        assert box is not None
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        await visitor.page.mouse.move(*middle)
        await visitor.page.mouse.wheel(0, -200)
        await until_view(visitor, "zoom > 1.3")
        before = await view(visitor)
        await visitor.page.mouse.down()
        await visitor.page.mouse.move(middle[0] + 60, middle[1] + 30, steps=4)
        await visitor.page.mouse.up()
        after = await view(visitor)
        assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((60, 30))
        assert not await visitor.page.locator("#card").is_visible()
        # What is drawn again fits what the browser had moved.
        await visitor.until("document.querySelector('#plaza .crowd').style.transform === ''")


async def test_who_speaks_is_followed(browser: Browser) -> None:
    """With the switch on, the view goes to the author of each message."""
    script = crowd(400)
    server = gateway({"club": script})
    async with server, visiting(browser, server, reduced_motion="reduce") as visitor:
        await visitor.open()
        await visitor.page.get_by_role("button", name="Follow").click()
        script.emit(Message(server_id="1", uid="7", message="over here", channel="7"))
        await until_view(visitor, "zoom > 1.5")
        place = f"{SHOWN}).then((plaza) => plaza.topOf('7'))"
        x, y = await visitor.page.evaluate(place)
        box = await visitor.page.locator("#plaza").bounding_box()
        assert box is not None
        assert 0.2 < x / box["width"] < 0.8
        assert 0.2 < y / box["height"] < 0.9
        await visitor.page.get_by_role("button", name="Follow").click()
        await until_view(visitor, "zoom === 1")


def crowd(size: int) -> ScriptedProvider:
    users = {
        str(number): User(
            username=f"Member {number}",
            status="online" if number % 3 else "idle",
            role_color="#54a0ff" if number % 4 == 0 else "#ffffff",
        )
        for number in range(1, size + 1)
    }
    return ScriptedProvider(ONE, {"1": users})


async def test_in_a_crowd_who_speaks_stands_in_front(browser: Browser, tmp_path: Path) -> None:
    """At thousands: large, below all others, each bubble above its author; only roles have
    colours."""
    script = crowd(2000)
    server = gateway({"club": script})
    async with server, visiting(browser, server, reduced_motion="reduce") as visitor:
        visitor.tolerated = re.compile("willReadFrequently")
        await visitor.open()
        assert await visitor.page.evaluate(f"{SHOWN}.isCrowd)")
        for uid in ("5", "6", "9"):
            script.emit(Message(server_id="1", uid=uid, message=f"I am {uid}", channel="7"))
        await visitor.until("document.querySelectorAll('.bubble:not(.behind)').length === 3")
        await visitor.drawn()
        found = await visitor.page.evaluate(
            f"""{SHOWN}).then((plaza) => ["5", "6", "9"].map((uid) => {{
                const [x, y] = plaza.speakerAt(uid);
                return {{ x, y, lowest: Math.max(...[...plaza.cellOf.keys()]
                    .map((each) => plaza.topOf(each)[1])) }};
            }}))"""
        )
        assert len({each["x"] for each in found}) == 3
        assert all(each["y"] > each["lowest"] for each in found)
        assert await visitor.page.evaluate(COLOURS) < MOST_COLOURS
        await visitor.shot(tmp_path, "crowd-speaks")
        place: Position = {"x": found[1]["x"], "y": found[1]["y"] + 12}
        await visitor.page.locator("#plaza").click(position=place)
        await visitor.page.get_by_role("heading", name="Member 6", exact=True).wait_for()


MOST_COLOURS = 12
"""Hues, of 127: one role, and the marks of statuses; with the colours by uid there are all."""
COLOURS = """() => {
    const canvas = document.querySelector("#plaza .crowd");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const hues = new Set();
    for (let at = 0; at < data.length; at += 4) {
        const [r, g, b] = data.slice(at, at + 3);
        const most = Math.max(r, g, b);
        if (data[at + 3] < 255 || most - Math.min(r, g, b) < 90) continue; // grey, or an edge
        hues.add(Math.round(Math.atan2(Math.sqrt(3) * (g - b), 2 * r - g - b) * 20));
    }
    return hues.size;
}"""


async def test_the_card_of_a_member_says_what_is_known(browser: Browser) -> None:
    """Status, since when this page has seen it, the colour of the role, and the extra texts."""
    script = club()
    users = script.users_answers["1"]
    assert isinstance(users, dict)
    extra = {"activity": "Plays <b>Go</b>", "avatar": AVATAR}
    script.users_answers["1"] = {
        **users,
        "11": User(username="Ada", status="online", role_color="#e8743b", extra=extra),
    }
    page = PageConfig(avatars=("https://cdn.discordapp.com",))
    server = gateway({"club": script}, page=page, policies={"1": {"extra": list(extra)}})
    async with server, visiting(browser, server) as visitor:
        visitor.tolerated = LOST
        asked: list[str] = []
        await visitor.page.route(AVATAR, lambda route: picture(route, asked))
        await visitor.open()
        await visitor.until("document.querySelectorAll('.member').length === 4")
        await visitor.page.get_by_role("listbox").focus()
        await visitor.until(
            "document.querySelector('#members').hasAttribute('aria-activedescendant')"
        )
        await visitor.page.keyboard.press("Enter")
        card = visitor.page.get_by_role("region", name="Member", exact=True)
        await card.get_by_role("heading", name="Ada").wait_for()
        text = await card.inner_text()
        assert "Plays <b>Go</b>" in text
        assert "#e8743b" in text
        assert re.search(r"Online for at least \d+ s", text)
        await card.locator("img").wait_for()
        assert asked  # the picture of the list, or of the card
        await visitor.page.evaluate("Date.now = (now => () => now() + 60_000)(Date.now)")
        script.emit(UserChanged(server_id="1", uid="11", status="dnd", extra={"activity": None}))
        await card.get_by_text(re.compile(r"Do not disturb since \d+:\d+")).wait_for()
        assert "Plays" not in await card.inner_text()
        await cut_off(server)
        await card.get_by_text("last known: Do not disturb").wait_for()
        await visitor.page.keyboard.press("Escape")
        await card.wait_for(state="hidden")
        visitor.elsewhere = [url for url in visitor.elsewhere if url != AVATAR]


async def picture(route, asked: list[str]) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    asked.append(route.request.url)
    body = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
    await route.fulfill(body=body, content_type="image/svg+xml")


async def test_without_the_operators_leave_no_avatar_is_asked_for(browser: Browser) -> None:
    """The extra text alone is not enough: the hosts have to be named for the page."""
    users = {"11": User(username="Ada", status="online", extra={"avatar": AVATAR})}
    server = gateway(
        {"club": ScriptedProvider(ONE, {"1": users})}, policies={"1": {"extra": ["avatar"]}}
    )
    async with server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.page.locator(".member", has_text="Ada").click()
        await visitor.page.get_by_role("heading", name="Ada").wait_for()
        assert await visitor.page.locator(".avatar").count() == 0


async def test_the_chat_collapses_and_counts(browser: Browser) -> None:
    """Its button says how much was said meanwhile; the choice stays."""
    script = club()
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.page.get_by_role("button", name="Chat").click()
        assert not await visitor.page.locator("#talk-panel").is_visible()
        script.emit(Message(server_id="1", uid="11", message="psst", channel="7"))
        opener = visitor.page.get_by_role("button", name="Chat: 1 new")
        await opener.wait_for()
        assert await opener.get_attribute("aria-expanded") == "false"
        await visitor.open()
        assert not await visitor.page.locator("#talk-panel").is_visible()
        await visitor.page.get_by_role("button", name="Chat").click()
        await visitor.page.locator("#talk-panel").wait_for()

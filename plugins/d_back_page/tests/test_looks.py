"""How the page is for everyone: phones, the dark, the keyboard, screen readers, contrast."""

import os
import re
from pathlib import Path

import pytest
from page_browser import (
    LOST,
    MEMBERS,
    ONE,
    PROTECTED,
    Visitor,
    artefacts,
    club,
    gateway,
    violations,
    visiting,
)
from playwright.async_api import Browser

from d_back_core import Message, Server, User
from d_back_core.embedding.server import WebSocketServer
from d_back_testing import ScriptedProvider

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

IMAGES = Path(__file__).parents[3] / "docs" / "images"
LARGEST_IMAGE = 300_000
ROOMS = ("#plaza", "#members", "#find", "#server", "#link")

DARK_CANVAS = "getComputedStyle(document.body).backgroundColor"


async def test_everything_has_its_place_at_every_width(browser: Browser, tmp_path: Path) -> None:
    """Nothing is cut off or moved out of sight, and the page itself never scrolls."""
    server = gateway({"club": club()})
    async with server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.until("document.querySelectorAll('.member').length === 4")
        for width in (320, 390, 760, 1024, 1920):
            await visitor.page.set_viewport_size({"width": width, "height": 740})
            await visitor.drawn()
            for room in ROOMS:
                box = await visitor.page.locator(room).bounding_box()
                assert box is not None, room
                assert box["x"] >= 0, room
                assert box["x"] + box["width"] <= width + 1, room
                assert box["y"] + box["height"] <= 741, room
                assert box["height"] >= 20, room
            assert await visitor.page.evaluate("document.documentElement.scrollWidth") <= width
            await visitor.shot(tmp_path, f"width-{width}")


async def test_fingers_find_what_they_aim_at(browser: Browser) -> None:
    """On a phone nothing that can be touched is smaller than 40 px."""
    server = gateway({"club": club()})
    phone = {"viewport": {"width": 390, "height": 740}, "has_touch": True, "is_mobile": True}
    async with server, visiting(browser, server, **phone) as visitor:
        await visitor.open()
        await visitor.until("document.querySelectorAll('.member').length === 4")
        for target in await visitor.page.locator("button:visible, select, input, .member").all():
            if (box := await target.bounding_box()) is not None:
                assert box["height"] >= 40, await target.evaluate("(each) => each.outerHTML")
        await visitor.page.locator(".member", has_text="Cid").tap()
        await visitor.until("document.querySelector('.tags .picked bdi')?.textContent === 'Cid'")


async def test_the_dark_is_followed(browser: Browser) -> None:
    """Also when it falls while the visitor looks, on the plaza too."""
    server = gateway({"club": club()})
    async with server, visiting(browser, server, color_scheme="light") as visitor:
        visitor.tolerated = re.compile("willReadFrequently")
        await visitor.open()
        assert await visitor.page.evaluate(DARK_CANVAS) == "rgb(244, 238, 221)"
        await visitor.until(HAS_GRASS, [183, 207, 134])
        await visitor.page.emulate_media(color_scheme="dark")
        await visitor.until(f"{DARK_CANVAS} === 'rgb(22, 19, 31)'")
        await visitor.until(HAS_GRASS, [47, 74, 74])


HAS_GRASS = """([red, green, blue]) => {
    const canvas = document.querySelector("#plaza .earth");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.length; at += 20) {
        if (data[at] === red && data[at + 1] === green && data[at + 2] === blue) return true;
    }
    return false;
}"""


async def focused(visitor: Visitor) -> str:
    """The id of what has the focus."""
    found: str = await visitor.page.evaluate("document.activeElement.id")
    return found


async def test_all_is_reached_with_the_keyboard(browser: Browser) -> None:
    """In the order of the page; what has the focus is outlined."""
    server = gateway({"club": club()}, page=PROTECTED)
    async with server, visiting(browser, server) as visitor:
        await visitor.be_operator()
        await visitor.open()
        await visitor.until("document.querySelectorAll('.member').length === 4")
        await visitor.page.get_by_role("button", name="Chain").wait_for()
        order = []
        for _ in range(18):
            await visitor.page.keyboard.press("Tab")
            order.append(await focused(visitor))
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert await visitor.page.evaluate(outline) != "none", order
        view = ["plaza", "talk-open", "zoom-out", "zoom-in", "zoom-all", "follow", "motion"]
        wanted = ["", "server", "chain-open", *view, "embed-open", "talk", "find"]
        # The skip link first; four statuses before the list.
        assert order == [*wanted, "", "", "", "", "members"]


async def test_the_list_is_walked_with_the_keyboard(browser: Browser) -> None:
    """Arrows go from member to member over headings; Enter picks, Escape lets go."""
    server = gateway({"club": club()})
    async with server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.until("document.querySelectorAll('.member').length === 4")
        await visitor.page.get_by_role("listbox").focus()
        await until_active(visitor, "Ada, Online")
        for key, expected in (
            ("ArrowDown", "Bob, Idle"),
            ("ArrowDown", "Cid, Do not disturb"),
            ("ArrowUp", "Bob, Idle"),
            ("End", "Dot, Offline"),
            ("ArrowDown", "Dot, Offline"),
            ("Home", "Ada, Online"),
            ("ArrowUp", "Ada, Online"),
            ("PageDown", "Dot, Offline"),
        ):
            await visitor.page.keyboard.press(key)
            await until_active(visitor, expected)
        await visitor.page.keyboard.press("Enter")
        members = visitor.page.get_by_role("listbox")
        await members.get_by_role("option", name="Dot", selected=True).wait_for()
        await visitor.until("document.querySelector('.tags .picked bdi')?.textContent === 'Dot'")
        await visitor.page.keyboard.press("Escape")
        await members.get_by_role("option", selected=True).wait_for(state="detached")
        await visitor.page.get_by_role("button", name="Idle: 1").press("Enter")
        await until_active(visitor, "Bob, Idle")


async def test_motion_has_a_switch(browser: Browser) -> None:
    """It follows the system until the visitor chooses, and the choice stays."""
    server = gateway({"club": club()})
    async with server, visiting(browser, server, reduced_motion="reduce") as visitor:
        await visitor.open()
        switch = visitor.page.get_by_role("button", name="Motion")
        still = "document.body.classList.contains('still')"
        assert await switch.get_attribute("aria-pressed") == "false"
        assert await visitor.page.evaluate(still)
        await switch.click()
        assert await switch.get_attribute("aria-pressed") == "true"
        await visitor.open()
        assert not await visitor.page.evaluate(still)
        await switch.click()
        await visitor.page.emulate_media(reduced_motion="no-preference")
        assert await visitor.page.evaluate(still)


async def test_a_page_in_which_nothing_happens_draws_next_to_nothing(browser: Browser) -> None:
    """Some time after the last event, only one cube in a while blinks."""
    server = gateway({"club": town()})
    async with server, visiting(browser, server) as visitor:
        await visitor.page.add_init_script(COUNT_FRAMES)
        await visitor.open()
        await visitor.until("document.querySelectorAll('.member').length === 16")
        await visitor.page.evaluate("window.later = 60_000")  # the clock of the page goes ahead
        await visitor.drawn()
        await visitor.page.wait_for_timeout(1000)  # what moves already comes to its end
        await visitor.page.evaluate("window.drawn = 0")
        await visitor.page.wait_for_timeout(8000)
        assert await visitor.page.evaluate("window.drawn") <= 30
        endless = "document.getAnimations().filter((each) => each.playState === 'running').length"
        assert await visitor.page.evaluate(endless) == 0


COUNT_FRAMES = """
    window.drawn = window.later = 0;
    const [ask, now] = [requestAnimationFrame.bind(window), Date.now];
    window.requestAnimationFrame = (draw) => ask((time) => { window.drawn += 1; draw(time); });
    Date.now = () => now() + window.later;
"""


async def test_the_page_speaks_the_language_of_the_browser(
    browser: Browser, tmp_path: Path
) -> None:
    """German words and numbers, and English for all other languages."""
    server = gateway({"club": club()})
    async with server, visiting(browser, server, locale="de-CH") as visitor:
        await visitor.open()
        await visitor.page.get_by_text("4 Mitglieder, 3 online").wait_for()
        await visitor.page.get_by_placeholder("Mitglied suchen").wait_for()
        await visitor.page.get_by_role("button", name="Nicht stören: 1").wait_for()
        assert await visitor.page.evaluate("document.documentElement.lang") == "de"
        await visitor.shot(tmp_path, "german")
        assert await violations(visitor.page) == []
    async with server_of_club() as other, visiting(browser, other, locale="fr-FR") as visitor:
        await visitor.open()
        await visitor.page.get_by_text("4 members, 3 online").wait_for()


def server_of_club() -> WebSocketServer:
    return gateway({"club": club()})


async def test_a_wall_screen_shows_nothing_but_the_plaza(browser: Browser, tmp_path: Path) -> None:
    """``?view=kiosk``: no bar, no list, no buttons."""
    server = gateway({"club": club()})
    async with server, visiting(browser, server) as visitor:
        await visitor.open("?view=kiosk")
        await visitor.page.get_by_text("4 members, 3 online").wait_for()
        box = await visitor.page.locator("#plaza").bounding_box()
        assert box == {"x": 0, "y": 0, "width": 1280, "height": 800}
        shown = "button:visible, select:visible, input:visible, #members:visible"
        assert await visitor.page.locator(shown).count() == 0
        await visitor.shot(tmp_path, "kiosk")


async def test_labels_hide_neither_each_other_nor_a_face(browser: Browser) -> None:
    """Five who speak at once, everyone's name: none covers another one, or a face."""
    script = town()
    server = gateway({"club": script})
    async with server, visiting(browser, server, reduced_motion="reduce") as visitor:
        await visitor.open()
        await visitor.until("document.querySelectorAll('.tags > span:not([hidden])').length > 8")
        await visitor.page.locator(".member").first.click()
        await visitor.page.locator(".tags .picked").wait_for()
        await visitor.until(f"{OVERLAPS}.then((count) => count === 0)")
        for uid in ("1", "4", "5", "6", "8"):
            text = f"a sentence that is not so short, of {uid}"
            script.emit(Message(server_id="1", uid=uid, message=text, channel="7"))
        await visitor.until("document.querySelectorAll('.bubble:not(.behind)').length === 5")
        await visitor.until(f"{OVERLAPS}.then((count) => count === 0)")


OVERLAPS = """(async () => {
    const { plaza } = await import(new URL("page/app.js", location));
    const { left, top } = plaza.box.getBoundingClientRect();
    const labels = [...document.querySelectorAll(
            ".bubble:not(.behind) .said, .tags bdi, .title h1, .title p")]
        .map((each) => [each, each.getBoundingClientRect()]).filter(([, box]) => box.width)
        .map(([each, box]) => ({
            label: true, title: each.matches(".title *"),
            left: box.left - left, right: box.right - left,
            top: box.top - top, bottom: box.bottom - top,
        }));
    // The title is as wide as the plaza; its words are not.
    for (const label of labels) if (label.title) label.right = Math.min(label.right, 300);
    const all = [...labels, ...plaza.faces().faces];
    let count = 0;
    all.forEach((a, at) => all.slice(at + 1).forEach((b) => {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if ((a.label || b.label) && !(a.title && b.title) && across > 1 && down > 1) count += 1;
    }));
    return count;
})()"""


async def test_the_lines_for_another_page_are_offered(browser: Browser) -> None:
    """They name this gateway and this server."""
    server = gateway({"club": club()})
    async with server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.page.get_by_role("button", name="Embed").click()
        lines = await visitor.page.get_by_label("Lines to copy").input_value()
        assert lines == (
            f'<script type="module" src="{visitor.url}page/v1/d-back-community.js"></script>\n'
            '<d-back-community server="club"></d-back-community>'
        )
        assert await violations(visitor.page) == []


async def until_active(visitor: Visitor, label: str) -> None:
    """Wait until that is the option that the keyboard is at."""
    await visitor.until(
        """(label) => document.getElementById(
            document.querySelector("#members").getAttribute("aria-activedescendant")
        )?.ariaLabel === label""",
        label,
    )


async def test_a_panel_that_closes_gives_the_focus_back(browser: Browser) -> None:
    """Escape closes it; its button says whether it is open."""
    server = gateway({"club": club()}, page=PROTECTED)
    async with server, visiting(browser, server) as visitor:
        await visitor.be_operator()
        await visitor.open()
        opener = visitor.page.get_by_role("button", name="Chain")
        await opener.press("Enter")
        await visitor.until("document.activeElement.id === 'chain-title'")
        assert await opener.get_attribute("aria-expanded") == "true"
        await visitor.page.keyboard.press("Escape")
        assert await focused(visitor) == "chain-open"
        assert await opener.get_attribute("aria-expanded") == "false"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_rules_of_accessibility_are_kept(browser: Browser, scheme: str) -> None:
    """Axe finds nothing: with the chain open, at a protected server, without a connection."""
    servers = {**ONE, "2": Server(name="The pub", id="pub")}
    script = ScriptedProvider(servers, {"1": MEMBERS, "2": {}})
    server = gateway({"club": script}, policies={"2": {"password": "sesame"}}, page=PROTECTED)
    viewport = {"width": 1280, "height": 800}
    traits = {"color_scheme": scheme, "reduced_motion": "reduce", "viewport": viewport}
    async with server, visiting(browser, server, **traits) as visitor:
        visitor.tolerated = LOST
        await visitor.be_operator()
        await visitor.open()
        script.emit(Message(server_id="1", uid="11", message="good morning", channel="7"))
        await visitor.until("document.querySelectorAll('#talk p').length === 1")
        await visitor.page.get_by_role("listbox").focus()
        await visitor.page.keyboard.press("Enter")
        assert await violations(visitor.page) == []
        await visitor.page.get_by_role("button", name="Chain").click()
        await visitor.page.locator("#answers li").wait_for()
        assert await violations(visitor.page) == []
        await visitor.page.get_by_label("Server").select_option("pub")
        await visitor.page.get_by_role("dialog").wait_for()
        assert await violations(visitor.page) == []
        await visitor.page.keyboard.press("Escape")
        await server.stop()
        await visitor.page.get_by_text("The connection is lost.").first.wait_for()
        assert await violations(visitor.page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_what_is_to_be_read_stands_out(browser: Browser, scheme: str) -> None:
    """Each ink on each ground has a contrast of 4.5 at least (WCAG 2.2, 1.4.3)."""
    server = gateway({"club": club()})
    async with server, visiting(browser, server, color_scheme=scheme) as visitor:
        await visitor.open()
        inks = ("ink", "soft", "accent", "online", "idle", "dnd", "offline")
        colours: dict[str, list[int]] = await visitor.page.evaluate(
            """(names) => Object.fromEntries(names.map((name) => {
                const text = getComputedStyle(document.documentElement)
                    .getPropertyValue(`--${name}`).trim();
                return [name, [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16))];
            }))""",
            [*inks, "paper", "sheet", "bubble", "accent-ink"],
        )
        pairs = [(ink, ground) for ink in inks for ground in ("paper", "sheet")]
        pairs += [
            ("ink", "bubble"),
            ("soft", "bubble"),
            ("accent-ink", "accent"),
            ("paper", "ink"),
        ]
        for ink, ground in pairs:
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def contrast(one: list[int], other: list[int]) -> float:
    """The contrast of WCAG 2.2, from 1 to 21."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: list[int]) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# The pictures of the documentation

PEOPLE = (
    ("vegeta897", "online", "#ff6b6b"),
    ("Cog-Creators", "idle", "#4ecdc4"),
    ("d-zone-org", "dnd", "#45b7d1"),
    ("NNTin", "online", "#96ceb4"),
    ("Ada", "online", "#e8743b"),
    ("Grace", "online", "#ffd166"),
    ("Linus", "idle", "#54a0ff"),
    ("Margaret", "online", "#9b59b6"),
    ("Ken", "dnd", "#2ed573"),
    ("Barbara", "online", "#ff9ff3"),
    ("Edsger", "offline", "#5f27cd"),
    ("Donald", "online", "#f39c12"),
    ("Radia", "online", "#1abc9c"),
    ("Alan", "idle", "#7289da"),
    ("Katherine", "online", "#ff4757"),
    ("Tim", "offline", "#0abde3"),
)


def town() -> ScriptedProvider:
    users = {
        str(number): User(username=name, status=status, role_color=colour)  # type: ignore[arg-type]
        for number, (name, status, colour) in enumerate(PEOPLE, 1)
    }
    return ScriptedProvider({"1": Server(name="D-World", id="dworld", default=True)}, {"1": users})


@pytest.mark.parametrize(("name", "scheme"), [("page", "light"), ("page-dark", "dark")])
async def test_picture_of_the_page(
    browser: Browser, tmp_path: Path, name: str, scheme: str
) -> None:
    """A busy evening, as the README shows it."""
    script = town()
    server = gateway({"discord": script})
    async with server, visiting(browser, server, color_scheme=scheme) as visitor:
        await visitor.open()
        await visitor.until("document.querySelectorAll('.member').length === 16")
        for uid, text in (
            ("8", "morning, everyone"),
            ("7", "who moved my tree?"),
            ("15", "shh, Edsger sleeps"),
        ):
            script.emit(Message(server_id="1", uid=uid, message=text, channel="7"))
        await visitor.until(
            """[...document.querySelectorAll(".bubble .said > bdi")]
                .map((each) => each.textContent).join() ===
                "morning, everyone,who moved my tree?,shh, Edsger sleeps" """
        )
        await visitor.until("document.querySelector('#rate').textContent === '3'")
        await picture(visitor, tmp_path, f"{name}.png")


async def test_picture_of_a_failover(browser: Browser, tmp_path: Path) -> None:
    """What the operator sees when Discord is down and the database answers."""
    above, below = town(), town()
    users = below.users_answers["1"]
    assert isinstance(users, dict)
    users["7"] = User(username="Linus", status="online", role_color="#54a0ff")
    users["9"] = User(username="Ken", status="idle", role_color="#2ed573")
    users["17"] = User(username="Dorothy", status="online", role_color="#c8d6e5")
    del users["15"]
    tables = {"discord": {"grace": 0.05}}
    server = gateway({"discord": above, "postgres": below}, tables=tables, page=PROTECTED)
    async with server, visiting(browser, server, color_scheme="dark") as visitor:
        await visitor.be_operator()
        await visitor.open()
        await visitor.page.get_by_role("button", name="Chain").click()
        await visitor.page.locator("#answers").get_by_text("discord", exact=True).wait_for()
        fail(above, server)
        await visitor.page.locator(".exchange ul").wait_for()
        await visitor.until("document.querySelector('.exchange').getAnimations().length === 0")
        await picture(visitor, tmp_path, "failover.png")


def fail(script: ScriptedProvider, server: WebSocketServer) -> None:
    """Let the stream break, and nothing be answered any more."""
    assert server.live.servers
    down = RuntimeError("WebSocket closed with 1006")
    script.servers_answer = down
    script.users_answers = dict.fromkeys(script.users_answers, down)
    script.hang.add("events")
    script.emit(down)


@pytest.mark.parametrize(("language", "hello"), [("en", "Hello"), ("de", "Hallo")])
async def test_picture_of_a_crowd(
    browser: Browser, tmp_path: Path, language: str, hello: str
) -> None:
    """Two thousand members, three of whom speak, as the page about the providers shows it."""
    roles = ("#4ecdc4", "#54a0ff", "#9b59b6", "#e8743b", "#ffd166")
    users = {
        str(number): User(
            username=PEOPLE[number % len(PEOPLE)][0],
            status=("online", "online", "idle", "offline", "dnd", "online")[number % 6],
            role_color=roles[number % len(roles)] if number % 3 == 0 else "#ffffff",
        )
        for number in range(2000)
    }
    world = Server(name="D-World", id="dworld", default=True)
    script = ScriptedProvider({"1": world}, {"1": users})
    traits = {"locale": language, "viewport": {"width": 1000, "height": 560}}
    async with (
        gateway({"discord": script}) as server,
        visiting(browser, server, reduced_motion="reduce", **traits) as visitor,
    ):
        await visitor.open("?view=kiosk")
        await visitor.until("document.querySelector('#census').textContent.includes('1')")
        for uid in ("6", "12", "24"):
            script.emit(Message(server_id="1", uid=uid, message=f"{hello}!", channel="7"))
        await visitor.until("document.querySelectorAll('.bubble:not(.behind)').length === 3")
        folder = IMAGES.parent / language / "images"
        await picture(visitor, tmp_path, "crowd.jpg", folder)


async def picture(visitor: Visitor, folder: Path, name: str, images: Path = IMAGES) -> None:
    """Keep a picture; ``D_BACK_IMAGES=1`` makes it the one that the documentation shows."""
    await visitor.drawn()
    kept = images if os.environ.get("D_BACK_IMAGES") else artefacts(folder)
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / name
    quality = 80 if path.suffix == ".jpg" else None
    await visitor.page.screenshot(path=path, quality=quality)
    assert 10_000 < path.stat().st_size < LARGEST_IMAGE

"""The screen of ``d-back watch``, drawn without a terminal."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from time import process_time

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import RichLog

from d_back_core import Status
from d_back_core.client import ClientWorld, EffectiveUser
from d_back_watch.members import Members, readable
from d_back_watch.screen import WatchApp

ADA = EffectiveUser("7", "Ada", "online", "#ff6b6b")
BOB = EffectiveUser("8", "bob", "idle", "#000000")
CY = EffectiveUser("9", "Cy", "online", "#00ff00")
STATUSES: tuple[Status, ...] = ("online", "idle", "dnd", "offline")


@asynccontextmanager
async def drawn(
    *users: EffectiveUser, size: tuple[int, int] = (100, 30)
) -> AsyncIterator[tuple[WatchApp, Pilot[None]]]:
    world = ClientWorld()
    world.name, world.public_id, world.connected = "Plaza", "plaza", True
    world.users = {user.uid: user for user in users}
    app = WatchApp("ws://localhost:3000")
    app.show(world)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, pilot


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  the screen updates by a timer
            await asyncio.sleep(0)


def lines(app: WatchApp) -> list[str]:
    """The visible members."""
    members = app.query_one(Members)
    texts = (members.render_line(y).text.rstrip() for y in range(members.size.height))
    return [text for text in texts if text]


async def test_members_are_grouped_by_status_and_sorted_by_name() -> None:
    """Each status has its count, and a status without members is left out."""
    async with drawn(CY, BOB, ADA) as (app, _):
        assert lines(app) == ["online — 2", " ● Ada", " ● Cy", "idle — 1", " ◐ bob"]


async def test_names_have_their_role_color() -> None:
    """A color that is too dark is made brighter."""
    async with drawn(CY, BOB) as (app, _):
        members = app.query_one(Members)
        styles: Mapping[str, str] = {
            segment.text: str(segment.style.color.name)
            for y in range(4)
            for segment in members.render_line(y)
            if segment.style is not None and segment.style.color is not None
        }
        assert styles["Cy"] == "#00ff00"
        assert styles["bob"] == readable("#000000") != "#000000"


@pytest.mark.parametrize(
    ("color", "shown"),
    [("#ffffff", "#ffffff"), ("#ff6b6b", "#ff6b6b"), ("#000000", "#727272"), ("nope", "#ffffff")],
)
def test_colors_are_readable(color: str, shown: str) -> None:
    """On a dark background; an invalid color becomes white."""
    assert readable(color) == shown


async def test_members_of_the_same_name_are_all_shown() -> None:
    """Two members may have the same name."""
    async with drawn(ADA, EffectiveUser("6", "Ada", "online", "#ffffff")) as (app, _):
        assert lines(app) == ["online — 2", " ● Ada", " ● Ada"]


async def test_search_filters_until_escape() -> None:
    """The search finds names in any case, and uids."""
    async with drawn(ADA, BOB, CY) as (app, pilot):
        await pilot.press("slash", "B", "O")
        assert lines(app) == ["idle — 1", " ◐ bob"]
        await pilot.press("x")
        assert lines(app) == ["no member matches 'box'"]
        await pilot.press("escape")
        assert len(lines(app)) == 5
        await pilot.press("slash", "9", "enter")
        assert lines(app) == ["online — 1", " ● Cy"]
        assert isinstance(app.focused, Members)


async def test_q_is_a_letter_in_the_search() -> None:
    """Outside of the search, the key quits."""
    async with drawn(ADA) as (app, pilot):
        await pilot.press("slash", "q")
        assert lines(app) == ["no member matches 'q'"]
        await pilot.press("escape", "q")
        await pilot.pause()
        assert not app.is_running


async def test_an_empty_server() -> None:
    """The list says that there are no members."""
    async with drawn() as (app, _):
        assert lines(app) == ["no members"]


async def test_the_list_scrolls() -> None:
    """The keys End and Home scroll."""
    users = [EffectiveUser(str(uid), f"Member {uid:03}", "online", "#ffffff") for uid in range(99)]
    async with drawn(*users) as (app, pilot):
        await pilot.press("end")
        await pilot.wait_for_animation()
        assert lines(app)[-1] == " ● Member 098"
        await pilot.press("home")
        await pilot.wait_for_animation()
        assert lines(app)[:2] == ["online — 99", " ● Member 000"]


async def test_a_narrow_terminal_has_the_chat_below() -> None:
    """Members and chat have the full width."""
    async with drawn(ADA, size=(50, 24)) as (app, _):
        members, chat = app.query_one(Members).region, app.query_one("#chat").region
        assert (members.width, chat.width) == (50, 50)
        assert chat.y == members.bottom
    async with drawn(ADA) as (app, _):
        assert app.query_one("#chat").region.y == app.query_one(Members).region.y


async def test_twenty_thousand_members_are_shown_quickly() -> None:
    """Grouping them takes a fraction of a second of CPU, and only visible lines are drawn."""
    users = {
        str(uid): EffectiveUser(str(uid), f"Member {uid}", STATUSES[uid % 4], "#ff6b6b")
        for uid in range(20_000)
    }
    async with drawn(*users.values()) as (app, _):
        members = app.query_one(Members)
        assert members.virtual_size.height == 20_004
        began = process_time()
        members.show(users, "")
        lines(app)
        assert process_time() - began < 3


# The chat


def chat(app: WatchApp) -> list[str]:
    """The lines of the chat, without their times."""
    return [line.text.strip()[6:] for line in app.query_one(RichLog).lines]


def frame(kind: str, seq: int, **entry: str) -> bytes:
    return msgspec.json.encode({"type": kind, "server": "1", "seq": seq, "data": entry})


async def test_an_edited_line_changes_and_a_deleted_one_goes() -> None:
    """Also of what is on the screen already, and without an id all that may be gone."""
    said = {"uid": "7", "channel": "c"}
    async with drawn(ADA) as (app, pilot):

        async def after(*frames: bytes) -> list[str]:
            world = ClientWorld()
            world.users = {"7": ADA}
            for each in frames:
                app.activity.received(each, world)
            await until(lambda: not app.activity.changed)
            await pilot.pause()
            return chat(app)

        first = frame("message", 1, **said, message="one", id="1")
        second = frame("message", 2, **said, message="two", id="2")
        plain = frame("message", 3, **said, message="plain")
        assert await after(first, second) == ["Ada one", "Ada two"]
        assert await after(plain) == ["Ada one", "Ada two", "Ada plain"]
        edit = frame("message-edit", 4, **said, message="1", id="1")
        assert await after(edit) == ["Ada 1 (edited)", "Ada two", "Ada plain"]
        elsewhere = frame("message-delete", 5, channel="d", id="2")
        gone = frame("message-delete", 6, channel="c", id="1")
        assert await after(elsewhere, gone) == ["Ada two", "Ada plain"]
        assert await after(frame("message-delete", 7)) == ["Ada plain"]

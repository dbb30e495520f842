"""The screen of ``d-back watch``, drawn without a terminal."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import process_time

import pytest
from textual.pilot import Pilot

from d_back_core.client import ClientWorld
from d_back_core.models import EffectiveUser, Status
from d_back_watch.members import Members, readable
from d_back_watch.screen import Watch

ADA = EffectiveUser("7", "Ada", "online", "#ff6b6b")
BOB = EffectiveUser("8", "bob", "idle", "#000000")
CY = EffectiveUser("9", "Cy", "online", "#00ff00")
STATUSES: tuple[Status, ...] = ("online", "idle", "dnd", "offline")


@asynccontextmanager
async def drawn(
    *users: EffectiveUser, size: tuple[int, int] = (100, 30)
) -> AsyncIterator[tuple[Watch, Pilot[None]]]:
    world = ClientWorld()
    world.name, world.public_id, world.connected = "Plaza", "plaza", True
    world.users = {user.uid: user for user in users}
    app = Watch("ws://localhost:3000")
    app.show(world)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, pilot


def lines(app: Watch) -> list[str]:
    """The members in sight."""
    members = app.query_one(Members)
    texts = (members.render_line(y).text.rstrip() for y in range(members.size.height))
    return [text for text in texts if text]


async def test_members_are_grouped_by_status_and_sorted_by_name() -> None:
    """Each status with its count; one that nobody has is left out."""
    async with drawn(CY, BOB, ADA) as (app, _):
        assert lines(app) == ["online — 2", " ● Ada", " ● Cy", "idle — 1", " ◐ bob"]


async def test_names_have_their_role_colour() -> None:
    """Made lighter where it could not be read."""
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
def test_colours_can_be_read(color: str, shown: str) -> None:
    """On a dark background; what is no colour is white."""
    assert readable(color) == shown


async def test_two_of_one_name_are_both_shown() -> None:
    """And in the same order each time."""
    async with drawn(ADA, EffectiveUser("6", "Ada", "online", "#ffffff")) as (app, _):
        assert lines(app) == ["online — 2", " ● Ada", " ● Ada"]


async def test_search_narrows_and_escape_ends_it() -> None:
    """By name, whatever the case, or by uid."""
    async with drawn(ADA, BOB, CY) as (app, pilot):
        await pilot.press("slash", "B", "O")
        assert lines(app) == ["idle — 1", " ◐ bob"]
        await pilot.press("x")
        assert lines(app) == ["nobody is called 'box'"]
        await pilot.press("escape")
        assert len(lines(app)) == 5
        await pilot.press("slash", "9", "enter")
        assert lines(app) == ["online — 1", " ● Cy"]
        assert isinstance(app.focused, Members)


async def test_q_is_a_letter_while_one_searches() -> None:
    """And quits otherwise."""
    async with drawn(ADA) as (app, pilot):
        await pilot.press("slash", "q")
        assert lines(app) == ["nobody is called 'q'"]
        await pilot.press("escape", "q")
        await pilot.pause()
        assert not app.is_running


async def test_nobody_is_said_too() -> None:
    """An empty server is no broken one."""
    async with drawn() as (app, _):
        assert lines(app) == ["nobody is here"]


async def test_the_list_scrolls() -> None:
    """By keys."""
    users = [EffectiveUser(str(uid), f"Member {uid:03}", "online", "#ffffff") for uid in range(99)]
    async with drawn(*users) as (app, pilot):
        await pilot.press("end")
        await pilot.wait_for_animation()
        assert lines(app)[-1] == " ● Member 098"
        await pilot.press("home")
        await pilot.wait_for_animation()
        assert lines(app)[:2] == ["online — 99", " ● Member 000"]


async def test_a_narrow_terminal_has_the_chat_below() -> None:
    """Both have the whole width."""
    async with drawn(ADA, size=(50, 24)) as (app, _):
        members, chat = app.query_one(Members).region, app.query_one("#chat").region
        assert (members.width, chat.width) == (50, 50)
        assert chat.y == members.bottom
    async with drawn(ADA) as (app, _):
        assert app.query_one("#chat").region.y == app.query_one(Members).region.y


async def test_twenty_thousand_members_are_no_burden() -> None:
    """Grouping them takes a fraction of a second of CPU, drawing only what is in sight."""
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

"""The page in a real browser: who is there, what happens, and how it is shown."""

import asyncio
import re
from pathlib import Path

import pytest
from page_browser import LOST, MEMBERS, ONE, club, cut_off, gateway, visiting
from playwright.async_api import Browser, WebSocketRoute

from d_back_core import (
    Message,
    MessageDeleted,
    MessageEdited,
    Server,
    ServerChanged,
    ServerRemoved,
    Status,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_page import PageConfig
from d_back_testing import ScriptedProvider

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]


async def test_members_are_shown_by_status_with_their_colours(browser: Browser) -> None:
    """The default server is joined; each group has its number."""
    async with gateway({"club": club()}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.until_rows(
            ("Ada", "online"), ("Bob", "idle"), ("Cid", "dnd"), ("Dot", "offline")
        )
        assert await visitor.text("#name") == "The club"
        assert await visitor.text("#census") == "4 members, 3 online"
        labels = await visitor.page.locator("#groups button").evaluate_all(
            "(tabs) => tabs.map((tab) => tab.ariaLabel)"
        )
        assert labels == ["Online: 1", "Idle: 1", "Do not disturb: 1", "Offline: 1"]
        ada = visitor.page.locator(".member", has_text="Ada")
        assert await ada.evaluate("(row) => row.style.getPropertyValue('--role')") == "#e8743b"
        assert await visitor.page.title() == "The club: 3 online"
        assert visitor.page.url.endswith("/?s=club")


async def test_every_member_is_a_cube_in_their_colour(browser: Browser) -> None:
    """The colour of a member is on the plaza, and gone when the member is."""
    script = club()
    server = gateway({"club": script})
    async with server, visiting(browser, server, reduced_motion="reduce") as visitor:
        visitor.tolerated = re.compile("willReadFrequently")  # it is this test that reads
        await visitor.open()
        await visitor.until(SEEN, ["#e8743b", True])
        script.emit(UserRemoved(server_id="1", uid="11"))
        await visitor.until(SEEN, ["#e8743b", False])


SEEN = """([colour, wanted]) => {
    const channels = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const side = channels.map((each) => Math.round(each + (20 - each) * 0.06));
    const canvas = document.querySelector("#plaza .crowd");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let at = 0; at < data.length; at += 4) {
        if (side.every((each, channel) => data[at + channel] === each)) found += 1;
    }
    return wanted ? found > 20 : found === 0;
}"""


async def test_changes_arrive_live(browser: Browser) -> None:
    """A member comes, changes, and goes; nothing is reloaded."""
    script = club()
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.page.evaluate("window.here = true")
        script.emit(
            UserChanged(server_id="1", uid="15", username="Eve", status="online"),
            UserChanged(server_id="1", uid="12", status="online"),
            UserRemoved(server_id="1", uid="14"),
        )
        await visitor.until_rows(
            ("Ada", "online"), ("Bob", "online"), ("Eve", "online"), ("Cid", "dnd")
        )
        script.emit(UserChanged(server_id="1", uid="11", username="Zoe"))
        await visitor.until_rows(
            ("Bob", "online"), ("Eve", "online"), ("Zoe", "online"), ("Cid", "dnd")
        )
        await visitor.until("document.querySelector('#census').textContent.startsWith('4 ')")
        await visitor.until("document.querySelector('#rate').textContent === '4'")
        assert await visitor.page.locator("#spark").get_attribute("aria-label") == (
            "4 events in the last two minutes"
        )
        assert await visitor.page.evaluate("window.here")


async def test_what_is_said_is_typed_above_the_cube_and_kept_in_the_log(
    browser: Browser,
) -> None:
    """The bubble stands over its author; the log is one for screen readers."""
    script = club()
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.page.evaluate(TYPED)
        script.emit(Message(server_id="1", uid="11", message="good morning", channel="7"))
        await visitor.until(
            "document.querySelector('.bubble .said > bdi')?.textContent === 'good morning'"
        )
        typed = await visitor.page.evaluate("window.typed")
        assert {"g", "go", "goo", "good morning"} <= set(typed)
        assert (await visitor.text("#talk p")).startswith("Ada good morning")
        assert await visitor.page.locator("#talk").get_attribute("role") == "log"
        assert not await visitor.page.locator("#hush").is_visible()


async def test_an_edited_message_changes_and_a_deleted_one_goes_at_once(
    browser: Browser,
) -> None:
    """In the bubble and in the log, also while it is being typed; other messages stay."""
    script = club()
    logged = "[...document.querySelectorAll('#talk p > bdi')].map((each) => each.textContent)"
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open()

        def say(uid: str, text: str, message_id: str, channel: str = "7") -> Message:
            return Message(server_id="1", uid=uid, message=text, channel=channel, id=message_id)

        script.emit(
            say("11", "first", "1"), say("12", "second", "1", "8"), say("13", "third", "2")
        )
        await visitor.until("document.querySelectorAll('#talk p').length === 3")
        script.emit(
            MessageEdited(server_id="1", uid="11", message="the first", channel="7", id="1")
        )
        await visitor.until(
            "document.querySelector('.bubble .said > bdi')?.textContent === 'the first'"
        )
        assert await visitor.page.evaluate(logged) == ["the first", "second", "third"]
        script.emit(MessageDeleted(server_id="1", channel="7", id="1"))
        await visitor.until("document.querySelectorAll('#talk p').length === 2")
        assert await visitor.page.evaluate(logged) == ["second", "third"]
        said = await visitor.page.locator(".bubble .said > bdi").all_text_contents()
        assert "the first" not in said
        script.emit(MessageDeleted(server_id="1", channel="8", id="1"))
        script.emit(MessageDeleted(server_id="1", channel="7", id="2"))
        await visitor.until("document.querySelectorAll('#talk p, .bubble').length === 0")
        assert await visitor.page.locator("#hush").is_visible()


async def test_chat_names_its_channels_if_there_are_several(browser: Browser) -> None:
    """By the operator's names, else by the end of the id."""
    script = club()
    config = PageConfig(channels={"527964146659229701": "lobby"})
    async with (
        gateway({"club": script}, page=config) as server,
        visiting(browser, server) as visitor,
    ):
        await visitor.open()
        script.emit(Message(server_id="1", uid="11", message="one", channel="527964146659229701"))
        await visitor.until("document.querySelectorAll('#talk p').length === 1")
        assert not await visitor.page.locator("#talk .where").is_visible()
        script.emit(Message(server_id="1", uid="12", message="two", channel="527964146659229702"))
        await visitor.until("document.querySelectorAll('#talk p').length === 2")
        await visitor.until(
            "[...document.querySelectorAll('#talk .where')]"
            ".map((each) => each.innerText).join() === '#lobby,#9702'"
        )


async def test_the_list_of_servers_follows_its_updates(browser: Browser) -> None:
    """An update of the list leaves the servers that it does not name as they are."""
    script = club()
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.until(LISTED, "The club")
        script.emit(ServerChanged(server_id="2", name="The pub"))
        await visitor.until(LISTED, "The club, The pub")
        script.emit(ServerChanged(server_id="2", name="The bar", passworded=True))
        await visitor.until(LISTED, "The club, The bar (protected)")
        script.emit(ServerRemoved(server_id="2"))
        await visitor.until(LISTED, "The club")


LISTED = """(wanted) => {
    const options = [...document.querySelectorAll("#server option")];
    return options.map((option) => option.textContent).join(", ") === wanted;
}"""
TYPED = """() => {
    window.typed = [];
    new MutationObserver(() => {
        const words = document.querySelector(".bubble .said > bdi");
        if (words) window.typed.push(words.textContent);
    }).observe(document.querySelector(".bubbles"),
               {childList: true, subtree: true, characterData: true});
}"""


async def test_the_reader_of_a_smooth_life_sees_no_motion(browser: Browser) -> None:
    """With reduced motion a bubble is whole at once, and nothing is animated."""
    script = club()
    server = gateway({"club": script})
    async with server, visiting(browser, server, reduced_motion="reduce") as visitor:
        await visitor.open()
        await visitor.page.evaluate(TYPED)
        script.emit(Message(server_id="1", uid="11", message="good morning", channel="7"))
        await visitor.until("window.typed.length")
        assert set(await visitor.page.evaluate("window.typed")) == {"good morning"}
        await visitor.drawn()
        assert await visitor.page.evaluate("document.getAnimations().length") == 0


async def test_another_server_is_picked(browser: Browser) -> None:
    """The list of servers is a plain select; the address names the server, and leads there."""
    servers = {**ONE, "2": Server(name="The pub", id="pub")}
    script = ScriptedProvider(
        servers, {"1": MEMBERS, "2": {"21": User(username="Fay", status="online")}}
    )
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.page.get_by_label("Server").select_option("The pub")
        await visitor.until_rows(("Fay", "online"))
        assert visitor.page.url.endswith("/?s=pub")
        await visitor.page.get_by_label("Server").select_option("The club")
        await visitor.until("document.querySelector('#name').textContent === 'The club'")
        await visitor.open("?s=pub")
        await visitor.until_rows(("Fay", "online"))


async def test_a_server_that_is_gone_leads_to_the_default_one(browser: Browser) -> None:
    """An old address is no dead end, and is said to be old."""
    async with gateway({"club": club()}) as server, visiting(browser, server) as visitor:
        await visitor.open("?s=atlantis")
        await visitor.until("document.querySelector('#name').textContent === 'The club'")
        await visitor.page.get_by_text("There is no such server any more.").wait_for()


async def test_the_search_finds_and_says_when_no_member_is_found(browser: Browser) -> None:
    """Upper and lower case are the same; the slash leads there."""
    async with gateway({"club": club()}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.page.keyboard.press("/")
        await visitor.page.keyboard.type("bO")
        await visitor.until_rows(("Bob", "idle"))
        await visitor.page.keyboard.type("xx")
        await visitor.until_rows()
        assert await visitor.text("#none") == "No member is called “bOxx”."
        await visitor.page.get_by_label("Find a member").fill("")
        await visitor.until("document.querySelectorAll('.member').length === 4")


async def test_an_empty_server_and_no_server_are_said_to_be(
    browser: Browser, tmp_path: Path
) -> None:
    """Neither looks like a page that is broken."""
    script = ScriptedProvider(ONE, {"1": {}})
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.page.get_by_text("No members yet.").wait_for()
        await visitor.shot(tmp_path, "empty")
    async with (
        gateway({"club": ScriptedProvider({})}) as server,
        visiting(browser, server) as visitor,
    ):
        await visitor.page.goto(visitor.url)
        await visitor.page.get_by_text("No server yet.").wait_for()


async def test_a_lost_line_is_resumed(browser: Browser) -> None:
    """What is known stays to be seen; only what was missed is sent, and it is said."""
    script = club()
    server = gateway({"club": script})
    async with server, visiting(browser, server) as visitor:
        await visitor.open()
        await visitor.page.evaluate(STATES)
        await cut_off(server)
        script.emit(UserChanged(server_id="1", uid="12", status="online"))
        await visitor.page.get_by_text("Connected again; nothing was missed.").wait_for()
        await visitor.until_rows(
            ("Ada", "online"), ("Bob", "online"), ("Cid", "dnd"), ("Dot", "offline")
        )
        assert await visitor.page.evaluate("window.states") == ["lost", "connecting", "live"]
        assert (server.live.counters.joins, server.live.counters.resumes) == (1, 1)


STATES = """() => {
    window.states = [];
    new MutationObserver(() => window.states.push(document.body.dataset.link))
        .observe(document.body, {attributes: true, attributeFilter: ["data-link"]});
}"""


async def test_a_gap_in_the_numbers_is_no_wrong_picture(browser: Browser) -> None:
    """Where a change got lost on the way, everything is fetched again."""
    script = club()
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        lost: list[str | bytes] = []

        def between(socket: WebSocketRoute) -> None:
            def pass_on(message: str | bytes) -> None:
                if "presence" in str(message) and not lost:
                    lost.append(message)
                else:
                    socket.send(message)

            socket.connect_to_server().on_message(pass_on)

        await visitor.page.route_web_socket(re.compile("^ws:"), between)
        await visitor.open()
        script.emit(UserChanged(server_id="1", uid="12", status="online"))
        await visitor.drawn()
        script.emit(UserChanged(server_id="1", uid="13", status="online"))
        await visitor.until_rows(
            ("Ada", "online"), ("Bob", "online"), ("Cid", "online"), ("Dot", "offline")
        )
        assert lost
        assert (server.live.counters.joins, server.live.counters.resumes) == (2, 0)


async def test_a_gateway_that_was_restarted_is_joined_again(
    browser: Browser, tmp_path: Path
) -> None:
    """Meanwhile the page says since when it knows nothing new; then it shows the new state."""
    async with gateway({"club": club()}) as server, visiting(browser, server) as visitor:
        visitor.tolerated = LOST
        await visitor.open()
        await server.stop()
        await visitor.page.get_by_text(
            re.compile("The connection is lost.*This was the state")
        ).wait_for()
        assert len(await visitor.rows()) == 4
        assert await visitor.text("#link span") == "Lost"
        await visitor.shot(tmp_path, "lost")
        again = ScriptedProvider(ONE, {"1": {"99": User(username="Zoe", status="online")}})
        async with gateway({"club": again}, port=server.port):
            await visitor.until_rows(("Zoe", "online"))
            assert await visitor.text("#link span") == "Live"
            assert not await visitor.page.locator("#downtime").is_visible()


async def test_who_was_sent_away_comes_back_only_when_told_to(browser: Browser) -> None:
    """A page that the gateway does not want does not knock on and on."""
    server = gateway({"club": club()})
    async with server, visiting(browser, server) as visitor:
        await visitor.open()
        (connection,) = server.connections
        await connection.close(1008, "too many refused messages")
        await visitor.page.get_by_text("The gateway has refused this page.").wait_for()
        assert not server.connections
        await visitor.page.get_by_role("button", name="Try now").click()
        await visitor.until("document.body.dataset.link === 'live'")


async def test_a_device_without_a_network_is_told_so(browser: Browser) -> None:
    """It connects as soon as there is one again."""
    server = gateway({"club": club()})
    async with server, visiting(browser, server) as visitor:
        visitor.tolerated = LOST
        await visitor.open()
        await visitor.page.context.set_offline(True)
        await visitor.page.get_by_text("This device is offline.").wait_for()
        await visitor.page.context.set_offline(False)
        await visitor.until("document.body.dataset.link === 'live'")


async def test_the_page_keeps_up_with_a_burst(browser: Browser) -> None:
    """Two thousand changes at once end in the right state."""
    script = club()
    async with gateway({"club": script}) as server, visiting(browser, server) as visitor:
        await visitor.open()
        statuses: tuple[Status, ...] = ("online", "idle", "dnd", "offline")
        for number in range(2000):
            script.emit(UserChanged(server_id="1", uid="11", status=statuses[number % 4]))
            if number % 200 == 0:
                await asyncio.sleep(0)
        script.emit(UserChanged(server_id="1", uid="11", username="Done", status="idle"))
        await visitor.until_rows(
            ("Bob", "idle"), ("Done", "idle"), ("Cid", "dnd"), ("Dot", "offline")
        )

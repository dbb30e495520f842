"""The programs, commands and tables of the pages that have no test module of their own."""

import asyncio
import json
import re
import runpy
import shlex
import threading
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import discord_offline as offline
import pytest
from click.testing import CliRunner
from docs_pages import (
    DOCS,
    PAGES,
    ROOT,
    Block,
    all_blocks,
    blocks,
    first_names,
    headings,
    read,
    sections,
    tables,
)
from importlib_metadata import entry_points
from msgspec.structs import fields
from peers import Dial

from d_back_core import WebSocketServer
from d_back_core.cli import main as cli
from d_back_core.client import connect
from d_back_testing import ManualClock

PATIENCE = 30.0
PROGRAMS = [
    block
    for page in PAGES
    for block in blocks(str(page.relative_to(DOCS)), "python")
    if "/" not in (block.title or "")  # those are files of a package, which has its own tests
]


def program(page: str, title: str, folder: Path) -> SimpleNamespace:
    """The names of a program that a page shows, as of a module that has been imported."""
    (block,) = [block for block in blocks(page, "python") if block.title == title]
    path = folder / title
    path.write_text(block.text)
    return SimpleNamespace(**runpy.run_path(str(path)))


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: f"{block.page} {block.title}")
def test_programs_load(block: Block, tmp_path: Path) -> None:
    """Every program that a page shows has a name, and can be imported."""
    assert block.title is not None
    program(block.page, block.title, tmp_path)


# Commands


def spoken(page: Path) -> Iterator[list[str]]:
    """The words of every command of ours that a page shows."""
    for block in all_blocks(str(page.relative_to(DOCS))):
        if block.language != "sh":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            starts = [at for at, word in enumerate(words) if re.search(r"(^|/)d-back$", word)]
            if starts and (
                starts[0] == 0 or words[0] in {"sudo", "uvx"} or words[:2] == ["podman", "run"]
            ):
                yield words[starts[-1] + 1 :]


@pytest.mark.parametrize(
    "words", [words for page in PAGES for words in spoken(page)], ids=" ".join
)
def test_commands_are_known(words: list[str]) -> None:
    """Every command that a page shows is one, with the options that it has."""
    answer = CliRunner().invoke(cli.main, [*words, "--help"])
    assert answer.exit_code == 0, answer.output
    assert answer.output.startswith("Usage: ")


# Getting started


async def test_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first client prints who is there, and then what changes."""
    look = program("getting-started.md", "look.py", tmp_path).look
    clock = ManualClock()
    async with asyncio.timeout(PATIENCE), WebSocketServer(port=0, clock=clock) as server:
        looking = asyncio.ensure_future(look(server.url, changes=1))
        while not looking.done():
            await clock.advance(1)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "D-World ['Cog-Creators', 'NNTin', 'd-zone-org', 'vegeta897']"
    assert re.match(r"Wire(Presence|Message)\(", printed[1])


# The chain


async def test_hybrid(tmp_path: Path) -> None:
    """What the page says of its program: overlay, failover after the grace, failback, on one
    connection."""
    shown = program("chain.md", "hybrid.py", tmp_path)
    clock = ManualClock()
    given = {"colours": shown.Colours(), "bot": shown.bot, "memory": shown.Memory()}
    server = WebSocketServer(0, config=shown.config, providers=given, clock=clock)

    async def becomes(expected: dict[str, tuple[str, str]]) -> None:
        while {
            uid: (user.status, user.role_color) for uid, user in world.users.items()
        } != expected:
            await clock.advance(0.5)

    async with asyncio.timeout(PATIENCE), server, connect(server.url) as world:
        whole = {"7": ("online", "#ff0000"), "8": ("idle", "#ffffff")}
        await becomes(whole)
        shown.bot.broken = True
        await becomes({"7": ("offline", "#ff0000")})
        shown.bot.broken = False
        await becomes(whole)
        assert world.joins == 1


# Custom data providers

CUSTOM = "custom-data-providers.md"
Load: TypeAlias = Callable[[str], SimpleNamespace]


async def joined(server: WebSocketServer, dial: Dial, *wanted: str) -> dict[str, Any]:
    users: dict[str, Any] = (await (await dial(server)).join(*wanted))["users"]
    return users


@pytest.fixture
def served(tmp_path: Path) -> Load:
    """Load a program of the page and let its server listen at a free port."""

    def load(title: str) -> SimpleNamespace:
        shown = program(CUSTOM, title, tmp_path)
        if hasattr(shown, "server"):
            shown.server.port = 0
        return shown

    return load


async def test_users(served: Load, dial: Dial) -> None:
    """The users are shown; of a server that is not theirs there are none."""
    shown = served("users.py")
    async with shown.server as server:
        peer = await dial(server)
        for server_id, expected in (("11", {"Ada": "online", "Bob": "idle"}), ("12", {})):
            await peer.send({"type": "get_user_data", "serverId": server_id})
            answer = await peer.receive()
            users = answer.get("users", {})
            assert {uid: user["status"] for uid, user in users.items()} == expected


async def test_servers(served: Load, dial: Dial) -> None:
    """The open, the protected and the disabled server are what the page says."""
    async with served("servers.py").server as server:
        peer = await dial(server, greeted=False)
        listed = (await peer.expect("server-list"))["data"]
        assert listed["11"] == {
            "id": "chess",
            "name": "Chess club",
            "default": True,
            "passworded": False,
        }
        assert listed["12"]["passworded"] is True
        assert "13" not in listed
        await peer.ask("board", password="wrong")
        assert (await peer.refusal())[0] == "unauthorized"
        assert "0" in (await peer.join("board", password="open sesame"))["users"]


async def test_bot(served: Load, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bot serves its guild, tells of a status at once, and of who has left."""
    monkeypatch.setenv("DISCORD_TOKEN", "x")
    shown = served("bot.py")
    async with offline.running(shown.client, monkeypatch) as discord_, shown.server as server:
        world = await dial(server)
        assert (await world.join())["users"]["7"] == {
            "uid": "7",
            "username": "Ada",
            "status": "online",
            "roleColor": "#3498db",
        }
        discord_.emit("PRESENCE_UPDATE", offline.presence("7", "dnd"))
        assert (await world.expect("presence"))["data"] == {"uid": "7", "status": "dnd"}
        gone = {"guild_id": offline.GUILD, "user": offline.user("8", "Bo")}
        discord_.emit("GUILD_MEMBER_REMOVE", gone)
        assert (await world.expect("presence"))["data"]["delete"] is True
        assert set(await joined(server, dial)) == {"7", offline.BOT}


class Widget(BaseHTTPRequestHandler):
    """An address that says who is in a guild."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        body = json.dumps({"members": [{"id": "1", "username": "Ada", "status": "dnd"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


async def test_widget(served: Load, dial: Dial) -> None:
    """The address is asked in a thread, once for all who join within its time."""
    shown = served("widget.py")
    Widget.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Widget) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{http.server_port}/{{}}"
        shown.from_widget.__globals__["WIDGET"] = address
        try:
            async with shown.server as server:
                for _ in range(2):
                    users = await joined(server, dial, "plaza")
                    assert users["1"]["status"] == "dnd"
        finally:
            http.shutdown()
            thread.join()
    assert Widget.asked == 1


class Pool:
    """What asyncpg's pool gives for the two statements of the page."""

    async def fetch(self, statement: str, *arguments: str) -> list[dict[str, Any]]:
        if "FROM rooms" in statement:
            return [{"room": "1", "title": "Plaza", "listed": True}]
        assert arguments == ("1",)
        return [{"uid": "7", "nick": "Ada", "state": "idle", "colour": None}]


async def test_rows(served: Load, dial: Dial) -> None:
    """Rows are users, and NULL gets its default."""
    async with served("rows.py").serving(Pool(), port=0) as server:
        assert await joined(server, dial) == {
            "7": {"uid": "7", "username": "Ada", "status": "idle", "roleColor": "#ffffff"}
        }


async def test_by_hand(served: Load, dial: Dial) -> None:
    """The function takes the second source where the first has nothing, and completes it."""
    shown = served("by_hand.py")
    shown.stored["1"] = {"7": {"username": "Ada"}}
    shown.extra["7"] = {"roleColor": "#00ff00"}
    async with shown.server as server:
        assert (await joined(server, dial))["7"]["roleColor"] == "#00ff00"
        shown.live["1"] = {"8": {"username": "Bob"}}
        assert set(await joined(server, dial)) == {"8"}


async def test_callbacks_first(served: Load, dial: Dial) -> None:
    """Where the callback has nothing, the provider answers."""
    async with served("callbacks_first.py").server as server:
        assert set(await joined(server, dial, "1")) == {"7"}
        assert set(await joined(server, dial, "2")) == {"9"}


async def test_live(served: Load, dial: Dial) -> None:
    """The three ways to tell of a change reach who is joined."""
    shown = served("live.py")
    async with shown.server as server:
        peer = await dial(server)
        await peer.join()
        await shown.falls_asleep("7")
        assert (await peer.expect("presence"))["data"] == {"uid": "7", "status": "idle"}
        await shown.says("7", "hello")
        assert (await peer.expect("message"))["data"]["message"] == "hello"
        shown.people["8"] = {"username": "Bob"}
        await shown.everything_is_different()
        assert (await peer.expect("presence"))["data"]["uid"] == "8"


async def test_of_the_page(served: Load) -> None:
    """The test that the page shows passes."""
    await served("test_people.py").test_a_guest_is_shown_and_goes()


# Migration


async def test_old_program(tmp_path: Path, dial: Dial) -> None:
    """The program for 0.0.x runs unchanged."""
    shown = program("migration.md", "old.py", tmp_path)
    shown.server.port = 0
    async with shown.server as server:
        assert set(await joined(server, dial)) == {"7"}


# Providers


def plugins_here() -> Iterator[str]:
    """The names of the plugins that are made in this repository."""
    for path in ROOT.glob("plugins/*/pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        yield from project.get("entry-points", {}).get("d_back.providers", ())


PLUGINS = sorted(plugins_here())


def places() -> dict[str, str]:
    """The anchor of each plugin's section, as the table at the top links to it."""
    (table,) = tables(sections("providers.md")["Providers"])
    links = [re.fullmatch(r"\[([\w-]+)\]\(#([\w-]+)\)", row[0]) for row in table]
    return {link[1]: link[2] for link in links if link is not None}


def test_no_plugin_is_left_out() -> None:
    """Each plugin of the repository has its section."""
    assert sorted(places()) == PLUGINS


@pytest.mark.parametrize("name", PLUGINS)
def test_keys_of_plugins(name: str) -> None:
    """Each key of a plugin is in its table, in order."""
    (point,) = entry_points(group="d_back.providers", name=name)
    titles = {heading.anchor: heading.text for heading in headings(read("providers.md"))}
    (table,) = tables(sections("providers.md")[titles[places()[name]]])
    described = first_names([row[:1] for row in table])
    assert described == [field.name for field in fields(point.load().Config)]

"""The tools of `d_back_testing` beside the contract: gateway, clock, log, scripted provider and
fixtures; and the documentation of all of them."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from docs_pages import blocks, read, tables
from runs import run

from d_back_core import Server, User, hookimpl
from d_back_testing import (
    Leaks,
    ManualClock,
    ProviderContract,
    ScriptedProvider,
    logged,
    plugin,
    served,
)
from d_back_testing.contract.rules import NOT_MINE
from d_back_testing.contract.suite import Suite

pytestmark = pytest.mark.long

ONE = {"1": Server(name="One")}
ADA = {"1": {"7": User(username="Ada")}}
FIXTURES = '''
import pytest
from d_back_core import Server, User, UserChanged

{mark}
async def test_fixtures(
    d_back_gateway, d_back_clock, d_back_scripted_provider, d_back_log
):
    """All of them at once."""
    users = {{"1": {{"7": User(username="Ada")}}}}
    club = d_back_scripted_provider({{"1": Server(name="One")}}, users)
    async with d_back_gateway({{"club": club}}, policies={{"1": {{"alias": "one"}}}}) as gateway:
        world = await gateway.join("one")
        club.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await world.until(lambda world: world.users["7"].status == "dnd")
        assert gateway.clock is d_back_clock
        assert club.context.clock is d_back_clock
    assert any("club is ready" in line for line in d_back_log.lines)
'''


async def test_a_client_stays_until_the_gateway_stops() -> None:
    """`RunningGateway.join` returns a client that follows the server."""
    async with served({"club": ScriptedProvider(ONE, ADA)}) as gateway:
        world = await gateway.join("1")
        assert world.users["7"].username == "Ada"
        assert world.close_code is None
    assert world.close_code is not None


async def test_advance_moves_the_clock_of_the_gateway() -> None:
    """The grace of a failed provider ends when the test moves the clock."""
    club = ScriptedProvider(ONE, ADA)
    async with served({"club": club}, tables={"club": {"grace": "30s"}}) as gateway:
        await gateway.join("1")
        club.break_stream()
        await gateway.settle()
        assert gateway.health("club") == "degraded"
        await gateway.advance(31)
        assert gateway.health("club") == "failed"


async def test_a_leak_fails_the_test() -> None:
    """The error names a task that is left after the gateway has stopped."""
    never = asyncio.Event()

    class Club(ScriptedProvider):
        @hookimpl
        async def stop(self) -> None:
            self.task = asyncio.create_task(never.wait(), name="a forgotten one")

    club = Club(ONE, ADA)
    with pytest.raises(AssertionError, match=r"left after the gateway has stopped: .*forgotten"):
        async with served({"club": club}):
            pass
    club.task.cancel()


async def test_leaks() -> None:
    """Tasks, sockets, threads and timers are found, and only new ones."""
    clock = ManualClock()
    leaks = Leaks(clock)
    assert leaks.found() == []
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="left")
    timer = clock.call_later(1, over.set)
    task = asyncio.create_task(asyncio.Event().wait(), name="left")
    await asyncio.sleep(0)
    thread.start()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        timers, one_socket, one_task, one_thread = leaks.found()
        assert timers == "1 timers of the clock"
        assert one_socket == f"socket 127.0.0.1:{port}"
        assert one_task.startswith("task left (Event.wait")
        assert one_thread == "thread left"
    over.set()
    thread.join()
    timer.cancel()
    task.cancel()
    await asyncio.wait([task])
    assert leaks.found() == []


async def test_pending_timers() -> None:
    """Cancelled and fired timers are not pending."""
    clock = ManualClock()
    fired = clock.call_later(1, lambda: None)
    clock.call_later(2, lambda: None).cancel()
    clock.call_later(3, lambda: None)
    assert clock.pending == 2
    await clock.advance(1)
    assert clock.pending == 1
    fired.cancel()
    assert clock.pending == 1


def test_the_log() -> None:
    """`logged` keeps the records of a logger and of those below it, and restores their levels."""
    logger = logging.getLogger("d_back.providers.club")
    before = logging.getLogger("d_back").level
    with logged(level=logging.INFO) as log:
        logger.debug("not this")
        logger.info("that")
        logger.warning("and this")
        logging.getLogger("other").warning("nor that")
    logger.warning("too late")
    assert log.lines == [
        "INFO d_back.providers.club: that",
        "WARNING d_back.providers.club: and this",
    ]
    assert log.warnings == ["WARNING d_back.providers.club: and this"]
    assert logging.getLogger("d_back").level == before


async def test_a_scripted_provider_holds_its_calls() -> None:
    """A held call waits for `release`, and a cancelled one is recorded."""
    club = ScriptedProvider(ONE, ADA)
    club.hold("users")
    waiting, cancelled = (asyncio.create_task(club.users("1")) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert not waiting.done()
    assert club.cancelled == ["users"]
    club.release("users")
    assert await waiting == ADA["1"]


@pytest.mark.parametrize(
    ("mode", "mark"), [("auto", ""), ("strict", "@pytest.mark.asyncio")], ids=["auto", "strict"]
)
def test_fixtures(tmp_path: Path, mode: str, mark: str) -> None:
    """The fixtures need no import, and work in both modes of pytest-asyncio."""
    (tmp_path / "test_it.py").write_text(FIXTURES.format(mark=mark))
    assert run(tmp_path, f"--asyncio-mode={mode}") == {"test_it.test_fixtures": ("passed", "")}


def test_only_the_contract_imports_pytest() -> None:
    """The other tools work with `unittest`, too."""
    code = (
        "import sys\n"
        "from d_back_testing import ManualClock, ScriptedProvider, logged, served\n"
        "assert 'pytest' not in sys.modules\n"
        "from d_back_testing import ProviderContract\n"
        "assert 'pytest' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603  our own Python


# The documentation


def test_every_check_is_documented() -> None:
    """The table of checks has each check, and no other name."""
    named = [row[0].strip("`") for row in section_table("The checks")]
    assert sorted(named) == sorted(name for name in dir(ProviderContract) if name[:5] == "test_")


def test_every_attribute_of_the_contract_is_documented() -> None:
    """The table of attributes has each attribute of `Suite`, and no other name."""
    named = {row[0].strip("`") for row in section_table("The contract")}
    declared = {
        name for name in (*vars(Suite), *Suite.__annotations__) if not name.startswith("_")
    }
    assert named == declared - {"can_trigger_event", "can_lose_source"}


def test_every_fixture_is_documented() -> None:
    """The table of fixtures has each fixture of the plugin, and no other name."""
    named = [row[0].strip("`") for row in section_table("Fixtures")]
    assert sorted(named) == sorted(name for name in vars(plugin) if name[:7] == "d_back_")


def section_table(heading: str) -> list[list[str]]:
    section = read("testing.md").split(f"## {heading}\n")[1].split("\n## ")[0]
    (found,) = tables(section)
    return found


@pytest.fixture
def documented(tmp_path: Path) -> Path:
    """The package of the page about hooks, with its tests and those of this page."""
    for block in [*blocks("hooks.md", "python"), *blocks("testing.md", "python")]:
        assert block.title is not None, block.text
        path = tmp_path / block.title
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text)
    return tmp_path


def test_the_documented_tests_have_types(documented: Path) -> None:
    """mypy, strict as in a generated package, has nothing to say about the pages."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "."],
        cwd=documented,
        env=os.environ | {"MYPYPATH": "tests"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_documented_tests_pass(documented: Path) -> None:
    """The tests of the page pass on the package that the page about hooks shows."""
    outcomes = run(documented, "--asyncio-mode=auto")
    failures = {name: text for name, (outcome, text) in outcomes.items() if outcome == "failure"}
    assert failures == {}
    passed = [name for name, (outcome, _) in outcomes.items() if outcome == "passed"]
    assert len(passed) > 70
    assert {name.split(".")[1] for name in passed} == {
        "test_club",
        "test_contract",
        "test_gateway",
        "test_reconnect",
    }


def test_the_documented_failure_quotes_the_contract() -> None:
    """The failure on the page has the rule as the contract quotes it."""
    (shown,) = [block.text for block in blocks("testing.md", "text")]
    assert str(NOT_MINE) in shown

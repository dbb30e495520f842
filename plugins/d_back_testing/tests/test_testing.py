"""What `d_back_testing` has beside the contract: the gateway, the clock, the log, the
fixtures; and the page about it."""

import asyncio
import logging
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
    Leftovers,
    ManualClock,
    ProviderContract,
    Script,
    logged,
    plugin,
    served,
)
from d_back_testing.contract.checks import Suite
from d_back_testing.contract.promises import NOT_MINE

ONE = {"1": Server(name="One")}
ADA = {"1": {"7": User(username="Ada")}}
FIXTURES = '''
import pytest
from d_back_core import Server, User, UserChanged

{mark}
async def test_fixtures(d_back_gateway, d_back_clock, d_back_script, d_back_log):
    """All of them at once."""
    club = d_back_script({{"1": Server(name="One")}}, {{"1": {{"7": User(username="Ada")}}}})
    async with d_back_gateway({{"club": club}}, policies={{"1": {{"alias": "one"}}}}) as scene:
        world = await scene.join("one")
        club.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await world.until(lambda world: world.users["7"].status == "dnd")
        assert scene.clock is d_back_clock
        assert club.context.clock is d_back_clock
    assert any("club is ready" in line for line in d_back_log.lines)
'''


async def test_a_client_in_the_scene() -> None:
    """A client joins, and stays until the gateway ends."""
    async with served({"club": Script(ONE, ADA)}) as scene:
        world = await scene.join("1")
        assert world.users["7"].username == "Ada"
        assert world.close_code is None
    assert world.close_code is not None


async def test_time_passes_in_the_scene() -> None:
    """What is due happens when the test says so: the grace of a provider that has failed."""
    club = Script(ONE, ADA)
    async with served({"club": club}, tables={"club": {"grace": "30s"}}) as scene:
        await scene.join("1")
        club.break_stream()
        await scene.settle()
        assert scene.health("club") == "degraded"
        await scene.advance(31)
        assert scene.health("club") == "failed"


async def test_what_a_provider_leaves_fails_the_scene() -> None:
    """A task that outlives the gateway is named."""
    never = asyncio.Event()

    class Club(Script):
        @hookimpl
        async def stop(self) -> None:
            self.task = asyncio.create_task(never.wait(), name="a forgotten one")

    club = Club(ONE, ADA)
    with pytest.raises(AssertionError, match=r"left when the gateway had stopped: .*forgotten"):
        async with served({"club": club}):
            pass
    club.task.cancel()


async def test_leftovers() -> None:
    """Each kind is found, and only what was not there before."""
    clock = ManualClock()
    leftovers = Leftovers(clock)
    assert leftovers.found() == []
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="left")
    timer = clock.call_later(1, over.set)
    task = asyncio.create_task(asyncio.Event().wait(), name="left")
    await asyncio.sleep(0)
    thread.start()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        timers, one_socket, one_task, one_thread = leftovers.found()
        assert timers == "1 timers of the clock"
        assert one_socket == f"socket 127.0.0.1:{port}"
        assert one_task.startswith("task left (Event.wait")
        assert one_thread == "thread left"
    over.set()
    thread.join()
    timer.cancel()
    task.cancel()
    await asyncio.wait([task])
    assert leftovers.found() == []


async def test_pending_timers() -> None:
    """Timers that were cancelled, or have fired, are not pending."""
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
    """Records of the named loggers and of those below are kept, from that level on; afterwards
    everything is as it was."""
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


async def test_a_script_holds_its_calls() -> None:
    """A held call waits until it is let go; a cancelled one is noted."""
    club = Script(ONE, ADA)
    club.hold("users")
    waiting, given_up = (asyncio.create_task(club.users("1")) for _ in range(2))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    assert not waiting.done()
    assert club.cancelled == ["users"]
    club.let_go("users")
    assert await waiting == ADA["1"]


@pytest.mark.parametrize(
    ("mode", "mark"), [("auto", ""), ("strict", "@pytest.mark.asyncio")], ids=["auto", "strict"]
)
def test_fixtures(tmp_path: Path, mode: str, mark: str) -> None:
    """They are there without a word, and work in both modes of pytest-asyncio."""
    (tmp_path / "test_it.py").write_text(FIXTURES.format(mark=mark))
    assert run(tmp_path, f"--asyncio-mode={mode}") == {"test_it.test_fixtures": ("passed", "")}


def test_without_pytest() -> None:
    """Only the contract needs a test framework, and says what to install."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from d_back_testing import ManualClock, Script, logged, served\n"
        "from d_back_testing import ProviderContract"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own Python
    assert "ProviderContract needs pytest: pip install d-back-core[testing]" in done.stderr
    assert "line 3" in done.stderr


# The page


def test_the_page_names_every_check() -> None:
    """Each check is in the table, and nothing else."""
    named = [row[0].strip("`") for row in section_table("What it checks")]
    assert sorted(named) == sorted(name for name in dir(ProviderContract) if name[:5] == "test_")


def test_the_page_names_all_that_can_be_said() -> None:
    """Each attribute of the class is in the table."""
    named = {row[0].strip("`") for row in section_table("The contract")}
    said = {name for name in (*vars(Suite), *Suite.__annotations__) if not name.startswith("_")}
    assert named == said - {"can_happen"}


def test_the_page_names_every_fixture() -> None:
    """Each fixture of the plugin is in the table."""
    named = [row[0].strip("`") for row in section_table("Fixtures")]
    assert sorted(named) == sorted(name for name in vars(plugin) if name[:7] == "d_back_")


def section_table(heading: str) -> list[list[str]]:
    section = read("testing.md").split(f"## {heading}\n")[1].split("\n## ")[0]
    (found,) = tables(section)
    return found


def test_the_tests_of_the_page(tmp_path: Path) -> None:
    """The tests that the page shows pass, on the package of the page about hooks."""
    for block in [*blocks("hooks.md", "python"), *blocks("testing.md", "python")]:
        assert block.title is not None, block.text
        path = tmp_path / block.title
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text)
    outcomes = run(tmp_path, "--asyncio-mode=auto")
    told = {name: text for name, (outcome, text) in outcomes.items() if outcome == "failure"}
    assert told == {}
    passed = [name for name, (outcome, _) in outcomes.items() if outcome == "passed"]
    assert len(passed) > 45
    assert {name.split(".")[1] for name in passed} == {
        "test_club",
        "test_contract",
        "test_gateway",
    }


def test_the_failure_of_the_page_is_a_real_one() -> None:
    """The sentence that the page shows is quoted as the contract quotes it."""
    (shown,) = [block.text for block in blocks("testing.md", "text")]
    assert str(NOT_MINE) in shown

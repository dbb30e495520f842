"""`ProviderContract`: a correct provider passes, and each defect fails its check."""

import inspect
import shutil
from pathlib import Path

import pytest
from contract_defects import DEFECTS
from runs import run

from d_back_core import hookspecs
from d_back_testing.contract import ProviderContract, rules

pytestmark = pytest.mark.long

CHECKS = {name for name in dir(ProviderContract) if name.startswith("test_")}
BAD = """
import asyncio, threading, time, urllib.request
from contextlib import suppress
from pathlib import Path
from msgspec import structs
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from d_back_core import *
from contract_good import ClubConfig, Good, Link, Reconnecting, Source

class Bad(Good):
{code}
"""
TESTS = """
import pytest
from contract_good import Source
from d_back_core import UserChanged
from d_back_testing import ProviderContract
from {module} import {provider} as Provider

class TestIt(ProviderContract):
    server_id = "1"
    http_paths = ["/club"]
    timeout = {timeout}

    def provider(self):
        self.source = Source()
        return Provider(Provider.Config(), self.source)

    def unavailable(self):
        self.source = Source()
        self.source.there = False
        return Provider(Provider.Config(), self.source)

    async def trigger_event(self):
        self.source.change("1", "7", UserChanged(server_id="1", uid="7", status="dnd"))

    async def lose_source(self):
        self.source.lose()

    async def restore_source(self):
        self.source.restore()
"""
FEW = """
from d_back_core import Server, hookimpl
from d_back_testing import ProviderContract

class Few:
    def __init__(self, config): pass

    @hookimpl
    async def servers(self): return {"1": Server(name="One")}

class TestFew(ProviderContract):
    def provider(self): return Few(None)
"""
WITH_NONE = """
from msgspec import structs
from d_back_core import UserRemoved, hookimpl
from contract_good import Good

class WithNone(Good):
    @hookimpl
    async def users(self, server_id):
        users = await super().users(server_id)
        return users and {
            uid: structs.replace(user, role_color=user.role_color or None)
            for uid, user in users.items()
        }

    @hookimpl
    async def events(self):
        async for event in super().events():
            yield UserRemoved(server_id="1", uid="7")
            yield structs.replace(event, username="Ada")
"""
SHORT_TIMEOUT = 0.5
"""Seconds. A defective provider never does what the check waits for."""


def prepare(folder: Path, module: str, provider: str, timeout: float, test: str = "it") -> None:
    shutil.copy(Path(__file__).with_name("contract_good.py"), folder)
    tests = TESTS.format(module=module, provider=provider, timeout=timeout)
    (folder / f"test_{test}.py").write_text(tests)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """The outcomes of all defects, by the name of the test: one run of pytest for all."""
    folder = tmp_path_factory.mktemp("defects")
    chosen = []
    for number, defect in enumerate(DEFECTS):
        (folder / f"bad_{number}.py").write_text(BAD.format(code=defect.code.strip("\n")))
        prepare(folder, f"bad_{number}", "Bad", SHORT_TIMEOUT, str(number))
        chosen.append(f"test_{number}.py::TestIt::{defect.check}")
    return run(folder, *chosen)


@pytest.mark.parametrize("provider", ["Good", "Reconnecting"])
def test_a_correct_provider_passes(tmp_path: Path, provider: str) -> None:
    """Every check runs and passes, if a lost source ends the run or the provider reconnects."""
    prepare(tmp_path, "contract_good", provider, 30.0)
    outcomes = run(tmp_path)
    assert {name.rsplit(".", 1)[1] for name in outcomes} == CHECKS
    assert {outcome for outcome, _ in outcomes.values()} == {"passed"}


def test_a_lost_source_of_a_provider_without_a_stream(tmp_path: Path) -> None:
    """It is noticed by hooks that raise; only the check that needs a stream is skipped."""
    prepare(tmp_path, "contract_good", "Polled", 30.0)
    outcomes = run(tmp_path, "-k", "lost_source or reconnect")
    assert sorted(outcome for outcome, _ in outcomes.values()) == ["passed"] * 3 + ["skipped"]


def test_a_field_of_none_agrees_with_one_that_is_left_out(tmp_path: Path) -> None:
    """A record with `role_color=None` agrees with an event that leaves the field out."""
    prepare(tmp_path, "provider_of_none", "WithNone", 30.0)
    (tmp_path / "provider_of_none.py").write_text(WITH_NONE)
    outcomes = run(tmp_path, "-k", "agree or start_subscribes")
    assert len(outcomes) == 4
    assert {outcome for outcome, _ in outcomes.values()} == {"passed"}


@pytest.mark.parametrize("number", range(len(DEFECTS)), ids=[each.name for each in DEFECTS])
def test_a_defect_is_found(found: dict[str, tuple[str, str]], number: int) -> None:
    """The check of the defect fails, names the violation, and quotes the contract."""
    defect = DEFECTS[number]
    outcome, message = found[f"test_{number}.TestIt.{defect.check}"]
    assert outcome == "failure"
    assert defect.says in message
    assert "The contract says:" in message


@pytest.mark.parametrize(
    "arguments", [("-p", "no:asyncio"), ("--asyncio-mode=strict",)], ids=" ".join
)
def test_it_needs_no_plugin_for_async_tests(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The checks run without an async plugin, and in the strict mode of one."""
    prepare(tmp_path, "contract_good", "Good", 30.0)
    outcomes = run(tmp_path, *arguments, "-k", "agree or stream")
    assert len(outcomes) == 5
    assert {outcome for outcome, _ in outcomes.values()} == {"passed"}


def test_every_check_has_a_defect() -> None:
    """Every check fails for at least one defect."""
    assert {defect.check for defect in DEFECTS} == CHECKS


@pytest.mark.parametrize(
    "rule",
    [each for each in vars(rules).values() if isinstance(each, rules.Rule)],
    ids=lambda rule: rule.text[:40],
)
def test_a_quoted_rule_is_in_the_reference(rule: rules.Rule) -> None:
    """The docstring that a rule names has its text."""
    documented = getattr(hookspecs.ProviderSpec, rule.hook) if rule.hook else hookspecs
    assert rule.text in " ".join((inspect.getdoc(documented) or "").split())


def test_a_check_of_a_missing_hook_is_skipped(tmp_path: Path) -> None:
    """The reason of the skip names the hook."""
    (tmp_path / "test_few.py").write_text(FEW)
    outcomes = run(tmp_path)
    assert len(outcomes) == len(CHECKS)
    assert {outcome for outcome, _ in outcomes.values()} == {"passed", "skipped"}
    assert "Few has no hook events" in outcomes["test_few.TestFew.test_events_are_valid"][1]


def test_blocking_calls_are_not_checked_without_blockbuster(tmp_path: Path) -> None:
    """The check is skipped, and its reason says what to install."""
    (tmp_path / "conftest.py").write_text("import sys\nsys.modules['blockbuster'] = None\n")
    (tmp_path / "test_few.py").write_text(FEW)
    outcomes = run(tmp_path, "-k", "blocks")
    [(outcome, reason)] = outcomes.values()
    assert outcome == "skipped"
    assert "needs blockbuster: pip install 'd-back-testing[blocking]'" in reason

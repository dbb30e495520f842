"""The provider contract: a provider that keeps it passes, and one that breaks it is told how."""

import inspect
import shutil
from pathlib import Path

import pytest
from contract_defects import DEFECTS
from runs import run

from d_back_core import hookspecs
from d_back_testing.contract import ProviderContract, promises

CHECKS = {name for name in dir(ProviderContract) if name.startswith("test_")}
BAD = """
import asyncio, threading, time, urllib.request
from contextlib import suppress
from pathlib import Path
from msgspec import structs
from d_back_core import *
from contract_good import ClubConfig, Good, Source

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
    patience = {patience}

    def provider(self):
        self.source = Source()
        return Provider(Provider.Config(), self.source)

    def unavailable(self):
        self.source = Source()
        self.source.there = False
        return Provider(Provider.Config(), self.source)

    async def happen(self):
        self.source.change("1", "7", UserChanged(server_id="1", uid="7", status="dnd"))
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
IMPATIENT = 0.5
"""Seconds for what never comes; what does come, comes at once."""


def prepare(folder: Path, module: str, provider: str, patience: float, test: str = "it") -> None:
    shutil.copy(Path(__file__).with_name("contract_good.py"), folder)
    tests = TESTS.format(module=module, provider=provider, patience=patience)
    (folder / f"test_{test}.py").write_text(tests)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """What was told about every defect, by the number of the defect: one run for all of them."""
    folder = tmp_path_factory.mktemp("defects")
    chosen = []
    for number, defect in enumerate(DEFECTS):
        (folder / f"bad_{number}.py").write_text(BAD.format(code=defect.code.strip("\n")))
        prepare(folder, f"bad_{number}", "Bad", IMPATIENT, str(number))
        chosen.append(f"test_{number}.py::TestIt::{defect.check}")
    return run(folder, *chosen)


def test_a_provider_that_keeps_the_contract_passes(tmp_path: Path) -> None:
    """Every check runs, and none fails."""
    prepare(tmp_path, "contract_good", "Good", 30.0)
    outcomes = run(tmp_path)
    assert {name.rsplit(".", 1)[1] for name in outcomes} == CHECKS
    assert {outcome for outcome, _ in outcomes.values()} == {"passed"}


@pytest.mark.parametrize("number", range(len(DEFECTS)), ids=[each.name for each in DEFECTS])
def test_a_defect_is_found(found: dict[str, tuple[str, str]], number: int) -> None:
    """The check that names it fails, says what happened, and quotes the contract."""
    defect = DEFECTS[number]
    outcome, told = found[f"test_{number}.TestIt.{defect.check}"]
    assert outcome == "failure"
    assert defect.says in told
    assert "The contract says:" in told


@pytest.mark.parametrize(
    "arguments", [("-p", "no:asyncio"), ("--asyncio-mode=strict",)], ids=" ".join
)
def test_it_needs_no_plugin_for_async_tests(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The checks run without such a plugin, and in whichever mode of one."""
    prepare(tmp_path, "contract_good", "Good", 30.0)
    outcomes = run(tmp_path, *arguments, "-k", "twice or stream")
    assert len(outcomes) == 5
    assert {outcome for outcome, _ in outcomes.values()} == {"passed"}


def test_every_check_has_a_defect() -> None:
    """No check is there that was never seen to fail."""
    assert {defect.check for defect in DEFECTS} == CHECKS


@pytest.mark.parametrize(
    "promise",
    [each for each in vars(promises).values() if isinstance(each, promises.Promise)],
    ids=lambda promise: promise.text[:40],
)
def test_what_the_contract_quotes_is_written(promise: promises.Promise) -> None:
    """Each quotation stands in the docstring that it names."""
    said = getattr(hookspecs.ProviderSpec, promise.hook) if promise.hook else hookspecs
    text = " ".join((inspect.getdoc(said) or "").split())
    assert promise.text in text


def test_a_check_is_skipped_where_the_hook_is_missing(tmp_path: Path) -> None:
    """A provider that only has servers is not asked for more, and the run says so."""
    (tmp_path / "test_few.py").write_text(FEW)
    outcomes = run(tmp_path)
    assert len(outcomes) == len(CHECKS)
    assert {outcome for outcome, _ in outcomes.values()} == {"passed", "skipped"}
    assert "Few has no hook events" in outcomes["test_few.TestFew.test_its_events_are_valid"][1]

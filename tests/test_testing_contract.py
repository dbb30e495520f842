"""The provider contract: a provider that keeps it passes, and one that breaks it is told how."""

import inspect
import shutil
from pathlib import Path
from textwrap import dedent

import pytest
from contract_defects import DEFECTS, Defect

from d_back_core import hookspecs
from d_back_core.testing.contract import ProviderContract, promises

pytest_plugins = ["pytester"]

CHECKS = {name for name in dir(ProviderContract) if name.startswith("test_")}
BAD = """
import asyncio, threading, time, urllib.request
from contextlib import suppress
from pathlib import Path
from msgspec import structs
from d_back_core import *
from contract_good import *

class Bad(Good):
{code}
"""
TESTS = """
from contract_good import Source
from d_back_core import UserChanged
from d_back_core.testing import ProviderContract
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
IMPATIENT = 0.5
"""Seconds for what never comes; what does come, comes at once."""


def prepare(pytester: pytest.Pytester, module: str, provider: str, patience: float) -> None:
    shutil.copy(Path(__file__).with_name("contract_good.py"), pytester.path)
    pytester.makepyfile(
        test_it=TESTS.format(module=module, provider=provider, patience=patience)
    )
    pytester.syspathinsert()


def test_a_provider_that_keeps_the_contract_passes(pytester: pytest.Pytester) -> None:
    """Every check runs, and none fails."""
    prepare(pytester, "contract_good", "Good", 30.0)
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=len(CHECKS))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name.replace(" ", "_"))
def test_a_defect_is_found(pytester: pytest.Pytester, defect: Defect) -> None:
    """The check that names it fails, says what happened, and quotes the contract."""
    pytester.makepyfile(bad=BAD.format(code=defect.code.strip("\n")))
    prepare(pytester, "bad", "Bad", IMPATIENT)
    run = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", f"{defect.check}")
    failed = [line for line in run.outlines if line.startswith("FAILED")]
    assert any(line.split("::")[-1].split(" ")[0] == defect.check for line in failed)
    told = "\n".join(run.outlines)
    assert defect.says in told
    assert "The contract says:" in told


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
    text = " ".join(inspect.getdoc(said).split())  # type: ignore[union-attr]  it has one
    assert promise.text in text


def test_a_check_is_skipped_where_the_hook_is_missing(pytester: pytest.Pytester) -> None:
    """A provider that only has servers is not asked for more, and the run says so."""
    code = '''
        from d_back_core import Server, hookimpl
        from d_back_core.testing import ProviderContract

        class Few:
            def __init__(self, config): pass
            @hookimpl
            async def servers(self): return {"1": Server(name="One")}

        class TestFew(ProviderContract):
            def provider(self): return Few(None)
    '''
    pytester.makepyfile(test_few=dedent(code))
    run = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rs")
    outcomes = run.parseoutcomes()
    assert "failed" not in outcomes
    assert outcomes["passed"] + outcomes["skipped"] == len(CHECKS)
    run.stdout.fnmatch_lines(["*Few has no hook events"])

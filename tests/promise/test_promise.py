"""The short run of the promise; CONTRIBUTING.md says how a long one is started."""

import asyncio

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from promise.program import (
    Burst,
    Chat,
    Cut,
    Program,
    Setup,
    Source,
    Stall,
    chains,
    lines,
)
from promise.run import run
from promise.small import SMALL

pytestmark = pytest.mark.long

SHORT = settings(
    max_examples=30,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # the long run makes a difference small
    suppress_health_check=list(HealthCheck),
)


def kept(program: Program) -> None:
    """Let the program happen, and expect no difference."""
    report = asyncio.run(run(program))
    assert not report.differences, "\n".join([repr(program), *report.differences])


@pytest.mark.parametrize("name", list(SMALL))
def test_small_programs(name: str) -> None:
    """Each of these programs shows no difference."""
    kept(SMALL[name])


def test_a_program_makes_clients_slow_and_cuts_them() -> None:
    """A stall leads to a resync, and a cut to a resume: the run does what it is there for."""
    much = Burst(source=0, server="1", count=400, size=400, at_once=10)
    happened = (
        (Stall(client=0), much),
        (Cut(client=1, after=0), Chat(source=0, server="1", uid="1")),
    )
    report = asyncio.run(run(Program(Setup((Source(last=40),)), happened)))
    assert not report.differences
    assert report.counts["resyncs"]
    assert (report.counts["cuts"], report.counts["resumes"]) == (1, 1)


@seed(1)
@SHORT
@given(lines)
def test_r48_lines_that_stall_and_are_cut(program: Program) -> None:
    """Whatever happens to connections, every client ends with the truth."""
    kept(program)


@seed(1)
@SHORT
@given(chains)
def test_r7_sources_that_fail(program: Program) -> None:
    """Whatever happens to sources and to the configuration, every client ends with the truth."""
    kept(program)

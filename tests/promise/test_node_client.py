"""The JavaScript client in the same storm: cuts, stalls and sources that fail."""

import asyncio

import pytest
from hypothesis import given, seed, settings
from js_client.node import node

from promise.node_client import running
from promise.program import Burst, Chat, Cut, Program, Setup, Source, Stall, chains, lines
from promise.run import Report, run
from promise.small import SMALL
from promise.test_promise import SHORT

pytestmark = pytest.mark.long

FEWER = settings(SHORT, max_examples=10)  # each program starts Node


def kept(program: Program) -> Report:
    """Let the program happen to clients of d-back-client, and expect no difference."""

    async def happen() -> Report:
        async with running(node()) as clients:
            return await run(program, clients)

    report = asyncio.run(happen())
    assert not report.differences, "\n".join([repr(program), *report.differences])
    return report


@pytest.mark.parametrize("name", [name for name in SMALL if name[:3] in {"R26", "R29", "R48"}])
def test_small_programs(name: str) -> None:
    """Each of these programs shows no difference."""
    kept(SMALL[name])


def test_it_is_slow_and_is_cut() -> None:
    """A stall leads to a resync, and a cut to a resume."""
    much = Burst(source=0, server="1", count=400, size=400, at_once=10)
    happened = (
        (Stall(client=0), much),
        (Cut(client=1, after=0), Chat(source=0, server="1", uid="1")),
    )
    report = kept(Program(Setup((Source(last=40),)), happened))
    assert report.counts["resyncs"]
    assert (report.counts["cuts"], report.counts["resumes"]) == (1, 1)


@seed(1)
@FEWER
@given(lines)
def test_r48_lines_that_stall_and_are_cut(program: Program) -> None:
    """Whatever happens to connections, every client ends with the truth."""
    kept(program)


@seed(1)
@FEWER
@given(chains)
def test_r7_sources_that_fail(program: Program) -> None:
    """Whatever happens to sources and to the configuration, every client ends with the truth."""
    kept(program)

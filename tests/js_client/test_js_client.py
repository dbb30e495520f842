"""The JavaScript client keeps its promises: to Node's own test runner, to tsc, and in size."""

import gzip
import os
from pathlib import Path

import pytest

from js_client.control import controlled
from js_client.node import CLIENT, FLAGS, node, run

pytestmark = pytest.mark.long

RUNNER = ("--test-reporter=spec", "--test-timeout=200000")
MOST = {"d-back-client.js": 6 * 1024, "d-back-community.js": 14 * 1024}
"""Bytes, gzipped."""


TYPESCRIPT = "typescript@7.0.2"
STRICT = (
    "--strict",
    "--noEmit",
    "--module",
    "nodenext",
    "--target",
    "es2023",
    "--lib",
    "es2023,dom",
)


async def test_its_own_tests_pass() -> None:
    """Node's test runner runs them against real gateways."""
    program = node()
    tests = sorted(str(each) for each in (CLIENT / "test").glob("*.test.js"))
    async with controlled() as port:
        command = (program, *FLAGS, "--test", *RUNNER, *tests)
        status, output = await run(*command, env={"D_BACK_CONTROL": str(port)})
    assert status == 0, output
    assert "fail 0" in output


@pytest.mark.parametrize("name", MOST)
def test_it_is_small(name: str) -> None:
    """A page pays for at most so many bytes."""
    assert len(gzip.compress((CLIENT / name).read_bytes(), 9)) <= MOST[name]


def test_it_needs_nothing_else() -> None:
    """One module, which imports no other."""
    assert "import" not in (CLIENT / "d-back-client.js").read_text(encoding="utf-8")


@pytest.mark.slow
async def test_its_types_are_right(tmp_path: Path) -> None:
    """A strict TypeScript program uses each event and property, and each misuse in it fails."""
    node()
    command = ("npm", "install", "--silent", "--no-fund", "--prefix", str(tmp_path), TYPESCRIPT)
    status, output = await run(*command)
    if status and not os.environ.get("D_BACK_CI"):
        pytest.skip(f"npm does not find {TYPESCRIPT} here")
    assert status == 0, output
    tsc = str(tmp_path / "node_modules" / ".bin" / "tsc")
    status, output = await run(tsc, *STRICT, str(CLIENT / "test" / "types.ts"))
    assert status == 0, output

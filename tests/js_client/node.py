"""Programs of Node and npm, and where the client is."""

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "clients" / "js"
FLAGS = ("--experimental-websocket", "--no-warnings")
"""Node has a WebSocket of its own since version 22; before, it is an experiment."""


def node() -> str:
    """Return the path of Node. Skip the test if there is none; in CI that is a failure."""
    found = shutil.which("node")
    if found is None and os.environ.get("D_BACK_CI"):
        pytest.fail("there is no node: .ci/run installs nodejs")
    if found is None:
        pytest.skip("there is no node here (Debian: apt-get install nodejs)")
    return found


async def run(*command: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a program in the folder of the client. Returns its exit status and its output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=CLIENT,
        env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode()

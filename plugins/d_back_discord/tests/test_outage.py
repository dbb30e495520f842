"""An outage as a newcomer sees it: the gateway, Discord and SQLite as processes and files, watched
in a terminal. The page shows these lines."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import discord_payloads as say
import pytest
from discord_loopback import TOKEN
from discord_worlds import ADA, BOB, GENERAL, club
from docs_pages import blocks

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from discord_loopback import Loopback

PATIENCE = 60.0
CONFIG = """
[gateway]
port = {port}

[chain]
order = ["discord", "sqlite"]
recorders = ["sqlite"]
failback_after = "1s"

[providers.discord]
token = {{ env = "DISCORD_TOKEN" }}
grace = "1s"
api_url = "{api_url}"
gateway_url = "{gateway_url}"
"""
NOWHERE = "127.0.0.1:1"
"""Where nothing listens."""
TIME = re.compile(r"^\d\d:\d\d:\d\d ", re.MULTILINE)


class Lines:
    """What a process prints, line by line."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self._stream = process.stdout
        self.read: list[str] = []

    async def until(self, *texts: str) -> str:
        """Read up to a line with the first text, then the second, and so on. Return the last."""
        async with asyncio.timeout(PATIENCE):
            for text in texts:
                while text not in (line := (await self._stream.readline()).decode()):
                    assert line, "\n".join(self.read)
                    self.read.append(line.rstrip())
                self.read.append(line.rstrip())
        return self.read[-1]


@asynccontextmanager
async def running(folder: Path, *arguments: str) -> AsyncIterator[tuple[Process, Lines]]:
    """Run ``d-back`` with these arguments until the end of the block."""
    environ = {"DISCORD_TOKEN": TOKEN, "XDG_DATA_HOME": str(folder), "STATE_DIRECTORY": ""}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "d_back_core", *arguments),
        cwd=folder,
        env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process, Lines(process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def shown(number: int) -> list[str]:
    """The lines of a block of the page, without commands and times."""
    watched = [block.text for block in blocks("chain.md", "text") if TIME.search(block.text)]
    lines = watched[number].splitlines()
    return [TIME.sub("", line) for line in lines if not line.startswith("$ ")]


def logged() -> list[str]:
    """The lines of the log that the page shows."""
    (text,) = (each.text for each in blocks("chain.md", "text") if "now come from" in each.text)
    return [re.sub(r"^(INFO|WARNING) +", "", line) for line in text.splitlines()]


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_the_outage_of_the_page(tmp_path: Path, loopback: Loopback) -> None:
    """Discord is killed, and the world goes on; it is back, and the world corrects itself; the
    gateway is restarted without network, and still shows the last world."""
    config = tmp_path / "d-back.toml"
    urls = {"api_url": loopback.api_url, "gateway_url": loopback.gateway_url}
    config.write_text(CONFIG.format(port=0, **urls))
    loopback.guilds = [club(members=[ADA, BOB], member_count=2)]
    async with running(tmp_path) as (gateway, log):
        found = re.search(r"localhost:(\d+)", await log.until("listening"))
        assert found is not None
        port = found[1]
        async with running(tmp_path, "watch", f"localhost:{port}") as (_, seen):
            await seen.until("2 members")
            await loopback.dispatch("MESSAGE_CREATE", say.message(ADA, "good morning", GENERAL))
            await seen.until("good morning")

            loopback.open_to_gateway = loopback.resumable = False
            loopback.cut()
            await log.until("now come from sqlite")
            renamed = club(members=[ADA | {"nick": "Countess"}], member_count=1)
            loopback.guilds = [renamed | {"presences": [say.presence(1, "online")]}]
            loopback.open_to_gateway = True
            await log.until("now come from discord")
            await seen.until("left", "new name")

            gateway.terminate()
            await gateway.wait()
            await seen.until("reconnecting")
            urls = {"api_url": f"http://{NOWHERE}", "gateway_url": f"ws://{NOWHERE}"}
            config.write_text(CONFIG.format(port=port, **urls))
            async with running(tmp_path) as (_, log_without_network):
                await log_without_network.until("provider discord: start")
                await seen.until("1 members")
    assert [TIME.sub("", line) for line in seen.read] == [*shown(0), *shown(1), *shown(2)]
    messages = [re.sub(r"^.*? (INFO|WARNING) +[\w.]+: ", "", line) for line in log.read]
    for line in logged():
        assert line in messages, messages

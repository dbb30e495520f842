"""The tutorial of the documentation, followed to the letter: from wheels, in an empty folder."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.request import urlopen

import discord_payloads as say
import pytest
import smoke
from discord_loopback import TOKEN, serving
from discord_worlds import club
from docs_pages import Block, all_blocks
from wheelhouse import PATIENCE, ROOT, Wheelhouse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PLUGINS = ("mock", "page", "watch", "discord", "sqlite", "tables")
INSTALL, TOKEN_FILE, CONFIG, INVITE, LOOK, RUN, EXPLAIN = range(7)
"""The blocks of the page, in their order."""


class Reader:
    """A person in an empty folder who types what the page says."""

    def __init__(self, house: Wheelhouse) -> None:
        self.folder = house.folder / "reader"
        tools = self.folder.with_name("tools")
        for folder in (self.folder, tools):
            folder.mkdir()
        (tools / "python3").symlink_to(sys.executable)
        links = f"{house.wheels} {os.environ.get('PIP_FIND_LINKS', '')}"
        self.environ = house.environ | {
            "D_BACK_PORT": "0",  # 3000 may be in use here
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PIP_FIND_LINKS": links.strip(),
            "XDG_DATA_HOME": str(self.folder.with_name("data")),
        }

    async def types(self, block: Block, pasted: str = "") -> str:
        """Return what the commands print; they must succeed."""
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-e", "-c", f". d-back/bin/activate; {block.text}"],
            cwd=self.folder,
            env=self.environ,
            input=pasted,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    async def reads(self, block: Block, text: str) -> bool:
        """True if the commands print the text, whatever space is in it."""
        return text in " ".join(re.sub("[│┃]", " ", await self.types(block)).split())

    @asynccontextmanager
    async def running(self, block: Block) -> AsyncIterator[str]:
        """The address of the gateway that the command starts; Ctrl-C ends it."""
        command = f"d-back/bin/{block.text.strip()}"
        with subprocess.Popen(  # noqa: ASYNC220, S603  it is waited for in threads
            [command], cwd=self.folder, env=self.environ, stderr=subprocess.PIPE, text=True
        ) as gateway:
            too_long = Timer(PATIENCE, gateway.kill)
            too_long.start()
            try:
                url = await asyncio.to_thread(smoke.address, gateway)
                yield url.replace("ws:", "http:")
                gateway.send_signal(signal.SIGINT)
                _, rest = await asyncio.to_thread(gateway.communicate)
            finally:
                too_long.cancel()
                gateway.kill()
        assert gateway.returncode == 0, rest


async def fetched(url: str) -> Any:  # noqa: ANN401  any JSON
    def fetch() -> bytes:
        with urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310  the gateway's
            body: bytes = answer.read()
        return body

    return json.loads(await asyncio.to_thread(fetch))


async def names(url: str) -> set[str]:
    """The members whom the gateway shows."""
    users = (await fetched(f"{url}/api/servers/dworld"))["users"]
    return {user["username"] for user in users.values()}


async def shows_all(url: str) -> bool:
    return len(await names(url)) == len(club()["members"])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask again until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            pass


async def test_the_tutorial(tmp_path: Path) -> None:
    """From the installation to the last state after a restart without a network."""
    house = Wheelhouse(tmp_path)
    await asyncio.to_thread(
        house.build, ROOT, *(ROOT / "plugins" / f"d_back_{name}" for name in PLUGINS)
    )
    page = all_blocks("discord.md")
    assert [block.language for block in page] == ["sh", "sh", "toml", "sh", "sh", "sh", "sh"]
    async with serving() as discord:
        discord.guilds = [club(roles=[*club()["roles"], say.role("77", "not on the web")])]
        reader = Reader(house)
        (reader.folder / "d-back/bin").mkdir(parents=True)
        (reader.folder / "d-back/bin/activate").touch()  # before the first block makes it
        await reader.types(page[INSTALL])
        await reader.types(page[TOKEN_FILE], pasted=f"{TOKEN}\n")
        # The one thing that the page does not say: where this Discord is.
        here = f'api_url = "{discord.api_url}"\ngateway_url = "{discord.gateway_url}"\n'
        (reader.folder / "d-back.toml").write_text(page[CONFIG].text + here)
        assert f"client_id={say.APPLICATION_ID}" in await reader.types(page[INVITE])
        looked = await reader.types(page[LOOK])
        assert "#general" in looked
        async with reader.running(page[RUN]) as url:
            await until(lambda: shows_all(url))  # its members come after it listens
            shown = await names(url)
            assert "Ada L." in shown
            # What is recorded is written in batches.
            await until(lambda: reader.reads(page[EXPLAIN], f"users {len(shown)} rows"))
        await discord.vanish()
        async with reader.running(page[RUN]) as url:
            assert await names(url) == shown
            await discord.listen()
            await until(lambda: reader.reads(page[EXPLAIN], "discord fallback yes ready"))

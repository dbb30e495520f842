"""The tutorial and three recipes of the documentation, followed to the letter: from wheels, in an
empty folder."""

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
from discord_loopback import TOKEN, Loopback, serving
from discord_worlds import ADA, BOB, LOUNGE, club
from docs_pages import Block, all_blocks, read
from wheelhouse import PATIENCE, ROOT, Wheelhouse

from d_back_core import JoinError
from d_back_core.client import MessageFrame, connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PLUGINS = ("mock", "page", "watch", "discord", "sqlite", "tables")
INSTALL, TOKEN_FILE, CONFIG, INVITE, LOOK, RUN, EXPLAIN = range(7)
"""The blocks of the tutorial, in their order."""
PACKAGES, MEMORY, CHANNELS, HASH, PASSWORD = range(5)
"""The first blocks of the recipes."""
GAMES = say.snowflake(17)
CREW = say.snowflake(700)


class Reader:
    """A person in an empty folder who types what the page says."""

    def __init__(self, house: Wheelhouse, folder: Path) -> None:
        self.folder = folder / "reader"
        tools = folder / "tools"
        for each in (self.folder, tools):
            each.mkdir()
        (tools / "python3").symlink_to(sys.executable)
        links = f"{house.wheels} {os.environ.get('PIP_FIND_LINKS', '')}"
        self.environ = house.environ | {
            "D_BACK_PORT": "0",  # 3000 may be in use here
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PIP_FIND_LINKS": links.strip(),
            "XDG_DATA_HOME": str(folder / "data"),
        }
        # Before the first block of the tutorial makes it:
        (self.folder / "d-back/bin").mkdir(parents=True)
        (self.folder / "d-back/bin/activate").touch()

    async def writes(self, discord: Loopback, *shown: Block) -> None:
        """Put the blocks into d-back.toml, and check it as the page says."""
        # The one thing that no page says: where this Discord is.
        here = f'api_url = "{discord.api_url}"\ngateway_url = "{discord.gateway_url}"\n'
        text = "\n".join(block.text for block in shown)
        table = "[providers.discord]\n"
        assert table in text
        (self.folder / "d-back.toml").write_text(text.replace(table, table + here))

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
            start_new_session=True,  # a password is asked for at the terminal, if there is one
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


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """The wheels of all packages that the pages name."""
    house = Wheelhouse(tmp_path_factory.mktemp("wheels"))
    house.build(ROOT, *(ROOT / "plugins" / f"d_back_{name}" for name in PLUGINS))
    return house


async def test_the_tutorial(house: Wheelhouse, tmp_path: Path) -> None:
    """From the installation to the last state after a restart without a network."""
    page = all_blocks("discord.md")
    assert [block.language for block in page] == ["sh", "sh", "toml", "sh", "sh", "sh", "sh"]
    async with serving() as discord:
        discord.guilds = [club(roles=[*club()["roles"], say.role("77", "not on the web")])]
        reader = Reader(house, tmp_path)
        await reader.types(page[INSTALL])
        await reader.types(page[TOKEN_FILE], pasted=f"{TOKEN}\n")
        await reader.writes(discord, page[CONFIG])
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


async def test_three_recipes(house: Wheelhouse, tmp_path: Path) -> None:
    """A memory below the bot, some channels only, and a server with a password."""
    tutorial, page = all_blocks("discord.md"), all_blocks("recipes.md")
    run, check = tutorial[RUN], Block("recipes.md", "sh", None, "d-back check --live")
    assert check.text in read("recipes.md")
    async with serving() as discord:
        channels = [*club()["channels"], say.channel(GAMES, "games")]
        crew = say.guild(CREW, "Crew", members=[ADA, say.bot_member()])
        discord.guilds = [club(channels=channels), crew]
        reader = Reader(house, tmp_path)
        venv, activate, _ = tutorial[INSTALL].text.splitlines()
        await reader.types(Block("discord.md", "sh", None, f"{venv}\n{activate}"))
        await reader.types(page[PACKAGES])
        await reader.types(tutorial[TOKEN_FILE], pasted=f"{TOKEN}\n")

        await reader.writes(discord, page[MEMORY])
        await reader.types(check)
        async with reader.running(run) as url:
            await until(lambda: shows_all(url))
            shown = await names(url)
        await discord.vanish()
        async with reader.running(run) as url:
            assert await names(url) == shown
        await discord.listen()

        await reader.writes(discord, page[MEMORY], page[CHANNELS])
        await reader.types(check)
        async with reader.running(run) as url:
            await until(lambda: shows_all(url))
            async with connect(url.replace("http:", "ws:"), "dworld") as world:
                events = world.events()
                following = asyncio.ensure_future(anext(events))
                await asyncio.sleep(0)  # it has begun to listen
                for number, (text, channel) in enumerate([("hidden", LOUNGE), ("shown", GAMES)]):
                    said = say.message(BOB, text, channel, message_id=number)
                    await discord.dispatch("MESSAGE_CREATE", said)
                while not isinstance(frame := await following, MessageFrame):
                    following = asyncio.ensure_future(anext(events))
                assert frame.data.message == "shown"

        hashed = await reader.types(page[HASH], pasted="open sesame\n" * 2)
        (reader.folder / "secrets").mkdir()
        (reader.folder / "secrets/crew").write_text(hashed.splitlines()[-1])
        await reader.writes(discord, page[MEMORY], page[PASSWORD])
        await reader.types(check)
        async with reader.running(run) as url:
            await until(lambda: shows_all(url))
            address = url.replace("http:", "ws:")
            with pytest.raises(JoinError, match="requires a password"):
                async with connect(address, "crew"):
                    pass
            async with connect(address, "crew", password="open sesame") as world:
                assert world.name == "Crew"
            async with connect(address) as world:
                assert world.name == "D-World"

"""Getting started, line by line: in an empty environment, from the wheels."""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from urllib.request import urlopen

import pytest
from docs_pages import blocks
from wheelhouse import PATIENCE, ROOT, Wheelhouse

from d_back_core.client import connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PAGE = "getting-started.md"
SHOWN = "http://localhost:3000/"
"""The address on the page; here the port is a free one."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """A reader who has the wheels of the page's packages, uv and Python."""
    house = Wheelhouse(tmp_path_factory.mktemp("reader"))
    plugins = ("mock", "page", "watch")
    house.build(ROOT, *(ROOT / "plugins" / f"d_back_{name}" for name in plugins))
    house.environ |= {"PIP_FIND_LINKS": str(house.wheels), "D_BACK_PORT": "0"}
    return house


def commands(beginning: str) -> list[str]:
    """The lines of the shell block that begins so."""
    (found,) = [each.text for each in blocks(PAGE, "sh") if each.text.startswith(beginning)]
    return found.splitlines()


@contextmanager
def serving(house: Wheelhouse, script: str) -> Iterator[tuple[str, str]]:
    """Run lines of the page, of which the last serves; the addresses that its log names."""
    with subprocess.Popen(  # noqa: S603  the lines of the page
        ["sh", "-ec", script],  # noqa: S607
        cwd=house.folder,
        env=house.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        too_long = Timer(PATIENCE, process.kill)
        too_long.start()
        lines: list[str] = []
        try:
            for line in process.stderr or ():
                lines.append(line)
                if opened := re.search(r"open (http://\S+) in a browser", line):
                    (listening,) = re.findall(r"listening on (ws://\S+)", "".join(lines))
                    yield opened[1], listening
                    break
            else:
                raise AssertionError("".join(lines))
        finally:
            too_long.cancel()
            process.terminate()
            process.communicate()


def fetched(url: str) -> str:
    with urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310  our own gateway
        return str(answer.read().decode())


async def names(url: str) -> set[str]:
    async with asyncio.timeout(PATIENCE), connect(url, "dworld") as world:
        return {user.username for user in world.users.values()}


def test_uv_runs_it_without_installing(house: Wheelhouse) -> None:
    """The line with `uvx` serves the live page, at the address that the log names."""
    (line,) = commands("uvx ")
    with serving(house, f"exec {line}") as (page, _):
        assert "page/app.js" in fetched(page)


@pytest.fixture(scope="module")
def activated(house: Wheelhouse) -> str:
    """The line that activates the environment which the page's lines have made."""
    *steps, last = commands("python3 -m venv")
    assert last == "d-back"
    (house.folder / "bin").mkdir()
    (house.folder / "bin" / "python3").symlink_to(house.environ["UV_PYTHON"])
    path = f"{house.folder / 'bin'}:{house.environ['PATH']}"
    house.environ["PATH"] = path
    house.run("sh", "-ec", "\n".join(steps))
    return f"{steps[1]}\n"


async def test_the_installed_command_serves_every_line(house: Wheelhouse, activated: str) -> None:
    """`d-back` serves the page, the paths of the curl lines and a client; watch shows them."""
    with serving(house, f"{activated}exec d-back") as (page, listening):
        assert "page/app.js" in await asyncio.to_thread(fetched, page)
        seen = await names(listening)
        for line, expected in zip(commands("curl "), ({"dworld"}, seen), strict=True):
            shown = await asyncio.to_thread(fetched, line.replace(f"curl {SHOWN}", page))
            assert any(word in shown for word in expected)
        script = f"{activated}exec d-back watch --json {listening} dworld"
        watching = await asyncio.create_subprocess_exec(
            *("sh", "-ec", script),
            cwd=house.folder,
            env=house.environ,
            stdout=asyncio.subprocess.PIPE,
        )
        assert watching.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while "server-join" not in (joined := (await watching.stdout.readline()).decode()):
                assert joined, "it has ended"
        watching.terminate()
        await watching.communicate()
    assert any(name in joined for name in seen)


def test_the_configuration_is_checked(house: Wheelhouse, activated: str) -> None:
    """`d-back init` writes a file that `d-back check` accepts, and so is the page's own."""
    (check,) = commands("d-back check\n")
    path = Path(house.folder, "d-back.toml")
    house.run("sh", "-ec", f"{activated}d-back init")
    assert "is valid" in house.run("sh", "-ec", f"{activated}{check}")
    shown = [block.text for block in blocks(PAGE, "toml") if "mock" in block.text]
    path.write_text(shown[0], encoding="utf-8")
    assert "is valid" in house.run("sh", "-ec", f"{activated}{check}")
    with serving(house, f"{activated}exec {commands('d-back --watch')[0]}") as (page, _):
        assert "plaza" in fetched(f"{page}api/servers")

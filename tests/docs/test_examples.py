"""The packages in ``examples/`` that others could have published: from wheels, in one chain,
and with nothing but the public names."""

import ast
import asyncio
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from wheelhouse import ROOT, Wheelhouse

import d_back_core
import d_back_testing as testing
from d_back_core import client
from d_back_core.client import ClientWorld, connect

EXAMPLES = [ROOT / "examples" / name for name in ("d_back_irc", "d_back_lobby", "d_back_paint")]
FOR_TESTS = {
    "d_back_core.client": {*client.__all__},
    "d_back_testing": {*testing.__all__},
}
PUBLIC = {"d_back_core": {*d_back_core.__all__}}


def imported(folder: Path) -> Iterator[tuple[str, str]]:
    """Each name of the core that the modules of that folder import, with where it is from."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((each.name, "*") for each in node.names if is_core(each.name))
            elif isinstance(node, ast.ImportFrom) and is_core(str(node.module)):
                yield from ((str(node.module), each.name) for each in node.names)


def is_core(module: str) -> bool:
    return module.partition(".")[0] == "d_back_core"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_imports_public_names_only(example: Path) -> None:
    """Its tests also those for tests."""
    for folder, allowed in ((example.name, PUBLIC), ("tests", PUBLIC | FOR_TESTS)):
        found = list(imported(example / folder))
        assert found
        for module, name in found:
            assert name in allowed.get(module, ()), f"{module}.{name}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_readme_of_an_example_has_its_keys(example: Path) -> None:
    """All of them, in their order."""
    options = import_module(example.name).Options
    readme = (example / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE)
    assert tuple(listed) == options.__struct_fields__


PLAYERS = {"7": "playing", "8": "away"}
COLOURS = '[arena]\n7 = "{}"\n99 = "#00ff00"\n'


async def rooms(_: web.Request) -> web.Response:
    return web.json_response({"rooms": [{"id": "arena", "title": "The arena"}]})


async def players(_: web.Request) -> web.Response:
    found = [{"id": each, "name": f"P{each}", "state": state} for each, state in PLAYERS.items()]
    return web.json_response({"players": found})


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


async def until(world: ClientWorld, condition: Callable[[ClientWorld], object]) -> None:
    """Wait for what must happen; the minute is for machines that are busy."""
    async with asyncio.timeout(60):
        await world.until(condition)


def seen(world: ClientWorld) -> dict[str, tuple[str, str]]:
    return {uid: (user.status, user.role_color) for uid, user in world.users.items()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_the_examples_work_together_from_their_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real HTTP server, a file that changes, and a client that sees both."""
    house = Wheelhouse(tmp_path)
    house.build(ROOT, *EXAMPLES)
    operator = house.environment("operator", "d-back-core", "d-back-lobby", "d-back-paint")
    said = house.run(operator / "d-back", "plugins")
    assert re.findall(r"^(\w+) \(", said, re.MULTILINE) == ["lobby", "paint"]
    application = web.Application()
    application.add_routes([web.get("/rooms", rooms), web.get("/rooms/arena/players", players)])
    colours, config = tmp_path / "colours.toml", tmp_path / "d-back.toml"
    async with TestServer(application) as lobby:
        write(colours, COLOURS.format("#ff0000"))
        write(
            config,
            'chain.order = ["paint", "lobby"]\nproviders.paint.mode = "enrich"\n'
            f'providers.lobby = {{ url = "{lobby.make_url("/")}", refresh = "100ms" }}\n',
        )
        async with house.serving(operator, config) as url, connect(url) as world:
            assert world.name == "The arena"
            assert seen(world) == {"7": ("online", "#ff0000"), "8": ("idle", "#ffffff")}
            write(colours, COLOURS.format("#0000ff"))
            await until(world, lambda world: seen(world)["7"] == ("online", "#0000ff"))
            monkeypatch.setitem(PLAYERS, "8", "in_match")
            await until(world, lambda world: seen(world)["8"] == ("dnd", "#ffffff"))

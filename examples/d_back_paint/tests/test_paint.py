"""The provider with real files, and over another provider in a real gateway."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from d_back_core import File, Server, User
from d_back_core.client import ClientWorld
from d_back_paint import Options, Provider
from d_back_testing import ProviderContract, RunningGateway, ScriptedProvider, logged, served

COLOURS = """
[1]
7 = "#ff0000"
99 = "#00ff00"

[2]
7 = "#0000ff"
"""


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "colours.toml"
    write(path, COLOURS)
    return path


@pytest.fixture
async def gateway(path: Path) -> AsyncIterator[RunningGateway]:
    """A club with Ada, who has a colour, and Bob, who has none."""
    club = ScriptedProvider(
        {"1": Server(name="The club")},
        {"1": {"7": User(username="Ada", role_color="#111111"), "8": User(username="Bob")}},
    )
    providers = {"paint": Provider(Options(path=File(path))), "club": club}
    async with served(providers, tables={"paint": {"mode": "enrich"}}) as gateway:
        yield gateway


async def until(world: ClientWorld, condition: Callable[[ClientWorld], object]) -> None:
    """Wait for what must happen; the minute is for machines that are busy."""
    async with asyncio.timeout(60):
        await world.until(condition)


def colours(world: ClientWorld) -> dict[str, str]:
    return {user.username: user.role_color for user in world.users.values()}


class TestContract(ProviderContract):
    """What d-back expects of every provider."""

    server_id = "1"

    def provider(self, path: Path) -> Provider:
        return Provider(Options(path=File(path)))


async def test_colours_lie_over_those_of_others(gateway: RunningGateway) -> None:
    """And add no user: there is none with uid 99."""
    world = await gateway.join("the-club")
    assert colours(world) == {"Ada": "#ff0000", "Bob": "#ffffff"}


async def test_a_change_of_the_file_reaches_clients(gateway: RunningGateway, path: Path) -> None:
    """New, other and gone colours; for one that is gone, the other provider's shows."""
    world = await gateway.join("the-club")
    write(path, '[1]\n7 = "#ff0001"\n8 = "#ff0002"\n')
    await until(world, lambda world: colours(world) == {"Ada": "#ff0001", "Bob": "#ff0002"})
    write(path, '[1]\n8 = "#ff0002"\n')
    await until(world, lambda world: colours(world) == {"Ada": "#111111", "Bob": "#ff0002"})
    write(path, "")
    await until(world, lambda world: colours(world) == {"Ada": "#111111", "Bob": "#ffffff"})


async def test_a_file_in_the_old_one_s_place_is_seen(gateway: RunningGateway, path: Path) -> None:
    """As most editors write."""
    world = await gateway.join("the-club")
    other = path.with_suffix(".new")
    write(other, '[1]\n7 = "#00ffff"\n')
    other.replace(path)
    await until(world, lambda world: colours(world)["Ada"] == "#00ffff")


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        ('[1]\n7 = "red"\n', "1.7 'red': is no colour (#rrggbb)"),
        ("[1", "(at end of document)"),
        ("1 = 7\n", "Expected `object`, got `int`"),
    ],
)
async def test_a_mistake_changes_nothing(
    gateway: RunningGateway, path: Path, broken: str, where: str
) -> None:
    """The log says where it is; what comes after it counts again."""
    world = await gateway.join("the-club")
    with logged() as log:
        write(path, broken)
        async with asyncio.timeout(60):
            while not any("the colours stay as they are" in line for line in log.warnings):
                await gateway.settle()
    assert f"{path}: " in log.warnings[0]
    assert where in log.warnings[0]
    assert colours(world)["Ada"] == "#ff0000"
    assert gateway.health("paint") == "ready"
    write(path, '[1]\n7 = "#00ffff"\n')
    await until(world, lambda world: colours(world)["Ada"] == "#00ffff")


@pytest.mark.parametrize("text", ["", "1 = 7", '[1]\n7 = "red"\n'])
async def test_it_starts_when_the_file_is_there_and_right(path: Path, text: str) -> None:
    """Until then it is tried again."""
    write(path, text) if text else remove(path)
    async with served({"paint": Provider(Options(path=File(path)))}) as gateway:
        assert gateway.health("paint") == "failed"
        write(path, COLOURS)
        await gateway.advance(60)
        assert gateway.health("paint") == "ready"

"""Somebody who has never seen the source publishes a provider: one command, one file to edit, and
nothing installed but wheels."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from wheelhouse import ROOT, Wheelhouse

from d_back_core.client import ClientWorld, connect

pytestmark = pytest.mark.slow

TOY = "self.names = {str(uid): name for uid, name in enumerate(config.members, 1)}"
STARS = 'self.names = {"hip-91262": "Vega", "hip-102098": "Deneb"}'


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """The wheel of the core, and whom git knows."""
    house = Wheelhouse(tmp_path_factory.mktemp("stranger"))
    house.build(ROOT)
    return house


@pytest.fixture(scope="module")
def published(house: Wheelhouse) -> Path:
    """The author's folder, after all that an author does, up to the wheel."""
    author = house.environment("author", "d-back-core")
    house.run(author / "d-back", "new-plugin", "stars")
    folder = house.folder / "d-back-stars"
    edit(folder / "d_back_stars" / "provider.py")
    assert " passed" in house.run("uv", "run", "pytest", cwd=folder)
    house.run("uv", "build", "--wheel", "--out-dir", house.wheels, cwd=folder)
    return folder


def edit(file: Path) -> None:
    """The one file, as an author would: other members, from elsewhere."""
    text = file.read_text()
    assert TOY in text
    file.write_text(text.replace(TOY, STARS))


async def until(world: ClientWorld, condition: Callable[[ClientWorld], object]) -> None:
    """Wait for what must happen; the minute is for machines that are busy."""
    async with asyncio.timeout(60):
        await world.until(condition)


@pytest.mark.usefixtures("published")
async def test_a_stranger_s_provider_reaches_clients(house: Wheelhouse) -> None:
    """From the command to a client that sees the new provider's users, and what they do."""
    operator = house.environment("operator", "d-back-core", "d-back-stars")
    config = house.folder / "d-back.toml"
    config.write_text('chain.order = ["stars"]\nproviders.stars.every = "50ms"\n')
    async with house.serving(operator, config) as url, connect(url) as world:
        names = {uid: user.username for uid, user in world.users.items()}
        assert names == {"hip-91262": "Vega", "hip-102098": "Deneb"}
        before = dict(world.users)
        await until(world, lambda world: world.users != before)


def test_a_plugin_can_be_tried_without_installing_it(house: Wheelhouse, published: Path) -> None:
    """As the generated README says; without a configuration it is what is served."""
    readme = (published / "README.md").read_text()
    (command,) = [line.split() for line in readme.splitlines() if "uvx --from" in line]
    elsewhere = house.folder / "elsewhere"
    elsewhere.mkdir()
    said = house.run(*command, "plugins", "--all", cwd=elsewhere)
    assert "stars (d-back-stars 0.1.0), configured; hooks: events, " in said
    assert "broken" not in said
    assert "1. stars: plugin stars, fallback" in house.run(*command, "check", cwd=elsewhere)


def test_the_author_s_other_commands_work(house: Wheelhouse, published: Path) -> None:
    """Those that the generated README shows."""
    for command in ("ruff check", "ruff format", "mypy .", "d-back check --live"):
        house.run("uv", "run", *command.split(), cwd=published)

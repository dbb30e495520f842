"""An author without the source publishes a provider: one command, one file to edit, and nothing
installed but wheels."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from wheelhouse import ROOT, Wheelhouse

from d_back_core.client import ClientWorld, connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TOY = "self.names = {str(uid): name for uid, name in enumerate(config.members, 1)}"
STARS = 'self.names = {"hip-91262": "Vega", "hip-102098": "Deneb"}'


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """The wheels of the core and of d-back-testing."""
    house = Wheelhouse(tmp_path_factory.mktemp("stranger"))
    house.build(ROOT, ROOT / "plugins/d_back_testing")
    return house


@pytest.fixture(scope="module")
def published(house: Wheelhouse) -> Path:
    """The author's folder, after every step up to the wheel."""
    author = house.environment("author", "d-back-core", "d-back-testing")
    house.run(author / "d-back", "new-plugin", "stars")
    folder = house.folder / "d-back-stars"
    edit(folder / "d_back_stars" / "provider.py")
    assert " passed" in house.run("uv", "run", "pytest", cwd=folder)
    house.run("uv", "build", "--wheel", "--out-dir", house.wheels, cwd=folder)
    return folder


def edit(file: Path) -> None:
    """Edit the one file as an author would: replace the members."""
    text = file.read_text()
    assert TOY in text
    file.write_text(text.replace(TOY, STARS))


async def until(world: ClientWorld, condition: Callable[[ClientWorld], object]) -> None:
    """Wait for the condition, with a limit that suits busy machines."""
    async with asyncio.timeout(60):
        await world.until(condition)


@pytest.mark.usefixtures("published")
async def test_a_stranger_s_provider_reaches_clients(house: Wheelhouse) -> None:
    """A client sees the users of the new provider, and their changes."""
    operator = house.environment("operator", "d-back-core", "d-back-stars")
    config = house.folder / "d-back.toml"
    config.write_text('chain.order = ["stars"]\nproviders.stars.every = "50ms"\n')
    async with house.serving(operator, config) as url, connect(url) as world:
        names = {uid: user.username for uid, user in world.users.items()}
        assert names == {"hip-91262": "Vega", "hip-102098": "Deneb"}
        before = dict(world.users)
        await until(world, lambda world: world.users != before)


def test_a_plugin_can_be_tried_without_installing_it(house: Wheelhouse, published: Path) -> None:
    """The command of the generated README serves it without a configuration."""
    readme = (published / "README.md").read_text()
    (command,) = [line.split() for line in readme.splitlines() if "uvx --from" in line]
    elsewhere = house.folder / "elsewhere"
    elsewhere.mkdir()
    said = house.run(*command, "plugins", "--all", cwd=elsewhere)
    assert "stars (d-back-stars 0.1.0), configured; hooks: events, " in said
    assert "broken" not in said
    assert "1. stars: plugin stars, fallback" in house.run(*command, "check", cwd=elsewhere)


def test_init_names_the_memory_that_is_missing(house: Wheelhouse, published: Path) -> None:
    """Where d-back-sqlite is not installed, with the command that installs it; the file is
    valid."""
    command = ("uv", "run", "d-back", "--config", "first.toml")
    said = house.run(*command, "init", "--provider", "stars", cwd=published)
    assert "pip install d-back-sqlite." in said
    assert "is valid" in house.run(*command, "check", cwd=published)


@pytest.mark.usefixtures("published")
def test_the_other_shapes_load_and_answer(house: Wheelhouse) -> None:
    """In an environment with both, each answers in the configuration that is written for it."""
    author = house.folder / "author" / "bin"
    for shape in ("polled", "push"):
        house.run(author / "d-back", "new-plugin", f"stars-{shape}", "--shape", shape)
        folder = house.folder / f"d-back-stars-{shape}"
        house.run("uv", "pip", "install", "--python", author / "python", "--editable", folder)
        said = house.run(author / "d-back", "check", "--live", cwd=folder)
        assert f"stars-{shape}" in said


def test_the_author_s_other_commands_work(house: Wheelhouse, published: Path) -> None:
    """The commands of the generated README succeed."""
    for command in ("ruff check", "ruff format", "mypy .", "d-back check --live"):
        house.run("uv", "run", *command.split(), cwd=published)

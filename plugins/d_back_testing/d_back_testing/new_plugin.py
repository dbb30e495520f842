"""``d-back new-plugin``: writes the package of a new provider."""

import json
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from d_back_core import ConfigError
from d_back_core.providers.entry_points import CORE, installed

PREFIX = "d-back-"
MAX_NAME = 50
RESERVED = frozenset({"callbacks", "compat", "core", "tables", "testing", "watch"})
"""Distributions of d-back that are not providers, and the provider of the embedding callbacks."""
FILES = {
    ".github/workflows/ci.yml": "ci.yml",
    ".gitignore": "gitignore",
    "LICENSE": "LICENSE",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "$module/__init__.py": "init.py",
    "$module/py.typed": "py.typed",
}
"""The path of each generated file, and its template in ``skeleton/``."""
FILES_OF_SHAPE = {
    "d-back.toml": "d-back.toml",
    "$module/provider.py": "provider.py",
    "tests/test_provider.py": "test_provider.py",
}
"""The same for those in ``skeleton/SHAPE/``, which also has ``usage.md``, a part of the README."""
SHAPES = {
    "polled": ["msgspec>=0.19"],
    "streaming": ["msgspec>=0.19"],
    "push": ["msgspec>=0.19", "starlette>=0.40"],
}
"""What a provider can be, and what it depends on besides the core."""


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--shape",
    type=click.Choice([*SHAPES]),
    default="streaming",
    show_default=True,
    help="polled: d-back asks the source again and again; streaming: it has a connection that"
    " reports changes; push: it sends its data to d-back over HTTP.",
)
@click.option("--dir", "folder", metavar="DIR", help="The new folder [default: ./d-back-NAME].")
@click.pass_context
def new_plugin(ctx: click.Context, /, *, name: str, shape: str, folder: str | None) -> None:
    """Write the package of a new provider plugin, which works and passes its tests.

    NAME is its name in d-back.toml.
    """
    root = ctx.find_root()
    commands = root.command.list_commands(root) if isinstance(root.command, click.Group) else []
    values = _values(plugin_name(name, commands), shape)
    target = Path(folder or values["distribution"])
    _require_empty(target)
    values["usage"] = Template(_template(f"{shape}/usage.md")).substitute(values)
    sources = FILES | {place: f"{shape}/{source}" for place, source in FILES_OF_SHAPE.items()}
    target.mkdir(parents=True, exist_ok=True)
    for place, source in sources.items():
        path = target / Template(place).substitute(values)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = Template(_template(source)).substitute(values)
        path.write_text(text, encoding="utf-8")
    click.echo(Template(NEXT).substitute(values, folder=target))


NEXT = """\
$folder: a new package; edit $module/provider.py. Next, in that folder:
  uv run pytest    # run its tests; they pass
  uv run d-back    # serve it with its d-back.toml
  uv build         # build a wheel to publish"""


def plugin_name(text: str, commands: list[str]) -> str:
    """Return the name as entry points, distributions and d-back.toml spell it: in lower case, with
    single hyphens, without ``d-back-``. Raises `ConfigError` if the name is invalid or taken."""
    where = f"new-plugin '{text}'"
    name = re.sub(r"[-_.]+", "-", text).lower().removeprefix(PREFIX)
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or len(name) > MAX_NAME:
        expected = f"letters and digits, with single -, _ or . between, at most {MAX_NAME}"
        raise ConfigError(f"{where}: is not a name (expected {expected})")
    if name in commands:
        raise ConfigError(f"{where}: there is a command 'd-back {name}': choose another name")
    if name in RESERVED:
        raise ConfigError(f"{where}: d-back itself uses this name: choose another name")
    for plugin in installed().get(name, ()):
        owner = f"{plugin.distribution} {plugin.version}"
        raise ConfigError(f"{where}: {owner} has a plugin of this name: choose another name")
    return name


def _template(source: str) -> str:
    skeleton = files(__package__) / "skeleton"
    return skeleton.joinpath(f"{source}.in").read_text(encoding="utf-8")


def _values(name: str, shape: str) -> dict[str, str]:
    """Return the values of the placeholders in the skeleton."""
    distribution = PREFIX + name
    author = _author() or f"The authors of {distribution}"
    core = version(CORE)
    bounds = f">={core},<{int(core.split('.')[0]) + 1}"
    dependencies = [f"{CORE}{bounds}", *SHAPES[shape]]
    return {
        "name": name,
        "distribution": distribution,
        "module": distribution.replace("-", "_"),
        "title": name.replace("-", " ").capitalize(),
        "author": author,
        "author_in_toml": json.dumps(author, ensure_ascii=False),
        "year": str(datetime.now(UTC).year),
        "bounds": bounds,
        "dependencies": "\n".join(f'    "{each}",' for each in dependencies),
        "tools": "d-back-testing mypy pytest-asyncio ruff",
    }


def _author() -> str | None:
    """Return the user's name in the configuration of git; None if there is none."""
    command = ["git", "config", "user.name"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):  # git is not installed
        return None
    name = done.stdout.decode(errors="replace").strip()
    return name if name.isprintable() and name else None


def _require_empty(folder: Path) -> None:
    """Raise `ConfigError` if the folder has files. A new git repository counts as empty."""
    if folder.is_dir():
        found = sorted({each.name for each in folder.iterdir()} - {".git"})
    else:
        found = [folder.name] if folder.exists() else []
    if found:
        what = f"'{folder}' already exists, with '{found[0]}' in it"
        raise ConfigError(f"new-plugin: {what}: choose another folder with --dir")

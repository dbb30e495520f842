"""``d-back new-plugin``: writes the package of a provider, to be published by its author."""

import json
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from d_back_core.errors import ConfigError
from d_back_core.providers.entry_points import CORE, installed

PREFIX = "d-back-"
MAX_NAME = 50
RESERVED = frozenset({"callbacks", "compat", "core"})
"""Our own distributions that are no plugins, and the provider that callbacks are."""
FILES = {
    ".github/workflows/ci.yml": "ci.yml",
    ".gitignore": "gitignore",
    "LICENSE": "LICENSE",
    "README.md": "README.md",
    "d-back.toml": "d-back.toml",
    "pyproject.toml": "pyproject.toml",
    "$module/__init__.py": "init.py",
    "$module/provider.py": "provider.py",
    "$module/py.typed": "py.typed",
    "tests/test_provider.py": "test_provider.py",
}
"""Where each file of the skeleton goes."""


@click.command("new-plugin")
@click.argument("name")
@click.option("--dir", "folder", metavar="DIR", help="Write it there [default: ./d-back-NAME].")
@click.pass_context
def new_plugin(ctx: click.Context, /, *, name: str, folder: str | None) -> None:
    """Write the package of a new provider plugin: it works, with its tests, as it is.

    NAME is what d-back.toml will call it.
    """
    root = ctx.find_root()
    commands = root.command.list_commands(root) if isinstance(root.command, click.Group) else []
    words = _words(plugin_name(name, commands))
    target = Path(folder or words["distribution"])
    _require_room(target)
    skeleton = files(__package__) / "skeleton"
    target.mkdir(parents=True, exist_ok=True)
    for place, source in FILES.items():
        path = target / Template(place).substitute(words)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (skeleton / f"{source}.in").read_text(encoding="utf-8")
        path.write_text(Template(text).substitute(words), encoding="utf-8")
    click.echo(Template(NEXT).substitute(words, folder=target))


NEXT = """\
$folder: a package with $module/provider.py to edit. Next, in that folder:
  uv run pytest    # its tests; they pass
  uv run d-back    # serve it, as its d-back.toml says
  uv build         # a wheel to publish"""


def plugin_name(text: str, commands: list[str]) -> str:
    """The name as entry points, distributions and d-back.toml have it: in lower case, with single
    hyphens, without ``d-back-``. Raises `ConfigError` where there cannot be such a plugin."""
    where = f"new-plugin '{text}'"
    name = re.sub(r"[-_.]+", "-", text).lower().removeprefix(PREFIX)
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or len(name) > MAX_NAME:
        wanted = f"letters and digits, with single -, _ or . between, {MAX_NAME} at most"
        raise ConfigError(f"{where}: is no name ({wanted})")
    if name in commands:
        raise ConfigError(f"{where}: there is a command 'd-back {name}', so call it otherwise")
    if name in RESERVED:
        raise ConfigError(f"{where}: is a name of d-back itself, so call it otherwise")
    for plugin in installed().get(name, ()):
        owner = f"{plugin.distribution} {plugin.version}"
        raise ConfigError(f"{where}: {owner} brings a plugin of that name, so call it otherwise")
    return name


def _words(name: str) -> dict[str, str]:
    """What the skeleton leaves open."""
    distribution = PREFIX + name
    author = _author() or f"The authors of {distribution}"
    core = version(CORE)
    return {
        "name": name,
        "distribution": distribution,
        "module": distribution.replace("-", "_"),
        "title": name.replace("-", " ").capitalize(),
        "author": author,
        "author_in_toml": json.dumps(author, ensure_ascii=False),
        "year": str(datetime.now(UTC).year),
        "bounds": f">={core},<{int(core.split('.')[0]) + 1}",
    }


def _author() -> str | None:
    """Whoever commits here, as git knows them."""
    command = ["git", "config", "user.name"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):  # there is no git
        return None
    name = done.stdout.decode(errors="replace").strip()
    return name if name.isprintable() and name else None


def _require_room(folder: Path) -> None:
    """Refuse to write over anything; a repository that was only just made is empty too."""
    if folder.is_dir():
        found = sorted({each.name for each in folder.iterdir()} - {".git"})
    else:
        found = [folder.name] if folder.exists() else []
    if found:
        what = f"'{folder}' is there already, with '{found[0]}' in it"
        raise ConfigError(f"new-plugin: {what}: choose another folder with --dir")

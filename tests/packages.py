"""Distributions of plugins that a test makes up, installed where this process finds them."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from d_back_core import ConfigError
from d_back_core.config import parse
from d_back_core.providers.loader import Plugin, load

NO_HOOKS = "class Provider:\n    def __init__(self, config):\n        self.config = config\n"

HEADER = """
from pathlib import Path

from msgspec import Struct

from d_back_core import ConfigError, Duration, File, Secret, hookimpl
"""


class Packages:
    """Installs distributions, each with one module, where this process finds them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: list[str] = []

    def install(
        self,
        name: str,
        source: str = NO_HOOKS,
        *,
        at: str | None = None,
        plugin: str | None = None,
        group: str = "d_back.providers",
    ) -> str:
        """Install a distribution ``d-back-NAME`` with an entry point of that name, and return the
        name of its module."""
        module = f"d_back_test_{name}".replace("-", "_")
        (self.folder / f"{module}.py").write_text(HEADER + source)
        info = self.folder / f"d_back_{name}-1.0.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: d-back-{name}\nVersion: 1.0\n"
        (info / "METADATA").write_text(metadata)
        value = at or f"{module}:Provider"
        (info / "entry_points.txt").write_text(f"[{group}]\n{plugin or name} = {value}\n")
        self.modules.append(module)
        return module


def load_only(name: str, options: Mapping[str, object] | None = None) -> Plugin:
    """The one provider of a configuration that names only this."""
    tables = {"chain": {"order": [name]}, "providers": {name: options or {}}}
    [plugin] = load(parse(tables, Path("d-back.toml")))
    return plugin


def refusal(name: str, options: Mapping[str, object] | None = None) -> str:
    """Why the plugin does not load; always one line. Files are named without their folder."""
    with pytest.raises(ConfigError) as caught:
        load_only(name, options)
    assert str(caught.value).isprintable()
    return re.sub(r"/[^ ]*/site/", "", str(caught.value))


NAMED = "provider 'club' (d-back-club 1.0, d_back_test_club:Provider): d_back_test_club.py"
"""How an error begins that a plugin of that name has."""
MEND = "; correct that line, or install another version of d-back-club"


def hook(line: str, body: str = "pass", marker: str = "@hookimpl") -> str:
    """A provider with one hook."""
    return f"{NO_HOOKS}    {marker}\n    {line}\n        {body}\n"

"""Puts the files of the npm package into the distributions of this one.

They have one source, which is ``clients/js`` of the repository. A source distribution contains
them already, so that a wheel can be built from it.
"""

from pathlib import Path
from typing import Any

# Only the build's own environment has it.
from hatchling.builders.hooks.plugin.interface import (  # type: ignore[import-not-found]
    BuildHookInterface,
)

MODULES = ("d-back-client.js", "d-back-community.js")


class ModulesHook(BuildHookInterface):  # type: ignore[misc]
    """Adds them as ``d_back_page/library``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add each file, unless this is an unpacked source distribution."""
        if version == "editable" or Path(self.root, "d_back_page", "library").is_dir():
            return
        source = Path(self.root).parents[1] / "clients" / "js"
        for name in MODULES:
            build_data["force_include"][str(source / name)] = f"d_back_page/library/{name}"

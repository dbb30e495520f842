"""Installed plugins, found by their entry points, with distribution, version and file.

A plugin is imported by `provider_class` or `load` only.
"""

import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from functools import reduce
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from d_back_core.errors import PluginError, described, nearest

if TYPE_CHECKING:
    from importlib_metadata import EntryPoint, EntryPoints

GROUP = "d_back.providers"
COMMAND_GROUP = "d_back.commands"
CORE = "d-back-core"


class InstalledPlugin(Struct, frozen=True):
    """An installed plugin or stand-alone command; not imported yet."""

    name: str
    entry_point: "EntryPoint"

    @property
    def distribution(self) -> str:
        """The name of the distribution that installed it."""
        return self._metadata("name")

    @property
    def version(self) -> str:
        """The version of the distribution."""
        return self._metadata("version")

    @property
    def summary(self) -> str:
        """The summary of the distribution, on one line; "" if there is none."""
        metadata = self.entry_point.dist.metadata if self.entry_point.dist else None
        return " ".join(((metadata and metadata.get("Summary")) or "").split())

    @property
    def file(self) -> str:
        """The file of its module; the installation directory if the module has none."""
        dist = self.entry_point.dist
        found = module_file(self.entry_point.value.partition(":")[0].strip())
        return found or (str(dist.locate_file("")) if dist else "?")

    @property
    def kind(self) -> str:
        """``provider`` or ``command``."""
        return "command" if self.entry_point.group == COMMAND_GROUP else "provider"

    @property
    def remedy(self) -> str:
        """The form of the entry point, for errors."""
        target = "command" if self.kind == "command" else "Class"
        return f"write module:{target} in its pyproject.toml"

    def __str__(self) -> str:
        where = self.entry_point.value
        return f"{self.kind} '{self.name}' ({self.distribution} {self.version}, {where})"

    def error(self, what: str, remedy: str, place: str | None = None) -> PluginError:
        """Return the reason why it does not load, in one line. ``place``: a file, or FILE:LINE."""
        return PluginError(f"{self}: {place or self.file}: {what}; {remedy}")

    def failure(
        self, what: str, error: BaseException, where: object = None, remedy: str = ""
    ) -> PluginError:
        """Return an exception of its code as an error.

        Its place is the last line of the plugin's own code in the traceback, or else the first
        line of ``where``, a class or function.
        """
        place = raised_at(error, self.entry_point.module) or line_of(where)
        fix = f"correct that line, or install another version of {self.distribution}"
        return self.error(f"{what}{described(error)}", remedy or fix, place)

    def _metadata(self, field: str) -> str:
        try:
            found = getattr(self.entry_point.dist, field, None)
        except (KeyError, OSError):  # an interrupted installation has no metadata
            found = None
        return str(found or "?")


def installed() -> dict[str, list[InstalledPlugin]]:
    """Return the installed provider plugins by name. More than one may have the same name."""
    return _in_group(GROUP)


def _in_group(group: str) -> dict[str, list[InstalledPlugin]]:
    found: dict[str, list[InstalledPlugin]] = {}
    for entry_point in _entry_points().select(group=group):
        found.setdefault(entry_point.name, []).append(
            InstalledPlugin(entry_point.name, entry_point)
        )
    return dict(sorted(found.items()))


def _entry_points() -> "EntryPoints":
    from importlib_metadata import entry_points  # noqa: PLC0415  20 ms; `--version` needs none

    return entry_points()


def installed_commands() -> dict[str, list[InstalledPlugin]]:
    """Return the installed stand-alone commands by name."""
    return _in_group(COMMAND_GROUP)


def only(candidates: Sequence[InstalledPlugin]) -> InstalledPlugin:
    """Return the only candidate; raises `PluginError` if there is more than one."""
    if len(candidates) > 1:
        owners = " and ".join(
            f"{each.distribution} {each.version} ({each.entry_point.value}, {each.file})"
            for each in sorted(candidates, key=lambda each: each.distribution)
        )
        first = candidates[0]
        raise PluginError(
            f"{first.kind} '{first.name}' is installed by {owners}: uninstall one of them"
        )
    return candidates[0]


def misplaced() -> Iterator[PluginError]:
    """Yield an error for every entry point whose group is probably a misspelling of ours."""
    for entry_point in _entry_points():
        group = entry_point.group
        looks_like_ours = group.replace("-", "_").lower().startswith("d_back")
        if looks_like_ours and group not in {GROUP, COMMAND_GROUP}:
            plugin = InstalledPlugin(entry_point.name, entry_point)
            remedy = f"rename it to '{GROUP}' in its pyproject.toml"
            yield plugin.error(f"the entry-point group '{group}' is not used", remedy)


def provider_class(plugin: InstalledPlugin) -> type:
    """Import the plugin's class; raises `PluginError` if that fails."""
    cls = load(plugin)
    if not isinstance(cls, type):
        known = nearest(
            plugin.entry_point.attr or "", _classes(sys.modules[plugin.entry_point.module])
        )
        what = f"the entry point is not a class{known}"
        raise plugin.error(what, plugin.remedy)
    return cls


def load(plugin: InstalledPlugin) -> object:
    """Import the object that the entry point names; raises `PluginError` if that fails."""
    try:
        module, attribute = plugin.entry_point.module, plugin.entry_point.attr or ""
    except ValueError as error:
        what = f"the entry point '{plugin.entry_point.value}' is not valid"
        raise plugin.error(what, plugin.remedy) from error
    try:
        found: object = import_module(module)
    except (Exception, SystemExit) as error:  # a plugin's module can raise anything at import
        remedy = _remedy(plugin, error)
        raise plugin.failure("cannot be imported: ", error, remedy=remedy) from error
    names = attribute.split(".") if attribute else []
    try:
        return reduce(getattr, names, found)
    except AttributeError as error:
        known = nearest(attribute, _choices(plugin, found))
        what = f"the entry point names '{attribute}', which is not in the module{known}"
        raise plugin.error(what, "correct it in its pyproject.toml") from error


def module_file(name: str) -> str | None:
    """Return the file of a module, without importing it or its packages; None if not found."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    folders = None
    spec = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        tried = (each.find_spec(".".join(parts[:depth]), folders) for each in sys.meta_path)
        spec = next((each for each in tried if each is not None), None)
        if spec is None:
            return None
        folders = spec.submodule_search_locations
    return spec.origin if spec else None


def raised_at(error: BaseException, module: str) -> str | None:
    """Return FILE:LINE of the last line in the traceback that belongs to the module's package."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    root = module_file(module.partition(".")[0])
    if root is None:
        return None
    own = str(Path(root).parent) + os.sep if Path(root).name == "__init__.py" else root
    place = None
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name.startswith(own):
            place = f"{name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def line_of(where: object) -> str | None:
    """Return FILE:LINE of the start of a class or function; None if it has no source."""
    try:
        file, (_, line) = inspect.getsourcefile(where), inspect.getsourcelines(where)  # type: ignore[arg-type]
    except (OSError, TypeError):  # created at run time, or not a class or function
        return None
    return f"{file}:{max(line, 1)}"


def _remedy(plugin: InstalledPlugin, error: BaseException) -> str:
    missing = (error.name or "") if isinstance(error, ImportError) else ""
    root = missing.partition(".")[0]
    if root == "d_back_core":
        return f"it needs another version of {CORE}: upgrade both"
    if root and root == plugin.entry_point.module.partition(".")[0]:
        return "correct its pyproject.toml (entry point, packages), or install it again"
    if isinstance(error, ModuleNotFoundError) and root:
        return f"install '{root}', and add it to the dependencies of {plugin.distribution}"
    return ""


def _choices(plugin: InstalledPlugin, module: object) -> list[str]:
    """Return the names in a module that the entry point can refer to."""
    if plugin.kind == "provider":
        return _classes(module)
    return [name for name, value in vars(module).items() if isinstance(value, click.Command)]


def _classes(module: object) -> list[str]:
    """Return the names of the classes that a module's own package defines."""
    if not isinstance(module, ModuleType):
        return []
    root = module.__name__.partition(".")[0]
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__.partition(".")[0] == root
    ]

"""What is installed: plugins by their entry points, with distribution, version and file. None is
imported before `provider_class` is asked for it."""

import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from functools import reduce
from importlib import import_module
from pathlib import Path
from types import ModuleType

from importlib_metadata import EntryPoint, entry_points
from msgspec import Struct

from d_back_core.errors import PluginError, described, nearest

GROUP = "d_back.providers"
COMMAND_GROUP = "d_back.commands"
CORE = "d-back-core"


class InstalledPlugin(Struct, frozen=True):
    """A plugin that could be named in a configuration."""

    name: str
    entry_point: EntryPoint

    @property
    def distribution(self) -> str:
        """The distribution that brings it."""
        return self._metadata("name")

    @property
    def version(self) -> str:
        """The version of that."""
        return self._metadata("version")

    @property
    def summary(self) -> str:
        """What that says of itself, on one line."""
        metadata = self.entry_point.dist.metadata if self.entry_point.dist else None
        return " ".join(((metadata and metadata.get("Summary")) or "").split())

    @property
    def file(self) -> str:
        """The file of its module; where there is none, the folder that it is installed in."""
        dist = self.entry_point.dist
        found = module_file(self.entry_point.value.partition(":")[0].strip())
        return found or (str(dist.locate_file("")) if dist else "?")

    def __str__(self) -> str:
        where = self.entry_point.value
        return f"provider '{self.name}' ({self.distribution} {self.version}, {where})"

    def error(self, what: str, remedy: str, place: str | None = None) -> PluginError:
        """Why it does not load, in one line; ``place`` is a file, or a line of one."""
        return PluginError(f"{self}: {place or self.file}: {what}; {remedy}")

    def failure(
        self, what: str, error: BaseException, where: object = None, remedy: str = ""
    ) -> PluginError:
        """What its code raised, at the line of its own that this came through, or where the
        class or function begins."""
        place = raised_at(error, self.entry_point.module) or line_of(where)
        mend = f"correct that line, or install another version of {self.distribution}"
        return self.error(f"{what}{described(error)}", remedy or mend, place)

    def _metadata(self, field: str) -> str:
        try:
            found = getattr(self.entry_point.dist, field, None)
        except (KeyError, OSError):  # an installation that was broken off has no metadata
            found = None
        return str(found or "?")


def installed() -> dict[str, list[InstalledPlugin]]:
    """What is installed, by plugin name, without importing any of it."""
    return _in_group(GROUP)


def _in_group(group: str) -> dict[str, list[InstalledPlugin]]:
    found: dict[str, list[InstalledPlugin]] = {}
    for entry_point in entry_points(group=group):
        found.setdefault(entry_point.name, []).append(
            InstalledPlugin(entry_point.name, entry_point)
        )
    return dict(sorted(found.items()))


def installed_commands() -> dict[str, list[InstalledPlugin]]:
    """The stand-alone commands of installed packages, by name, without importing any of them."""
    return _in_group(COMMAND_GROUP)


def only(candidates: Sequence[InstalledPlugin]) -> InstalledPlugin:
    """The plugin of a name; raises `PluginError` where more than one has it."""
    if len(candidates) > 1:
        owners = " and ".join(
            f"{each.distribution} {each.version} ({each.entry_point.value}, {each.file})"
            for each in sorted(candidates, key=lambda each: each.distribution)
        )
        name = candidates[0].name
        raise PluginError(f"provider '{name}' is brought by {owners}: uninstall one of them")
    return candidates[0]


def misplaced() -> Iterator[PluginError]:
    """Entry points in a group that is spelt like ours, and is not."""
    for entry_point in entry_points():
        group = entry_point.group
        looks_like_ours = group.replace("-", "_").lower().startswith("d_back")
        if looks_like_ours and group not in {GROUP, COMMAND_GROUP}:
            plugin = InstalledPlugin(entry_point.name, entry_point)
            remedy = f"call it '{GROUP}' in its pyproject.toml"
            yield plugin.error(f"nothing looks into the group '{group}'", remedy)


def provider_class(plugin: InstalledPlugin) -> type:
    """Import the plugin's class; raises `PluginError`."""
    cls = load(plugin)
    if not isinstance(cls, type):
        known = nearest(
            plugin.entry_point.attr or "", _classes(sys.modules[plugin.entry_point.module])
        )
        what = f"the entry point names no class{known}"
        raise plugin.error(what, "write module:Class in its pyproject.toml")
    return cls


def load(plugin: InstalledPlugin) -> object:
    """Import what the entry point names; raises `PluginError`."""
    try:
        module, attribute = plugin.entry_point.module, plugin.entry_point.attr or ""
    except ValueError as error:
        what = f"the entry point '{plugin.entry_point.value}' names nothing"
        raise plugin.error(what, "write module:Class in its pyproject.toml") from error
    try:
        found: object = import_module(module)
    except (Exception, SystemExit) as error:  # other people's code: an import can raise anything
        remedy = _remedy(plugin, error)
        raise plugin.failure("cannot be imported: ", error, remedy=remedy) from error
    names = attribute.split(".") if attribute else []
    try:
        return reduce(getattr, names, found)
    except AttributeError as error:
        known = nearest(attribute, _classes(found))
        what = f"the entry point names '{attribute}', which is not in it{known}"
        raise plugin.error(what, "correct it in its pyproject.toml") from error


def module_file(name: str) -> str | None:
    """The file of a module; neither it nor the packages above it are imported."""
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
    """The last line of the module's own package that the error came through."""
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
    """The file and the line that a class or function begins at; None where it has none."""
    try:
        file, (_, line) = inspect.getsourcefile(where), inspect.getsourcelines(where)  # type: ignore[arg-type]
    except (OSError, TypeError):  # made at run time, or no function at all
        return None
    return f"{file}:{max(line, 1)}"


def _remedy(plugin: InstalledPlugin, error: BaseException) -> str:
    missing = (error.name or "") if isinstance(error, ImportError) else ""
    root = missing.partition(".")[0]
    if root == "d_back_core":
        return f"it is made for another {CORE}: upgrade both"
    if root and root == plugin.entry_point.module.partition(".")[0]:
        return "correct its pyproject.toml (entry point, packages), or install it again"
    if isinstance(error, ModuleNotFoundError) and root:
        return f"install '{root}', and let {plugin.distribution} depend on it"
    return ""


def _classes(module: object) -> list[str]:
    """The classes that a module makes itself."""
    if not isinstance(module, ModuleType):
        return []
    root = module.__name__.partition(".")[0]
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__.partition(".")[0] == root
    ]

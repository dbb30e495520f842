"""What is wrong with a plugin's class, before it is used: hooks that would never be called or
would be called wrongly, a configuration that cannot be decoded, another version of the hooks."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct, structs

from d_back_core.config import ProviderConfig
from d_back_core.errors import described, nearest
from d_back_core.hookspecs import HOOK_VERSION, PROJECT, ProviderSpec
from d_back_core.providers.entry_points import line_of

NOT_ASYNC = {"events": "an async generator", "commands": "a plain classmethod"}
RECORDS = ("merged", "public")
IMPLEMENTS = f"{PROJECT}_impl"
SPECIFIES = f"{PROJECT}_spec"


class Problem(Struct, frozen=True):
    """One of them."""

    what: str
    remedy: str
    place: str | None
    """The file and the line, where they are known."""

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.what}; {self.remedy}"


def problems_of(cls: type) -> Iterator[Problem]:
    """Everything that is wrong with the class; nothing is called or made."""
    found = [*_of_version(cls), *_of_records(cls), *_of_hooks(cls)]
    if (kind := getattr(cls, "Config", None)) is not None:
        found += _of_config(kind)
    for what, remedy, where in found:
        yield Problem(what, remedy, line_of(where) or line_of(cls))


def hooks_of(cls: type) -> list[str]:
    """The names of the hooks that the class implements."""
    return sorted(name for name in dir(cls) if hasattr(getattr(cls, name, None), IMPLEMENTS))


def hooks_specified() -> frozenset[str]:
    """The names of all hooks."""
    specs = vars(ProviderSpec).items()
    return frozenset(name for name, value in specs if hasattr(value, SPECIFIES))


_Found = Iterator[tuple[str, str, object]]
"""What, the remedy, and the class or function."""


def _of_version(cls: type) -> _Found:
    wanted = getattr(cls, "hook_version", 1)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        yield f"hook_version '{wanted}': is no version", f"write {HOOK_VERSION}", cls
    elif wanted != HOOK_VERSION:
        older = "d-back-core" if wanted > HOOK_VERSION else "the plugin"
        what = f"is written for version {wanted} of the hooks, and this d-back-core has"
        yield f"{what} {HOOK_VERSION}", f"upgrade {older}", cls


def _of_records(cls: type) -> _Found:
    records = getattr(cls, "records", RECORDS[0])
    if isinstance(records, str) and records not in RECORDS:
        known = nearest(records, RECORDS)
        yield f"records '{records}': there is no such state{known}", "correct it", cls


def _of_config(kind: object) -> _Found:
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        yield "Config is no msgspec.Struct", "derive it from that", kind
        return
    try:
        keys = {field.encode_name for field in structs.fields(kind)}
    except Exception as error:  # noqa: BLE001  other people's code: annotations are evaluated
        yield f"Config: {described(error)}", "correct its annotations", kind
        return
    for key in sorted(keys & set(ProviderConfig.__struct_fields__)):
        yield f"Config has '{key}', a key of the core", "call it something else", kind


def _of_hooks(cls: type) -> _Found:
    specified = hooks_specified()
    implemented = 0
    for name in dir(cls):
        function: Any = getattr(cls, name, None)
        options = getattr(function, IMPLEMENTS, None)
        if options is not None:
            implemented += 1
            yield from _of_hook(cls, name, function, options)
        elif hasattr(inspect.getattr_static(cls, name), IMPLEMENTS):
            remedy = "put @hookimpl below @classmethod or @staticmethod"
            yield f"the mark of '{name}' is lost", remedy, function
    if not implemented:
        for name in sorted(specified & set(dir(cls))):
            function = getattr(cls, name)
            yield f"'{name}' is not marked, and no hook", "put @hookimpl above it", function


def _of_hook(
    cls: type,
    name: str,
    function: Callable[..., Any],
    options: Mapping[str, Any],
) -> _Found:
    hook = options["specname"] or name
    spec = getattr(ProviderSpec, hook, None)
    if spec is None or hook not in hooks_specified():
        known = nearest(hook, hooks_specified())
        yield f"there is no hook '{hook}'{known}", "rename it", function
    elif options["wrapper"] or options["hookwrapper"]:
        yield f"hook '{hook}' may not be a wrapper", "let it be a plain hook", function
    elif not _has_right_colour(cls, name, hook, function):
        wanted = NOT_ASYNC.get(hook, "async")
        yield f"hook '{hook}' must be {wanted}", "change its definition", function
    else:
        arguments = list(inspect.signature(spec).parameters)[1:]
        for what, remedy in _of_arguments(cls, name, function, arguments):
            yield f"hook '{hook}': {what}", remedy, function


def _has_right_colour(cls: type, name: str, hook: str, function: Callable[..., Any]) -> bool:
    if hook == "commands" and not isinstance(inspect.getattr_static(cls, name), classmethod):
        return False
    return inspect.iscoroutinefunction(function) != (hook in NOT_ASYNC)


def _of_arguments(
    cls: type, name: str, function: Callable[..., Any], known: list[str]
) -> Iterator[tuple[str, str]]:
    """An argument is given only if it is positional, without a default, and the hook's."""
    declared = list(inspect.signature(function).parameters.values())
    if not isinstance(inspect.getattr_static(cls, name), classmethod | staticmethod):
        if not declared or declared[0].name in known:
            yield "its first argument is not self", "add self"
            return
        del declared[0]
    for argument in declared:
        if argument.kind in {argument.VAR_POSITIONAL, argument.VAR_KEYWORD}:
            continue
        defaulted = argument.default is not argument.empty
        if argument.name not in known and not defaulted:
            wanted = nearest(argument.name, known)
            yield f"there is no argument '{argument.name}'{wanted}", "rename it or leave it out"
        elif argument.name in known and defaulted:
            what = f"'{argument.name}' has a default, and would never be given"
            yield what, "take the default away"
        elif argument.kind is argument.KEYWORD_ONLY and not defaulted:
            yield f"'{argument.name}' would not be given by keyword", "take the * away"

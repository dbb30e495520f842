"""Check a plugin's class before it is used.

Finds hooks that would never be called or be called wrongly, a configuration that cannot be
decoded, and a class written for another version of the hooks. pluggy alone ignores most of these:
a misspelt hook is simply not called.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any, get_args

from msgspec import Struct, structs

from d_back_core.chain.layers import Mode
from d_back_core.config import ProviderConfig
from d_back_core.errors import described, nearest
from d_back_core.hookspecs import HOOK_VERSION, PROJECT, ProviderSpec
from d_back_core.providers.entry_points import line_of

NOT_ASYNC = {
    "events": "an async generator",
    "commands": "a plain classmethod",
    "routes": "a plain method",
}
RECORDS = ("merged", "public")
ANSWERS = ("servers", "users")
"""Hooks whose answers can age."""
SECONDS = "expected a number of seconds, 0 or more"
IMPLEMENTS = f"{PROJECT}_impl"
SPECIFIES = f"{PROJECT}_spec"


class Problem(Struct, frozen=True):
    """A mistake in a plugin's class, and how to fix it."""

    what: str
    remedy: str
    place: str | None
    """FILE:LINE, if known."""

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.what}; {self.remedy}"


def find_problems(cls: type) -> Iterator[Problem]:
    """Yield the problems of a plugin's class, without calling or instantiating it."""
    found = [*_check_version(cls), *_check_records(cls), *_check_defaults(cls), *_check_hooks(cls)]
    if (kind := getattr(cls, "Config", None)) is not None:
        found += _check_config(kind)
    for what, remedy, source in found:
        yield Problem(what, remedy, line_of(source) or line_of(cls))


def find_instance_problems(instance: object) -> Iterator[Problem]:
    """Yield the problems of a given provider: of its class, and of what only the instance has."""
    if isinstance(instance, type):
        what = f"the provider is the class {instance.__name__}, not an instance"
        yield Problem(what, f"write {instance.__name__}(...)", line_of(instance))
        return
    cls = type(instance)
    yield from find_problems(cls)
    if not hooks_of(instance):  # an instance may have hooks that its class has not
        yield Problem("the provider has no hooks", "mark them with @hookimpl", line_of(cls))
    yield from find_default_problems(instance)


def find_default_problems(instance: object) -> Iterator[Problem]:
    """Yield the problems of the defaults that an instance has set for itself."""
    for what, remedy, _ in _check_defaults(instance):
        yield Problem(what, remedy, line_of(type(instance)))


def hooks_of(owner: object) -> list[str]:
    """Return the names of the attributes of a class, or an instance, that are marked as hooks."""
    return sorted(name for name in dir(owner) if hasattr(getattr(owner, name, None), IMPLEMENTS))


def hooks_specified() -> frozenset[str]:
    """Return the names of all hooks that d-back calls."""
    specs = vars(ProviderSpec).items()
    return frozenset(name for name, value in specs if hasattr(value, SPECIFIES))


_Found = Iterator[tuple[str, str, object]]
"""The problem, its remedy, and the class or function that has it."""


def _check_version(cls: type) -> _Found:
    wanted = getattr(cls, "hook_version", 1)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        yield f"hook_version '{wanted}': is not a valid version", f"write {HOOK_VERSION}", cls
    elif wanted != HOOK_VERSION:
        older = "d-back-core" if wanted > HOOK_VERSION else "the plugin"
        what = f"uses version {wanted} of the hooks, but this d-back-core has version"
        yield f"{what} {HOOK_VERSION}", f"upgrade {older}", cls


def _check_records(cls: type) -> _Found:
    records = getattr(cls, "records", RECORDS[0])
    if isinstance(records, str) and records not in RECORDS:
        known = nearest(records, RECORDS)
        yield f"records '{records}': is not a valid value{known}", "correct it", cls


def _check_defaults(owner: object) -> _Found:
    """Check the defaults of keys that the operator can override; ``owner``: a class, or an
    instance of it. A property of a class is not called."""
    values = {name: getattr(owner, name, None) for name in ("mode", "refresh", "max_age")}
    mode, refresh, max_age = (
        None if isinstance(value, property) else value for value in values.values()
    )
    if mode is not None and mode not in get_args(Mode):
        known = nearest(str(mode), get_args(Mode))
        yield f"mode '{mode}': is not a valid value{known}", "correct it", owner
    if refresh is not None and not (_is_seconds(refresh) and refresh > 0):
        yield f"refresh '{refresh}': expected a number of seconds above 0", "correct it", owner
    if isinstance(max_age, Mapping):
        for hook, seconds in max_age.items():
            if hook not in ANSWERS:
                known = nearest(str(hook), ANSWERS)
                yield f"max_age has a key '{hook}'{known}", "correct it", owner
            elif not _is_seconds(seconds):
                yield f"max_age['{hook}'] '{seconds}': {SECONDS}", "correct it", owner
    elif max_age is not None and not _is_seconds(max_age):
        what = f"max_age '{max_age}': {SECONDS}, or a mapping from hook to seconds"
        yield what, "correct it", owner


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < inf


def _check_config(kind: object) -> _Found:
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        yield "Config is not a msgspec.Struct", "derive it from msgspec.Struct", kind
        return
    try:
        keys = {field.encode_name for field in structs.fields(kind)}
    except Exception as error:  # noqa: BLE001  a plugin's annotations are evaluated
        yield f"Config: {described(error)}", "correct its annotations", kind
        return
    for key in sorted(keys & set(ProviderConfig.__struct_fields__)):
        yield f"Config has '{key}', a key of the core", "rename it", kind


def _check_hooks(cls: type) -> _Found:
    specified = hooks_specified()
    implemented = 0
    for name in dir(cls):
        function: Any = getattr(cls, name, None)
        options = getattr(function, IMPLEMENTS, None)
        if options is not None:
            implemented += 1
            yield from _check_hook(cls, name, function, options)
        elif hasattr(inspect.getattr_static(cls, name), IMPLEMENTS):
            remedy = "put it below @classmethod or @staticmethod"
            yield f"'{name}': its @hookimpl has no effect", remedy, function
    if not implemented:
        for name in sorted(specified & set(dir(cls))):
            function = getattr(cls, name)
            yield f"'{name}' has no @hookimpl, so it is never called", "add @hookimpl", function


def _check_hook(
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
        yield f"hook '{hook}' must not be a wrapper", "make it a plain hook", function
    elif options["tryfirst"] or options["trylast"]:
        option = "tryfirst" if options["tryfirst"] else "trylast"
        what = f"hook '{hook}' must not set {option}, since the operator's order decides"
        yield what, f"remove {option}", function
    elif not _is_async_as_specified(cls, name, hook, function):
        wanted = NOT_ASYNC.get(hook, "async")
        yield f"hook '{hook}' must be {wanted}", "change its definition", function
    else:
        arguments = list(inspect.signature(spec).parameters)[1:]
        for what, remedy in _check_arguments(cls, name, function, arguments):
            yield f"hook '{hook}': {what}", remedy, function


def _is_async_as_specified(cls: type, name: str, hook: str, function: Callable[..., Any]) -> bool:
    if hook == "commands" and not isinstance(inspect.getattr_static(cls, name), classmethod):
        return False
    return inspect.iscoroutinefunction(function) != (hook in NOT_ASYNC)


def _check_arguments(
    cls: type, name: str, function: Callable[..., Any], known: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield problems of the arguments: pluggy passes only those that are positional, have no
    default, and belong to the hook."""
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
            yield f"there is no argument '{argument.name}'{wanted}", "rename it or remove it"
        elif argument.name in known and defaulted:
            what = f"'{argument.name}' has a default, so it is never passed"
            yield what, "remove the default"
        elif argument.kind is argument.KEYWORD_ONLY and not defaulted:
            yield f"'{argument.name}' is keyword-only, but is passed by position", "remove the *"

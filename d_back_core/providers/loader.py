"""Load, check and register the plugins that the configuration names; no other is imported."""

import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Collection,
    Container,
    Iterator,
    Mapping,
    Sequence,
)
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import pluggy
from msgspec import Struct, structs

from d_back_core import config as configuration
from d_back_core.config.decoding import WatchedFile, also, decode
from d_back_core.config.loading import misplaced_key
from d_back_core.config.reading import fingerprint
from d_back_core.errors import ConfigError, PluginError, described, nearest
from d_back_core.hookspecs import PROJECT, ProviderSpec
from d_back_core.providers.entry_points import InstalledPlugin, installed, only, provider_class
from d_back_core.providers.plugin_checks import (
    find_default_problems,
    find_instance_problems,
    find_problems,
    hooks_of,
)
from d_back_core.secret import Secret

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

LASTING = frozenset({"events", "record"})
"""Hooks that a probe does not call."""

T = TypeVar("T")

log = logging.getLogger("d_back.plugins")


class Plugin:
    """One configured provider: an instance of a plugin's class, and its hooks."""

    def __init__(
        self,
        settings: configuration.Provider,
        instance: object,
        hooks: dict[str, pluggy.HookImpl],
        decoded: object = None,
    ) -> None:
        self.name = settings.name
        self.settings = settings
        # Here, not in the configuration: only the class knows the defaults of its plugin.
        self.core = _with_defaults(settings.core, instance)
        self.instance = instance
        self.probe = False
        self.records_public = getattr(instance, "records", "merged") == "public"
        self._hooks = hooks
        self._decoded = decoded
        """The plugin's own options, with the values of its secrets; None if it takes none."""
        # The longest one first: another one may be a part of it.
        secrets = (each.reveal() for each in _found(decoded, Secret))
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self.files = {Path(each): fingerprint(Path(each)) for each in _found(decoded, WatchedFile)}
        """The files that the provider reads when it starts, as they are now."""

    def probing(self) -> "Plugin":
        """Return the same provider for ``check --live`` and ``explain``, which ask it only once.

        Its ``context.probe`` is True; its stream and its recording are not used.
        """
        probe = self.without(LASTING)
        probe.probe = True
        return probe

    def without(self, hooks: Container[str]) -> "Plugin":
        """Return the same provider as if it did not implement these hooks."""
        kept = {name: each for name, each in self._hooks.items() if name not in hooks}
        return Plugin(self.settings, self.instance, kept, self._decoded)

    def same_instance(self, other: "Plugin") -> bool:
        """True if the other has the same plugin and options, so that the instance can be kept.

        The options are compared as TOML, as decoded, and with the files that they name: a file or
        a variable may hold another secret than before.
        """
        # Mode, filters, grace and timeouts are the core's: they change while the instance runs.
        return (
            self.core.use == other.core.use
            and self.settings.options == other.settings.options
            and self._decoded == other._decoded  # noqa: SLF001  of the same class
            # Not the value of a `File`: the provider may write to it itself.
            and self.files == other.files
            and self.core.refresh == other.core.refresh  # decides whether it is polled
            and type(self.instance) is type(other.instance)
            and self._hooks.keys() == other._hooks.keys()  # noqa: SLF001  of the same class
        )

    def implements(self, hook: str) -> bool:
        return hook in self._hooks

    @property
    def credentials(self) -> frozenset[str]:
        """What ``authorize`` decides by: ``password``, ``login``, both, or nothing."""
        if not self.implements("authorize"):
            return frozenset()
        return frozenset(getattr(self.instance, "credentials", {"login"}))

    def masked(self, text: str) -> str:
        """Return the text without the secrets of the plugin's configuration."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def max_age(self, hook: str) -> float | None:
        """Return the age in seconds from which a join fetches an answer again; None: never."""
        if self.core.max_age is not None:
            return self.core.max_age
        # Read each time: a provider may change it while it runs, as the callbacks do.
        own = getattr(self.instance, "max_age", None)
        return own.get(hook) if isinstance(own, Mapping) else own

    def call(self, hook: str, **arguments: object) -> Awaitable[Any]:
        """Call an async hook with those ``arguments`` that its implementation declares."""
        awaitable: Awaitable[Any] = self._call(hook, arguments)
        return awaitable

    def events(self) -> AsyncIterator[Any]:
        """Start the provider's stream."""
        stream: AsyncIterator[Any] = self._call("events", {})
        return stream

    @cached_property
    def routes(self) -> "Sequence[BaseRoute]":
        """What the provider serves over HTTP; may raise anything. It is asked once."""
        routes: Sequence[BaseRoute] = self._call("routes", {})
        return routes

    def _call(self, hook: str, arguments: dict[str, object]) -> Any:
        # Only the arguments that it declares: a hook may gain arguments, and old plugins still
        # work (R36).
        implementation = self._hooks[hook]
        return implementation.function(*(arguments[name] for name in implementation.argnames))


def _with_defaults(
    core: configuration.ProviderConfig, instance: object
) -> configuration.ProviderConfig:
    """Return the operator's settings, with the class's defaults for keys that are not set."""
    mode = core.mode or getattr(instance, "mode", None) or "fallback"
    refresh = getattr(instance, "refresh", None) if core.refresh is None else core.refresh
    return structs.replace(core, mode=mode, refresh=refresh)


def load(config: configuration.Config, given: Mapping[str, object] | None = None) -> list[Plugin]:
    """Return the providers of `Config.names` in this order; raises `ConfigError`.

    ``given``: instances of the embedding program, by provider name; the others are made from
    installed plugins.
    """
    given = given or {}
    available = installed()
    hooks = pluggy.PluginManager(PROJECT)
    hooks.add_hookspecs(ProviderSpec)
    loaded = []
    for name in config.names:
        settings = config.provider(name)
        if name in given:
            instance, decoded = given[name], None
            where: object = f"provider '{name}' ({type(instance).__name__})"
            for problem in find_instance_problems(instance):
                raise PluginError(f"{where}: {problem}")
        else:
            where = _installed(config, settings, available)
            instance, decoded = _instance(config, settings, where)
        registered = _registered(hooks, instance, name, where)
        plugin = Plugin(settings, instance, registered, decoded)
        if name in config.chain.recorders and not plugin.implements("record"):
            raise ConfigError(
                f"{config.source}: chain.recorders: {where} does not implement record"
            )
        loaded.append(plugin)
    serving = [plugin for plugin in loaded if plugin.name in config.gateway.http]
    if serving:
        from d_back_core.providers.routes import check_routes  # noqa: PLC0415  imports Starlette

        check_routes(serving, f"{config.source}: gateway.http")
    return loaded


def command_config(kind: type[T], name: str) -> T:
    """Return the configuration of the named provider, for a command of its plugin.

    Call it while the command runs. Raises `ConfigError`.
    """
    config: configuration.Config = click.get_current_context().find_root().obj()
    return _options(config, config.provider(name), kind)


def checked_class(plugin: InstalledPlugin) -> type:
    """Import the plugin's class and check it; raises `PluginError`."""
    cls = provider_class(plugin)
    for problem in find_problems(cls):
        raise plugin.error(problem.what, problem.remedy, problem.place)
    return cls


def add_commands(plugin: InstalledPlugin, group: click.Group) -> bool:
    """Let the plugin add its commands; False if it has none. Raises `PluginError`."""
    cls: Any = checked_class(plugin)
    if "commands" not in hooks_of(cls):
        return False
    try:
        cls.commands(group)
    except (Exception, SystemExit) as error:  # a plugin's code can raise anything
        raise plugin.failure("commands: ", error, cls.commands) from error
    return True


def _installed(
    config: configuration.Config,
    settings: configuration.Provider,
    available: dict[str, list[InstalledPlugin]],
) -> InstalledPlugin:
    use = settings.core.use
    candidates = available.get(use, [])
    if not candidates:
        places = {
            "chain.order": config.chain.order,
            "chain.recorders": config.chain.recorders,
            "gateway.http": config.gateway.http,
        }
        place = next(key for key, names in places.items() if settings.name in names)
        if use != settings.name:
            place = f"providers.{settings.name}.use"
        known = nearest(use, available).replace("known:", "installed:")
        raise ConfigError(f"{config.source}: {place} '{use}': is not installed{known}")
    return only(candidates)


def _instance(
    config: configuration.Config, settings: configuration.Provider, plugin: InstalledPlugin
) -> tuple[object, object]:
    """Return the instance, and the options that it was made from."""
    cls = checked_class(plugin)
    where = f"{config.source}: providers.{settings.name}"
    kind = getattr(cls, "Config", None)
    if kind is None:
        for key in settings.options:
            ours = configuration.ProviderConfig.__struct_fields__
            unknown = misplaced_key(key, settings.options[key], ours)
            raise ConfigError(f"{where}.{key}: {unknown}")
        decoded = None
    else:
        decoded = _decoded(config, settings, plugin, kind)
    try:
        instance = cls(decoded)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:  # a plugin's constructor can raise anything
        raise plugin.failure(f"{cls.__name__}(): ", error, cls) from error
    for problem in find_default_problems(instance):
        raise plugin.error(problem.what, problem.remedy, problem.place)
    return instance, decoded


def _found(value: object, kind: type[T]) -> Iterator[T]:
    """Yield the values of that type in a decoded configuration."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from _found(getattr(value, name), kind)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _found(each, kind)
    elif isinstance(value, Collection) and not isinstance(value, str | bytes):
        for each in value:
            yield from _found(each, kind)


def _decoded(
    config: configuration.Config,
    settings: configuration.Provider,
    plugin: InstalledPlugin,
    kind: type[Struct],
) -> object:
    try:
        return _options(config, settings, kind)
    except ConfigError:
        raise
    except Exception as error:  # a plugin's struct: types that TOML lacks, __post_init__
        raise plugin.failure("Config: ", error, kind) from error


def _options(config: configuration.Config, settings: configuration.Provider, kind: type[T]) -> T:
    unknown = also(configuration.ProviderConfig.__struct_fields__, misplaced_key)
    where = f"{config.source}: providers.{settings.name}"
    return decode(kind, settings.options, where, config.folder, unknown)


def _registered(
    hooks: pluggy.PluginManager, instance: object, name: str, where: object
) -> dict[str, pluggy.HookImpl]:
    """Return the hooks of an instance whose class has been checked."""
    try:
        hooks.register(instance, name)
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(f"{where}: {described(error)}") from error
    # Called one by one, in the order of the chain: pluggy alone would call all at once (R36).
    return {
        caller.name: next(impl for impl in caller.get_hookimpls() if impl.plugin is instance)
        for caller in hooks.get_hookcallers(instance) or ()
    }

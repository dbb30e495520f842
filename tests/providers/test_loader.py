"""Plugins of real distributions: found by entry point, loaded if named, checked (R35, R36)."""

import re
import sys
import tomllib
from functools import reduce
from pathlib import Path

import pytest
from packages import MEND, NAMED, NO_HOOKS, Packages, hook, load_only, refusal

from d_back_core import (
    ConfigError,
    Credentials,
    Duration,
    File,
    PluginError,
    Secret,
    hookimpl,
)
from d_back_core.config import parse
from d_back_core.hookspecs import ProviderSpec
from d_back_core.providers.entry_points import installed
from d_back_core.providers.loader import Plugin, load
from d_back_core.providers.plugin_checks import hooks_specified

# Importing


def test_only_what_the_order_names_is_imported(packages: Packages) -> None:
    """The other plugins are known by name, not by their code."""
    wanted, other = packages.install("wanted"), packages.install("other")
    load_only("wanted")
    assert wanted in sys.modules
    assert other not in sys.modules
    assert {"wanted", "other"} <= installed().keys()
    assert other not in sys.modules


def test_a_configured_provider_that_the_order_does_not_name_is_not_loaded(
    packages: Packages,
) -> None:
    """A table alone starts nothing, and its options are not looked at."""
    packages.install("wanted")
    other = packages.install("other")
    tables = {
        "chain": {"order": ["wanted"]},
        "providers": {"wanted": {}, "other": {"anything": 1}},
    }
    [plugin] = load(parse(tables))
    assert plugin.name == "wanted"
    assert other not in sys.modules


def test_r21_what_is_loaded_is_order_and_recorders(packages: Packages) -> None:
    """In this order; one that is in both is loaded once."""
    recorder = (
        "class Provider:\n"
        "    def __init__(self, config): pass\n"
        "    @hookimpl\n"
        "    async def record(self, changes): pass\n"
    )
    packages.install("reads")
    packages.install("both", recorder)
    packages.install("writes", recorder)
    chain = {"order": ["reads", "both"], "recorders": ["writes", "both"]}
    assert [plugin.name for plugin in load(parse({"chain": chain}))] == ["reads", "both", "writes"]


def test_r21_a_recorder_must_record(packages: Packages) -> None:
    """The hook is what makes one."""
    packages.install("reads")
    packages.install("deaf")
    chain = {"order": ["reads"], "recorders": ["deaf"]}
    with pytest.raises(ConfigError) as caught:
        load(parse({"chain": chain}, Path("d-back.toml")))
    named = "provider 'deaf' (d-back-deaf 1.0, d_back_test_deaf:Provider)"
    assert str(caught.value) == f"d-back.toml: chain.recorders: {named} does not implement record"


def test_what_is_installed_is_known_with_its_distribution(packages: Packages) -> None:
    """Name, distribution, version."""
    packages.install("club")
    [plugin] = installed()["club"]
    assert (plugin.name, plugin.distribution, plugin.version) == ("club", "d-back-club", "1.0")


# What is not installed


def test_an_unknown_provider_is_named_with_the_nearest(packages: Packages) -> None:
    """And with all that are installed."""
    packages.install("postgres")
    known = ", ".join(installed())
    assert refusal("postgress") == (
        "d-back.toml: chain.order 'postgress': is not installed (did you mean "
        f"'postgres'? installed: {known})"
    )


def test_an_unknown_plugin_of_use_is_named_at_its_place(packages: Packages) -> None:
    """The name in the order is right, ``use`` is not."""
    packages.install("postgres")
    known = ", ".join(installed())
    assert refusal("memory", {"use": "postgers"}) == (
        "d-back.toml: providers.memory.use 'postgers': is not installed (did you mean "
        f"'postgres'? installed: {known})"
    )


@pytest.mark.parametrize("key", ["chain.recorders", "gateway.http"])
def test_an_unknown_provider_beside_the_order_is_named_at_its_place(
    packages: Packages, key: str
) -> None:
    """It is not the order that names it."""
    packages.install("club")
    table = tomllib.loads(f"chain.order = ['club']\n{key} = ['clubb']")
    with pytest.raises(ConfigError) as caught:
        load(parse(table, Path("d-back.toml")))
    assert str(caught.value).startswith(
        f"d-back.toml: {key} 'clubb': is not installed (did you mean 'club'? "
    )


def test_two_distributions_may_not_bring_the_same_name(packages: Packages) -> None:
    """Which one would run must not depend on the path; neither is imported."""
    first = packages.install("one", plugin="club")
    second = packages.install("two", plugin="club")
    assert refusal("club") == (
        "provider 'club' is installed by d-back-one 1.0 (d_back_test_one:Provider, "
        "d_back_test_one.py) and d-back-two 1.0 (d_back_test_two:Provider, d_back_test_two.py): "
        "uninstall one of them"
    )
    assert not {first, second} & sys.modules.keys()


# What does not load


def test_a_constructor_s_config_error_is_the_operator_s(packages: Packages) -> None:
    """The error names the provider's table."""
    source = (
        "class Provider:\n"
        "    def __init__(self, config):\n"
        "        raise ConfigError('guilds: one at least')\n"
    )
    packages.install("club", source)
    assert refusal("club") == "d-back.toml: providers.club: guilds: one at least"


def test_a_constructor_s_other_error_is_the_plugin_s(packages: Packages) -> None:
    """It names the distribution."""
    packages.install("club", "class Provider:\n    def __init__(self): pass\n")
    sentence = refusal("club")
    assert sentence.startswith(f"{NAMED}:7: Provider(): TypeError: ")
    assert sentence.endswith(MEND)
    with pytest.raises(PluginError):
        load_only("club")


# Hooks


def test_r36_a_misspelt_hook_is_named_with_the_nearest(packages: Packages) -> None:
    """It would never be called."""
    packages.install("club", hook("async def user(self, server_id):"))
    known = ", ".join(sorted(hooks_specified()))
    assert refusal("club") == (
        f"{NAMED}:10: there is no hook 'user' (did you mean 'users'? known: {known}); rename it"
    )


@pytest.mark.parametrize(
    ("line", "body", "wanted"),
    [
        ("def servers(self):", "return {}", "hook 'servers' must be async"),
        ("async def servers(self):", "yield {}", "hook 'servers' must be async"),
        ("async def events(self):", "return None", "hook 'events' must be an async generator"),
        (
            "async def commands(self, group):",
            "pass",
            "hook 'commands' must be a plain classmethod",
        ),
    ],
)
def test_r36_a_hook_has_the_right_colour(
    packages: Packages, line: str, body: str, wanted: str
) -> None:
    """A coroutine where one is awaited, a stream where one is read."""
    packages.install("club", hook(line, body))
    assert refusal("club") == f"{NAMED}:10: {wanted}; change its definition"


@pytest.mark.parametrize("marker", ["@hookimpl(wrapper=True)", "@hookimpl(hookwrapper=True)"])
def test_r36_a_wrapper_is_refused(packages: Packages, marker: str) -> None:
    """Pluggy would run it around other people's answers."""
    packages.install("club", hook("def servers(self):", "yield", marker))
    assert refusal("club") == (
        f"{NAMED}:10: hook 'servers' must not be a wrapper; make it a plain hook"
    )


@pytest.mark.parametrize("option", ["tryfirst", "trylast"])
def test_r36_a_hook_that_asks_for_another_order_is_refused(
    packages: Packages, option: str
) -> None:
    """The operator alone decides the order."""
    packages.install("club", hook("async def servers(self):", marker=f"@hookimpl({option}=True)"))
    with pytest.raises(PluginError, match=f"hook 'servers' must not set {option}"):
        load_only("club")


def test_a_hook_may_have_another_name_in_the_class(packages: Packages) -> None:
    """``specname`` is pluggy's own."""
    packages.install("club", hook("async def mine(self):", marker="@hookimpl(specname='servers')"))
    assert load_only("club").implements("servers")


def test_a_method_without_the_mark_is_no_hook(packages: Packages) -> None:
    """Whatever it is called."""
    unmarked = "    async def servers(self): return {}\n"
    packages.install("club", hook("async def users(self):") + unmarked)
    assert load_only("club").implements("users")
    assert not load_only("club").implements("servers")


def test_a_property_that_is_not_ready_yet_does_no_harm(packages: Packages) -> None:
    """A plugin's attributes are its own affair before ``start``."""
    source = f"{NO_HOOKS}    @property\n    def pool(self):\n        return self.nothing.yet\n"
    packages.install("club", source)
    assert load_only("club").name == "club"


class Recorder:
    """An embedder's instance, with hooks that declare what they need."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    @hookimpl
    async def start(self) -> None:
        self.heard.append(())

    @hookimpl
    async def users(self, server_id: str) -> None:
        self.heard.append((server_id,))

    @hookimpl
    async def authorize(self, address: str, server_id: str) -> bool:
        self.heard.append((address, server_id))
        return True


async def test_r36_an_implementation_gets_the_arguments_that_it_declares() -> None:
    """No others, and each by its name."""
    recorder = Recorder()
    [plugin] = load(parse({"chain": {"order": ["mine"]}}), {"mine": recorder})
    await plugin.call("start", context=None)
    await plugin.call("users", server_id="1")
    answer = await plugin.call(
        "authorize", server_id="1", credentials=Credentials(), address="::1"
    )
    assert answer is True
    assert recorder.heard == [(), ("1",), ("::1", "1")]


def test_an_instance_of_the_embedder_s_comes_before_installed_plugins(
    packages: Packages,
) -> None:
    """The plugin of the same name is not imported."""
    module = packages.install("club")
    recorder = Recorder()
    [plugin] = load(parse({"chain": {"order": ["club"]}}), {"club": recorder})
    assert plugin.instance is recorder
    assert module not in sys.modules


def test_an_instance_s_wrong_hook_is_told_by_its_class() -> None:
    """There is no distribution to name."""

    class Wrong:
        @hookimpl
        async def servrs(self) -> None: ...

    with pytest.raises(PluginError) as caught:
        load(parse({"chain": {"order": ["mine"]}}), {"mine": Wrong()})
    assert re.fullmatch(
        rf"provider 'mine' \(Wrong\): {__file__}:\d+: there is no hook 'servrs' "
        r"\(did you mean 'servers'\? known: .*\); rename it",
        str(caught.value),
    )


def test_one_instance_cannot_be_two_providers() -> None:
    """They would share their life."""
    recorder = Recorder()
    config = parse({"chain": {"order": ["a", "b"]}})
    with pytest.raises(PluginError, match=r"^provider 'b' \(Recorder\): ValueError: "):
        load(config, {"a": recorder, "b": recorder})


async def test_a_probe_has_neither_stream_nor_records() -> None:
    """It asks once, and leaves nothing behind."""

    class Whole(Recorder):
        @hookimpl
        async def events(self) -> object:
            yield None

        @hookimpl
        async def record(self) -> None: ...

    [plugin] = load(parse({"chain": {"order": ["mine"]}}), {"mine": Whole()})
    probe = plugin.probing()
    assert not plugin.probe
    assert probe.probe
    for lasting in ("events", "record"):
        assert plugin.implements(lasting)
        assert not probe.implements(lasting)
    await probe.call("users", server_id="1")


# R35: the plugin's configuration

CONFIG = """
class Pool(Struct):
    size: int = 4


class Options(Struct, kw_only=True):
    token: Secret
    cache: File = File("cache")
    every: Duration = Duration(60)
    pool: Pool | None = None


class Provider:
    Config = Options

    def __init__(self, config):
        self.config = config
"""


KEYS = "cache, every, fields, grace, max_age, mode, pool, refresh, servers, timeout, token, use"


def config_of(plugin: Plugin, *path: str) -> object:
    """The plugin's own configuration, or something in it; its class is made at run time."""
    return reduce(getattr, ("config", *path), plugin.instance)


def test_r35_a_plugin_gets_its_table_decoded(packages: Packages) -> None:
    """Without the core's keys; secrets, paths and durations as the core has them."""
    packages.install("club", CONFIG)
    options = {"token": "t", "cache": "c", "every": "5m", "pool": {"size": 2}, "mode": "merge"}
    plugin = load_only("club", options)
    assert (
        repr(config_of(plugin)) == "Options(token=***, cache='c', every=300.0, pool=Pool(size=2))"
    )
    values = [config_of(plugin, name) for name in ("token", "cache", "every")]
    assert [type(value) for value in values] == [Secret, File, Duration]
    assert plugin.settings.core.mode == "merge"


ATTRIBUTES = """
class Provider:
    mode, refresh, max_age = "enrich", 7.0, {"users": 3.0}

    def __init__(self, config): pass
"""


def test_r35_class_attributes_are_defaults_of_the_keys_of_the_core(packages: Packages) -> None:
    """The core uses them if the provider's table does not set the keys."""
    packages.install("club", ATTRIBUTES)
    plugin = load_only("club")
    assert (plugin.core.mode, plugin.core.refresh) == ("enrich", 7.0)
    assert (plugin.max_age("users"), plugin.max_age("servers")) == (3.0, None)


def test_r35_the_operator_overrides_class_attributes(packages: Packages) -> None:
    """The keys of the provider's table win over what its class sets."""
    packages.install("club", ATTRIBUTES)
    plugin = load_only("club", {"mode": "merge", "refresh": "9s", "max_age": "2s"})
    assert (plugin.core.mode, plugin.core.refresh) == ("merge", 9.0)
    assert (plugin.max_age("users"), plugin.max_age("servers")) == (2.0, 2.0)


def test_a_provider_is_a_fallback_by_default(packages: Packages) -> None:
    """Without a key and a class attribute, ``mode`` is ``fallback``, and answers do not age."""
    packages.install("club")
    plugin = load_only("club")
    assert (plugin.core.mode, plugin.core.refresh) == ("fallback", None)
    assert plugin.max_age("users") is None


def test_r35_a_plugin_without_config_gets_none(packages: Packages) -> None:
    """And takes no keys."""
    packages.install("club")
    assert config_of(load_only("club", {"mode": "merge"})) is None


def test_r35_two_instances_of_one_plugin_have_their_own_configuration(
    packages: Packages,
) -> None:
    """Under two names, by ``use``."""
    packages.install("club", CONFIG)
    tables = {
        "chain": {"order": ["red", "blue"]},
        "providers": {
            "red": {"use": "club", "token": "r"},
            "blue": {"use": "club", "token": "b"},
        },
    }
    red, blue = load(parse(tables))
    assert type(red.instance) is type(blue.instance)
    assert red.instance is not blue.instance
    tokens = [config_of(plugin, "token") for plugin in (red, blue)]
    assert tokens == [Secret("r"), Secret("b")]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"token": "t", "evry": 5},
            f"evry: unknown key (did you mean 'every'? known: {KEYS})",
        ),
        (
            {"token": "t", "mod": "merge"},
            f"mod: unknown key (did you mean 'mode'? known: {KEYS})",
        ),
        (
            {"token": "t", "pool": {"sise": 5}},
            "pool.sise: unknown key (did you mean 'size'? known: size)",
        ),
        (
            {"token": "t", "pool": {"size": "5"}},
            "pool.size '5': expected a whole number, got a string",
        ),
        ({}, "token: is missing"),
        ({"token": 5}, 'token: expected a string, { env = "NAME" } or { file = "PATH" }'),
    ],
)
def test_r35_a_wrong_key_of_a_plugin_is_named_as_one_of_the_core(
    packages: Packages, options: dict[str, object], sentence: str
) -> None:
    """The core's own keys are suggested too."""
    packages.install("club", CONFIG)
    assert refusal("club", options) == f"d-back.toml: providers.club.{sentence}"


def test_r35_a_key_for_a_plugin_that_takes_none_is_named(packages: Packages) -> None:
    """Only the core's keys are known then."""
    packages.install("club")
    assert refusal("club", {"timout": 5}) == (
        "d-back.toml: providers.club.timout: unknown key (did you mean 'timeout'? known: fields, "
        "grace, max_age, mode, refresh, servers, timeout, use)"
    )


@pytest.mark.parametrize("kind", ["dict", "{'token': str}", "Options()"])
def test_r35_config_must_be_a_struct(packages: Packages, kind: str) -> None:
    """It is what makes the errors and the schema."""
    source = f"class Options(Struct): ...\n\n\n{NO_HOOKS}    Config = {kind}\n"
    packages.install("club", source)
    assert (
        refusal("club")
        == f"{NAMED}:10: Config is not a msgspec.Struct; derive it from msgspec.Struct"
    )


@pytest.mark.parametrize(
    "struct",
    [
        "class Options(Struct):\n    timeout: int = 5\n",
        "class Options(Struct, rename={'mine': 'timeout'}):\n    mine: int = 5\n",
    ],
)
def test_r35_config_may_not_have_a_key_of_the_core(packages: Packages, struct: str) -> None:
    """It would never get it."""
    packages.install("club", f"{struct}\n\n{NO_HOOKS}    Config = Options\n")
    assert refusal("club") == (f"{NAMED}:7: Config has 'timeout', a key of the core; rename it")


@pytest.mark.parametrize(
    ("struct", "cause"),
    [
        ("class Options(Struct):\n    key: object.__class__ | type(len)\n", "TypeError: "),
        (
            "class Options(Struct):\n    key: Path\n",
            "NotImplementedError: a configuration cannot hold a Path",
        ),
        (
            "class Options(Struct):\n    key: int\n    def __post_init__(self): self.nothing\n",
            "AttributeError: 'Options' object has no attribute 'nothing'",
        ),
    ],
)
def test_r35_a_config_that_cannot_be_decoded_is_the_plugin_s_error(
    packages: Packages, struct: str, cause: str
) -> None:
    """The operator's value is right, the struct is not."""
    packages.install("club", f"{struct}\n\n{NO_HOOKS}    Config = Options\n")
    sentence = refusal("club", {"key": 5})
    assert sentence.startswith((f"{NAMED}:7: Config: {cause}", f"{NAMED}:9: Config: {cause}"))
    assert sentence.endswith(MEND)


def test_r35_a_config_may_check_itself(packages: Packages) -> None:
    """A ``ValueError`` of its ``__post_init__`` is the operator's to mend."""
    struct = (
        "class Options(Struct):\n    key: int\n"
        "    def __post_init__(self): raise ValueError('odd')\n"
    )
    packages.install("club", f"{struct}\n\n{NO_HOOKS}    Config = Options\n")
    assert refusal("club", {"key": 5}) == "d-back.toml: providers.club: odd"


@pytest.mark.parametrize("name", sorted(hooks_specified()))
def test_r40_every_hook_is_documented(name: str) -> None:
    """The contract is the docstring."""
    assert getattr(ProviderSpec, name).__doc__

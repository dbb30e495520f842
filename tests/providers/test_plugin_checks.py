"""What is wrong with an installed plugin is reported in one line that names distribution,
entry point, file and remedy; by the gateway, by its commands, and by ``d-back plugins --all``."""

import ast
import json
import logging
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from packages import MEND, NAMED, NO_HOOKS, Packages, hook, load_only, refusal

from d_back_core import HOOK_VERSION, PluginError, WebSocketServer, hookimpl
from d_back_core.cli import main as cli
from d_back_core.providers.entry_points import installed, module_file, provider_class
from d_back_core.providers.plugin_checks import hooks_specified

HOOKS = ", ".join(sorted(hooks_specified()))
OPTIONS = "class Options(Struct):\n    key: {}\n\n\n" + NO_HOOKS + "    Config = Options\n"
AT_CLUB = "correct its pyproject.toml (entry point, packages), or install it again"


def d_back(*arguments: str) -> Result:
    """Run it in this process, in the present folder."""
    return CliRunner().invoke(cli.main, arguments)


@pytest.fixture
def folder(packages: Packages, monkeypatch: pytest.MonkeyPatch) -> Packages:
    """The present folder, with a configuration that names the plugin ``club``."""
    monkeypatch.chdir(packages.folder.parent)
    monkeypatch.setattr(logging, "raiseExceptions", True)  # put back afterwards
    Path("d-back.toml").write_text("chain.order = ['club']\n")
    return packages


# The module and the class


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "import d_back_test_nowhere.deep",
            (
                ":7: cannot be imported: ModuleNotFoundError: No module named "
                "'d_back_test_nowhere'; install 'd_back_test_nowhere', and add it to the "
                "dependencies of d-back-club"
            ),
        ),
        (
            "from d_back_core import FromTheFuture",
            (
                ":7: cannot be imported: ImportError: cannot import name 'FromTheFuture' from "
                "'d_back_core' ({core}); it needs another version of d-back-core: upgrade both"
            ),
        ),
        (
            "from json import nothing",
            (
                ":7: cannot be imported: ImportError: cannot import name 'nothing' from 'json' "
                f"({{json}}){MEND}"
            ),
        ),
        ("1 / 0", f":7: cannot be imported: ZeroDivisionError: division by zero{MEND}"),
        ("open('/')", f":7: cannot be imported: IsADirectoryError: Is a directory: '/'{MEND}"),
        ("int('\\n')", f":7: cannot be imported: ValueError: .*{MEND}"),
        (
            "def f(:",
            (
                ":7: cannot be imported: SyntaxError: invalid syntax (d_back_test_club.py, line 7)"
                f"{MEND}"
            ),
        ),
        ("raise RuntimeError('1\\n2')", f":7: cannot be imported: RuntimeError: 1 2{MEND}"),
        ("raise RuntimeError", f":7: cannot be imported: RuntimeError{MEND}"),
        ("raise SystemExit(1)", f":7: cannot be imported: SystemExit: 1{MEND}"),
        (
            "class Provder: pass",
            (
                ": the entry point names 'Provider', which is not in the module (did you "
                "mean 'Provder'? known: Provder); correct it in its pyproject.toml"
            ),
        ),
    ],
)
def test_an_import_that_fails_is_told_with_its_cause(
    packages: Packages, source: str, sentence: str
) -> None:
    """At the line of the plugin's own that raised it."""
    packages.install("club", source)
    files = {"core": module_file("d_back_core"), "json": module_file("json")}
    pattern = "".join(
        ".*" if part == ".*" else re.escape(part)
        for part in re.split(r"(\.\*)", sentence.format(**files))
    )
    assert re.fullmatch(re.escape(NAMED) + pattern, refusal("club"))


def test_an_import_that_fails_deep_in_a_package_is_told_where(packages: Packages) -> None:
    """Not where the package is, and not in the library that it calls."""
    package = packages.folder / "d_back_deep"
    package.mkdir()
    (package / "__init__.py").write_text("from d_back_deep.parts import Provider\n")
    (package / "parts.py").write_text("import json\n\njson.loads('{')\n")
    packages.install("club", at="d_back_deep:Provider")
    packages.modules += ["d_back_deep", "d_back_deep.parts"]
    found = refusal("club")
    assert ": d_back_deep/parts.py:3: cannot be imported: JSONDecodeError: " in found


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        (
            "d_back_test_club",
            (
                ": the entry point is not a class (known: Other); write module:Class in its "
                "pyproject.toml"
            ),
        ),
        (
            "d_back_test_club:NUMBER",
            (
                ": the entry point is not a class (known: Other); write module:Class in its "
                "pyproject.toml"
            ),
        ),
        (
            "d_back_test_club:Other.Inner",
            (
                ": the entry point names 'Other.Inner', which is not in the module (did you "
                "mean 'Other'? known: Other); correct it in its pyproject.toml"
            ),
        ),
    ],
)
def test_an_entry_point_must_be_a_class(packages: Packages, at: str, sentence: str) -> None:
    """Not a module, nor anything else in it; those that are there are named."""
    packages.install("club", "NUMBER = 1\n\n\nclass Other: pass\n", at=at)
    assert refusal("club") == NAMED.replace("d_back_test_club:Provider", at) + sentence


@pytest.mark.parametrize("at", ["d_back_test_clubb:Provider", "d_back_test_clubb.deep:Provider"])
def test_an_entry_point_of_no_module(packages: Packages, at: str) -> None:
    """There is no file then, but the folder that the distribution is in."""
    packages.install("club", at=at)
    assert re.fullmatch(
        rf"provider 'club' \(d-back-club 1\.0, {at}\): .*/site/?: cannot be imported: "
        rf"ModuleNotFoundError: No module named 'd_back_test_clubb'; {re.escape(AT_CLUB)}",
        refusal("club"),
    )


@pytest.mark.parametrize("at", ["d back club", "d_back_test_club/Provider"])
def test_an_entry_point_that_is_none(packages: Packages, at: str) -> None:
    """It names neither module nor class."""
    packages.install("club", at=at)
    assert re.fullmatch(
        rf"provider 'club' \(d-back-club 1\.0, {at}\): .*/site/?: the entry point '{at}' is "
        r"not valid; write module:Class in its pyproject\.toml",
        refusal("club"),
    )


def test_an_installation_without_metadata_is_told_too(packages: Packages) -> None:
    """As one that was broken off leaves it."""
    packages.install("club", "1 / 0")
    (packages.folder / "d_back_club-1.0.dist-info" / "METADATA").unlink()
    assert refusal("club").startswith("provider 'club' (? ?, d_back_test_club:Provider): ")


# The version of the hooks, what is recorded


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        (
            HOOK_VERSION + 1,
            (
                f"uses version {HOOK_VERSION + 1} of the hooks, but this d-back-core "
                f"has version {HOOK_VERSION}; upgrade d-back-core"
            ),
        ),
        ("'1'", "hook_version '1': is not a valid version; write 1"),
        (True, "hook_version 'True': is not a valid version; write 1"),
        (0, "hook_version '0': is not a valid version; write 1"),
    ],
)
def test_r40_a_plugin_for_other_hooks_is_refused(
    packages: Packages, version: object, sentence: str
) -> None:
    """They might mean something else."""
    packages.install("club", f"{NO_HOOKS}    hook_version = {version}\n")
    assert refusal("club") == f"{NAMED}:7: {sentence}"


def test_r40_a_plugin_without_a_version_is_written_for_the_first(
    packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later core does not take it for one of its own time."""
    packages.install("club")
    monkeypatch.setattr("d_back_core.providers.plugin_checks.HOOK_VERSION", 2)
    assert refusal("club") == (
        f"{NAMED}:7: uses version 1 of the hooks, but this d-back-core has version 2; "
        "upgrade the plugin"
    )


def test_a_recorder_of_no_known_state_is_refused(packages: Packages) -> None:
    """A slip would publish what the operator hides, or hide what is asked for."""
    packages.install("club", f"{NO_HOOKS}    records = 'publik'\n")
    known = "(did you mean 'public'? known: merged, public)"
    sentence = f"records 'publik': is not a valid value {known}; correct it"
    assert refusal("club") == f"{NAMED}:7: {sentence}"


# Hooks


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "async def users(self, guild):",
            (
                "hook 'users': there is no argument 'guild' (known: server_id); rename it or "
                "remove it"
            ),
        ),
        (
            "async def authorize(self, server_id, credential, address):",
            (
                "hook 'authorize': there is no argument 'credential' (did you mean 'credentials'? "
                "known: address, credentials, server_id); rename it or remove it"
            ),
        ),
        (
            "async def servers(self, server_id):",
            (
                "hook 'servers': there is no argument 'server_id' (there are none); rename it or "
                "remove it"
            ),
        ),
        (
            "async def users(self, server_id=None):",
            ("hook 'users': 'server_id' has a default, so it is never passed; remove the default"),
        ),
        (
            "async def users(self, *, server_id):",
            "hook 'users': 'server_id' is keyword-only, but is passed by position; remove the *",
        ),
        (
            "async def users(server_id):",
            "hook 'users': its first argument is not self; add self",
        ),
        ("async def users():", "hook 'users': its first argument is not self; add self"),
        (
            "def commands(self, group):",
            "hook 'commands' must be a plain classmethod; change its definition",
        ),
    ],
)
def test_r36_a_wrong_signature_is_named(packages: Packages, line: str, sentence: str) -> None:
    """It would be called wrongly, or with less than it waits for."""
    packages.install("club", hook(line))
    assert refusal("club") == f"{NAMED}:10: {sentence}"


@pytest.mark.parametrize(
    "line",
    [
        "async def users(self, server_id, *rest, limit=5, **more):",
        "async def users(this, server_id):",
        "async def users(self):",
    ],
)
def test_r36_a_signature_may_leave_out_and_add_its_own(packages: Packages, line: str) -> None:
    """What is not the hook's has its default."""
    packages.install("club", hook(line))
    assert d_back_loads("club")


def d_back_loads(name: str) -> bool:
    return provider_class(installed()[name][0]).__name__ == "Provider"


@pytest.mark.parametrize("kind", ["classmethod", "staticmethod"])
def test_r36_a_mark_that_is_lost_is_told(packages: Packages, kind: str) -> None:
    """Above ``@classmethod`` it marks what is never called."""
    method = "@hookimpl\n    @{}\n    async def users({}server_id): pass\n"
    first = "cls, " if kind == "classmethod" else ""
    packages.install("club", f"{NO_HOOKS}    {method.format(kind, first)}")
    assert refusal("club") == (
        f"{NAMED}:10: 'users': its @hookimpl has no effect; put it below @classmethod or "
        "@staticmethod"
    )


@pytest.mark.parametrize("option", ["tryfirst", "trylast"])
def test_r36_a_hook_with_a_call_order_is_refused(packages: Packages, option: str) -> None:
    """The order of the configuration decides."""
    marker = f"@hookimpl({option}=True)"
    packages.install("club", hook("async def users(self, server_id):", marker=marker))
    sentence = f"hook 'users' must not set {option}, since the operator's order decides"
    assert refusal("club").partition(": ")[2].partition(": ")[2] == f"{sentence}; remove {option}"


def test_r36_a_class_whose_hooks_are_not_marked_is_refused(packages: Packages) -> None:
    """It would be asked for nothing."""
    packages.install("club", f"{NO_HOOKS}    async def users(self, server_id): return {{}}\n")
    sentence = "'users' has no @hookimpl, so it is never called; add @hookimpl"
    assert refusal("club") == f"{NAMED}:10: {sentence}"


# The configuration


def test_r35_a_config_that_cannot_be_read_is_told(packages: Packages) -> None:
    """Its annotations are evaluated when it is used."""
    packages.install("club", OPTIONS.format("'Nowhere'"))
    assert refusal("club", {"key": 5}) == (
        f"{NAMED}:7: Config: NameError: name 'Nowhere' is not defined; correct its annotations"
    )


# Defaults for the operator's keys


@pytest.mark.parametrize(
    ("attribute", "sentence"),
    [
        (
            "mode = 'mergee'",
            (
                "mode 'mergee': is not a valid value (did you mean 'merge'? known: enrich, "
                "fallback, merge)"
            ),
        ),
        ("refresh = 0", "refresh '0': expected a number of seconds above 0"),
        ("refresh = '5m'", "refresh '5m': expected a number of seconds above 0"),
        (
            "max_age = -1",
            (
                "max_age '-1': expected a number of seconds, 0 or more, or a mapping from hook "
                "to seconds"
            ),
        ),
        (
            "max_age = {'user': 5}",
            "max_age has a key 'user' (did you mean 'users'? known: servers, users)",
        ),
        (
            "max_age = {'users': True}",
            "max_age['users'] 'True': expected a number of seconds, 0 or more",
        ),
    ],
)
@pytest.mark.parametrize("where", ["class", "instance"])
def test_r35_a_default_that_is_not_valid_is_refused(
    packages: Packages, attribute: str, sentence: str, where: str
) -> None:
    """Whether the class has it or the constructor sets it."""
    source = f"{NO_HOOKS}    {attribute}\n"
    if where == "instance":
        source = f"{NO_HOOKS}        self.{attribute}\n"
    packages.install("club", source)
    assert refusal("club") == f"{NAMED}:7: {sentence}; correct it"


@pytest.mark.parametrize(
    "attribute", ["mode = 'merge'", "refresh = 0.5", "max_age = {'users': 0}", "max_age = 1.5"]
)
def test_r35_a_valid_default_is_used(packages: Packages, attribute: str) -> None:
    """Until the operator sets another value."""
    packages.install("club", f"{NO_HOOKS}    {attribute}\n")
    plugin = load_only("club")
    used = {
        "mode": plugin.core.mode,
        "refresh": plugin.core.refresh,
        "max_age": plugin.max_age("users"),
    }
    name, _, value = attribute.partition(" = ")
    expected = 0 if value.startswith("{") else ast.literal_eval(value)
    assert used[name] == expected


# Providers that a program gives


class Unmarked:
    """A class without hooks."""


class Marked(Unmarked):
    """A class with a hook."""

    @hookimpl
    async def servers(self) -> None:
        """Return nothing."""


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Marked, "the provider is the class Marked, not an instance; write Marked(...)"),
        (None, "the provider has no hooks; mark them with @hookimpl"),
        ("mock", "the provider has no hooks; mark them with @hookimpl"),
        (Unmarked(), "the provider has no hooks; mark them with @hookimpl"),
    ],
)
def test_r35_a_given_provider_must_be_an_instance_with_hooks(given: object, sentence: str) -> None:
    """It is refused when the server is made, not when a client misses it."""
    with pytest.raises(PluginError) as caught:
        WebSocketServer(0, providers={"club": given})
    assert str(caught.value).startswith("provider 'club' (")
    assert str(caught.value).endswith(sentence)


# Commands


COMMANDS = (
    NO_HOOKS + "    @classmethod\n    @hookimpl\n    def commands(cls, group):\n        {}\n"
)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("group.commnd()", "AttributeError: 'Group' object has no attribute 'commnd'"),
        ("raise SystemExit", "SystemExit"),
        ("raise ConfigError('no')", "ConfigError: no"),
    ],
)
def test_r37_commands_that_cannot_be_added_are_told(
    folder: Packages, body: str, cause: str
) -> None:
    """In one line with exit status 2, as what does not load."""
    folder.install("club", COMMANDS.format(body))
    done = d_back("club", "greet")
    sentence = re.sub(r"/[^ ]*/site/", "", done.output)
    assert sentence == f"Error: {NAMED}:13: commands: {cause}{MEND}\n"
    assert done.exit_code == 2


def test_r37_commands_of_two_distributions_are_not_chosen_between(folder: Packages) -> None:
    """As little as their providers."""
    folder.install("one", COMMANDS.format("group.command('greet')(print)"), plugin="club")
    folder.install("two", COMMANDS.format("group.command('greet')(print)"), plugin="club")
    done = d_back("club", "greet")
    assert done.output.startswith("Error: provider 'club' is installed by d-back-one 1.0 ")
    assert done.exit_code == 2


# d-back and d-back plugins --all

BROKEN = {
    "import": "1 / 0",
    "no class": "def Provider(config): pass",
    "misspelt hook": hook("async def user(self, server_id):"),
    "wrong signature": hook("async def users(self, guild):"),
    "newer hooks": f"{NO_HOOKS}    hook_version = {HOOK_VERSION + 1}\n",
    "wrong configuration": f"{NO_HOOKS}    Config = dict\n",
    "not marked": f"{NO_HOOKS}    async def users(self, server_id): return {{}}\n",
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_the_gateway_does_not_start_with_a_broken_plugin(folder: Packages, source: str) -> None:
    """One line that names all of it, exit status 2."""
    folder.install("club", source)
    done = d_back("--port", "0")
    assert re.fullmatch(
        r"Error: provider 'club' \(d-back-club 1\.0, d_back_test_club:Provider\): "
        rf"{folder.folder}/d_back_test_club\.py(:\d+)?: [^;\n]+; [^;\n]+\n",
        done.output,
    )
    assert done.exit_code == 2


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_plugins_all_shows_the_same(folder: Packages, source: str) -> None:
    """The line that the gateway would end with, below the plugin."""
    folder.install("club", source)
    told = d_back("--port", "0").output.removeprefix("Error: ")
    sys.modules.pop("d_back_test_club", None)
    done = d_back("plugins", "--all")
    file = folder.folder / "d_back_test_club.py"
    assert f"club (d-back-club 1.0), configured; broken\n  {file}\n  {told}" in done.output
    assert done.exit_code == 0


def test_plugins_all_shows_every_fault_and_those_that_have_none(folder: Packages) -> None:
    """Also of plugins that the order does not name."""
    more = "    @hookimpl\n    def servers(self): pass\n    records = 'no'\n    Config = dict\n"
    folder.install("club", hook("async def user(self, server_id):") + more)
    folder.install("fine", hook("async def users(self, server_id):"))
    done = d_back("plugins", "--all")
    lines = done.output.partition("club (")[2].splitlines()
    said = [line.partition(": ")[2].partition(": ")[2].partition("; ")[0] for line in lines[2:6]]
    assert said == [
        "records 'no': is not a valid value (known: merged, public)",
        "hook 'servers' must be async",
        f"there is no hook 'user' (did you mean 'users'? known: {HOOKS})",
        "Config is not a msgspec.Struct",
    ]
    file = folder.folder / "d_back_test_fine.py"
    assert f"fine (d-back-fine 1.0), not configured; hooks: users\n  {file}\n" in done.output


def test_plugins_all_shows_two_of_one_name(folder: Packages) -> None:
    """Both of them, each with the reason."""
    for name in ("one", "two"):
        folder.install(name, hook("async def users(self, server_id):"), plugin="club")
    done = d_back("plugins", "--all")
    for name in ("one", "two"):
        assert f"club (d-back-{name} 1.0), configured; broken\n" in done.output
    assert done.output.count("  provider 'club' is installed by d-back-one 1.0 ") == 2


def test_plugins_all_shows_what_no_group_finds(folder: Packages) -> None:
    """An entry point whose group is misspelt is brought by no other plugin's command."""
    folder.install("club")
    info = folder.folder / "d_back_club-1.0.dist-info" / "entry_points.txt"
    info.write_text("[d-back.provider]\nclub = d_back_test_club:Provider\n")
    file = folder.folder / "d_back_test_club.py"
    assert (
        "not a plugin: provider 'club' (d-back-club 1.0, d_back_test_club:Provider): "
        f"{file}: the entry-point group 'd-back.provider' is not used; rename it to "
        "'d_back.providers' in its pyproject.toml\n"
    ) in d_back("plugins", "--all").output
    assert "not a plugin" not in d_back("plugins").output


def test_plugins_all_says_the_same_as_json(folder: Packages) -> None:
    """For scripts."""
    folder.install("club", BROKEN["misspelt hook"])
    rows = json.loads(d_back("plugins", "--all", "--json").output)
    (row,) = [row for row in rows if row["name"] == "club"]
    assert row["file"] == str(folder.folder / "d_back_test_club.py")
    assert row["problems"][0].startswith("provider 'club' (d-back-club 1.0, ")

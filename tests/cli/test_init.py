"""``d-back init``: what it asks, and that what it writes is right."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec import Meta, Struct, structs
from terminal import terminal

from d_back_core import Duration, File, Secret
from d_back_core import config as configuration
from d_back_core.cli import main as cli
from d_back_core.cli.config_template import ProviderTable, descriptions, render, toml
from d_back_core.config.decoding import decode
from d_back_core.providers.entry_points import installed, provider_class

VALUES = {
    "POSTGRES_DSN": "postgresql://localhost/d_back",
    "DISCORD_TOKEN": "MTEwMDAwMDAwMDAwMDAwMDAx.Gabcde.token_of-the-bot_0123456789",
}
"""Secrets that are not just any text."""
INSTALLED = [name for name in installed() if name != "club"]
needs_mock = pytest.mark.skipif("mock" not in INSTALLED, reason="d-back-mock is not installed")


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "x\x7f\"'"
    unset: str | None = None


class Options(Struct, kw_only=True, forbid_unknown_fields=True):
    token: Secret
    """What lets it in, said on
    ``two`` lines."""
    port: int
    undocumented: str
    kind: Literal["a", "b"]
    level: Annotated[int, Meta(gt=4)]
    color: Annotated[str, Meta(examples=["red"], description="As it is called.")]
    path: File
    wait: Duration
    backup: Secret | None = None
    limit: Annotated[int, Meta(ge=3)] | None = None
    names: frozenset[str] = frozenset({"b", "a"})
    order: tuple[str, ...] = ("x",)
    pause: Duration = Duration(0.25)
    inner: Inner = Inner()
    inners: dict[str, Inner] = msgspec.field(default_factory=lambda: {"a b": Inner()})
    flag: bool = True


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("D_BACK_CONFIG", "DISCORD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    """A command without a terminal."""
    return CliRunner().invoke(cli.main, arguments)


def entries(text: str) -> dict[str, dict[str, object]]:
    """All keys of the file, those behind a # too, by table."""
    return tomllib.loads(re.sub(r"^#(?=[\w\[])", "", text, flags=re.MULTILINE))


def environ_of(name: str) -> Mapping[str, str]:
    """What an operator would set for that plugin."""
    cls = provider_class(installed()[name][0])
    kind = getattr(cls, "Config", None)
    fields = [] if kind is None else [each.encode_name for each in structs.fields(kind)]
    names = [f"{name}_{key}".upper() for key in fields]
    return {each: VALUES.get(each, "x") for each in names}


# What it writes


@pytest.mark.parametrize("name", INSTALLED)
def test_the_file_is_right_for_each_installed_provider(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the secrets are where the file says, ``d-back check`` has nothing to say against it."""
    for variable, text in environ_of(name).items():
        monkeypatch.setenv(variable, text)
    assert run("init", "--provider", name).exit_code == 0
    done = run("check")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"providers.{name}" in Path("d-back.toml").read_text()


@pytest.mark.parametrize("name", INSTALLED)
def test_every_key_is_real(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All keys of the provider are there, and each has a value that it takes."""
    for variable, text in environ_of(name).items():
        monkeypatch.setenv(variable, text)
    run("init", "--provider", name)
    cls = provider_class(installed()[name][0])
    kind = getattr(cls, "Config", msgspec.defstruct("Nothing", []))
    written = entries(Path("d-back.toml").read_text())["providers"][name]
    assert isinstance(written, dict)
    known = {field.encode_name: field.type for field in structs.fields(kind)}
    assert list(written) == list(known)
    for key, value in written.items():
        single = msgspec.defstruct("Single", [(key, known[key])])
        decode(single, {key: value}, name)


@needs_mock
def test_the_keys_of_the_core_are_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those behind a #, and the rules for a server."""
    monkeypatch.setenv("CLUB_PASSWORD", "x")
    run("init")
    tables = entries(Path("d-back.toml").read_text())
    config = configuration.parse({key: tables[key] for key in ("gateway", "chain", "servers")})
    assert config.gateway == configuration.GatewayConfig()
    assert config.chain == configuration.ChainConfig()
    (policy,) = config.servers.values()
    assert (policy.alias, policy.default) == ("club", True)


def test_any_options_have_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every type that TOML and the core know; what must be there is set."""
    for name in ("CLUB_TOKEN", "CLUB_BACKUP"):
        monkeypatch.setenv(name, "x")
    text = render([ProviderTable(name="club", summary="A club", options=Options)], ["club"])
    table = tomllib.loads(text)["providers"]["club"]
    assert list(table) == [each.encode_name for each in structs.fields(Options) if each.required]
    decoded = decode(Options, table, "club")
    assert (decoded.kind, decoded.level, decoded.color) == ("a", 5, "red")
    assert (float(decoded.wait), decoded.token.reveal()) == (30.0, "x")
    every = entries(text)["providers"]["club"]
    whole = decode(Options, every, "club")
    assert whole.backup == Secret("x")
    assert (whole.limit, whole.names) == (3, frozenset({"a", "b"}))
    assert whole.pause == Duration(0.25)
    assert (whole.inner, whole.inners, whole.flag) == (Inner(), {"a b": Inner()}, True)


def test_keys_are_explained() -> None:
    """By what stands below them in the source, or in their ``Meta``."""
    said = descriptions(Options)
    assert said["token"] == "What lets it in, said on `two` lines."
    assert said["color"] == "As it is called."
    assert "undocumented" not in said
    text = render([ProviderTable(name="club", summary="A club", options=Options)], ["club"])
    assert "\n# What lets it in, said on `two` lines.\ntoken = { env" in text
    assert "\n# A club\n[providers.club]\n" in text


@pytest.mark.parametrize(
    "value",
    [True, 5, 0.25, -3.0, 1e300, float("inf"), 'a"b\\\n\x7f\u202eé', ["x"], {"a b": {"c": []}}],
)
def test_values_are_toml(value: object) -> None:
    """And read as what they were."""
    assert tomllib.loads(f"key = {toml(value)}")["key"] == value


# Its answers


@needs_mock
def test_without_a_terminal_it_writes_the_defaults(folder: Path) -> None:
    """And says what to do next."""
    done = run("init")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("Wrote d-back.toml.\n")
    assert "`d-back check --live`" in done.stdout
    assert configuration.load(folder / "d-back.toml", {}).chain.order == ("mock",)


@pytest.mark.parametrize("name", INSTALLED)
def test_every_variable_that_must_be_set_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once those are set that the output names, `d-back check` accepts the file."""
    for variable in environ_of(name):
        monkeypatch.delenv(variable, raising=False)
    told = run("init", "--provider", name).output
    for variable in set(re.findall(r"environment variable (\w+)", told)):
        monkeypatch.setenv(variable, VALUES.get(variable, "x"))
    done = run("check")
    assert (done.exit_code, done.stderr) == (0, "")


@needs_mock
def test_flags_give_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is the highest; one that serves pages only has its place in ``gateway.http``."""
    monkeypatch.setenv("POSTGRES_DSN", VALUES["POSTGRES_DSN"])
    names = ["postgres", "mock", "prometheus"]
    if not set(names) <= set(INSTALLED):
        pytest.skip("not all of them are installed")
    done = run("init", *(part for name in names for part in ("--provider", name)))
    config = configuration.load(Path("d-back.toml"), os.environ)
    assert config.chain.order == ("postgres", "mock")
    assert config.gateway.http == ("prometheus",)
    assert "Set the environment variable POSTGRES_DSN (providers.postgres.dsn)." in done.output


@pytest.mark.parametrize(
    ("names", "order", "recorders"),
    [
        (["discord"], ("discord", "sqlite"), ("sqlite",)),
        (["discord", "page"], ("discord", "sqlite"), ("sqlite",)),
        (["discord", "sqlite"], ("discord", "sqlite"), ("sqlite",)),
        (["sqlite"], ("sqlite",), ()),
        (["nats"], ("nats",), ()),
        (["mock"], ("mock",), ()),
    ],
)
def test_a_real_source_gets_a_memory(
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    order: tuple[str, ...],
    recorders: tuple[str, ...],
) -> None:
    """A chain of a source alone is given the memory that is installed, as a recorder below it."""
    if not {*names, "sqlite"} <= set(INSTALLED):
        pytest.skip("not all of them are installed")
    monkeypatch.setenv("DISCORD_TOKEN", "x")
    run("init", *(part for name in names for part in ("--provider", name)))
    config = configuration.load(Path("d-back.toml"), os.environ)
    assert (config.chain.order, config.chain.recorders) == (order, recorders)


@needs_mock
def test_a_provider_of_pages_alone_is_not_enough() -> None:
    """The usual source is there too."""
    if "prometheus" not in INSTALLED:
        pytest.skip("d-back-prometheus is not installed")
    run("init", "--provider", "prometheus")
    config = configuration.load(Path("d-back.toml"), {})
    assert (config.chain.order, config.gateway.http) == (("mock",), ("prometheus",))


@needs_mock
def test_the_file_is_that_of_config() -> None:
    """And the next step names it."""
    done = run("--config", "other.toml", "init")
    assert done.stdout.startswith("Wrote other.toml.\n")
    assert "`d-back --config other.toml check --live`" in done.stdout
    assert run("--config", "other.toml", "check").exit_code == 0


def test_it_does_not_overwrite() -> None:
    """What is there stays, unless it is forced."""
    path = Path("d-back.toml")
    path.write_text("# mine\n")
    done = run("init")
    assert done.exit_code == 1
    assert done.stderr == "Error: d-back.toml: already exists (overwrite it with --force)\n"
    assert path.read_text() == "# mine\n"
    assert run("init", "--force").exit_code == 0
    assert "[chain]" in path.read_text()


def test_an_unknown_provider_is_refused() -> None:
    """With the nearest; nothing is written."""
    done = run("init", "--provider", "moc")
    assert done.exit_code == 2
    assert "--provider 'moc': is not installed (did you mean 'mock'? installed: " in done.stderr
    assert not Path("d-back.toml").exists()


def test_what_cannot_be_written_is_one_line() -> None:
    """As where there is no such folder."""
    done = run("--config", "absent/d-back.toml", "init")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "No such file" in done.stderr


# What it asks

CLUB = """
from msgspec import Struct

from d_back_core import Secret, hookimpl


class ClubProvider:
    class Config(Struct):
        port: int
        token: Secret

    def __init__(self, config):
        pass

    @hookimpl
    async def users(self, server_id):
        return {}

    @hookimpl
    async def record(self, changes):
        pass
"""


def install(folder: Path, name: str, source: str, cls: str) -> dict[str, str]:
    """A distribution ``d-back-NAME``; the environment that has it."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / f"d_back_test_{name}.py").write_text(source)
    info = site / f"d_back_{name}-1.0.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: d-back-{name}\nVersion: 1.0\nSummary: A {name}\n"
    (info / "METADATA").write_text(metadata)
    (info / "entry_points.txt").write_text(
        f"[d_back.providers]\n{name} = d_back_test_{name}:{cls}\n"
    )
    inherited = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), inherited]))}


@needs_mock
def test_it_asks(folder: Path) -> None:
    """For providers, their order, who remembers, and what must be there; never for a secret."""
    environ = install(folder, "club", CLUB, "ClubProvider")
    with terminal("init", folder=folder, environ=environ) as opened:
        answers = dict.fromkeys(installed(), "n") | {"mock": "", "club": "y"}
        for name in sorted(answers):
            assert f"A {name}" in opened.until(f"Use {name}?") or name != "club"
            opened.type(f"{answers[name]}\n")
        opened.until("Order, highest priority first [club, mock]:")
        opened.type("mock\n")
        opened.until("each of club, mock once")
        opened.type("mock, club\n")
        opened.until("Let club store the data of the providers above it? [Y/n]:")
        opened.type("\n")
        opened.until("providers.club.port:")
        opened.type("x\n")
        opened.until("Error: ")
        opened.type("8080\n")
        assert opened.end() == 0
        assert "CLUB_TOKEN" in opened.text
        assert "club.token:" not in opened.text
    table = tomllib.loads((folder / "d-back.toml").read_text())
    assert table["chain"] == {"order": ["mock", "club"], "recorders": ["club"]}
    assert table["providers"]["club"] == {"port": 8080, "token": {"env": "CLUB_TOKEN"}}


@needs_mock
def test_whoever_breaks_off_has_written_nothing(folder: Path) -> None:
    """With the key for it."""
    with terminal("init", folder=folder) as opened:
        opened.until("Use ")
        opened.type("\x04")
        assert opened.end() == 1
    assert not (folder / "d-back.toml").exists()


@needs_mock
def test_a_broken_plugin_is_left_out(folder: Path) -> None:
    """It is named; the others are offered."""
    environ = install(folder, "broken", "1 / 0", "Provider")
    with terminal("init", "--provider", "mock", folder=folder, environ=environ) as opened:
        assert opened.end() == 0
        assert "skipped: provider 'broken'" in opened.text
    assert (folder / "d-back.toml").exists()

"""``d-back.toml``: what is found, what overrides what, what is refused and how (R12, R21, R34)."""

import json
import os
import re
import tomllib
import traceback
from collections.abc import Iterator
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import Struct, structs
from operating import posix

from d_back_core import ConfigError, Duration, File, Secret
from d_back_core import config as configuration
from d_back_core.chain.policy import Policy
from d_back_core.config import (
    ChainConfig,
    Config,
    GatewayConfig,
    LimitsConfig,
    Provider,
    ProviderConfig,
    Tls,
    find,
    load,
    loading,
    parse,
)
from d_back_core.config.decoding import Timeout, also, decode

FILE = Path("d-back.toml")


class Pool(Struct, frozen=True, kw_only=True, rename="kebab"):
    """A table within a plugin's table."""

    dsn: Secret
    pool_size: int = 4


class Options(Struct, frozen=True, kw_only=True):
    """What a plugin may ask for: everything that the core offers."""

    token: Secret | None = None
    cache: File | None = None
    every: Duration = Duration(60)
    intents: tuple[str, ...] = ()
    chunk: bool = True
    pool: Pool | None = None


def read(text: str) -> Config:
    """The configuration of a file with this text."""
    return parse(tomllib.loads(text), FILE)


def refused(text: str) -> str:
    """The sentence that refuses a file with this text."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


def options(text: str) -> Options:
    """The table of a plugin, as the plugin gets it."""
    table = read(f"[providers.club]\n{text}").provider("club").options
    return decode(
        Options,
        table,
        "d-back.toml: providers.club",
        unknown=also(ProviderConfig.__struct_fields__),
    )


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# Where it is looked for


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """All places where a file is looked for, each with one."""
    monkeypatch.chdir(tmp_path)
    return {
        "flag": write(tmp_path / "flag.toml"),
        "variable": write(tmp_path / "variable.toml"),
        "here": write(Path("d-back.toml")),
        "user": write(tmp_path / "user" / "d-back.toml"),
    }


def test_the_flag_names_the_file(places: dict[str, Path]) -> None:
    """``--config`` before everything else."""
    environ = {"D_BACK_CONFIG": str(places["variable"])}
    found = find(str(places["flag"]), places["user"].parent, environ)
    assert found == places["flag"]


def test_then_the_variable(places: dict[str, Path]) -> None:
    """``$D_BACK_CONFIG`` before what lies about."""
    environ = {"D_BACK_CONFIG": str(places["variable"])}
    assert find(None, places["user"].parent, environ) == places["variable"]


def test_then_the_working_folder(places: dict[str, Path]) -> None:
    """``./d-back.toml`` before the user's; an empty variable names nothing."""
    assert find(None, places["user"].parent, {"D_BACK_CONFIG": ""}) == places["here"]


def test_then_the_user_s_folder(places: dict[str, Path]) -> None:
    """Where the working folder has none."""
    places["here"].unlink()
    assert find(None, places["user"].parent, {}) == places["user"]


def test_without_any_the_mock_is_asked(places: dict[str, Path]) -> None:
    """``d-back`` runs out of the box."""
    places["here"].unlink()
    places["user"].unlink()
    path = find(None, places["user"].parent, {})
    assert path is None
    config = load(path, {})
    assert config.chain.order == ("mock",)
    assert config.source == "built-in defaults"
    assert (config.gateway.host, config.gateway.port) == ("localhost", 3000)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("absent.toml", "does not exist"),
        (".", "is a directory (expected a file)"),
        ("x" * 5000, "does not exist"),
        ("a\0b", "does not exist"),
    ],
)
def test_a_file_that_was_named_must_be_there(name: str, problem: str) -> None:
    """Neither the flag nor the variable falls through to the next place."""
    printable = name.replace("\0", "\\x00")
    with pytest.raises(ConfigError) as caught:
        find(name, Path(), {})
    assert str(caught.value) == f"--config '{printable}': {problem}"
    with pytest.raises(ConfigError) as caught:
        find(None, Path(), {"D_BACK_CONFIG": name})
    assert str(caught.value) == f"$D_BACK_CONFIG '{printable}': {problem}"


# What cannot be read


def test_a_syntax_error_names_the_place(tmp_path: Path) -> None:
    """The file, and where in it."""
    path = write(tmp_path / "d-back.toml", "[gateway]\nport = \n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert (
        str(caught.value) == f"{path}: line 2: invalid value (strings need quotes), in 'port = …'"
    )


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    """TOML is UTF-8."""
    path = tmp_path / "d-back.toml"
    path.write_bytes("[servers.1]\nalias = 'é'\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"d-back\.toml: is not UTF-8$"):
        load(path, {})


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """It has gone since it was found."""
    path = tmp_path / "d-back.toml"
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}: does not exist"


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "{a = " * 5000])
def test_a_file_without_a_bottom_is_refused(tmp_path: Path, text: str) -> None:
    """Nested deeper than the parser can follow."""
    path = write(tmp_path / "d-back.toml", text)
    with pytest.raises(ConfigError, match="is nested too deeply"):
        load(path, {})


SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.dates(),
    st.sampled_from(["5s", "mock", "merge", "roleColor", "1", "scrypt$"]),
)
NAMES = st.sampled_from(["gateway", "chain", "providers", "servers", "tls", "order", "alias", "1"])
TABLE: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(NAMES | st.text(max_size=3), TABLE))
def test_whatever_stands_in_the_file_is_refused_in_one_line(table: dict[str, Any]) -> None:
    """A configuration, or one printable sentence; nothing else comes out of it."""
    try:
        parse(table, FILE)
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017  most tables are refused, not all


# What overrides what


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """Host, port and folder; what the environment does not say stays."""
    path = write(
        tmp_path / "d-back.toml",
        "[gateway]\nhost = 'file'\nport = 1\nstatic_dir = 'file'\norigins = ['o']",
    )
    environ = {"D_BACK_HOST": "env", "D_BACK_PORT": "2", "D_BACK_STATIC_DIR": "/env"}
    gateway = load(path, environ).gateway
    assert (gateway.host, gateway.port, gateway.static_dir) == ("env", 2, "/env")
    assert gateway.origins == ("o",)


def test_flags_override_both(tmp_path: Path) -> None:
    """Port 0 is a flag that was given, None is none."""
    path = write(tmp_path / "d-back.toml", "[gateway]\nhost = 'file'\nport = 1")
    environ = {"D_BACK_HOST": "env", "D_BACK_PORT": "2", "D_BACK_STATIC_DIR": "/env"}
    gateway = load(path, environ, host="flag", port=0, static_dir=None).gateway
    assert (gateway.host, gateway.port, gateway.static_dir) == ("flag", 0, "/env")


def test_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    """As in a container's template that was left blank."""
    path = write(tmp_path / "d-back.toml", "[gateway]\nhost = 'file'\nport = 1")
    empty = {"D_BACK_HOST": "", "D_BACK_PORT": "", "D_BACK_STATIC_DIR": ""}
    gateway = load(path, empty).gateway
    assert (gateway.host, gateway.port, gateway.static_dir) == ("file", 1, None)


@pytest.mark.parametrize(
    "text", ["http", "-1", "65536", " 80", "80.0", "\uff18\uff10", "9" * 5000]
)
def test_a_port_of_the_environment_is_a_port(text: str) -> None:
    """The sentence names the variable, not a file."""
    with pytest.raises(ConfigError) as caught:
        load(None, {"D_BACK_PORT": text})
    assert str(caught.value) == f"$D_BACK_PORT '{text}': is not a valid port (0 to 65535)"


def test_paths_of_the_file_start_at_its_folder(tmp_path: Path) -> None:
    """Wherever the process was started; absolute ones are as they are."""
    write(tmp_path / "etc" / "word.txt", "hunter2\n")
    path = write(
        tmp_path / "etc" / "d-back.toml",
        "[gateway]\nstatic_dir = 'www'\ntls = { cert = 'c.pem', key = '/k.pem' }\n"
        "[servers.1]\npassword = { file = 'word.txt' }",
    )
    config = load(path, {})
    assert config.gateway.static_dir == str(tmp_path / "etc" / "www")
    assert config.gateway.tls == Tls(cert=File(tmp_path / "etc" / "c.pem"), key=File("/k.pem"))
    assert config.servers["1"].password == Secret("hunter2")
    assert config.folder == tmp_path / "etc"


def test_paths_of_flags_and_environment_start_where_they_were_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the file's folder."""
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "etc" / "d-back.toml")
    assert load(path, {}, static_dir="www").gateway.static_dir == str(tmp_path / "www")
    environ = {"D_BACK_STATIC_DIR": "env"}
    assert load(path, environ).gateway.static_dir == str(tmp_path / "env")


# What a good file says


def test_all_that_a_file_can_say() -> None:
    """Every table with every key."""
    config = read(GOOD)
    assert config.gateway == GatewayConfig(
        host="0.0.0.0",  # noqa: S104  nothing listens here
        port=8080,
        origins=("https://example.org",),
        tls=Tls(cert=File("c.pem"), key=File("k.pem")),
        history=100,
        http=("club",),
        drain_time=Duration(20),
        control=File("control.sock"),
        path=File("d-back.sock"),
        extra=frozenset({"avatar"}),
        static_dir=File("www"),
    )
    assert config.limits == LimitsConfig(
        connections=1,
        connections_per_address=2,
        trusted_proxies=("10.0.0.0/8",),
        handshake_timeout=Timeout(3),
        keep_alive=Timeout(4),
        body_size=5000,
        body_timeout=Timeout(5),
        message_size=4096,
        messages_per_second=5.5,
        message_burst=6,
        failed_joins=7,
        write_buffer=8192,
        slow_client_timeout=Timeout(9),
        chat_per_minute=10.0,
        chat_burst=11,
    )
    assert config.chain == ChainConfig(
        order=("club", "mock"),
        recorders=("mock",),
        idle=Duration(60),
        startup_timeout=Timeout(10),
        failback_after=Duration(0.25),
    )
    club = config.providers["club"]
    assert club.core == ProviderConfig(
        use="discord",
        mode="merge",
        servers=frozenset({"1", "2"}),
        fields=frozenset({"username", "roleColor"}),
        timeout=Timeout(1.5),
        grace=Duration(90),
        refresh=Timeout(3600),
        max_age=Duration(2),
    )
    assert club.options == {"token": "t", "pool": {"dsn": "d"}}
    assert config.servers["1"] == Policy(
        alias="dworld",
        default=True,
        enabled=True,
        passworded=True,
        password=Secret("hunter2"),
        eager=True,
        hide_offline=True,
        ignore_users=frozenset({"7"}),
        ignore_channels=frozenset({"members-only"}),
        listen_channels=frozenset({"general"}),
        extra=frozenset({"activity"}),
    )


GOOD = """
[gateway]
host = "0.0.0.0"
port = 8080
origins = ["https://example.org"]
tls = { cert = "c.pem", key = "k.pem" }
history = 100
http = ["club"]
drain_time = "20s"
control = "control.sock"
path = "d-back.sock"
extra = ["avatar"]
static_dir = "www"

[limits]
connections = 1
connections_per_address = 2
trusted_proxies = ["10.0.0.0/8"]
handshake_timeout = 3
keep_alive = 4
body_size = 5000
body_timeout = "5s"
message_size = 4096
messages_per_second = 5.5
message_burst = 6
failed_joins = 7
write_buffer = 8192
slow_client_timeout = "9s"
chat_per_minute = 10
chat_burst = 11

[chain]
order = ["club", "mock"]
recorders = ["mock"]
idle = "1m"
startup_timeout = 10
failback_after = "250ms"

[providers.club]
use = "discord"
mode = "merge"
servers = ["1", "2"]
fields = ["username", "roleColor"]
timeout = 1.5
grace = "1m30s"
refresh = "1h"
max_age = "2s"
token = "t"
pool = { dsn = "d" }

[servers.1]
alias = "dworld"
default = true
enabled = true
passworded = true
password = "hunter2"
eager = true
hide_offline = true
ignore_users = ["7"]
ignore_channels = ["members-only"]
listen_channels = ["general"]
extra = ["activity"]
"""


def test_the_file_above_says_all_that_can_be_said() -> None:
    """Every key of every table is read once in these tests: a new one wants its line there."""
    said = tomllib.loads(GOOD)
    assert said.keys() == configuration.schema()["$defs"]["_Tables"]["properties"].keys()
    for where, kind in TABLES.items():
        table = reduce(dict.__getitem__, where.split("."), said)
        assert table.keys() >= set(keys_of(kind))


def test_a_provider_without_a_table_is_the_plugin_of_its_name() -> None:
    """It has all defaults; ``mode`` is the plugin's own."""
    provider = read("").provider("mock")
    assert provider == Provider(name="mock", core=ProviderConfig(use="mock"), options={})
    assert (provider.core.mode, provider.core.max_age) == (None, None)
    assert (provider.core.timeout, provider.core.grace) == (5.0, 30.0)
    assert provider.core.refresh is None


def test_a_provider_s_table_is_the_plugin_of_its_name_too() -> None:
    """``use`` is needed only where the names differ."""
    assert read("[providers.mock]\ngrace = 1").provider("mock").core.use == "mock"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("5", 5), ("0", 0), ("1.5", 1.5), ("'5s'", 5), ("'250ms'", 0.25), ("'1m30s'", 90)),
        *(("'2h'", 7200), ("'1.5h'", 5400), ("'1d'", 86400), ("'0s'", 0), ("'10us'", 1e-5)),
    ],
)
def test_a_duration_is_a_number_or_a_text(text: str, seconds: float) -> None:
    """Seconds as such, or with units."""
    assert read(f"[chain]\nfailback_after = {text}").chain.failback_after == seconds


# What is refused, sentence by sentence

SENTENCES = """
gatway = {}
    unknown table 'gatway' (did you mean 'gateway'? known: {Tables})

gateway = 5
    gateway: expected a table

providers = []
    providers: expected a table

servers.1 = true
    servers.1: expected a table

gateway.prot = 3000
    gateway.prot: unknown key (did you mean 'port'? known: {GatewayConfig})

gateway.frobnicate = 3000
    gateway.frobnicate: unknown key (known: {GatewayConfig})

gateway.tls = { cert = 'c', kye = 'k' }
    gateway.tls.kye: unknown key (did you mean 'key'? known: cert, key)

gateway.tls = { cert = 'c' }
    gateway.tls.key: is missing

gateway.tls = { cert = 5, key = 'k' }
    gateway.tls.cert '5': expected a path

gateway.tls = true
    gateway.tls 'true': expected a table, got true or false

gateway.port = '3000'
    gateway.port '3000': expected a whole number, got a string

gateway.port = 65536
    gateway.port '65536': expected a whole number <= 65535

gateway.port = -1
    gateway.port '-1': expected a whole number >= 0

gateway.host = ['a']
    gateway.host '["a"]': expected a string, got a list

gateway.origins = 'a'
    gateway.origins 'a': expected a list, got a string

gateway.origins = ['a', 5]
    gateway.origins[1] '5': expected a string, got a whole number

gateway.static_dir = ''
    gateway.static_dir '': expected a path

chain.order = 'mock'
    chain.order 'mock': expected a list, got a string

chain.order = []
    chain.order: is empty (expected a provider)

chain.order = ['a', 'b', 'a']
    chain.order: names 'a' twice

chain = { order = ['a', 'b'], recorders = ['b', 'b'] }
    chain.recorders: names 'b' twice

chain = { order = ['a', 'b'], recorders = ['a'] }
    chain.recorders 'a': is first in chain.order, so there is no provider to record

chain.failback_after = '5 s'
    chain.failback_after '5 s': expected a duration: seconds, or a string like '5s', '250ms',
    '1m30s'

chain.failback_after = true
    chain.failback_after 'true': expected a duration: seconds, or a string like '5s', '250ms',
    '1m30s'

chain.failback_after = '-5s'
    chain.failback_after '-5s': expected a duration that is finite and not negative

chain.failback_after = inf
    chain.failback_after 'inf': expected a duration that is finite and not negative

providers.a.timeout = '0s'
    providers.a.timeout '0s': expected a duration greater than 0

limits.handshake_timeout = 0
    limits.handshake_timeout '0': expected a duration greater than 0

limits.slow_client_timeout = '0s'
    limits.slow_client_timeout '0s': expected a duration greater than 0

chain.startup_timeout = 0.0
    chain.startup_timeout '0.0': expected a duration greater than 0

providers.a.mode = 'fallbak'
    providers.a.mode 'fallbak': is not a valid value (did you mean 'fallback'? known: enrich,
    fallback, merge)

providers.a.fields = ['username', 'rolecolor']
    providers.a.fields[1] 'rolecolor': is not a valid value (did you mean 'roleColor'? known:
    default, extra, id, name, roleColor, status, username)

providers.'a b' = {}
    providers.a b: 'a b' is not a valid name (letters, digits, _ and -)

servers.1.alais = 'a'
    servers.1.alais: unknown key (did you mean 'alias'? known: {Policy})

servers.1.default = 'yes'
    servers.1.default 'yes': expected true or false, got a string

servers.1.password = 5
    servers.1.password: expected a string, { env = "NAME" } or { file = "PATH" }

servers.1.password = { env = 'D_BACK_NOT_SET' }
    servers.1.password: the environment variable D_BACK_NOT_SET is not set

servers.1.password = { file = '/nowhere' }
    servers.1.password: '/nowhere' does not exist

servers.1.password = ''
    servers.1.password: is empty

servers.1.password = 'scrypt$1$2'
    servers.1.password: is not a valid hash (expected scrypt$n$salt$r$p$hash)

servers.' ' = {}
    servers. : ' ' is not a valid server_id or public id

servers."a\\u0007b" = {}
    servers.a\\x07b: 'a\\x07b' is not a valid server_id or public id

servers.constructor = {}
    servers.constructor: 'constructor' is not a valid server_id or public id

servers.1.alias = 'a b'
    servers.1.alias 'a b': is not a valid public id (1 to 64 of A-Z a-z 0-9 _ -, and not
    'default' or 'null')

servers.1.alias = 'default'
    servers.1.alias 'default': is not a valid public id (1 to 64 of A-Z a-z 0-9 _ -, and not
    'default' or 'null')

servers = { 1 = { alias = 'a' }, 2 = { alias = 'a' } }
    servers.2.alias 'a': is already used by servers.1

servers = { 1 = { alias = '2' }, 2 = {} }
    servers.1.alias '2': is already used by servers.2

servers = { 1 = { default = true }, 2 = { default = true } }
    servers: more than one has default = true (1, 2)
"""
"""Each a line of TOML, and below it what is said of it. ``{Policy}`` are that table's keys."""
KNOWN = {
    kind.__name__.strip("_"): ", ".join(
        sorted(field.encode_name for field in structs.fields(kind))
    )
    for kind in (GatewayConfig, Policy, loading._Tables)  # noqa: SLF001  the keys of a file
}


def sentences() -> Iterator[tuple[str, str]]:
    for block in SENTENCES.strip().split("\n\n"):
        text, *said = block.splitlines()
        sentence = " ".join(line.strip() for line in said)
        yield text, re.sub(r"known: \{(\w+)\}", lambda name: f"known: {KNOWN[name[1]]}", sentence)


@pytest.mark.parametrize(("text", "sentence"), list(sentences()))
def test_the_sentence_says_where_what_and_what_else(text: str, sentence: str) -> None:
    """File, table, key, value, and what would be right."""
    assert refused(text) == f"d-back.toml: {sentence}"


@pytest.mark.parametrize("alias", ["null", "", "x" * 65, "constructor", "ä", "a/b"])
def test_r12_an_alias_is_a_public_id(alias: str) -> None:
    """It goes into URLs, and is no reserved word."""
    assert f"alias '{alias}': is not a valid public id" in refused(f"servers.1.alias = '{alias}'")


def test_r12_a_server_s_own_id_is_a_possible_alias() -> None:
    """Only its owner may read it."""
    assert read("servers.1.alias = '1'").servers["1"].alias == "1"


def test_a_wrong_value_is_quoted_in_one_printable_line() -> None:
    """Whatever is in it, and no longer than a screen is wide."""
    assert refused(r'servers.1.alias = "a\nb\u001b"').startswith(
        r"d-back.toml: servers.1.alias 'a\nb\x1b': is not"
    )
    long = "x" * 200
    wanted = f"d-back.toml: gateway.port '{'x' * 80}…': expected a whole number, got a string"
    assert refused(f"gateway.port = '{long}'") == wanted


@pytest.mark.parametrize("value", ["9" * 400, "1e400", f"'{'9' * 400}s'", "nan"])
def test_a_duration_beyond_all_numbers_is_refused(value: str) -> None:
    """It does not overflow anything."""
    assert "expected a duration" in refused(f"chain.idle = {value}")


# Every key of every table

EXAMPLES = {"providers": "providers.club", "servers": "servers.1"}


def structs_in(hint: object) -> Iterator[type[Struct]]:
    """Those of a field's type, whatever is around them."""
    if isinstance(hint, type) and issubclass(hint, Struct):
        yield hint
    for part in get_args(hint):
        yield from structs_in(part)


def tables_in(kind: type[Struct], above: str = "") -> Iterator[tuple[str, type[Struct]]]:
    """Every table of a file, by its path, and what it is decoded into."""
    for field in structs.fields(kind):
        name = f"{above}{field.encode_name}"
        for inner in structs_in(field.type):
            place = EXAMPLES.get(name, name)
            yield place, inner
            yield from tables_in(inner, f"{place}.")


TABLES = dict(tables_in(loading._Tables))  # noqa: SLF001  what a file may say
PLUGIN: dict[str, type[Struct]] = {"providers.club": Options, "providers.club.pool": Pool}

VALUES = {
    "5": "5",
    "-7": "-7",
    "1.5": "1.5",
    "true": "true",
    "'q'": "q",
    "['q']": '["q"]',
    "[5]": "[5]",
    "{ q = 5 }": '{"q":5}',
    "1979-05-27": "1979-05-27",
    "1979-05-27T07:32:00Z": "1979-05-27 07:32:00+00:00",
}
"""TOML, and how an error quotes it."""


def keys_of(kind: type[Struct]) -> list[str]:
    return [field.encode_name for field in structs.fields(kind)]


def every_key() -> Iterator[tuple[str, str]]:
    """Of the core's tables and of a plugin's."""
    for where, kind in (*TABLES.items(), *PLUGIN.items()):
        yield from ((where, key) for key in keys_of(kind))


EVERY_KEY = list(every_key())


def read_whole(table: dict[str, Any]) -> None:
    """Read a file as the gateway and the plugin do together."""
    for provider in parse(table, FILE).providers.values():
        place = f"d-back.toml: providers.{provider.name}"
        ours = ProviderConfig.__struct_fields__
        decode(Options, provider.options, place, unknown=also(ours))


def read_key(where: str, key: str, toml: str) -> None:
    """Read a file with this key only."""
    read_whole(tomllib.loads(f"{where}.{json.dumps(key)} = {toml}"))


@pytest.mark.parametrize(("where", "key"), EVERY_KEY)
def test_a_value_of_the_wrong_type_is_named(where: str, key: str) -> None:
    """Every key of every table: the file, the table, the key and the value stand in one line;
    a secret's value does not."""
    refusals = 0
    for toml, quoted in VALUES.items():
        try:
            read_key(where, key, toml)
        except ConfigError as error:
            sentence = str(error)
        else:
            continue
        if sentence.endswith(": is missing"):  # another key of the same table
            continue
        refusals += 1
        assert sentence.startswith(f"d-back.toml: {where}.{key}")
        assert sentence.isprintable()
        if key in {"password", "token", "dsn", "pool"}:
            assert " '" not in sentence
        elif "q: unknown key" not in sentence and not sentence.endswith("expected a table"):
            element = quoted.strip('[]"')
            assert f" '{quoted}': " in sentence or f"[0] '{element}': " in sentence
    assert refusals >= 5


@st.composite
def misspelt(draw: st.DrawFn) -> tuple[str, str, str]:
    """A table, a key of it, and the key with one slip of the finger."""
    where, key = draw(st.sampled_from(EVERY_KEY))
    place = draw(st.integers(0, len(key) - 1))
    letter = draw(st.sampled_from("aeknrstx_-XÄ. '\n\t\0"))
    slip = draw(st.sampled_from(["drop", "double", "insert", "replace", "swap", "case"]))
    head, char, tail = key[:place], key[place], key[place + 1 :]
    wrong = {
        "drop": head + tail,
        "double": head + char + char + tail,
        "insert": head + letter + char + tail,
        "replace": head + letter + tail,
        "swap": head + tail[:1] + char + tail[1:],
        "case": head + char.upper() + tail,
    }[slip]
    known = {each for place, each in EVERY_KEY if place == where}
    assume(wrong not in known)
    return where, key, wrong


@given(misspelt())
def test_a_misspelt_key_is_named_with_the_nearest(slip: tuple[str, str, str]) -> None:
    """Every key of every table: one line with the file, the table and the key, what was probably
    meant, and what is known."""
    where, key, wrong = slip
    with pytest.raises(ConfigError) as caught:
        read_key(where, wrong, "5")
    sentence = str(caught.value)
    printable = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in wrong)
    assert sentence.startswith(f"d-back.toml: {where}.{printable}: unknown key (")
    assert sentence.isprintable()
    known = sentence.rpartition("known: ")[2].removesuffix(")").split(", ")
    assert key in known
    assert known == sorted(known)
    if get_close_matches(wrong, [key]):
        assert "did you mean '" in sentence


# Secrets


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A file as an editor or a container's secret makes it."""
    return write(tmp_path / "secret", "hunter2\r\n\n")


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable's name."""
    monkeypatch.setenv("D_BACK_TEST_SECRET", "hunter2 ")
    config = read("servers.1.password = { env = 'D_BACK_TEST_SECRET' }")
    assert config.servers["1"].password == Secret("hunter2 ")


def test_a_secret_comes_from_a_file(secret_file: Path) -> None:
    """Without the end of its last line, with everything else."""
    config = read(f"servers.1.password = {{ file = '{secret_file}' }}")
    assert config.servers["1"].password == Secret("hunter2")


def test_a_secret_is_written_as_it_is() -> None:
    """Plain, where the file itself is safe."""
    assert read("servers.1.password = ' hunter2'").servers["1"].password == Secret(" hunter2")
    assert options("token = 't'").token == Secret("t")


def test_a_secret_that_is_not_utf_8_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could match nothing; no byte of it is printed."""
    path = tmp_path / "secret"
    path.write_bytes(b"hunter\xe9")
    wanted = f"d-back.toml: servers.1.password: '{path}' is not UTF-8"
    assert refused(f"servers.1.password = {{ file = '{path}' }}") == wanted
    monkeypatch.setenv("D_BACK_TEST_SECRET", "hunter\udce9")
    sentence = refused("servers.1.password = { env = 'D_BACK_TEST_SECRET' }")
    assert sentence == "d-back.toml: servers.1.password: is not UTF-8"


@posix
def test_a_named_pipe_does_not_keep_the_process_waiting(tmp_path: Path) -> None:
    """Without a writer it is empty; what was written into it is read."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    table = f"servers.1.password = {{ file = '{path}' }}"
    assert refused(table) == "d-back.toml: servers.1.password: is empty"
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    path.write_text("open sesame\n")
    config = parse(tomllib.loads(table))
    os.close(reader)
    assert config.servers["1"].password == Secret("open sesame")


def test_an_empty_secret_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable or a file that was left blank protects nothing."""
    monkeypatch.setenv("D_BACK_TEST_SECRET", "")
    path = write(tmp_path / "secret", "\n")
    for source in ("env = 'D_BACK_TEST_SECRET'", f"file = '{path}'"):
        sentence = refused(f"servers.1.password = {{ {source} }}")
        assert sentence == "d-back.toml: servers.1.password: is empty"


HIDDEN = "s3cr3t-c0ffee"
MISPLACED = {
    "a list": "servers.1.password = ['{}']",
    "a table of another shape": "servers.1.password = {{ value = '{}' }}",
    "beside env": "servers.1.password = {{ env = 'HOME', value = '{}' }}",
    "a broken hash": "servers.1.password = 'scrypt${}'",
    "beside a misspelt key": "servers.1 = {{ password = '{}', alais = 'a' }}",
    "under a misspelt key": "servers.1.pasword = '{}'",
    "instead of a policy": "servers.password = '{}'",
    "instead of a provider": "providers.token = '{}'",
    "instead of all providers": "providers = '{}'",
    "in no table": "token = '{}'",
    "a plugin's list": "providers.club.token = ['{}']",
    "a plugin's misspelt key": "providers.club.tokn = '{}'",
    "within a plugin's table": "providers.club.pool = {{ dsn = '{}', pool-size = 'x' }}",
    "within a plugin's misspelt table": "providers.club.pool = {{ dsn = '{}', pool_size = 1 }}",
    "instead of a plugin's table": "providers.club.pool = '{}'",
    "beside what is missing": "providers.club.pool = {{ pool-size = 1, dns = '{}' }}",
}


@pytest.mark.parametrize("text", MISPLACED.values(), ids=MISPLACED)
def test_a_misplaced_secret_is_not_told(text: str) -> None:
    """Wherever it was written by mistake: not in the error, nor in what caused it."""
    with pytest.raises(ConfigError) as caught:
        read_whole(tomllib.loads(text.format(HIDDEN)))
    assert HIDDEN not in "".join(traceback.format_exception(caught.value))


def test_a_configuration_tells_no_secret() -> None:
    """Neither the core's nor a plugin's, decoded or not; not to repr, nor to a JSON encoder."""
    config = read(
        f"providers.club.token = '{HIDDEN}'\nproviders.club.pool = {{ dsn = '{HIDDEN}' }}\n"
        f"servers.1.password = '{HIDDEN}'"
    )
    decoded = decode(Options, config.providers["club"].options, "")
    for told in (repr(config), str(config), f"{config}", repr(decoded), str(config.servers)):
        assert HIDDEN not in told
    assert "password=***" in repr(config)
    assert "options=['pool', 'token']" in repr(config)
    with pytest.raises(TypeError):
        msgspec.json.encode(decoded)


# R34: the JSON Schema of the file


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    described = configuration.schema()
    Draft202012Validator.check_schema(described)
    return Draft202012Validator(described)


def test_r34_the_schema_accepts_a_good_file(validator: Draft202012Validator) -> None:
    """Plugins' keys included: it knows nothing of them."""
    validator.validate(tomllib.loads(GOOD))
    validator.validate({})
    validator.validate(tomllib.loads("servers.1.password = { env = 'X' }"))


@pytest.mark.parametrize(
    "text",
    [
        "[gatway]",
        "gateway = 5",
        "gateway.prot = 3000",
        "gateway.port = '3000'",
        "gateway.port = 65536",
        "gateway.tls = { cert = 'c' }",
        "gateway.tls = { cert = 'c', key = 'k', kye = 'k' }",
        "chain.order = 'mock'",
        "chain.order = [5]",
        "chain.idle = true",
        "providers.a = 5",
        "providers.a.mode = 'fallbak'",
        "providers.a.fields = ['rolecolor']",
        "servers.1.alais = 'a'",
        "servers.1.default = 'yes'",
        "servers.1.password = 5",
    ],
)
def test_r34_the_schema_refuses_a_bad_file(validator: Draft202012Validator, text: str) -> None:
    """As the gateway itself does."""
    table: dict[str, Any] = tomllib.loads(text)
    assert not validator.is_valid(table)
    with pytest.raises(ConfigError):
        parse(table, FILE)


@pytest.mark.parametrize(
    ("where", "key"), [(w, k) for w, k in EVERY_KEY if k in keys_of(TABLES.get(w, Pool))]
)
def test_r34_the_schema_accepts_what_the_gateway_accepts(
    validator: Draft202012Validator, where: str, key: str
) -> None:
    """Every key of the core's tables, with every value that is right for it."""
    for toml in (*VALUES, "'5s'", "'merge'", "['status']", "{ cert = 'c', key = 'k' }"):
        table: dict[str, Any] = tomllib.loads(f"{where}.{key} = {toml}")
        try:
            parse(table, FILE)
        except ConfigError:
            continue
        validator.validate(table)

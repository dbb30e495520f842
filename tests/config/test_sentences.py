"""Broken configurations and command lines, each with the exact sentence of its error."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from d_back_core.cli.main import main
from d_back_core.config import load
from d_back_core.errors import ConfigError

GATEWAY_KEYS = (
    "control, drain_time, extra, history, host, http, origins, path, port, static_dir, tls"
)
TABLES = "chain, gateway, limits, providers, servers"
LONG = "MTIzNDU2Nzg5MDEyMzQ1Njc4.GhIjKl.abcdefghijklmnopqrstuvwxyz0123456789AB"

FILES: dict[str, str] = {
    # Syntax
    "port = ": "line 1: invalid value (strings need quotes), in 'port = …'",
    "[gateway]\nhost = localhost": ("line 2: invalid value (strings need quotes), in 'host = …'"),
    "[gateway]\nhost = 'a\n": "line 2: the string is not closed, in 'host = …'",
    '[gateway]\n\nhost = "a\n': "line 3: the string is not closed, in 'host = …'",
    "[gateway]\nport 3000": "line 2: expected '=' after a key in a key/value pair",
    "[gateway]\nport = 1\nport = 2": "line 3: the key is defined twice, in 'port = …'",
    "[chain]\n[gateway]\n[chain]": "line 3: table 'chain' is defined twice, in '[chain]'",
    "[gateway\nport = 1": (
        "line 1: expected ']' at the end of a table declaration, in '[gateway'"
    ),
    "gateway = { port = 1": "line 1: unclosed inline table, in 'gateway = …'",
    f"[providers.discord]\ntoken = {LONG}": (
        "line 2: invalid value (strings need quotes), in 'token = …'"
    ),
    LONG: "line 1: expected '=' after a key in a key/value pair",
    "a = '''\nb": "line 2: the string is not closed",
    "[gateway]\nport = True": (
        "line 2: invalid value (true and false are written in lower case), in 'port = …'"
    ),
    "[gateway]\nhost = \u201clocalhost\u201d": (
        "line 2: invalid value (use straight quotes: \"), in 'host = …'"
    ),
    '[gateway]\nstatic_dir = "C:\\Users\\web"': (
        "line 2: invalid escape sequence (write \\\\ for \\, or use single quotes),"
        " in 'static_dir = …'"
    ),
    '[gateway]\nhost = "a" port = 1': (
        "line 2: expected newline or end of document after a statement, in 'host = …'"
    ),
    "{}": "line 1: invalid statement",
    # The wrong table
    "port = 3000": "port: belongs to [gateway]",
    "host = '0.0.0.0'": "host: belongs to [gateway]",
    "origins = []": "origins: belongs to [gateway]",
    "order = ['mock']": "order: belongs to [chain]",
    "recorders = ['a']": "recorders: belongs to [chain]",
    "connections = 5": "connections: belongs to [limits]",
    "mode = 'merge'": "mode: belongs to [providers.NAME]",
    "alias = 'a'": "alias: belongs to [servers.ID]",
    "password = 'a'": "password: belongs to [servers.ID]",
    "prot = 3000": "unknown key 'prot' (did you mean 'port' of [gateway]?)",
    "zzz = 3000": "unknown key 'zzz' (options of a plugin belong to [providers.NAME])",
    "gateway.order = ['mock']": "gateway.order: belongs to [chain]",
    "chain.port = 1": "chain.port: belongs to [gateway]",
    "limits.origins = []": "limits.origins: belongs to [gateway]",
    "gateway.connections = 5": "gateway.connections: belongs to [limits]",
    "servers.1.grace = 3": "servers.1.grace: belongs to [providers.NAME]",
    "gateway.limits.connections = 5": "gateway.limits: is a table of its own: [limits]",
    "[chain.providers.mock]": "chain.providers: is a table of its own: [providers]",
    "[[gateway]]\nport = 1": "gateway: expected a table ([gateway], not [[gateway]])",
    "[gatway]": f"unknown table 'gatway' (did you mean 'gateway'? known: {TABLES})",
    "[discord]\n[chain]\norder = ['discord']": (
        "unknown table 'discord' (the table of a provider is [providers.discord])"
    ),
    "gateway = 3000": "gateway: expected a table",
    "gateway.prot = 1": f"gateway.prot: unknown key (did you mean 'port'? known: {GATEWAY_KEYS})",
    # Values
    "gateway.port = '3000'": "gateway.port '3000': expected a whole number, got a string",
    "gateway.port = 70000": "gateway.port '70000': expected a whole number <= 65535",
    "providers.a = 'x'": "providers.a: expected a table",
    "chain.order = 'mock'": "chain.order 'mock': expected a list, got a string",
    "gateway.host = ['a']": "gateway.host '[\"a\"]': expected a string, got a list",
    "gateway.origins = 'https://u:pw@a'": "gateway.origins: expected a list, got a string",
    "gateway.port = -1": "gateway.port '-1': expected a whole number >= 0",
    "gateway.port = 3.5": "gateway.port '3.5': expected a whole number, got a number",
    "gateway.control = ''": "gateway.control '': expected a path",
    "gateway.tls = { cert = 'a' }": "gateway.tls.key: is missing",
    "limits.connections = 0": "limits.connections '0': expected a whole number >= 1",
    "chain.order = []": "chain.order: is empty (expected a provider)",
    "chain.order = ['mock', 'mock']": "chain.order: names 'mock' twice",
    "chain.recorders = ['mock']": (
        "chain.recorders 'mock': is first in chain.order, so there is no provider to record"
    ),
    "chain.idle = '5x'": (
        "chain.idle '5x': expected a duration: seconds, or a string like '5s', '250ms', '1m30s'"
    ),
    "chain.idle = -1": "chain.idle '-1': expected a duration that is finite and not negative",
    "chain.startup_timeout = 0": "chain.startup_timeout '0': expected a duration greater than 0",
    "providers.a.mode = 'Merge'": (
        "providers.a.mode 'Merge': is not a valid value"
        " (did you mean 'merge'? known: enrich, fallback, merge)"
    ),
    "providers.'a b' = {}": (
        "providers.a b: 'a b' is not a valid name (letters, digits, _ and -)"
    ),
    "servers.'' = {}": "servers.: '' is not a valid server_id or public id",
    'servers."a\\u001bb" = {}': (
        "servers.a\\x1bb: 'a\\x1bb' is not a valid server_id or public id"
    ),
    f"servers.'{'x' * 101}' = {{}}": (
        f"servers.{'x' * 101}: '{'x' * 101}' is not a valid server_id or public id"
    ),
    "servers.1.alias = 'a b'": (
        "servers.1.alias 'a b': is not a valid public id"
        " (1 to 64 of A-Z a-z 0-9 _ -, and not 'default' or 'null')"
    ),
    "[servers]\n1.alias = 'a'\n2.alias = 'a'": (
        "servers.2.alias 'a': is already used by servers.1"
    ),
    "[servers]\n1.default = true\n2.default = true": (
        "servers: more than one has default = true (1, 2)"
    ),
    "servers.1.enabled = 'no'": "servers.1.enabled 'no': expected true or false, got a string",
    "servers.1.password = 5": (
        'servers.1.password: expected a string, { env = "NAME" } or { file = "PATH" }'
    ),
    "servers.1.password = 'scrypt$x'": (
        "servers.1.password: is not a valid hash (expected scrypt$n$salt$r$p$hash)"
    ),
    "servers.1.password = { env = 'D_BACK_ABSENT' }": (
        "servers.1.password: the environment variable D_BACK_ABSENT is not set"
    ),
    "servers.1.password = { file = 'absent' }": "servers.1.password: 'absent' does not exist",
    "servers.1.password = { file = '.' }": (
        "servers.1.password: '.' is a directory (expected a file)"
    ),
    "servers.1.password = { file = 'utf-16' }": (
        "servers.1.password: 'utf-16' is UTF-16 (save it as UTF-8)"
    ),
    "servers.1.password = { file = 'latin' }": "servers.1.password: 'latin' is not UTF-8",
    "servers.1.password = { file = 'blank' }": "servers.1.password: is empty",
    "servers.1.password = { file = 'quoted' }": ("servers.1.password: is in quotes (remove them)"),
    "servers.1.password = { file = 'a', env = 'B' }": (
        'servers.1.password: expected a string, { env = "NAME" } or { file = "PATH" }'
    ),
}


@pytest.mark.parametrize(("text", "sentence"), FILES.items())
def test_r44_a_broken_file_is_named_with_its_fault(
    tmp_path: Path, text: str, sentence: str
) -> None:
    """The sentence names the file, and the line, the table or the key."""
    (tmp_path / "utf-16").write_bytes("hush".encode("utf-16"))
    (tmp_path / "latin").write_bytes(b"h\xfcsh")
    (tmp_path / "blank").write_text("\n")
    (tmp_path / "quoted").write_text('"hush"\n')
    path = tmp_path / "d-back.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}: {sentence}"
    assert LONG not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist"),
        ("[gateway]".encode("utf-16"), "is UTF-16 (save it as UTF-8)"),
        (b"[gateway]\nhost = '\xfc'", "is not UTF-8"),
    ],
)
def test_r44_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    """The sentence holds no number of the system and no name of a codec."""
    path = tmp_path / "d-back.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}: {sentence}"


COMMANDS: dict[tuple[str, ...], str] = {
    ("--config", "absent.toml"): "--config 'absent.toml': does not exist",
    ("--config", "folder"): "--config 'folder': is a directory (expected a file)",
    ("--static-dir", ""): "--static-dir: is empty (expected a directory)",
    ("check", "--config", "a.toml"): (
        "'--config' stands before the command (d-back --config … check)"
    ),
    ("check", "--port", "1"): "'--port' stands before the command (d-back --port … check)",
    ("explain", "--log-level", "debug"): (
        "'--log-level' stands before the command (d-back --log-level … explain)"
    ),
    ("check", "--conifg", "a.toml"): (
        "No such option '--conifg'. Did you mean '--config'?"
        " It stands before the command (d-back --config … check)"
    ),
    ("--live", "check"): "'--live' stands after the command (d-back check --live)",
    ("--json", "explain"): "'--json' stands after the command (d-back explain --json)",
    ("explain", "--jsn"): "No such option '--jsn'. Did you mean '--json'?",
    ("explain", "1", "2", "3"): "Got unexpected extra argument (3)",
    ("stop",): "No such command 'stop' (send SIGTERM to stop it, SIGHUP to reload)",
    ("status",): "No such command 'status' (did you mean 'd-back explain'?)",
    ("test",): "No such command 'test' (did you mean 'd-back check'?)",
    ("help",): "No such command 'help' (did you mean 'd-back --help'?)",
    ("--config",): "Option '--config' requires an argument.",
    ("--log-level", "loud"): (
        "Invalid value for '--log-level':"
        " 'loud' is not one of 'debug', 'info', 'warning', 'error'."
    ),
    ("run",): "No such command 'run' (d-back without a command runs the gateway)",
    ("serve",): "No such command 'serve' (d-back without a command runs the gateway)",
    ("a.toml",): "No such command 'a.toml' (did you mean 'd-back --config a.toml'?)",
    ("--port", "70000"): "Invalid value for '--port': 70000 is not in the range 0<=x<=65535.",
}


@pytest.mark.parametrize(("arguments", "sentence"), COMMANDS.items())
def test_a_wrong_command_line_is_named_with_its_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    """A flag is not blamed on the file, and the error names the place of a misplaced option."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    done = CliRunner().invoke(main, arguments)
    assert done.output.splitlines()[-1] == f"Error: {sentence}"
    assert done.exit_code == 2


def test_a_misspelt_command_is_named_with_the_nearest() -> None:
    """The right commands follow."""
    done = CliRunner().invoke(main, ["chekc"])
    known = ", ".join(main.list_commands(click.Context(main)))
    assert f"No such command 'chekc' (did you mean 'check'? known: {known})" in done.output
    assert done.exit_code == 2


PLUGINS: dict[str, str] = {
    "chain.order = ['mok']": "chain.order 'mok': is not installed (did you mean 'mock'? ",
    "providers.mock.use = 'mok'": (
        "providers.mock.use 'mok': is not installed (did you mean 'mock'? "
    ),
    "providers.mock.order = ['a']": "providers.mock.order: belongs to [chain]",
    "gateway.http = ['mock']": "gateway.http 'mock': it does not implement routes",
    "gateway.static_dir = 'absent'": "gateway.static_dir 'absent': is not a directory",
    "limits.trusted_proxies = ['proxy']": (
        "limits.trusted_proxies 'proxy': is not an address or a network"
        " (expected one such as 10.0.0.0/8)"
    ),
    "limits.trusted_proxies = ['10.0.0.1/8']": (
        "limits.trusted_proxies '10.0.0.1/8': is not a network (did you mean '10.0.0.0/8'?)"
    ),
    "gateway.tls = { cert = 'a', key = 'b' }": "gateway.tls.cert 'a': does not exist",
}
"""What `d-back check` finds when it loads plugins, by the beginning of the sentence."""


@pytest.mark.parametrize(("text", "sentence"), PLUGINS.items())
def test_check_names_what_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str
) -> None:
    """The sentence names file, table, key and value."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d-back.toml").write_text(text)
    done = CliRunner().invoke(main, ["check"])
    assert done.output.startswith(f"Error: d-back.toml: {sentence}")
    assert len(done.output.splitlines()) == 1
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("text", "excerpt"),
    [
        ("[gateway]\nhost = localhost", ["2 | host = …", "  |        ^"]),
        ("[gateway\n", ["1 | [gateway", "  |         ^"]),
        (f"[providers.discord]\n  token = {LONG}", ["2 |   token = …", "  |           ^"]),
        (LONG, []),
    ],
)
def test_a_syntax_error_is_shown_with_a_caret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, excerpt: list[str]
) -> None:
    """Only the part of the line that cannot be a secret is shown."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d-back.toml").write_text(text)
    done = CliRunner().invoke(main, ["check"])
    assert done.output.splitlines()[1:] == excerpt
    assert LONG not in done.output


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"D_BACK_PORT": "x"}, "$D_BACK_PORT 'x': is not a valid port (0 to 65535)"),
        ({"D_BACK_PORT": "tcp"}, "$D_BACK_PORT 'tcp': is not a valid port (0 to 65535)"),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], sentence: str) -> None:
    """A variable is not blamed on the file."""
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    assert str(caught.value) == sentence


def test_the_port_of_a_service_link_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """Kubernetes sets the variable for a Service named d-back; the log names the way out."""
    config = load(None, {"D_BACK_PORT": "tcp://10.43.7.12:3000"})
    assert config.gateway.port == 3000
    assert "$D_BACK_PORT 'tcp://10.43.7.12:3000': is not a port and is ignored" in caplog.text
    assert "enableServiceLinks: false" in caplog.text


def test_r44_a_mark_and_the_ends_of_lines_of_windows_are_accepted(tmp_path: Path) -> None:
    """Editors on Windows write both, in secrets too."""
    mark = b"\xef\xbb\xbf"
    (tmp_path / "secret").write_bytes(mark + b"hush\r\n")
    path = tmp_path / "d-back.toml"
    path.write_bytes(mark + b"[servers.1]\r\npassword = { file = 'secret' }\r\n")
    password = load(path, {}).servers["1"].password
    assert password is not None
    assert password.reveal() == "hush"

"""``d-back`` as an operator runs it: a process of its own, its words, its exit status."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import pytest
from importlib_metadata import distributions, entry_points, version
from operating import PATIENCE, Operator, posix
from ports import free_port
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from d_back_core import (
    Secret,
)
from d_back_core.cli import main as cli
from d_back_core.config import parse

IS_INSTALLED = any(True for _ in distributions(name="d-back-core"))
HAS_MOCK = bool(entry_points(group="d_back.providers", name="mock"))
needs_mock = pytest.mark.skipif(not HAS_MOCK, reason="the plugin d-back-mock is not installed")


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


@pytest.fixture
def club(operator: Operator) -> Operator:
    """An operator whose file names the plugin ``club``."""
    operator.configure()
    return operator


@contextmanager
def joined(url: str) -> Iterator[tuple[ClientConnection, dict[str, Any]]]:
    """A client that joined the default server, with what it was told."""
    with connect(url, open_timeout=PATIENCE) as client:
        assert json.loads(client.recv(PATIENCE))["type"] == "server-list"
        client.send('{"type":"connect","data":{"server":null}}')
        frame = json.loads(client.recv(PATIENCE))
        assert frame["type"] == "server-join"
        yield client, frame["data"]


# Words


@pytest.mark.skipif(not IS_INSTALLED, reason="d-back-core is not installed")
def test_version(operator: Operator) -> None:
    """``--version`` says it and nothing else."""
    done = operator.run("--version")
    assert done.stdout == f"d-back, version {version('d-back-core')}\n"
    assert (done.stderr, done.returncode) == ("", 0)


def test_help_names_every_command(operator: Operator) -> None:
    """Also those that are imported late."""
    done = operator.run("--help")
    assert done.returncode == 0
    commands = ("check", "explain", "hash-password", "init", "new-plugin", "plugins", "schema")
    for command in (*commands, "watch"):
        assert re.search(rf"^  {command} +[A-Z]", done.stdout, re.MULTILINE), command


def test_plugins_lists_what_is_installed(club: Operator) -> None:
    """With distribution, version, use and hooks."""
    done = club.run("plugins")
    hooks = "commands, servers, stop, users"
    assert f"club (d-back-club 1.0), configured; hooks: {hooks}\n" in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)


def test_plugins_says_the_same_as_json(club: Operator) -> None:
    """For scripts."""
    club.install("other", "class Provider: ...")
    rows = json.loads(club.run("plugins", "--json").stdout)
    found = {row["name"]: row for row in rows}
    assert found["club"] == {
        "name": "club",
        "distribution": "d-back-club",
        "version": "1.0",
        "configured": True,
        "hooks": ["commands", "servers", "stop", "users"],
        "error": None,
    }
    assert found["other"]["configured"] is False


def test_plugins_lists_a_broken_one_with_its_error(club: Operator) -> None:
    """It hides neither itself nor the others."""
    club.install("broken", "1 / 0")
    done = club.run("plugins")
    assert re.search(
        r"^broken \(d-back-broken 1\.0\), not configured; .*/d_back_test_broken\.py:1: "
        r"cannot be imported: ZeroDivisionError: division by zero; correct that line, .*$",
        done.stdout,
        re.MULTILINE,
    )
    assert "club (d-back-club 1.0), configured" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("names", "order"),
    [
        ([], ("mock",)),
        (["club"], ("club",)),
        (["club", "mock"], ("mock",)),
        (["club", "other"], ("mock",)),
    ],
)
def test_without_a_file_the_only_plugin_is_the_order(
    names: list[str],
    order: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For who tries one; a file says itself what its order is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("D_BACK_CONFIG", raising=False)
    monkeypatch.setattr(cli, "installed", lambda: dict.fromkeys(names))
    context = click.Context(cli.main)
    context.params = dict.fromkeys(("config", "host", "port", "static_dir"))
    assert cli.load(cli.source(context)).chain.order == order
    (tmp_path / "d-back.toml").write_text("")
    assert cli.load(cli.source(context)).chain.order == ("mock",)


def test_check_says_what_would_run(operator: Operator) -> None:
    """The address, the chain in its order, and what is configured for nothing."""
    operator.configure(
        "gateway.port = 0\nchain.order = ['red', 'club']\n"
        "[providers.red]\nuse = 'club'\nmode = 'merge'\nservers = ['2', '1']\n"
        "fields = ['status', 'roleColor']\n"
        "[providers.spare]\n[providers.other]\n[providers.third]\n"
    )
    done = operator.run("--port", "8080", "check")
    assert done.stdout.splitlines() == [
        "d-back.toml: is valid; would listen on ws://localhost:8080",
        "1. red: plugin club, merge, servers 1, 2, fields roleColor, status",
        "2. club: plugin club, fallback",
        "   spare: configured, but not in chain.order",
        "   other: configured, but not in chain.order",
        "   third: configured, but not in chain.order",
    ]
    assert (done.stderr, done.returncode) == ("", 0)


def test_check_finds_what_running_would_find(operator: Operator) -> None:
    """The plugin's options too."""
    operator.configure("chain.order = ['club']\n[providers.club]\nusres = 5")
    done = operator.run("check")
    assert done.stderr.startswith(
        "Error: d-back.toml: providers.club.usres: unknown key (did you mean 'users'? known: "
    )
    assert (done.stdout, done.returncode) == ("", 2)


def test_hash_password_makes_what_a_configuration_takes(operator: Operator) -> None:
    """Asked for twice, printed alone on stdout, never the password."""
    done = operator.run("hash-password", typed="pässword\npässword\n")
    assert done.returncode == 0
    assert "pässword" not in done.stdout + done.stderr
    text = done.stdout.splitlines()[-1].rpartition(" ")[2]
    policy = parse({"servers": {"1": {"password": text}}}).servers["1"]
    assert isinstance(policy.password, Secret)
    assert policy.password.is_hash
    assert policy.password.matches("pässword")


def test_hash_password_wants_the_same_twice(operator: Operator) -> None:
    """A slip would lock everyone out; without more to read it gives up."""
    done = operator.run("hash-password", typed="one\ntwo\n")
    assert "do not match" in done.stdout + done.stderr
    assert "scrypt$" not in done.stdout
    assert done.returncode == 1


def test_r37_a_plugin_brings_commands(operator: Operator) -> None:
    """Of any installed plugin, whether the configuration names it or not."""
    done = operator.run("club", "greet")
    assert (done.stdout, done.stderr, done.returncode) == ("hello\n", "", 0)


@pytest.mark.parametrize("word", ["frobnicate", "quiet"])
def test_an_unknown_command_is_refused(operator: Operator, word: str) -> None:
    """Also if a plugin has the name but brings no commands."""
    operator.install("quiet", "class Provider: ...")
    done = operator.run(word)
    assert f"No such command '{word}'" in done.stderr
    assert done.returncode == 2


# What is refused


@contextmanager
def taken_port() -> Iterator[int]:
    """A port on which another program listens."""
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


CLUB_IS = "provider 'broken' (d-back-broken 1.0, d_back_test_broken:Provider)"

REFUSED: dict[str, tuple[str, tuple[str, ...], str]] = {
    "unknown table": ("gatway.port = 1", (), r"d-back\.toml: unknown table 'gatway' \(did you .*"),
    "unknown key": ("gateway.prot = 1", (), r"d-back\.toml: gateway\.prot: unknown key \(did .*"),
    "wrong type": (
        "gateway.port = 'http'",
        (),
        r"d-back\.toml: gateway\.port 'http': expected a whole number, got a string",
    ),
    "unknown provider": (
        "chain.order = ['clubb']",
        (),
        r"d-back\.toml: chain\.order 'clubb': is not installed \(did you .*club.*\)",
    ),
    "broken plugin": (
        "chain.order = ['broken']",
        (),
        re.escape(f"{CLUB_IS}: ") + r"[^:]*/d_back_test_broken\.py:1: cannot be imported: "
        "ZeroDivisionError: division by zero; correct that line, or install another version of "
        "d-back-broken",
    ),
    "two aliases": (
        "servers.1.alias = 'a'\nservers.2.alias = 'a'",
        (),
        r"d-back\.toml: servers\.2\.alias 'a': is already used by servers\.1",
    ),
    "syntax": ("port = ", (), r"d-back\.toml: line 1: invalid value .*\n1 \| port = …\n  \| \^"),
    "no such file": (
        "",
        ("--config", "absent.toml"),
        r"--config 'absent\.toml': does not exist",
    ),
    "no static folder": (
        "chain.order = ['club']",
        ("--static-dir", "absent"),
        r"--static-dir '/.*/absent': is not a directory",
    ),
    "a file as static folder": (
        "chain.order = ['club']\ngateway.static_dir = 'd-back.toml'",
        (),
        r"d-back\.toml: gateway\.static_dir 'd-back\.toml': is not a directory",
    ),
    "no certificate": (
        "chain.order = ['club']\ngateway.tls = { cert = 'c.pem', key = 'k.pem' }",
        (),
        r"d-back\.toml: gateway\.tls\.cert 'c\.pem': does not exist",
    ),
    "no certificate in the file": (
        "chain.order = ['club']\ngateway.tls = { cert = 'd-back.toml', key = 'd-back.toml' }",
        (),
        r"d-back\.toml: gateway\.tls: cert 'd-back\.toml', key 'd-back\.toml': cannot be used: .*",
    ),
    "no such host": (
        "chain.order = ['club']",
        ("--host", "nowhere.invalid", "--port", "0"),
        r"--host 'nowhere\.invalid': is not a known host \(.*\)",
    ),
}


@pytest.mark.parametrize(("text", "arguments", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_the_operator_s_to_mend_is_one_line(
    operator: Operator, text: str, arguments: tuple[str, ...], sentence: str
) -> None:
    """On stderr, with exit status 2, and never a traceback."""
    operator.install("broken", "1 / 0")
    operator.configure(text)
    done = operator.run("--log-level", "error", *arguments)
    assert re.fullmatch(rf"Error: {sentence}\n", done.stderr.removeprefix("stopping\n"))
    assert (done.stdout, done.returncode) == ("", 2)


def test_a_port_in_use_is_one_line_too(club: Operator) -> None:
    """It is found before any provider starts."""
    with taken_port() as port:
        done = club.run("--log-level", "error", "--host", "127.0.0.1", "--port", str(port))
    assert done.stderr == (
        f"Error: --port '{port}': is in use on 127.0.0.1 (choose another with --port)\n"
    )
    assert (done.stdout, done.returncode) == ("", 2)


@pytest.mark.parametrize("arguments", [("--port", "70000"), ("--port", "x"), ("--prot", "1")])
def test_a_wrong_flag_is_a_usage_error(club: Operator, arguments: tuple[str, ...]) -> None:
    """In click's own words."""
    done = club.run(*arguments)
    assert done.stderr.startswith("Usage: ")
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


# Running


@needs_mock
def test_it_runs_out_of_the_box(operator: Operator) -> None:
    """Without any configuration there are users to look at."""
    with operator.serving("--port", "0") as gateway:
        with joined(gateway.url) as (_, welcome):
            assert welcome["users"]
        gateway.end()
        assert gateway.process.returncode == 0


def test_flags_override_the_environment_and_the_file(operator: Operator) -> None:
    """As the process is really started."""
    operator.configure("chain.order = ['club']\ngateway = { host = 'nowhere.invalid', port = 1 }")
    environ = {"D_BACK_HOST": "localhost", "D_BACK_PORT": "2"}
    with (
        operator.serving("--port", "0", environ=environ) as gateway,
        joined(gateway.url) as (_, w),
    ):
        assert w["serverName"] == "The club"


def test_the_user_s_folder_is_looked_into(operator: Operator) -> None:
    """Where the working folder has no file."""
    operator.configure(name="home/d-back/d-back.toml")
    done = operator.run("check")
    path = operator.folder / "home" / "d-back" / "d-back.toml"
    assert done.stdout.startswith(f"{path}: is valid; ")


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(club: Operator, number: signal.Signals) -> None:
    """Clients get 1001, providers are stopped, and the status is 0."""
    with club.serving("--port", "0") as gateway, joined(gateway.url) as (client, _):
        rest = gateway.end(number, within=5)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert gateway.process.returncode == 0
    assert "stopping\n" in rest
    assert rest.endswith("stopped\n")
    assert "Traceback" not in rest


@posix
def test_a_signal_before_it_listens_ends_it_too(operator: Operator) -> None:
    """A provider that does not come up delays no one else."""
    operator.install(
        "slow",
        "import sys\nfrom asyncio import Event\nfrom d_back_core import hookimpl\n"
        "class Provider:\n"
        "    def __init__(self, config): pass\n"
        "    @hookimpl\n"
        "    async def start(self):\n"
        "        print('starting', file=sys.stderr, flush=True)\n"
        "        await Event().wait()\n",
    )
    operator.configure("chain.order = ['slow']")
    with operator.serving("--port", "0") as gateway:
        gateway.until("^starting$")
        rest = gateway.end(within=5)
    assert gateway.process.returncode == 0
    assert "Traceback" not in rest


@posix
@pytest.mark.parametrize("stop", ["never", "sits out"])
def test_a_provider_that_hangs_does_not_hold_it_up(operator: Operator, stop: str) -> None:
    """Its ``stop`` does not return, or not even when it is cancelled."""
    operator.configure(f"chain.order = ['club']\nproviders.club.stop = '{stop}'")
    with operator.serving("--port", "0") as gateway:
        assert gateway.url
        rest = gateway.end(within=5)
    assert gateway.process.returncode == 0
    assert "Traceback" not in rest


@posix
def test_a_client_that_hangs_does_not_hold_it_up(club: Operator) -> None:
    """It does not answer the close."""
    with club.serving("--port", "0") as gateway:
        host, port = re.findall(r"//(.+):(\d+)", gateway.url)[0]
        with closing(socket.create_connection((host, int(port)))) as deaf:
            deaf.sendall(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert deaf.recv(1) == b"H"
            rest = gateway.end(within=5)
    assert gateway.process.returncode == 0
    assert "Traceback" not in rest


WINDOWS = """
import signal
import sys
from asyncio.unix_events import _UnixSelectorEventLoop
import d_back_core.gateway.gateway
from d_back_core.cli import main as cli

def refuse(*arguments):
    raise NotImplementedError

_UnixSelectorEventLoop.add_signal_handler = refuse
_UnixSelectorEventLoop.remove_signal_handler = lambda *arguments: False
cli.find_spec = lambda name: None
sys.platform = "win32"
signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent of the tests may ignore it
sys.exit(cli.main())
"""
"""The gateway as Windows has it: without uvloop, on a loop that takes no signals."""


class ByProgram(Operator):
    """Runs ``d-back`` by a program that prepares the process."""

    def __init__(self, folder: Path, program: str) -> None:
        super().__init__(folder)
        self._program = program

    def command(
        self, arguments: tuple[str, ...], redirect: str = "", limits: str = ""
    ) -> list[str]:
        assert not redirect + limits
        return [sys.executable, "-c", self._program, *arguments]


@posix
def test_r39_ctrl_c_ends_it_where_the_loop_takes_no_signals(tmp_path: Path) -> None:
    """In good order, as on Windows; also while it watches its file."""
    operator = ByProgram(tmp_path, WINDOWS)
    operator.configure()
    with operator.serving("--port", "0", "--watch") as gateway, joined(gateway.url) as (client, _):
        rest = gateway.end(signal.SIGINT)
        with pytest.raises(ConnectionClosed) as closed:
            list(iter(lambda: client.recv(PATIENCE), None))
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert gateway.process.returncode == 0
    assert rest.endswith("stopped\n")
    assert "Traceback" not in rest


INTERRUPTIBLE = """
import signal
import sys
from d_back_core.cli.main import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent of the tests may ignore it
sys.exit(main())
"""
"""The gateway as a terminal starts it."""


@posix
def test_ctrl_c_before_it_serves_leaves_no_traceback(tmp_path: Path) -> None:
    """Nor a word against the plugin that is being imported."""
    operator = ByProgram(tmp_path, INTERRUPTIBLE)
    source = "import sys, time\nprint('importing', file=sys.stderr, flush=True)\ntime.sleep(600)\n"
    operator.install("slow", source)
    operator.configure("chain.order = ['slow']")
    with operator.serving("--port", "0") as gateway:
        gateway.until("^importing$")
        rest = gateway.end(signal.SIGINT)
    assert gateway.process.returncode == -signal.SIGINT
    assert rest == ""


@posix
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop", ["never", "blocks"])
def test_a_second_signal_ends_it_at_once(
    operator: Operator, second: signal.Signals, stop: str
) -> None:
    """Whatever the first one waits for, even where the loop stands still."""
    operator.configure(f"chain.order = ['club']\nproviders.club.stop = '{stop}'")
    with operator.serving("--port", "0") as gateway:
        assert gateway.url
        gateway.process.send_signal(signal.SIGTERM)
        gateway.until("^stopping$")
        gateway.end(second, within=1)
    assert gateway.process.returncode == -second


@posix
def test_the_log_tells_no_secret(operator: Operator) -> None:
    """Neither the operator's nor the clients', at its most talkative; not where one is refused,
    nor where one is right."""
    operator.configure(
        "chain.order = ['club']\nproviders.club.token = 't0ken-c0ffee'\n"
        "servers.1.password = 'passw0rd-c0ffee'"
    )
    with operator.serving("--port", "0", "--log-level", "debug") as gateway:
        with connect(gateway.url, open_timeout=PATIENCE) as client:
            assert json.loads(client.recv(PATIENCE))["type"] == "server-list"
            for password, answer in (
                ("guess-c0ffee", "error"),
                ("passw0rd-c0ffee", "server-join"),
            ):
                request = {"server": "1", "password": password, "discordToken": "d-c0ffee"}
                client.send(json.dumps({"type": "connect", "data": request}))
                assert json.loads(client.recv(PATIENCE))["type"] == answer
        rest = gateway.end()
    assert "c0ffee" not in "".join(gateway.lines) + rest


def awaited(url: str, process: subprocess.Popen[str]) -> tuple[ClientConnection, dict[str, Any]]:
    """Join as soon as a process listens there."""
    while process.poll() is None:
        with suppress(OSError), joined(url) as (client, welcome):
            return client, welcome
    raise AssertionError(f"it ended with status {process.returncode}")


@posix
@pytest.mark.parametrize(
    "redirect", [">&-", ">/dev/full", "2>&-", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-"]
)
def test_it_runs_the_same_without_anybody_to_tell(club: Operator, redirect: str) -> None:
    """Closed or full outputs cost the log, not the gateway."""
    port = free_port()
    arguments = ("--host", "127.0.0.1", "--port", str(port))
    with club.serving(*arguments, redirect=redirect) as gateway:
        _, welcome = awaited(f"ws://127.0.0.1:{port}", gateway.process)
        assert welcome["serverName"] == "The club"
        gateway.end(within=5)
        assert gateway.process.returncode == 0


@posix
def test_a_log_that_nobody_reads_any_more_does_not_stop_it(club: Operator) -> None:
    """As behind ``| head``."""
    with club.serving("--port", "0", "--log-level", "debug") as gateway:
        url = gateway.url
        assert gateway.process.stderr is not None
        gateway.process.stderr.close()
        for _ in range(3):
            with joined(url) as (_, welcome):
                assert welcome["users"]
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(5) == 0


ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}


@posix
@pytest.mark.parametrize("name", ["konfiguration-für-zoë.toml", "日本.toml"])
def test_an_ascii_terminal_bears_any_path(operator: Operator, name: str) -> None:
    """The file is found, used, and named in errors."""
    operator.configure(name=name)
    with operator.serving("--config", name, "--port", "0", environ=ASCII) as gateway:
        with joined(gateway.url) as (_, welcome):
            assert welcome["serverName"] == "The club"
        gateway.end()
        assert gateway.process.returncode == 0
    done = operator.run("--config", name, "check", environ=ASCII)
    assert "is valid; would listen on" in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)
    operator.configure("gateway.port = 'é'", name)
    done = operator.run("--config", name, environ=ASCII)
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == 2


@posix
def test_a_path_that_is_no_text_is_borne_too(operator: Operator) -> None:
    """POSIX paths are bytes."""
    name = os.fsdecode(b"\xff.toml")
    operator.configure(name=name)
    done = operator.run("--config", name, "check")
    assert "is valid; would listen on" in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)


@posix
@pytest.mark.parametrize("arguments", [("plugins",), ("check",), ("schema", "config")])
def test_a_command_whose_output_is_lost_says_so_in_one_line(
    club: Operator, arguments: tuple[str, ...]
) -> None:
    """A full disk is no bug of ours."""
    done = club.run(*arguments, redirect=">/dev/full")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_it_runs_on_uvloop_where_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And on asyncio's own loop elsewhere."""
    uvloop = pytest.importorskip("uvloop")
    assert cli._loop_factory() is uvloop.new_event_loop  # noqa: SLF001  the choice itself
    monkeypatch.setattr(cli, "find_spec", lambda _: None)
    assert cli._loop_factory() is None  # noqa: SLF001  the same

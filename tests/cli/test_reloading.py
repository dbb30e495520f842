"""Reloads of a gateway in a process of its own: SIGHUP, --watch, and the end of a terminal."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from threading import Timer

import pytest
from operating import CLUB, PATIENCE, Operator, Serving, posix

pytestmark = posix

PROTECTED = "chain.order = ['club']\n[servers.1]\npassword = 'hush'\n"
CHANGED = "chain.order = ['club']\n[servers.1]\nenabled = false\n"
UNCHANGED = r" ERROR +d_back: the configuration is unchanged: (.*)$"
APPLIED = r"d_back: applied "


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def remove(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_text("\n# nothing\n")


def break_off(file: Path) -> None:
    file.write_text(PROTECTED[:-2])


def become_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "removed": (remove, "d-back.toml: does not exist"),
    "empty": (empty, "d-back.toml: is empty (to use the defaults, restart d-back)"),
    "broken off": (break_off, "d-back.toml: line 3: the string is not closed, in 'password = …'"),
    "a folder": (become_a_folder, "d-back.toml: is a directory (expected a file)"),
}


@pytest.mark.parametrize("way", ["SIGHUP", "--watch"])
@pytest.mark.parametrize(("damage", "sentence"), FAULTS.values(), ids=FAULTS)
def test_r44_a_file_that_cannot_be_used_changes_nothing(
    operator: Operator, damage: Callable[[Path], None], sentence: str, way: str
) -> None:
    """The log says why at level ERROR, and the file is applied once it is whole again."""
    operator.configure(PROTECTED)
    file = operator.folder / "d-back.toml"
    flags = ("--watch",) if way == "--watch" else ()
    with operator.serving("--port", "0", *flags) as gateway:
        gateway.until("listening on")
        damage(file)
        reload(gateway, way)
        assert gateway.until(UNCHANGED)[1] == sentence
        if file.is_dir():
            file.rmdir()
        operator.configure(PROTECTED)
        reload(gateway, way)
        gateway.until(APPLIED)


def reload(gateway: Serving, way: str) -> None:
    if way == "SIGHUP":
        gateway.process.send_signal(signal.SIGHUP)


def test_r44_a_reload_reads_no_other_file(operator: Operator) -> None:
    """The user's file is not read if that of the working folder disappears."""
    operator.configure(PROTECTED)
    operator.configure("chain.order = ['club']\n", "home/d-back/d-back.toml")
    with operator.serving("--port", "0") as gateway:
        gateway.until("listening on")
        (operator.folder / "d-back.toml").unlink()
        gateway.process.send_signal(signal.SIGHUP)
        assert gateway.until(UNCHANGED)[1] == "d-back.toml: does not exist"


def test_r44_a_reload_without_a_file_at_the_start_reads_none(operator: Operator) -> None:
    """A file that appears later needs a restart, and the log says so."""
    with operator.serving("--port", "0") as gateway:
        gateway.until("listening on")
        operator.configure("chain.order = ['absent']")
        gateway.process.send_signal(signal.SIGHUP)
        gateway.until("there is nothing to reload: d-back was started without a configuration")


def test_r44_a_link_that_leads_nowhere_is_not_the_defaults(operator: Operator) -> None:
    """A start without the file that the link names is refused."""
    (operator.folder / "d-back.toml").symlink_to("absent.toml")
    done = operator.run("--port", "0")
    assert done.stderr == "Error: d-back.toml: does not exist\n"
    assert done.returncode == 2


# Links


def swap(link: Path, target: str) -> None:
    """Put a link onto another target in one step."""
    new = link.with_name("new-link")
    new.symlink_to(target)
    new.replace(link)


def versions(folder: Path, *names: str) -> None:
    for name, text in zip(names, (PROTECTED, CHANGED), strict=True):
        (folder / name).mkdir()
        (folder / name / "d-back.toml").write_text(text)


def of_releases(folder: Path) -> Callable[[], object]:
    versions(folder, "r1", "r2")
    (folder / "current").symlink_to("r1")
    (folder / "d-back.toml").symlink_to("current/d-back.toml")
    return lambda: swap(folder / "current", "r2")


def of_another_file(folder: Path) -> Callable[[], object]:
    (folder / "v1.toml").write_text(PROTECTED)
    (folder / "v2.toml").write_text(CHANGED)
    (folder / "d-back.toml").symlink_to("v1.toml")
    return lambda: swap(folder / "d-back.toml", "v2.toml")


def of_a_file_elsewhere(folder: Path) -> Callable[[], object]:
    real = folder / "real"
    real.mkdir()
    (real / "d-back.toml").write_text(PROTECTED)
    (folder / "d-back.toml").symlink_to(real / "d-back.toml")
    return lambda: (real / "d-back.toml").write_text(CHANGED)


def of_a_config_map(folder: Path) -> Callable[[], object]:
    versions(folder, "..v1", "..v2")
    (folder / "..data").symlink_to("..v1")
    (folder / "d-back.toml").symlink_to("..data/d-back.toml")

    def replace() -> None:  # as kubelet does it
        swap(folder / "..data", "..v2")
        shutil.rmtree(folder / "..v1")

    return replace


@pytest.mark.parametrize(
    "make", [of_releases, of_another_file, of_a_file_elsewhere, of_a_config_map]
)
def test_r44_watch_follows_links(
    operator: Operator, make: Callable[[Path], Callable[[], object]]
) -> None:
    """A change of the target counts, and so does a link that is put onto another target."""
    change = make(operator.folder)
    with operator.serving("--port", "0", "--watch") as gateway:
        gateway.until("listening on")
        change()
        gateway.until(APPLIED)


# Secrets


@pytest.mark.parametrize("way", ["SIGHUP", "--watch"])
def test_r44_a_rotated_secret_makes_a_new_instance(operator: Operator, way: str) -> None:
    """The configuration is the same; the value in the file of the secret is not."""
    secret = operator.folder / "secret"
    secret.write_text("first\n")
    operator.configure("chain.order = ['club']\n[providers.club]\ntoken = { file = 'secret' }\n")
    flags = ("--watch",) if way == "--watch" else ()
    with operator.serving("--port", "0", *flags) as gateway:
        gateway.until("listening on")
        secret.write_text("first\r\n")
        reload(gateway, way)
        gateway.until(APPLIED)
        assert "stopping\n" not in gateway.lines  # only the ends of lines differ
        secret.write_text("second\n")
        reload(gateway, way)
        gateway.until(APPLIED)
        assert "stopping\n" in gateway.lines


@pytest.mark.parametrize("way", ["SIGHUP", "--watch"])
def test_r44_a_changed_key_file_of_a_plugin_makes_a_new_instance(
    operator: Operator, way: str
) -> None:
    """A file that the provider itself writes, such as a database, does not."""
    keyed = CLUB.replace("import Secret", "import File, Secret, WatchedFile")
    keyed = keyed.replace(
        "users: int = 1", "users: int = 1\n        key: WatchedFile\n        data: File"
    )
    operator.install("keyed", keyed.replace("(Struct)", "(Struct, kw_only=True)"), "ClubProvider")
    for name in ("key", "data"):
        (operator.folder / name).write_text("first")
    toml = "chain.order = ['keyed']\nproviders.keyed = { key = 'key', data = 'data' }\n"
    operator.configure(toml)
    flags = ("--watch",) if way == "--watch" else ()
    with operator.serving("--port", "0", *flags) as gateway:
        gateway.until("listening on")
        (operator.folder / "data").write_text("second")
        operator.configure(toml + "[limits]\nconnections = 5\n")
        reload(gateway, way)
        gateway.until(APPLIED)
        assert "stopping\n" not in gateway.lines
        (operator.folder / "key").write_text("second")
        reload(gateway, way)
        gateway.until(APPLIED)
        assert "stopping\n" in gateway.lines


EXITS = """
from d_back_core import Server, hookimpl

class Provider:
    def __init__(self, config):
        import os
        if os.path.exists("broken"):
            raise SystemExit("no")

    @hookimpl
    async def servers(self):
        return {"1": Server(name="One")}
"""


def test_r44_a_reload_that_fails_is_logged(operator: Operator) -> None:
    """A plugin that exits ends neither the gateway nor later reloads."""
    operator.install("exits", EXITS)
    operator.configure("chain.order = ['exits']")
    with operator.serving("--port", "0") as gateway:
        gateway.until("listening on")
        (operator.folder / "broken").touch()
        gateway.process.send_signal(signal.SIGHUP)
        gateway.until(r" ERROR +d_back: ")
        (operator.folder / "broken").unlink()
        gateway.process.send_signal(signal.SIGHUP)
        gateway.until(APPLIED)
        assert "never retrieved" not in gateway.end()


# Terminals


@pytest.mark.parametrize("nohup", [False, True])
def test_a_closed_terminal_ends_what_it_started(operator: Operator, nohup: bool) -> None:  # noqa: FBT001
    """SIGHUP reloads, until the terminal is gone; with nohup, also after that."""
    operator.configure()
    ours, theirs = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # In either case: the parent of the tests may ignore the signal, too.
        signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-m", "d_back_core", "--port", "0"],
        cwd=operator.folder,
        env=operator.environ,
        stdin=theirs,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509  no threads
        encoding="utf-8",
    )
    os.close(theirs)
    gateway = Serving(process)
    too_long = Timer(PATIENCE, process.kill)
    too_long.start()
    try:
        gateway.until("listening on")
        process.send_signal(signal.SIGHUP)
        gateway.until(APPLIED)
        os.close(ours)  # the kernel sends SIGHUP
        if nohup:
            gateway.until(APPLIED)
            process.terminate()
        else:
            gateway.until("the terminal is closed")
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        too_long.cancel()
        process.communicate()

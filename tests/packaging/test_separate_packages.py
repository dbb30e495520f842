"""What is installed with the core alone, and what d-back-testing and d-back-watch add."""

import subprocess
from pathlib import Path

import pytest
from wheelhouse import ROOT, Wheelhouse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SEPARATE = {"new-plugin": "d-back-testing", "schema": "d-back-testing", "watch": "d-back-watch"}
ENTRY_POINTS = """
from importlib.metadata import entry_points
names = {point.dist.name for point in entry_points(group="pytest11")}
print(*(name for name in names if name.startswith("d-back")))
"""
IMPORTED = """
import sys
import d_back_core
from click.testing import CliRunner
from d_back_core.cli.main import main
done = CliRunner().invoke(main, ["--help"])
assert done.exit_code == 0, done.output
roots = {name.partition(".")[0] for name in sys.modules}
print(*sorted(roots & {"pytest", "textual", "d_back_testing"}))
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """The wheels of the core and of the two packages."""
    house = Wheelhouse(tmp_path_factory.mktemp("separate"))
    house.build(ROOT, ROOT / "plugins/d_back_testing", ROOT / "plugins/d_back_watch")
    return house


@pytest.fixture(scope="module")
def core(house: Wheelhouse) -> Path:
    """The commands of an environment that has nothing but d-back-core and its dependencies."""
    return house.environment("core", "d-back-core")


@pytest.fixture(scope="module")
def whole(house: Wheelhouse) -> Path:
    """The commands of an environment with all three."""
    return house.environment("whole", "d-back-core", *sorted(set(SEPARATE.values())))


def test_the_core_registers_no_pytest_plugin(house: Wheelhouse, core: Path) -> None:
    """A server has no entry point of d-back in the group ``pytest11``."""
    assert house.run(core / "python", "-c", ENTRY_POINTS).split() == []


def test_the_core_imports_no_test_library_and_no_screen(house: Wheelhouse, core: Path) -> None:
    """Neither ``import d_back_core`` nor ``d-back --help`` does."""
    assert house.run(core / "python", "-c", IMPORTED).split() == []


@pytest.mark.parametrize(("command", "distribution"), SEPARATE.items())
def test_a_missing_package_is_named(
    house: Wheelhouse, core: Path, command: str, distribution: str
) -> None:
    """Its command fails with exit status 1 and one line."""
    done = subprocess.run(  # noqa: S603  our own command
        [core / "d-back", command],
        cwd=house.folder,
        env=house.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    message = f"'d-back {command}' needs {distribution} (pip install {distribution})"
    assert (done.stdout, done.stderr) == ("", f"Error: {message}\n")
    assert done.returncode == 1


def test_a_missing_package_is_not_in_the_help(house: Wheelhouse, core: Path) -> None:
    """The help lists only commands that work."""
    listed = house.run(core / "d-back", "--help")
    assert "  check " in listed
    assert not any(f"  {command} " in listed for command in SEPARATE)


def test_an_installed_package_is_in_the_help(house: Wheelhouse, whole: Path) -> None:
    """The help lists the commands of both packages."""
    listed = house.run(whole / "d-back", "--help")
    assert all(f"  {command} " in listed for command in SEPARATE)


def test_the_help_imports_neither_pytest_nor_textual(house: Wheelhouse, whole: Path) -> None:
    """It loads the commands of both packages, but not the libraries of their work."""
    imported = house.run(whole / "python", "-c", IMPORTED).split()
    assert imported == ["d_back_testing"]


def test_only_d_back_testing_registers_a_pytest_plugin(house: Wheelhouse, whole: Path) -> None:
    """Its fixtures are there without an import."""
    registered = house.run(whole / "python", "-c", ENTRY_POINTS).split()
    assert registered == ["d-back-testing"]
    shown = house.run(
        whole / "python", "-m", "pytest", "--fixtures", "-q", "-p", "no:cacheprovider"
    )
    assert "d_back_gateway" in shown


def test_blockbuster_is_optional(house: Wheelhouse, whole: Path) -> None:
    """d-back-testing installs it only with the extra ``blocking``."""
    installed = house.run("uv", "pip", "list", "--python", whole / "python")
    assert "pytest" in installed
    assert "blockbuster" not in installed
    extra = house.environment("blocking", "d-back-testing[blocking]")
    assert "blockbuster" in house.run("uv", "pip", "list", "--python", extra / "python")

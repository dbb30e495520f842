"""The types of the embedding API, as the program of an author sees them: from wheels alone."""

import shutil
from pathlib import Path

import pytest
from wheelhouse import ROOT, Wheelhouse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NEEDED = ("d-back-core", "d-back-compat", "d-back-testing", "d-back-mock")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """The wheels that the program imports from, and the program itself."""
    house = Wheelhouse(tmp_path_factory.mktemp("types"))
    house.build(ROOT, *(ROOT / path for path in ("compat/d_back", "plugins/d_back_mock")))
    house.build(ROOT / "plugins/d_back_testing")
    shutil.copy(ROOT / "tests/typing/api.py", house.folder)
    return house


@pytest.fixture(scope="module")
def commands(house: Wheelhouse) -> Path:
    """The commands of the author's environment."""
    return house.environment("author", *NEEDED, "mypy", "pyright")


def test_mypy_accepts_a_program_with_every_call(house: Wheelhouse, commands: Path) -> None:
    """In its strict mode, which also refuses types that it cannot find."""
    house.run(commands / "mypy", "--strict", "api.py")


def test_pyright_accepts_a_program_with_every_call(house: Wheelhouse, commands: Path) -> None:
    """It infers the types of decorated functions in its own way."""
    house.run(commands / "pyright", "--pythonpath", commands / "python", "api.py")


def test_a_wrong_call_is_refused(house: Wheelhouse, commands: Path) -> None:
    """Otherwise the checks above would accept everything."""
    program = "from d_back_core import WebSocketServer\nWebSocketServer(port='3000')\n"
    (house.folder / "wrong.py").write_text(program)
    with pytest.raises(AssertionError, match=r'expected "int \| None"'):
        house.run(commands / "mypy", "--strict", "wrong.py")

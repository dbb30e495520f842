"""``pip install uv && uv run d-back`` in a fresh clone: what it installs, and what it shows."""

import shutil
from pathlib import Path

import pytest
from wheelhouse import ROOT, Wheelhouse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

LIMIT = 40_000_000
"""Bytes that the environment may have on the disk, with the bytecode of what has run."""
BLOCK = 512
"""Bytes of a block of ``st_blocks``."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """A person who has a clone and uv, and a Python that keeps its bytecode."""
    house = Wheelhouse(tmp_path_factory.mktemp("first"))
    for variable in ("PYTHONDONTWRITEBYTECODE", "UV_NO_SYNC", "UV_PROJECT_ENVIRONMENT"):
        house.environ.pop(variable, None)
    return house


@pytest.fixture(scope="module")
def clone(house: Wheelhouse) -> Path:
    """The tree without what is not committed."""
    made = {".git", ".hypothesis", ".venv", ".nox", "node_modules", "dist", "site"}
    ignored = shutil.ignore_patterns(*made, "__pycache__", ".*_cache")
    return Path(shutil.copytree(ROOT, house.folder / "clone", ignore=ignored))


def test_the_live_page_needs_forty_megabytes(house: Wheelhouse, clone: Path) -> None:
    """`uv run` installs what shows the page with the mock, in less than 40 MB."""
    house.run("uv", "run", "--locked", "python", "tests/smoke.py", cwd=clone)
    house.run("uv", "run", "d-back", "watch", "--help", cwd=clone)
    assert "tests" in house.run("uv", "run", "nox", "--list", cwd=clone)
    files = [path.lstat() for path in (clone / ".venv").rglob("*")]
    assert sum(file.st_blocks * BLOCK for file in files) < LIMIT

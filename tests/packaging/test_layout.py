"""The map of the core's packages in CONTRIBUTING.md, against the real packages and imports."""

import re
import tomllib

import grimp
import pytest
from docs_pages import ROOT, tables

CORE = "d_back_core"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAP = CONTRIBUTING[CONTRIBUTING.index("## The packages of the core") :]
BESIDE = {"client"}
"""What stands beside the layers: it imports from them, and nothing in them imports it."""


def layers() -> list[list[str]]:
    """The layers of the picture, the highest first, each with its packages."""
    (picture,) = re.findall(r"```text\n(__main__\n.*?)```", MAP, re.DOTALL)
    return [line.split(" | ") for line in picture.splitlines()]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(CORE)


def test_the_picture_is_the_contract_that_lint_checks() -> None:
    """The same packages in the same order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = [each for each in contracts if each["type"] == "layers"]
    assert [" | ".join(layer) for layer in layers()] == contract["layers"]
    assert set(contract["exhaustive_ignores"]) == BESIDE


def test_every_package_is_in_the_picture(graph: grimp.ImportGraph) -> None:
    """Every package and top-level module of the core, and no other; each has its line below."""
    real = {module.split(".")[1] for module in graph.modules if module != CORE}
    drawn = [package for layer in layers() for package in layer]
    assert sorted(drawn) == sorted(real - BESIDE)
    (lines,) = tables(MAP[: MAP.index("`client`")])
    assert [row[0].strip("`") for row in lines] == drawn


def test_no_module_imports_upwards(graph: grimp.ImportGraph) -> None:
    """Nor from another package of its own layer, nor from what stands beside the layers."""
    height = {
        package: -number for number, layer in enumerate(layers()) for package in layer
    } | dict.fromkeys(BESIDE, 1)
    upwards = [
        (importer, imported)
        for importer in graph.modules - {CORE}
        for imported in graph.find_modules_directly_imported_by(importer) - {CORE}
        if importer.split(".")[1] != imported.split(".")[1]
        and height[importer.split(".")[1]] <= height[imported.split(".")[1]]
    ]
    assert upwards == []

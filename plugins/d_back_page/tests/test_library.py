"""The files of the npm package, as the page serves them and as the wheel contains them."""

import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest
from httpx import ASGITransport, AsyncClient, Response
from starlette.applications import Starlette

from d_back_page import PageConfig, PageProvider
from d_back_page.files import MODULES

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "clients" / "js"


async def served(name: str) -> Response:
    app = Starlette(routes=PageProvider(PageConfig()).routes())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://x") as client:
        return await client.get(f"/page/v1/{name}")


@pytest.mark.parametrize("name", MODULES)
async def test_pages_of_other_sites_can_load_it(name: str) -> None:
    """It is the npm package's file, at a path with a version, and any origin may read it."""
    answer = await served(name)
    assert answer.content == (SOURCE / name).read_bytes()
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_no_other_file_is_there() -> None:
    """Neither the page's own files nor those beside the package's."""
    assert (await served("index.html")).status_code == 404
    assert (await served("package.json")).status_code == 404


@pytest.mark.slow
def test_the_wheel_contains_the_same_bytes(tmp_path: Path) -> None:
    """Built by way of a source distribution, in which the checkout is out of reach."""
    subprocess.run(  # noqa: S603  our own program
        ["uv", "build", "-q", "--package", "d-back-page", "--out-dir", str(tmp_path)],  # noqa: S607
        cwd=ROOT,
        check=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        packed = [name for name in archive.namelist() if name.endswith(MODULES)]
        assert packed == [f"d_back_page/library/{name}" for name in MODULES]
        for name in MODULES:
            assert archive.read(f"d_back_page/library/{name}") == (SOURCE / name).read_bytes()

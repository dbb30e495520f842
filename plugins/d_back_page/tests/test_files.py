"""What is served without a browser: the files, their headers, and when the page is shown."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient, Response
from starlette.applications import Starlette

from d_back_core import ConfigError
from d_back_core.config import load, parse
from d_back_page import PageConfig, PageProvider

FOLDER = files("d_back_page").joinpath("files")
NAMES = sorted(file.name for file in FOLDER.iterdir())
FILLED = {"index.html", "frame.html", "page.webmanifest"}


async def served(path: str, **headers: str) -> Response:
    """The answer of the page's routes alone."""
    app = Starlette(routes=PageProvider(PageConfig()).routes())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://x") as client:
        return await client.get(path, headers=headers)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FILLED])
async def test_every_file_is_served_with_its_type(name: str) -> None:
    """And with a policy that lets nothing else in."""
    answer = await served(f"/page/{name}")
    assert answer.content == FOLDER.joinpath(name).read_bytes()
    assert not answer.headers["Content-Type"].startswith("text/plain") or name.endswith(".txt")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/index.html"])
async def test_the_page_is_at_the_root(path: str) -> None:
    """Under both of its names."""
    assert (await served(path)).content.startswith(b"<!doctype html>")


@pytest.mark.parametrize(
    "path",
    ["/page", "/page/", "/page/index.html", "/page/%2e%2e/provider.py", "/other", "/page/x"],
)
async def test_other_paths_are_not_found(path: str) -> None:
    """The page serves its own files only."""
    assert (await served(path)).status_code == 404


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        ((), "'none'"),
        (
            ("https://club.example", "http://*.example.org:8080"),
            "https://club.example http://*.example.org:8080",
        ),
        (("*",), "*"),
    ],
)
async def test_only_named_pages_may_frame_a_server(origins: tuple[str, ...], allowed: str) -> None:
    """The frame of a server has its own policy; the page itself is never framed."""
    app = Starlette(routes=PageProvider(PageConfig(frame_ancestors=origins)).routes())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://x") as client:
        frame = await client.get("/embed/club")
        page = await client.get("/")
        strange = await client.get("/embed/cl%22ub")
    assert frame.status_code == 200
    assert frame.headers["Content-Security-Policy"].endswith(f"; frame-ancestors {allowed}")
    assert page.headers["Content-Security-Policy"].endswith("; frame-ancestors 'none'")
    assert strange.status_code == 404


@pytest.mark.parametrize(
    "origin", ["club.example", "https://a.example; script-src *", "'self'", ""]
)
async def test_an_origin_that_no_policy_can_name_is_an_error(origin: str) -> None:
    """It would be ignored by browsers, or change the policy."""
    with pytest.raises(ValueError, match="is not an origin"):
        PageConfig(frame_ancestors=(origin,))


async def test_what_the_client_has_is_not_sent_again() -> None:
    """304, with the same tag; another tag gets the file."""
    tag = (await served("/")).headers["ETag"]
    again = await served("/", **{"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    other = await served("/", **{"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_nothing_is_asked_of_anybody_else() -> None:
    """No file names an address elsewhere, but for Discord's login and what is a name only."""
    allowed = {
        "https://discord.com/oauth2/authorize",  # where a visitor who logs in goes
        "http://www.w3.org/2000/svg",  # a namespace
    }
    found = set()
    for name in NAMES:
        if not name.endswith((".woff2", ".txt")):
            text = FOLDER.joinpath(name).read_text(encoding="utf-8")
            found |= set(re.findall(r"""(?:https?:)?//[\w.-]+\.\w+[^\s"'`)<>]*""", text))
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text
            )
            assert name == "cube.svg" or not re.search(r"<[^>]+\sstyle=|<style|\son\w+=", text)
    assert found == allowed


def test_the_page_is_shown_where_nothing_else_is_said() -> None:
    """Without a file, and with one that names neither pages nor a folder."""
    assert load(None, {}, page="page").gateway.http == ("page",)
    assert load(None, {}).gateway.http == ()
    assert parse({"gateway": {"port": 1}}, page="page").gateway.http == ("page",)
    own = {"providers": {"page": {"token": "x" * 16}}}
    assert parse(own, page="page").gateway.http == ("page",)


@pytest.mark.parametrize(
    "table",
    [
        {"gateway": {"http": []}},
        {"gateway": {"http": ["prometheus"]}},
        {"gateway": {"static_dir": "."}},
        {"providers": {"page": {"use": "discord"}}},
    ],
)
def test_what_the_operator_says_wins(table: dict[str, dict[str, object]]) -> None:
    """Lists of pages, a folder, and another provider that has the page's name."""
    assert "page" not in parse(table, page="page").gateway.http


def test_a_folder_on_the_command_line_wins(tmp_path: Path) -> None:
    """As a flag and as a variable."""
    assert load(None, {}, page="page", static_dir=str(tmp_path)).gateway.http == ()
    variables = {"D_BACK_STATIC_DIR": str(tmp_path)}
    assert load(None, variables, page="page").gateway.http == ()


def test_a_table_of_the_wrong_shape_is_told_as_ever() -> None:
    """In one line."""
    with pytest.raises(ConfigError, match="built-in defaults: providers: page: expected a table"):
        parse({"providers": {"page": 5}}, page="page")


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Callable[[str], tuple[int, str]]]:
    """The installed ``d-back``, in that folder, and how to fetch a path from it."""
    environ = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "d_back_core", "--port", "0", *arguments]
    with subprocess.Popen(  # noqa: S603  our own program
        command, cwd=folder, env=environ, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr)
            found = next(each for line in lines if (each := re.search(r"ws://(\S+)", line)))

            def fetch(path: str) -> tuple[int, str]:
                with closing(HTTPConnection(found[1], timeout=60)) as connection:
                    connection.request("GET", path)
                    answer = connection.getresponse()
                    return answer.status, answer.read().decode()

            yield fetch
        finally:
            process.terminate()


def test_the_page_needs_no_configuration(tmp_path: Path) -> None:
    """``d-back`` alone shows it, with the mock behind it."""
    with running(tmp_path) as fetch:
        assert "page/app.js" in fetch("/")[1]
        assert "D-World" in fetch("/api/servers")[1]
        assert '"operator":false' in fetch("/page/operator")[1]


def test_a_folder_takes_its_place(tmp_path: Path) -> None:
    """``--static-dir`` serves what it always did."""
    (tmp_path / "index.html").write_text("mine")
    with running(tmp_path, "--static-dir", str(tmp_path)) as fetch:
        assert fetch("/") == (200, "mine")
        assert fetch("/page/app.js")[0] == 404

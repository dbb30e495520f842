"""What answers a request: the gateway itself, a provider, a file, or the page."""

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from http_line import Line, line
from peers import until
from sample_users import ADA, ONE
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from d_back_core import ConfigError, hookimpl
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.gateway.files import is_servable
from d_back_testing import ScriptedProvider


class Pages(ScriptedProvider):
    """A provider that serves these routes."""

    def __init__(self, *routes: BaseRoute) -> None:
        super().__init__(ONE, {"1": {"7": ADA}})
        self.returned: Any = routes

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        if isinstance(self.returned, BaseException):
            raise self.returned
        returned: Sequence[BaseRoute] = self.returned
        return returned


def page(text: str) -> Any:  # noqa: ANN401  an endpoint
    async def show(request: Request) -> Response:
        who = request.client.host if request.client else ""
        return PlainTextResponse(text.format(who=who, **request.path_params))

    return show


async def read(request: Request) -> Response:
    return Response(await request.body())


async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    await (await read(Request(scope, receive)))(scope, receive, send)


def serving(*providers: Pages, **gateway: Any) -> WebSocketServer:  # noqa: ANN401
    """A gateway with these providers, named a, b and c."""
    named = dict(zip("abc", providers, strict=False))
    config = parse(
        {
            "gateway": {"port": 0, "http": list(named), **gateway},
            "chain": {"order": ["a"]},
            "limits": {"trusted_proxies": ["127.0.0.1", "::1"]},
            "providers": {name: {"timeout": "200ms"} for name in named},
        }
    )
    return WebSocketServer(config=config, providers=named)


async def get(client: Line, path: str, *headers: str) -> tuple[int, str]:
    client.ask(path, *headers)
    reply = await client.reply()
    return reply.status, reply.body.decode()


# Routes of providers


async def test_a_provider_serves_its_routes() -> None:
    """With parameters, and with the client's address behind a trusted proxy."""
    pages = Pages(Route("/club/{name}", page("{name} {who}")))
    async with serving(pages) as server, line(server) as client:
        answer = await get(client, "/club/Ada", "X-Forwarded-For: 203.0.113.7")
        assert answer == (200, "Ada 203.0.113.7")


@pytest.mark.parametrize(
    ("routes", "host", "opened"),
    [
        ([Route("/", page("club"))], "localhost", "localhost"),
        ([Mount("/", page("club"))], "127.0.0.1", "127.0.0.1"),
        ([Route("/", page("club"))], "0.0.0.0", "localhost"),  # noqa: S104  that is the case
        ([Route("/club", page("club"))], "localhost", None),
    ],
)
async def test_the_log_names_the_page(
    routes: list[BaseRoute], host: str, opened: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """With an address that a browser can open, if a provider serves a page at /."""
    caplog.set_level(logging.INFO, "d_back")
    async with serving(Pages(*routes), host=host) as server:
        named = [text for text in caplog.messages if text.startswith("open ")]
        port = server.port
    assert named == ([] if opened is None else [f"open http://{opened}:{port}/ in a browser"])


async def test_methods_are_those_of_the_route() -> None:
    """Others get 405 with what is allowed, and OPTIONS is answered."""
    pages = Pages(Route("/club", page("in"), methods=["POST", "DELETE"]))
    async with serving(pages) as server, line(server) as client:
        client.ask("/club", method="POST")
        assert (await client.reply()).status == 200
        client.ask("/club")
        reply = await client.reply()
        assert (reply.status, reply.headers["Allow"]) == (405, "DELETE, OPTIONS, POST")
        client.ask("/club", method="OPTIONS")
        assert (await client.reply()).status == 204


async def test_any_application_can_be_mounted() -> None:
    """It sees its own path, and security headers are added to its answers."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        text = f"{scope['root_path']} {scope['path']}"
        await PlainTextResponse(text, headers={"Referrer-Policy": "origin"})(scope, receive, send)

    async with serving(Pages(Mount("/club", app=app))) as server, line(server) as client:
        client.ask("/club/x")
        reply = await client.reply()
        assert reply.body == b"/club /club/x"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers.get_all("Referrer-Policy") == ["origin"]


async def test_what_is_mounted_at_the_root_passes_on_404(tmp_path: Path) -> None:
    """The next provider, and then the files, answer instead; the API stays first."""
    (tmp_path / "file.txt").write_text("a file")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        match scope["path"]:
            case "/mine" | "/api/version":
                await PlainTextResponse("mine")(scope, receive, send)
            case "/broken":
                raise ValueError("broken")
            case _:
                raise HTTPException(404)

    first, second = Pages(Mount("/", app=app)), Pages(Route("/second", page("second")))
    async with (
        serving(first, second, static_dir=str(tmp_path)) as server,
        line(server) as client,
    ):
        assert await get(client, "/mine") == (200, "mine")
        assert await get(client, "/second") == (200, "second")
        assert await get(client, "/file.txt") == (200, "a file")
        assert (await get(client, "/broken"))[0] == 404
        assert (await get(client, "/api/version"))[1].startswith('{"version"')


async def test_a_page_that_is_late_is_504(caplog: pytest.LogCaptureFixture) -> None:
    """The time is that to the first byte: a response may stream for longer."""

    async def late(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def long(_: Request) -> Response:
        async def pieces() -> Any:  # noqa: ANN401  as Starlette types it
            yield "begun "
            await asyncio.sleep(0.3)  # longer than the provider's timeout
            yield "ended"

        return StreamingResponse(pieces(), headers={"Content-Length": "11"})

    pages = Pages(Route("/late", late), Route("/long", long))
    async with serving(pages) as server, line(server) as client:
        assert (await get(client, "/late"))[0] == 504
        assert await get(client, "/long") == (200, "begun ended")
        (state,) = server.live.stats().providers
        assert state.failures == 1
    assert "routes: TimeoutError: no answer within 0.2 s" in caplog.text


@pytest.mark.parametrize(
    "route",
    [Route("/x/", read, methods=["POST"]), Mount("/x", app=mounted)],
    ids=["route", "mount"],
)
async def test_r41_a_slow_body_is_not_a_failure_of_the_provider(route: BaseRoute) -> None:
    """The provider is asked when the body has arrived, and its time begins then."""
    async with serving(Pages(route)) as server, line(server) as client:
        client.ask("/x/", "Content-Length: 2", method="POST", body=b"a")
        await asyncio.sleep(0.3)  # longer than the provider's timeout
        client.send(b"b")
        reply = await client.reply()
        assert (reply.status, reply.body) == (200, b"ab")
        await until(lambda: server.live.stats().providers[0].failures == 0)


async def test_a_page_that_always_fails_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Clients ask for it at any rate."""

    async def fail(_: Request) -> Response:
        raise ValueError("broken")

    async with serving(Pages(Route("/x", fail))) as server, line(server) as client:
        for _ in range(10):
            assert (await get(client, "/x"))[0] == 500
    assert caplog.text.count("broken") == 1


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt()])
async def test_r46_a_page_that_fails_is_the_failure_of_its_provider(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is 500, the failure is counted and logged, and nothing else ends."""

    async def fail(_: Request) -> Response:
        raise error

    async with serving(Pages(Route("/x", fail))) as server, line(server) as client:
        assert await get(client, "/x") == (500, "Internal Server Error\n")
        assert (await get(client, "/healthz"))[0] == 200
        (state,) = server.live.stats().providers
        assert state.failures == 1
    lines = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert [type(error).__name__ in each.getMessage() for each in lines] == [True]


async def test_a_provider_that_does_not_run_answers_503() -> None:
    """Its routes are there before it has started."""
    pages = Pages(Route("/x", page("x")))
    async with serving(Pages(Route("/y", page("y"))), pages) as server, line(server) as client:
        server.live.providers.supervisors["b"].running = False
        assert (await get(client, "/x"))[0] == 503
        assert (await get(client, "/y"))[0] == 200


async def test_a_reload_serves_the_routes_of_the_new_configuration() -> None:
    """On connections that are open, too."""
    pages = Pages(Route("/x", page("x")))
    async with serving(pages, Pages(Route("/y", page("y")))) as server, line(server) as client:
        assert (await get(client, "/y"))[0] == 200
        table = {"gateway": {"port": server.port, "http": ["a"]}, "chain": {"order": ["a"]}}
        await server.reload(parse(table))
        assert (await get(client, "/x"))[0] == 200
        assert (await get(client, "/y"))[0] == 404


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        ([Route("/healthz", page(""))], "path '/healthz' belongs to the gateway"),
        ([Route("/api/mine", page(""))], "path '/api/mine' belongs to the gateway"),
        ([Route("/readyz/a", page(""))], "path '/readyz/a' belongs to the gateway"),
        ([Mount("/api", routes=[])], "path '/api' belongs to the gateway"),
        ([WebSocketRoute("/x", page(""))], "WebSocketRoute is not a Route or Mount"),
        (None, "routes: TypeError"),
        (ValueError("no route"), "routes: ValueError: no route"),
        ([Route("/b/{id}", page(""))], "'a' and 'b' both serve '/b/{name}'"),
    ],
)
def test_routes_that_cannot_be_served_are_an_error(returned: object, error: str) -> None:
    """When the configuration is loaded, with the provider's name."""
    pages = Pages()
    pages.returned = returned
    with pytest.raises(ConfigError, match=error):
        serving(pages, Pages(Route("/b/{name}", page(""))))


def test_a_provider_without_routes_serves_nothing() -> None:
    """To name it in ``gateway.http`` is an error."""
    plain = ScriptedProvider(ONE, {})
    config = parse({"gateway": {"http": ["a"]}, "chain": {"order": ["a"]}})
    with pytest.raises(ConfigError, match=r"gateway\.http 'a': it does not implement routes"):
        WebSocketServer(config=config, providers={"a": plain})


# Files


@pytest.fixture
def files(tmp_path: Path) -> WebSocketServer:
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    (tmp_path / ".env").write_text("SECRET")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("SECRET")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text("sub")
    (tmp_path / "closed").write_text("closed")
    return serving(Pages(), http=[], static_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-", 206, b"89"),
        ("bytes=0-0,2-2", 200, b"0123456789"),
        ("bytes=20-30", 416, None),
        ("lines=1-2", 400, None),
    ],
)
async def test_a_part_of_a_file_can_be_asked_for(
    files: WebSocketServer, asked: str, status: int, body: bytes | None
) -> None:
    """``Range``, as browsers send it for media and for downloads that go on."""
    async with files as server, line(server) as client:
        client.ask("/a.txt", f"Range: {asked}")
        reply = await client.reply()
        assert reply.status == status
        if body is not None:
            assert reply.body == body


@pytest.mark.parametrize(
    "path",
    ["/.env", "/.git/config", "/%2eenv", "/.git/../.env", "/sub/../.env", "/%2egit/config"],
)
async def test_r42_names_that_begin_with_a_dot_are_not_served(
    files: WebSocketServer, path: str
) -> None:
    """In any spelling."""
    async with files as server, line(server) as client:
        assert await get(client, path) == (404, "Not Found\n")


async def test_a_folder_is_redirected_to_its_slash(files: WebSocketServer) -> None:
    """Relative: the host and scheme of the client are not those of the gateway."""
    async with files as server, line(server) as client:
        client.ask("/sub?x=1")
        reply = await client.reply()
        assert (reply.status, reply.headers["Location"]) == (307, "./sub/")


async def test_a_replaced_file_has_another_tag(files: WebSocketServer, tmp_path: Path) -> None:
    """Also if size and time of modification are the same."""
    async with files as server, line(server) as client:
        client.ask("/a.txt")
        before = (await client.reply()).headers["ETag"]
        former = (tmp_path / "a.txt").stat()

        def is_newer() -> bool:  # the file system's clock is coarse
            (tmp_path / "new").write_bytes(b"9876543210")
            return (tmp_path / "new").stat().st_ctime_ns > former.st_ctime_ns

        await until(is_newer)
        modified = former.st_mtime_ns
        os.utime(tmp_path / "new", ns=(modified, modified))
        (tmp_path / "new").rename(tmp_path / "a.txt")
        client.ask("/a.txt", f"If-None-Match: {before}")
        reply = await client.reply()
        assert (reply.status, reply.body) == (200, b"9876543210")


async def test_r42_a_download_reads_only_what_is_sent(tmp_path: Path) -> None:
    """A HEAD of a file that no memory holds is answered, and its download begins at once."""
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(2**40)
    async with serving(Pages(), http=[], static_dir=str(tmp_path)) as server:
        async with line(server) as client:
            client.ask("/huge", method="HEAD")
            reply = await client.reply(head=True)
            assert (reply.status, reply.headers["Content-Length"]) == (200, str(2**40))
            client.ask("/huge", "Range: bytes=1099511627770-")
            assert (await client.reply()).body == bytes(6)
        async with line(server) as client:
            client.ask("/huge")
            assert b"200 OK" in await client.some()
        await until(lambda: not server._run.gateway._front.state.tasks)  # noqa: SLF001


@pytest.mark.parametrize(
    "path",
    [
        "nul",
        "NUL.txt",
        "sub/con",
        "com1",
        "COM¹.log",
        "lpt9 .x",
        "aux:x",
        "C:/x",
        r"\\host\x",
        "a:b",
    ],
)
def test_devices_and_shares_of_windows_are_refused(path: str) -> None:
    """In any folder, and with any suffix."""
    assert not is_servable(path, windows=True)


@pytest.mark.parametrize("path", ["console", "null.txt", "com", "lpt10", "sub/x.y", "."])
def test_other_names_are_served_on_windows(path: str) -> None:
    """A name is a device only as a whole."""
    assert is_servable(path, windows=True)

"""The phases of an HTTP connection, and what ends each of them."""

import asyncio
import gc
import json
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from http_line import PATIENCE, line
from msgspec import structs
from peers import until
from raw import REQUEST
from sample_users import ADA, ONE
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from websockets.asyncio.client import connect

from d_back_core import hookimpl
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.gateway import http_protocol
from d_back_core.gateway.http_protocol import MAX_HEAD, MAX_PIPELINED, Front, Http
from d_back_testing import ScriptedProvider

PIECE = b"x" * 65_536


class Town(ScriptedProvider):
    """One server, and pages that wait, read, and stream."""

    def __init__(self) -> None:
        super().__init__(ONE, {"1": {"7": ADA}})
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.released = asyncio.Event()

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/wait/{name}", self._wait),
            Route("/after", self._after),
            Route("/echo", self._echo, methods=["POST"]),
            Route("/stream", self._flood),
        ]

    async def _wait(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.asked.append(name)
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return PlainTextResponse(name)

    async def _after(self, _: Request) -> Response:
        return PlainTextResponse("a", background=BackgroundTask(self._close))

    async def _close(self) -> None:
        self.asked.append("close")
        await self.released.wait()
        self.asked.append("closed")

    async def _echo(self, request: Request) -> Response:
        return Response(await request.body())

    async def _flood(self, _: Request) -> Response:
        async def pieces() -> Any:  # noqa: ANN401  as Starlette types it
            while True:
                yield PIECE

        return StreamingResponse(pieces())


def serving(town: Town | None = None, **limits: Any) -> WebSocketServer:  # noqa: ANN401
    """A gateway with these keys of ``[limits]``."""
    config = parse(
        {
            "gateway": {"port": 0, "http": ["town"]},
            "chain": {"order": ["town"]},
            "limits": limits,
            "providers": {"town": {"timeout": "1h"}},
        }
    )
    return WebSocketServer(config=config, providers={"town": town or Town()})


async def test_what_has_answered_closes_its_files_when_the_gateway_stops() -> None:
    """The task of a request that is answered is not cancelled at once."""
    town = Town()
    async with serving(town) as server:
        async with line(server) as client:
            client.ask("/after")
            assert (await client.reply()).body == b"a"
        await until(lambda: town.asked == ["close"])
        asyncio.get_running_loop().call_later(0.1, town.released.set)
    assert town.asked == ["close", "closed"]


# Kept connections


async def test_a_connection_is_kept_for_further_requests() -> None:
    """Each request gets its answer, and none of them says that it is the last one."""
    async with serving() as server, line(server) as client:
        for _ in range(3):
            client.ask("/healthz")
            reply = await client.reply()
            assert (reply.status, reply.body) == (200, b"ok\n")
            assert reply.headers["Connection"] is None
        await until(lambda: not _front(server).answered)  # nothing of a request is left


async def test_a_kept_connection_ends_after_its_time() -> None:
    """``keep_alive`` counts from the last answer."""
    async with serving(keep_alive="50ms") as server, line(server) as client:
        client.ask("/healthz")
        await client.reply()
        assert await client.rest() == b""


async def test_a_reload_changes_the_time_of_further_connections() -> None:
    """Those that are open keep theirs."""
    async with serving(keep_alive="1h") as server, line(server) as before:
        before.ask("/healthz")
        await before.reply()
        limits = structs.replace(server.config.limits, keep_alive=0.05)
        await server.reload(structs.replace(server.config, limits=limits))
        async with line(server) as after:
            after.ask("/healthz")
            await after.reply()
            assert await after.rest() == b""
        before.ask("/healthz")
        assert (await before.reply()).status == 200


async def test_the_client_may_end_it() -> None:
    """``Connection: close`` is repeated in the answer, and then the connection ends."""
    async with serving() as server, line(server) as client:
        client.ask("/healthz", "Connection: close")
        assert (await client.reply()).headers["Connection"] == "close"
        assert await client.rest() == b""


async def test_an_idle_connection_gives_its_place_to_another() -> None:
    """The longest idle one goes first; one that is answering stays."""
    town = Town()
    async with serving(town, connections=3) as server, AsyncExitStack() as stack:
        busy, oldest, newest = [await stack.enter_async_context(line(server)) for _ in range(3)]
        busy.ask("/wait/a")
        await until(lambda: town.asked)
        for client in (oldest, newest):
            client.ask("/healthz")
            await client.reply()
        async with connect(server.url) as joined:
            assert json.loads(await joined.recv())["type"] == "server-list"
            assert await oldest.rest() == b""
            newest.ask("/healthz")
            assert (await newest.reply()).status == 200
            town.released.set()
            assert (await busy.reply()).body == b"a"


async def test_a_connection_with_a_further_request_is_not_idle() -> None:
    """It keeps its place between two answers; one that became idle later goes."""
    town = Town()
    async with serving(town, connections=2) as server, AsyncExitStack() as stack:
        busy, idle = [await stack.enter_async_context(line(server)) for _ in range(2)]
        busy.send(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /wait/a HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert (await busy.reply()).body == b"ok\n"
        await until(lambda: town.asked)
        idle.ask("/healthz")
        await idle.reply()
        async with connect(server.url) as joined:
            assert json.loads(await joined.recv())["type"] == "server-list"
            assert await idle.rest() == b""
            town.released.set()
            assert (await busy.reply()).body == b"a"


async def test_a_silent_connection_has_a_place() -> None:
    """Connections count from the accept on: one too many gets 503 before it says anything."""
    async with serving(connections=2) as server, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(line(server))
        async with line(server) as refused:
            assert b"503 Service Unavailable" in await refused.rest()
        assert server.live.counters.rejections["too many connections"] == 1


async def test_a_place_is_given_back() -> None:
    """However the connection ends."""
    async with serving(connections=1) as server:
        for sent in (b"", b"GET / HTTP/1.1\r\n", b"nonsense\r\n\r\n", REQUEST + b"\r\n"):
            async with line(server) as client:
                client.send(sent)
                if sent.endswith(b"\r\n\r\n"):
                    await client.reply()
        async with line(server) as client:
            client.ask("/healthz")
            assert (await client.reply()).status == 200


# Pipelining


async def test_pipelined_requests_are_answered_in_order() -> None:
    """All in one segment; the first takes the longest."""
    town = Town()
    async with serving(town) as server, line(server) as client:
        client.ask("/wait/a")
        for path in ("/healthz", "/nothing", "/wait/b"):
            client.ask(path)
        await until(lambda: town.asked)
        town.released.set()
        replies = [await client.reply() for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 404, 200]
        assert (replies[0].body, replies[3].body) == (b"a", b"b")


async def test_too_many_pipelined_requests_end_the_connection() -> None:
    """Those that were read are answered whole; the others are not begun."""
    async with serving() as server, line(server) as client:
        client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 5000)
        answers = (await client.rest()).split(b"HTTP/1.1 ")[1:]
        assert 1 <= len(answers) <= MAX_PIPELINED + 2
        assert {answer[:3] for answer in answers} == {b"200"}
        assert all(answer.endswith(b"\r\n\r\nok\n") for answer in answers)


@pytest.mark.parametrize(
    "behind",
    [
        b"\x00 nonsense\r\n\r\n",
        REQUEST + b"\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_no_answer_is_written_into_another(behind: bytes) -> None:
    """What cannot be answered behind a request that is being answered ends the connection."""
    town = Town()
    async with serving(town) as server, line(server) as client:
        client.ask("/wait/a")
        await until(lambda: town.asked)
        client.send(behind)
        client.ask("/healthz")
        await asyncio.sleep(0)
        town.released.set()
        answer = await client.rest()
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.endswith(b"\r\n\r\na")


# The head


async def test_a_silent_connection_ends_without_an_answer() -> None:
    """A browser that connects ahead of time must not take an answer for that of its request."""
    async with serving(handshake_timeout="50ms") as server, line(server) as client:
        assert await client.rest() == b""


@pytest.mark.parametrize("kept", [False, True])
async def test_a_head_that_does_not_end_is_408(kept: bool) -> None:  # noqa: FBT001
    """On a new connection, and on a kept one."""
    async with serving(handshake_timeout="300ms") as server, line(server) as client:
        if kept:
            client.ask("/healthz")
            await client.reply()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "piece", [b"X-More: " + b"a" * 1000 + b"\r\n", b"a" * 1000], ids=["many", "one"]
)
async def test_an_endless_head_is_431(piece: bytes) -> None:
    """Of many headers, or of one."""
    async with serving() as server, line(server) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
        for _ in range(2 * MAX_HEAD // len(piece)):
            client.send(piece)
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "headers", [[f"X-Long: {'a' * (MAX_HEAD + 1)}"], ["a: b"] * (MAX_HEAD // len("a: b\r\n"))]
)
async def test_a_head_that_is_too_large_is_431(headers: list[str]) -> None:
    """Also if it comes in one segment, with everything that its headers consist of."""
    async with serving() as server, line(server) as client:
        client.ask("/healthz", *headers)
        assert (await client.reply()).status == 431


@pytest.mark.parametrize("path", ["/healthz", "/"])
@pytest.mark.parametrize(
    ("version", "hosts", "accepted"),
    [("1.1", 0, False), ("1.1", 1, True), ("1.1", 2, False), ("1.0", 0, True), ("1.0", 2, False)],
)
async def test_r41_a_request_has_one_host(
    path: str, version: str, hosts: int, *, accepted: bool
) -> None:
    """A proxy in front may have used the other one; before HTTP/1.1 there was none."""
    async with serving() as server, line(server) as client:
        lines = [f"GET {path} HTTP/{version}", *["Host: x"] * hosts, "Connection: close"]
        client.send("\r\n".join([*lines, "", ""]).encode())
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 ") is not accepted


async def test_r41_an_upgrade_has_one_host() -> None:
    """Otherwise it is refused before the handshake."""
    async with serving() as server, line(server) as client:
        client.send(REQUEST.replace(b"Host: x\r\n", b"") + b"\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


async def test_r42_a_head_that_is_too_large_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its smallest headers have three bytes, and would take a quarter of a second."""
    headers: list[bytes] = []
    monkeypatch.setattr(Http, "on_header", lambda _, name, value: headers.append(name + value))
    async with serving() as server, line(server) as client:
        client.send(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 60_000)
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")
    assert len(headers) < 6000


# The body


async def test_a_body_is_read() -> None:
    """Up to the limit, with a length or in chunks."""
    async with serving(body_size=1000) as server, line(server) as client:
        client.ask("/echo", "Content-Length: 1000", method="POST", body=b"x" * 1000)
        assert (await client.reply()).body == b"x" * 1000
        body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        client.ask("/echo", "Transfer-Encoding: chunked", method="POST", body=body)
        assert (await client.reply()).body == b"abcde"


@pytest.mark.parametrize("path", ["/echo", "/healthz", "/nothing"])
async def test_a_body_that_is_too_large_is_413(path: str) -> None:
    """Its announcement is enough, for every path."""
    async with serving(body_size=1000) as server, line(server) as client:
        client.ask(path, "Content-Length: 1001", method="POST")
        assert (await client.reply()).status == 413


async def test_an_endless_body_is_413() -> None:
    """The connection ends soon after the answer."""
    async with serving(body_size=1000, body_timeout="300ms") as server, line(server) as client:
        client.ask("/echo", "Transfer-Encoding: chunked", method="POST")
        for _ in range(20):
            client.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        assert (await client.reply()).status == 413
        assert await client.rest() == b""


async def test_r42_an_unread_body_is_parsed_up_to_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What exceeds it is dropped, until ``body_timeout`` ends the connection."""
    pieces: list[bytes] = []
    monkeypatch.setattr(Http, "on_body", lambda _, body: pieces.append(body))
    async with serving(body_size=1000, body_timeout="300ms") as server, line(server) as client:
        client.ask("/healthz", "Transfer-Encoding: chunked", method="POST")
        assert (await client.reply()).status == 405
        for _ in range(100):
            client.send(b"1\r\nx\r\n" * 1000)
        await client.rest()
    assert len(pieces) < 2000


async def test_a_body_that_does_not_come_is_408() -> None:
    """The time counts for all of it."""
    async with serving(body_timeout="300ms") as server, line(server) as client:
        client.ask("/echo", "Content-Length: 10", method="POST", body=b"x")
        assert (await client.reply()).status == 408
        assert await client.rest() == b""


async def test_an_answer_that_needs_no_body_does_not_wait_for_it() -> None:
    """405 comes at once; the rest is read and dropped, so that the client sees the answer."""
    async with serving() as server, line(server) as client:
        client.ask("/healthz", "Content-Length: 60000", method="POST", body=b"x" * 100)
        assert (await client.reply()).status == 405
        client.send(b"x" * 59_900)
        assert await client.rest() == b""


async def test_a_client_that_waits_for_100_gets_it() -> None:
    """``Expect: 100-continue``, as curl sends it."""
    async with serving() as server, line(server) as client:
        client.ask("/echo", "Content-Length: 2", "Expect: 100-continue", method="POST")
        assert (await client.reply()).status == 100
        client.send(b"hi")
        assert (await client.reply()).body == b"hi"


# The answer


async def test_r42_nothing_is_computed_for_a_client_that_has_left() -> None:
    """Its request is not begun, or is cancelled."""
    town = Town()
    async with serving(town) as server:
        async with line(server) as client:
            client.ask("/wait/late")
            await until(lambda: town.asked)
        await until(lambda: town.cancelled)
        for _ in range(20):
            async with line(server) as client:
                client.ask("/wait/gone")
        async with line(server) as client:
            client.ask("/healthz")
            await client.reply()
        assert town.asked == ["late"]


def test_r42_a_connection_may_be_lost_amid_its_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is written to a connection that is closed, which is an error on uvloop, and the
    provider has not failed."""
    uvloop = pytest.importorskip("uvloop")

    async def leave() -> None:
        town = Town()
        async with serving(town) as server:
            async with line(server) as client:
                for name in "ab":
                    client.ask(f"/wait/{name}")
                await until(lambda: town.asked)
                [connection] = _front(server).state.connections
                assert isinstance(connection, Http)
                await until(lambda: connection.pipeline)
                connection.transport.abort()
                await until(lambda: not _front(server).state.tasks)
            assert (town.asked, town.cancelled) == (["a"], ["a"])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(leave())
    gc.collect()  # an exception that was not retrieved is logged then
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_a_client_that_does_not_read_is_dropped() -> None:
    """If no byte of an answer is taken for ``slow_client_timeout``."""
    async with serving(slow_client_timeout="100ms") as server, line(server) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.ask("/stream")
        await until(lambda: _front(server).state.tasks)
        await until(lambda: not _front(server).state.connections)


def _front(server: WebSocketServer) -> Front:
    """The connections that are not upgraded, which no public name shows."""
    return server._run.gateway._front  # noqa: SLF001


async def test_a_bug_is_logged_and_is_500(caplog: pytest.LogCaptureFixture) -> None:
    """One request fails; the next one on the connection is served."""

    class Broken(Town):
        @hookimpl
        def routes(self) -> Sequence[BaseRoute]:
            return [Route("/x", self._break)]

        async def _break(self, _: Request) -> Response:
            raise ValueError("broken page")

    async with serving(Broken()) as server, line(server) as client:
        client.ask("/x")
        assert (await client.reply()).status == 500
        client.ask("/healthz")
        assert (await client.reply()).status == 200
    lines = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert [each for each in lines if "broken page" in each] == lines[:1]


# The upgrade


async def test_a_kept_connection_can_be_upgraded() -> None:
    """After an answer, as before one."""
    async with serving() as server, line(server) as client:
        client.ask("/healthz")
        await client.reply()
        client.send(REQUEST + b"\r\n")
        assert (await client.reply()).status == 101
        await until(lambda: server.connections)


async def test_frames_may_come_together_with_the_handshake() -> None:
    """A client that does not wait for the answer is served."""
    message = b'{"type":"connect"}'
    async with serving() as server, line(server) as client:
        client.send(REQUEST + b"\r\n" + bytes((0x81, 0x80 | len(message))) + bytes(4) + message)
        assert (await client.reply()).status == 101
        await until(lambda: server.live.counters.joins)


async def test_r41_a_refused_upgrade_is_answered_whatever_follows() -> None:
    """Bytes behind it are not read as frames."""
    config = parse({"gateway": {"port": 0, "origins": ["https://zone.example"]}})
    async with WebSocketServer(config=config) as server, line(server) as client:
        client.send(REQUEST + b"Origin: https://evil.example\r\n\r\n")
        client.ask("/healthz")
        assert (await client.rest()).startswith(b"HTTP/1.1 403 ")


async def test_r41_wrong_frames_behind_a_handshake_do_not_replace_its_answer() -> None:
    """101 comes first, and then the end."""
    async with serving() as server, line(server) as client:
        client.send(REQUEST + b"\r\n")
        client.ask("/healthz")
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"\x03\xea" in answer  # 1002


# The end


async def test_stop_ends_requests_under_way() -> None:
    """A page that hangs does not hold it up for long, and leaves no task."""
    town = Town()
    before = asyncio.all_tasks()
    async with asyncio.timeout(PATIENCE), serving(town) as server, line(server) as client:
        client.ask("/wait/a")
        await until(lambda: town.asked)
        await server.stop()
        await client.rest()
    await until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})


async def test_stop_does_not_wait_for_answers_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what has answered may end in peace."""
    monkeypatch.setattr(http_protocol, "FINISH_TIMEOUT", 100 * PATIENCE)
    server = serving(slow_client_timeout="1h")
    async with server, line(server) as client, asyncio.timeout(PATIENCE):
        client.ask("/stream")
        assert b"200 OK" in await client.some()
        await server.stop()


async def test_stop_lets_answers_be_read(tmp_path: Path) -> None:
    """A download that is under way is finished."""
    (tmp_path / "file").write_bytes(PIECE * 100)
    config = parse(
        {"gateway": {"port": 0, "static_dir": str(tmp_path)}, "chain": {"order": ["town"]}}
    )
    async with (
        WebSocketServer(config=config, providers={"town": Town()}) as server,
        line(server) as client,
    ):
        client.ask("/file")
        await until(lambda: _front(server).state.tasks)
        stopping = asyncio.create_task(server.stop())
        await until(lambda: _front(server).closed)
        assert (await client.reply()).body == PIECE * 100
        await stopping

"""The front: where it listens, what plain HTTP gets there, who may connect, and how it ends."""

import asyncio
import contextlib
import json
import logging
import os
import socket
import ssl
import stat
from email.message import Message as Headers
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, NamedTuple

import importlib_metadata
import pytest
import trustme
from peers import Dial, until
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from d_back_core import ConfigError, Server, User
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_testing import ScriptedProvider

PATIENCE = 60.0
UPGRADE = (
    "Upgrade: websocket",
    "Connection: upgrade",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version: 13",
)
PAGES = ["/", "/index.html", "/healthz", "/nothing"]


def town() -> ScriptedProvider:
    return ScriptedProvider({"1": Server(name="Plaza")}, {"1": {"7": User(username="Ada")}})


def serving(provider: ScriptedProvider | None = None, **gateway: Any) -> WebSocketServer:  # noqa: ANN401
    """A gateway with these keys of ``[gateway]``."""
    config = parse({"gateway": {"port": 0, **gateway}, "chain": {"order": ["a"]}})
    return WebSocketServer(config=config, providers={"a": provider or town()})


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Headers
    body: bytes


async def raw(server: WebSocketServer, request: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """All that comes back for these bytes until the gateway closes the connection."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("localhost", server.port, ssl=tls)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


async def ask(
    server: WebSocketServer,
    path: str,
    *headers: str,
    method: str = "GET",
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """The answer to a request with these header lines."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if not any(line.startswith("Connection:") for line in headers):
        lines.append("Connection: close")
    lines += ["", ""]
    head, _, body = (await raw(server, "\r\n".join(lines).encode(), tls)).partition(b"\r\n\r\n")
    status, _, fields = head.partition(b"\r\n")
    return Reply(int(status.split()[1]), BytesHeaderParser().parsebytes(fields), body)


# The page and the small API


async def test_a_plain_get_of_the_root_is_the_page() -> None:
    """d-zone's readiness poll wants a status from 200 to 403; a person wants a page."""
    async with serving() as server:
        for path in ("/", "/index.html", "/?x=1", "http://elsewhere/"):
            reply = await ask(server, path)
            assert reply.status == 200
            assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
            assert b"<title>d-back</title>" in reply.body


async def test_the_page_may_load_nothing() -> None:
    """Its policy names no source but its own styles, and it cannot be framed."""
    async with serving() as server:
        policy = (await ask(server, "/")).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", PAGES)
async def test_every_answer_is_whole_and_hardened(path: str) -> None:
    """It says its length, is not sniffed, and sends no referrer."""
    async with serving() as server:
        reply = await ask(server, path)
        assert int(reply.headers["Content-Length"]) == len(reply.body)
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Server"] == "d-back"


@pytest.mark.parametrize("path", PAGES)
async def test_head_is_get_without_a_body(path: str) -> None:
    """Status and headers are those of a GET, the length included."""
    async with serving() as server:
        get, head = await ask(server, path), await ask(server, path, method="HEAD")
        assert head.body == b""
        for reply in (get, head):
            del reply.headers["Date"]
        assert (head.status, head.headers.items()) == (get.status, get.headers.items())


async def test_what_is_not_there_is_not_found() -> None:
    """An unknown path is a 404 without a page of anybody else's."""
    async with serving() as server:
        for path in ("/nothing", "/api", "/api/", "/ws", "/healthz/", "*", "/%ff"):
            assert (await ask(server, path)).status == 404


async def test_healthz_says_that_it_serves() -> None:
    """A probe gets 200, whatever it adds to the path."""
    async with serving() as server:
        for path in ("/healthz", "/healthz?full=1", "/%68ealthz"):
            reply = await ask(server, path)
            assert (reply.status, reply.body) == (200, b"ok\n")


async def test_the_version_is_that_of_the_distribution() -> None:
    """/api/version is JSON, as in 0.0.18."""
    try:
        version = importlib_metadata.version("d-back-core")
    except importlib_metadata.PackageNotFoundError:
        pytest.skip("d-back-core runs from its source tree and is not installed")
    async with serving() as server:
        reply = await ask(server, "/api/version")
        assert reply.headers["Content-Type"] == "application/json"
        assert json.loads(reply.body) == {"version": version}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "get", "BREW"])
async def test_other_methods_are_not_allowed(method: str) -> None:
    """They get 405 with the allowed methods."""
    async with serving() as server:
        reply = await ask(server, "/", method=method)
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("GET //[ HTTP/1.1", (), 404),
        ("GET //x/healthz HTTP/1.1", (), 404),
        ("GET /healthz#x HTTP/1.1", (), 404),
        ("GET /healthz HTTP/1.1", ("Content-Length: x",), 400),
        ("CONNECT a:80 HTTP/1.1", (), 400),
        ("GET / HTTP/1.0", (), 200),
        ("GET / HTTP/1.1", ("Upgrade: h2c", "Connection: Upgrade"), 200),
        ("GET / HTTP/1.1", ("Upgrade: a", "Upgrade: b"), 200),
        ("GET / HTTP/1.1", ('If-None-Match: "a"', 'If-None-Match: "b"'), 200),
        ("GET / HTTP/1.1", ("Upgrade: websocket",), 426),
        ("GET / HTTP/1.1", ("Upgrade: x", "Upgrade: websocket", "Connection: upgrade"), 426),
        ("GET / HTTP/1.1", ("Upgrade: websocket", "Connection: upgrade"), 400),
        ("GET / HTTP/1.1", (*UPGRADE, "Content-Length: 5"), 400),
        ("GET / HTTP/1.1", (*UPGRADE, "Transfer-Encoding: chunked"), 400),
        ("POST / HTTP/1.1", UPGRADE, 405),
        ("POST / HTTP/1.1", (*UPGRADE, "Content-Length: 0"), 405),
        (f"GET /{'a' * 10_000} HTTP/1.1", (), 414),
        (f"GET /{'a/' * 3000} HTTP/1.1", (), 404),
    ],
)
async def test_odd_requests_are_answered(
    request_line: str,
    headers: tuple[str, ...],
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is unusual or wrong gets the status for it, never a 500, and no line in the log."""
    caplog.set_level(logging.INFO, "d_back")
    async with serving() as server:
        lines = [request_line, "Host: x", *headers]
        if not any(line.startswith("Connection:") for line in headers):
            lines.append("Connection: close")
        reply = await raw(server, "\r\n".join([*lines, "", ""]).encode())
        assert int(reply.split()[1]) == status
    assert "d_back.gateway.websockets" not in {each.name for each in caplog.records}
    assert all(each.levelno < logging.WARNING for each in caplog.records)


@pytest.mark.parametrize(
    "nonsense", [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\xff" * 100_000]
)
async def test_what_is_no_http_is_dropped(
    dial: Dial, nonsense: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection ends, nothing is logged as an error, and everyone else is served."""
    async with serving() as server:
        reader, writer = await asyncio.open_connection("localhost", server.port)
        writer.write(nonsense)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(reader.read(), return_exceptions=True)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        await (await dial(server)).join()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# The operator's folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder to serve, and beside it what must never be served."""
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "empty").mkdir()
    (site / "index.html").write_text("<h1>mine</h1>")
    (site / "sub" / "index.html").write_text("<h1>sub</h1>")
    (site / "a b.txt").write_text("spaced")
    outside = tmp_path / "site-secret"
    outside.mkdir()
    for folder in (outside, tmp_path):
        (folder / "secret.txt").write_text("MARK")
        (folder / "index.html").write_text("MARK")
    (site / "link.txt").symlink_to(outside / "secret.txt")
    (site / "folder").symlink_to(outside)
    (site / "loop").symlink_to("loop")
    (site / "inside.txt").symlink_to("a b.txt")
    os.mkfifo(site / "pipe")
    return site


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", b"<h1>mine</h1>"),
        ("/index.html", b"<h1>mine</h1>"),
        ("/?v=2#top", b"<h1>mine</h1>"),
        ("/sub/", b"<h1>sub</h1>"),
        ("/sub/index.html", b"<h1>sub</h1>"),
        ("/a%20b.txt", b"spaced"),
        ("/inside.txt", b"spaced"),
        ("/sub/../a%20b.txt", b"spaced"),
    ],
)
async def test_the_folder_is_served_in_place_of_the_page(
    site: Path, path: str, body: bytes
) -> None:
    """Files and the index of a folder are, also behind links that stay inside."""
    async with serving(static_dir=str(site)) as server:
        reply = await ask(server, path)
        assert (reply.status, reply.body) == (200, body)


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/sub/../../secret.txt",
        "/../site-secret/secret.txt",
        "/../site-secret/",
        "/..",
        "/sub/../..",
        "/link.txt",
        "/folder/secret.txt",
        "/folder/",
        "/%2e%2e%5csecret.txt",
        "//{parent}/secret.txt",
        "/%2f{parent}/secret.txt",
        "{parent}/secret.txt",
        "/index.html%00",
        "/%00",
        "/../secret.txt%00.html",
        "/loop",
        "/pipe",
        "/empty/",
        "/empty",
        "/nothing",
        "/a%2520b.txt",
        "/%ff",
    ],
)
async def test_nothing_else_is_served(site: Path, path: str) -> None:
    """Neither traversal in any spelling, nor links out of the folder, nor what is no file; and
    no folder is listed."""
    async with serving(static_dir=str(site)) as server:
        reply = await ask(server, path.format(parent=site.parent))
        assert (reply.status, reply.body) == (404, b"Not Found\n")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("page.html", "text/html; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("notes.txt", "text/plain; charset=utf-8"),
        ("image.png", "image/png"),
        ("image.svg", "image/svg+xml"),
        ("data.json", "application/json"),
        ("archive.tar.gz", "application/octet-stream"),
        ("unknown.zzz", "application/octet-stream"),
        ("none", "application/octet-stream"),
    ],
)
async def test_files_have_their_content_type(tmp_path: Path, name: str, kind: str) -> None:
    """It follows from the name; what is not known is opaque."""
    (tmp_path / name).write_bytes(b"\x00")
    async with serving(static_dir=str(tmp_path)) as server:
        assert (await ask(server, f"/{name}")).headers["Content-Type"] == kind


async def test_scripts_run(site: Path) -> None:
    """A module script is refused by browsers unless its type is one of JavaScript."""
    (site / "main.js").touch()
    async with serving(static_dir=str(site)) as server:
        kind = (await ask(server, "/main.js")).headers["Content-Type"]
        assert kind in {"text/javascript; charset=utf-8", "application/javascript; charset=utf-8"}


async def test_an_unchanged_file_is_not_sent_again(site: Path) -> None:
    """Who has it, by any form of If-None-Match, gets 304 without a body; after a change the new
    one."""
    async with serving(static_dir=str(site)) as server:
        etag = (await ask(server, "/a%20b.txt")).headers["ETag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            reply = await ask(server, "/a%20b.txt", f"If-None-Match: {known}")
            assert (reply.status, reply.body, reply.headers["ETag"]) == (304, b"", etag)
            assert reply.headers["Content-Length"] is None
        assert (await ask(server, "/a%20b.txt", 'If-None-Match: "other"')).status == 200
        (site / "a b.txt").write_text("changed it")
        reply = await ask(server, "/a%20b.txt", f"If-None-Match: {etag}")
        assert (reply.status, reply.body) == (200, b"changed it")


async def test_a_file_that_is_gone_is_not_found(site: Path) -> None:
    """The folder is looked at on each request."""
    async with serving(static_dir=str(site)) as server:
        assert (await ask(server, "/a%20b.txt")).status == 200
        (site / "a b.txt").unlink()
        assert (await ask(server, "/a%20b.txt")).status == 404
        assert (await ask(server, "/a%20b.txt", "If-None-Match: *")).status == 404


async def test_the_folder_does_not_hide_the_api(site: Path) -> None:
    """What probes ask for stays what it is."""
    (site / "healthz").write_text("mine")
    async with serving(static_dir=str(site)) as server:
        assert (await ask(server, "/healthz")).body == b"ok\n"


async def test_a_large_file_arrives_whole(tmp_path: Path) -> None:
    """A body that fills every buffer is not cut off when the connection ends."""
    body = bytes(range(256)) * 32_768
    (tmp_path / "large").write_bytes(body)
    async with serving(static_dir=str(tmp_path)) as server:
        assert (await ask(server, "/large")).body == body


@pytest.mark.parametrize("name", ["nowhere", "index.html"])
async def test_what_is_no_folder_is_an_error_of_the_configuration(site: Path, name: str) -> None:
    """The error names the key and the path."""
    path = site / name
    with pytest.raises(ConfigError, match=rf"gateway\.static_dir '{path}': is not a directory"):
        serving(static_dir=str(path))


# Web origins


async def opens(server: WebSocketServer, origin: str | None) -> bool:
    """Whether a page of that origin may connect; who may not gets 403."""
    try:
        async with connect(server.url, origin=None if origin is None else Origin(origin)):
            return True
    except InvalidStatus as refused:
        if refused.response.status_code != 403:
            raise
        return False


LISTED = ("https://example.org", "https://*.example.net", "http://localhost:8080")


@pytest.mark.parametrize(
    ("origins", "origin", "expected"),
    [
        ((), "https://anywhere.test", True),
        ((), "null", True),
        (LISTED, None, True),
        (LISTED, "https://example.org", True),
        (LISTED, "http://localhost:8080", True),
        (LISTED, "http://localhost", False),
        (LISTED, "http://example.org", False),
        (LISTED, "https://example.org:8443", False),
        (LISTED, "https://www.example.org", False),
        (LISTED, "https://example.org.evil.test", False),
        (LISTED, "https://evilexample.org", False),
        (LISTED, "https://exampleXorg", False),
        (LISTED, "https://a.example.net", True),
        (LISTED, "https://a.b.example.net", True),
        (LISTED, "https://example.net", False),
        (LISTED, "https://evilexample.net", False),
        (LISTED, "https://a.example.net.evil.test", False),
        (LISTED, "https://evil.test/.example.net", False),
        (LISTED, "https://evil.test#.example.net", False),
        (LISTED, "https://evil.test:80@a.example.net", False),
        (LISTED, "null", False),
        (("null",), "null", True),
    ],
)
async def test_only_listed_origins_may_connect(
    origins: tuple[str, ...],
    origin: str | None,
    expected: bool,  # noqa: FBT001  pytest passes it by name
) -> None:
    """A browser's page connects if its origin is listed, exactly or as a subdomain; without a
    list all may, and programs that send no origin always."""
    async with serving(origins=[*origins]) as server:
        assert await opens(server, origin) == expected


async def test_a_repeated_origin_is_refused() -> None:
    """Two origins are none of the list, whichever comes first."""
    async with serving(origins=["https://example.org"]) as server:
        for pair in (("example.org", "evil.test"), ("evil.test", "example.org")):
            reply = await ask(
                server,
                "/",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
                *(f"Origin: https://{host}" for host in pair),
            )
            assert reply.status in {400, 403}


async def test_origins_are_for_websockets_only() -> None:
    """Pages are for everyone."""
    async with serving(origins=["https://example.org"]) as server:
        assert (await ask(server, "/", "Origin: https://evil.test")).status == 200


# TLS


class Certified(NamedTuple):
    """A certificate for localhost, on disk, and who trusts it."""

    cert: str
    key: str
    trusting: ssl.SSLContext


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    authority, folder = trustme.CA(), tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost")
    cert, key = folder / "cert.pem", folder / "key.pem"
    for part in issued.cert_chain_pems:
        part.write_to_path(cert, append=True)
    issued.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return Certified(str(cert), str(key), trusting)


async def test_tls_serves_websockets_and_pages(certified: Certified) -> None:
    """With certificate and key both come encrypted on the one port."""
    async with serving(tls={"cert": certified.cert, "key": certified.key}) as server:
        assert server.url == f"wss://localhost:{server.port}"
        async with connect(server.url, ssl=certified.trusting) as connection:
            assert json.loads(await connection.recv())["type"] == "server-list"
        reply = await ask(server, "/healthz", tls=certified.trusting)
        assert (reply.status, reply.body) == (200, b"ok\n")


async def test_tls_answers_nothing_in_plain_text(certified: Certified) -> None:
    """A client that does not encrypt gets no answer, and disturbs no other client."""
    async with serving(tls={"cert": certified.cert, "key": certified.key}) as server:
        assert b"HTTP" not in await raw(server, b"GET / HTTP/1.1\r\n\r\n")
        assert (await ask(server, "/", tls=certified.trusting)).status == 200


async def test_a_tls_handshake_has_the_time_limit_of_any_other(certified: Certified) -> None:
    """Who does not begin it is not waited for."""
    table = {
        "gateway": {"port": 0, "tls": {"cert": certified.cert, "key": certified.key}},
        "chain": {"order": ["a"]},
        "limits": {"handshake_timeout": "50ms"},
    }
    async with (
        asyncio.timeout(30),
        WebSocketServer(config=parse(table), providers={"a": town()}) as server,
    ):
        reader, writer = await asyncio.open_connection("localhost", server.port)
        assert await reader.read() == b""
        writer.close()


async def test_stop_does_not_wait_for_a_tls_handshake(certified: Certified) -> None:
    """And a client that completes it afterwards gets nothing but the end of the connection."""
    table = {
        "gateway": {"port": 0, "tls": {"cert": certified.cert, "key": certified.key}},
        "chain": {"order": ["a"]},
        "limits": {"handshake_timeout": "1h"},
    }
    async with asyncio.timeout(30):
        server = WebSocketServer(config=parse(table), providers={"a": town()})
        async with server:
            reader, writer = await asyncio.open_connection("localhost", server.port)
            assert (await ask(server, "/healthz", tls=certified.trusting)).status == 200
        try:
            await writer.start_tls(certified.trusting, server_hostname="localhost")
            assert await reader.read() == b""
        except (ConnectionError, ssl.SSLError):
            pass
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize("broken", ["cert", "key"])
@pytest.mark.parametrize("content", [None, "", "no PEM"])
def test_a_certificate_that_cannot_be_read_is_an_error_of_the_configuration(
    certified: Certified, tmp_path: Path, broken: str, content: str | None
) -> None:
    """The error names the key and both files, before anything listens."""
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_text(content)
    files = {"cert": certified.cert, "key": certified.key, broken: str(path)}
    with pytest.raises(
        ConfigError, match=rf"gateway\.tls.*'{path}'.*: (cannot be used|does not exist)"
    ):
        serving(tls=files)


# Listening


async def test_a_port_in_use_is_an_error_of_the_configuration(dial: Dial) -> None:
    """It names the port and the way out; no provider is started, and who has the port is not
    disturbed."""
    provider = town()
    async with serving() as first:
        second = serving(provider, port=first.port)
        with pytest.raises(
            ConfigError, match=rf"gateway\.port '{first.port}': is in use .*--port"
        ):
            await second.start()
        assert not provider.calls
        await (await dial(first)).join()


@pytest.mark.parametrize("port", [0, 39_519])
@pytest.mark.parametrize("host", ["256.256.256.256", "192.0.2.1", "no host"])
async def test_a_host_that_is_not_ours_is_an_error_of_the_configuration(
    host: str, port: int
) -> None:
    """Whether it cannot be resolved or belongs to another program."""
    with pytest.raises(ConfigError, match=rf"gateway\.host '{host}': is not an? "):
        await serving(host=host, port=port).start()


def families() -> list[tuple[str, str]]:
    """The loopback addresses of this machine, and the hosts to listen on for each."""
    addresses = {entry[4][0] for entry in socket.getaddrinfo("localhost", 0)}
    found = [("localhost", str(address)) for address in addresses] + [("", "127.0.0.1")]
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return found
    return [*found, ("", "::1"), ("::1", "::1")]


@pytest.mark.parametrize(("host", "address"), families())
async def test_port_0_is_one_port_on_every_address(host: str, address: str) -> None:
    """A free port is taken once, for IPv4 and IPv6 alike: the one in the URL."""
    async with serving(host=host) as server:
        assert server.port > 0
        _, writer = await asyncio.open_connection(address, server.port)
        writer.close()
        await writer.wait_closed()


async def test_flags_override_the_configuration() -> None:
    """Host and port of the constructor win over those of the file."""
    config = parse({"gateway": {"port": 1, "host": "x"}, "chain": {"order": ["a"]}})
    server = WebSocketServer(0, "127.0.0.1", config=config, providers={"a": town()})
    async with server:
        assert server.url == f"ws://127.0.0.1:{server.port}"
        assert server.port > 1


# The end


async def test_stop_tells_the_clients_and_leaves_nothing(dial: Dial) -> None:
    """They are closed with 1001; then nothing listens, no task is left, and the provider has
    been stopped."""
    before = asyncio.all_tasks()
    provider = town()
    async with serving(provider) as server:
        peers = [await dial(server) for _ in range(3)]
        await peers[0].join()
        port = server.port
        await server.stop()
        for peer in peers:
            assert await peer.closed() == 1001
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncio.open_connection("localhost", port)
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}
    assert provider.calls[-1] == "stop"


async def test_start_serves_until_stop() -> None:
    """It returns once stop is through, for each caller."""
    server = serving()
    running = asyncio.create_task(server.start())
    await until(lambda: server.port)
    assert (await ask(server, "/healthz")).status == 200
    await server.stop()
    async with asyncio.timeout(PATIENCE):
        await running


async def test_stop_may_be_called_again_and_again() -> None:
    """At the same time, and after the end, the provider is stopped once."""
    provider = town()
    async with serving(provider) as server:
        await asyncio.gather(server.stop(), server.stop())
        await server.stop()
    assert provider.calls.count("stop") == 1


async def test_stop_before_start_is_nothing() -> None:
    """A gateway that never ran can be stopped."""
    await serving().stop()


def listening() -> set[int]:
    """Return the ports that this process listens on."""
    found = set()
    for number in range(1024):
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as each:
                if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.add(each.getsockname()[1])
    return found


async def test_stop_during_start_leaves_nothing() -> None:
    """Who stops it while it starts finds nothing listening afterwards."""
    provider = town()
    before = listening()
    server = serving(provider)
    running = asyncio.create_task(server.start())
    await until(lambda: provider.calls)
    await server.stop()
    async with asyncio.timeout(PATIENCE):
        await running
    assert listening() == before
    assert provider.calls.count("start") == provider.calls.count("stop")


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_stop_does_not_wait_for_who_says_nothing(said: bytes) -> None:
    """A TCP connection without a whole request holds up no other client."""
    async with serving() as server:
        reader, writer = await asyncio.open_connection("localhost", server.port)
        writer.write(said)
        await ask(server, "/")
        async with asyncio.timeout(1.5):
            await server.stop()
            await asyncio.gather(reader.read(), return_exceptions=True)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize(
    "message",
    ['{"type":"connect"}', '{"type":"get_user_data","serverId":"1"}'],
)
async def test_stop_does_not_wait_for_a_provider_that_hangs(dial: Dial, message: str) -> None:
    """A client that waits for an answer of the provider is closed like any other."""
    provider = town()
    provider.hang = {"users"}
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.connection.send(message)
        await until(lambda: "users 1" in provider.calls)
        async with asyncio.timeout(1.5):
            await server.stop()
        assert await peer.closed() == 1001

"""Who may connect, by origin, address and number."""

import asyncio
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from http import HTTPStatus
from http.client import HTTPConnection
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import trustme
from http_line import line
from operating import PATIENCE, Operator, posix
from peers import until
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from d_back_core import ConfigError
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.gateway import admission as module
from d_back_core.gateway.admission import Admission
from d_back_core.gateway.listening import RESERVED_DESCRIPTORS, connections_that_fit
from d_back_testing import ManualClock

CLIENT = "203.0.113.7"
GATEWAY = {"port": 0, "host": "127.0.0.1"}


def admission(clock: ManualClock | None = None, **tables: Any) -> Admission:  # noqa: ANN401
    return Admission(parse(tables), Counter(), clock or ManualClock())


# Origins


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://zone.example", "https://zone.example"),
        ("https://zone.example/", "https://zone.example"),
        ("HTTPS://Zone.Example", "https://zone.example"),
        ("https://zone.example:443", "https://zone.example"),
        ("http://zone.example:80/", "http://zone.example"),
        ("http://zone.example:443", "http://zone.example:443"),
        ("https://exämple.org", "https://xn--exmple-cua.org"),
        ("https://faß.example", "https://xn--fa-hia.example"),
        ("https://*.Zone.example:443", "https://a.zone.example"),
        ("http://[::0001]:3000", "http://[::1]:3000"),
        ("null", "null"),
    ],
)
def test_r43_origins_are_normalised(written: str, sent: str) -> None:
    """Browsers send one spelling; operators write others."""
    assert admission(gateway={"origins": [written]}).may_read(sent, "gateway.example")


@pytest.mark.parametrize(
    "written",
    [
        *("", "zone.example", "*", "https://", "https://zone.example/page", "//zone.example"),
        *("https://zone.example?x", "https://user@zone.example", "https://a.*.example"),
        *("https://zone.example:x", "https://zone.example:99999", "https://-.*", "http://[::1"),
    ],
)
def test_r43_an_origin_that_cannot_match_is_an_error(written: str) -> None:
    """The error names the key and the origin."""
    with pytest.raises(ConfigError, match=r"gateway\.origins"):
        admission(gateway={"origins": [written]})


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://localhost:3000", "localhost:3000", True),
        ("https://zone.example", "zone.example", True),
        ("https://zone.example", "ZONE.example:443", True),
        ("http://localhost:3000", "localhost:3001", False),
        ("http://localhost:3000", "", False),
        ("null", "null", False),
        ("http://a, http://b", "a", False),
        ("http://[", "[", False),
    ],
)
def test_r43_the_own_origin_is_allowed(
    origin: str,
    host: str,
    allowed: bool,  # noqa: FBT001  pytest passes it by name
) -> None:
    """A page of the gateway itself may connect, whatever the list says."""
    listed = admission(gateway={"origins": ["https://elsewhere.example"]})
    assert listed.may_read(origin, host) is allowed


async def test_r43_a_refused_origin_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often a page of it tries."""
    config = parse({"gateway": {"port": 0, "origins": ["https://zone.example"]}})
    async with WebSocketServer(config=config) as server:
        for _ in range(3):
            with pytest.raises(InvalidStatus, match="403"):
                await connect(server.url, origin=Origin("https://evil.example"))
        assert server.live.counters.rejections["this origin may not connect"] == 3
    lines = [each.getMessage() for each in caplog.records if "evil" in each.getMessage()]
    [line] = lines
    assert line.endswith(
        "pages of 'https://evil.example' may not connect: gateway.origins lacks it"
    )


# Connections


def test_connections_of_one_address_count_from_the_accept() -> None:
    """One too many is refused, and one that ends makes room."""
    limits = {"connections_per_address": 2}
    counted = admission(limits=limits)
    assert counted.enter(CLIENT) is None
    assert counted.enter(CLIENT) is None
    assert counted.enter(CLIENT) == (
        HTTPStatus.TOO_MANY_REQUESTS,
        "too many connections of one address",
    )
    assert counted.enter("203.0.113.8") is None
    counted.leave(CLIENT)
    assert counted.enter(CLIENT) is None


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("198.51.100.9", "203.0.113.7", "198.51.100.9"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.7", "203.0.113.7 via 127.0.0.1"),
    ],
)
def test_r32_only_a_local_peer_speaks_for_others(peer: str, forwarded: str, address: str) -> None:
    """Without a trusted proxy: a client elsewhere could guess passwords under any address."""
    assert admission(ManualClock()).address(peer, forwarded) == address


def test_a_trusted_proxy_has_no_address_of_its_own() -> None:
    """Its connections count in all; its clients count one by one."""
    limits = {"connections": 3, "connections_per_address": 1, "trusted_proxies": ["10.0.0.0/8"]}
    counted = admission(limits=limits)
    for _ in range(3):
        assert counted.enter(counted.counted("10.0.0.1")) is None
    assert counted.is_full
    assert counted.claim(CLIENT) is None
    assert counted.claim(CLIENT) is not None
    counted.release(CLIENT)
    assert counted.claim(CLIENT) is None


@pytest.fixture
def counted_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 is an address as any other."""
    monkeypatch.setattr(IPv4Address, "is_loopback", False)


def connected(server: WebSocketServer) -> tuple[int, Counter[str]]:
    """How many connections count, in all and by address, which no public name shows."""
    admission = server._run.gateway._admission  # noqa: SLF001
    return admission._connected, admission._per_address  # noqa: SLF001


@pytest.mark.usefixtures("counted_loopback")
async def test_r42_a_silent_connection_counts_for_its_address() -> None:
    """From the accept on, until it ends."""
    table = {"gateway": GATEWAY, "limits": {"connections_per_address": 2}}
    async with WebSocketServer(config=parse(table)) as server:
        async with line(server), line(server):
            await until(lambda: connected(server) == (2, {"127.0.0.1": 2}))
            async with line(server) as third:
                assert (await third.rest()).startswith(b"HTTP/1.1 429 ")
        await until(lambda: connected(server) == (0, {}))


@pytest.mark.usefixtures("counted_loopback")
async def test_r32_a_trusted_proxy_on_another_host_is_not_limited_as_an_address() -> None:
    """Its clients are, as long as each is connected."""
    limits = {"trusted_proxies": ["127.0.0.1"], "connections_per_address": 1}
    clients = [f"203.0.113.{number}" for number in range(3)]
    async with WebSocketServer(config=parse({"gateway": GATEWAY, "limits": limits})) as server:
        async with AsyncExitStack() as open_connections:
            for client in clients:
                visitor = {"X-Forwarded-For": client}
                await open_connections.enter_async_context(
                    connect(server.url, additional_headers=visitor)
                )
            assert connected(server) == (3, dict.fromkeys(clients, 1))
        await until(lambda: connected(server) == (0, {}))


@pytest.mark.usefixtures("counted_loopback")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("limit", ["connections", "connections_per_address"])
def test_r42_a_tls_connection_counts_before_its_handshake(
    tmp_path: Path, loop: str, limit: str
) -> None:
    """One too many is closed at once; one that is silent or wrong gives its place back."""

    async def shake_hands() -> None:
        tls, trusting = certificate(tmp_path)
        limits = {limit: 2, "handshake_timeout": "1s"}
        table = {"gateway": GATEWAY | {"tls": tls}, "limits": limits}
        async with asyncio.timeout(60), WebSocketServer(config=parse(table)) as server:
            async with line(server) as first, line(server) as second:
                await until(lambda: connected(server) == (2, {"127.0.0.1": 2}))
                async with line(server) as third:
                    assert await third.rest() == b""
                assert connected(server) == (2, {"127.0.0.1": 2})
                first.send(b"GET / HTTP/1.1\r\n\r\n")
                await first.rest()
                await until(lambda: connected(server) == (1, {"127.0.0.1": 1}))
                await second.rest()  # the time is over
                await until(lambda: connected(server) == (0, {}))
            async with connect(server.url, ssl=trusting) as client:
                await client.recv()
                assert connected(server) == (1, {"127.0.0.1": 1})
            await until(lambda: connected(server) == (0, {}))

    with asyncio.Runner(loop_factory=pytest.importorskip(loop).new_event_loop) as runner:
        runner.run(shake_hands())


def certificate(folder: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    """A certificate for 127.0.0.1 on disk, and a context that trusts it."""
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return {"cert": str(folder / "pem"), "key": str(folder / "pem")}, trusting


async def test_r42_requests_of_one_address_have_a_rate() -> None:
    """After a burst one too many gets 429; another address is served, and so are probes."""
    clock = ManualClock()
    table = {"gateway": {"port": 0}, "limits": {"trusted_proxies": ["127.0.0.1", "::1"]}}
    server = WebSocketServer(config=parse(table), clock=clock)
    async with server, line(server) as client:

        async def status(path: str, address: str) -> int:
            client.ask(path, f"X-Forwarded-For: {address}")
            return (await client.reply()).status

        for _ in range(module.REQUEST_BURST):
            assert await status("/api/version", CLIENT) == 200
        assert await status("/api/version", CLIENT) == 429
        assert await status("/healthz", CLIENT) == 200
        assert await status("/api/version", "203.0.113.8") == 200
        await clock.advance(1)
        assert await status("/api/version", CLIENT) == 200


async def test_r42_upgrades_of_one_address_have_a_rate() -> None:
    """They count as requests."""
    clock = ManualClock()
    table = {"gateway": GATEWAY, "limits": {"trusted_proxies": ["127.0.0.1"]}}
    visitor = {"X-Forwarded-For": CLIENT}
    server = WebSocketServer(config=parse(table), clock=clock)
    async with server, line(server) as client:
        for _ in range(module.REQUEST_BURST):
            client.ask("/api/version", f"X-Forwarded-For: {CLIENT}")
            await client.reply()
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url, additional_headers=visitor)
        assert refused.value.response.status_code == 429
        await clock.advance(1)
        async with connect(server.url, additional_headers=visitor):
            pass


@pytest.mark.usefixtures("counted_loopback")
async def test_r42_new_connections_of_one_address_have_a_rate() -> None:
    """A client that sends nothing, or nothing that can be parsed, costs as well."""
    clock = ManualClock()
    async with WebSocketServer(config=parse({"gateway": GATEWAY}), clock=clock) as server:
        for _ in range(module.REQUEST_BURST):
            async with line(server) as client:
                client.send(b"x\r\n\r\n")
                assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        async with line(server) as client:
            assert (await client.rest()).startswith(b"HTTP/1.1 429 ")
        await clock.advance(1)
        async with line(server) as client:
            client.ask("/healthz")
            assert (await client.reply()).status == 200


async def test_r42_requests_of_all_have_a_rate() -> None:
    """Of clients on loopback, too, which have no limit of their own; with the documented
    numbers."""
    clock = ManualClock()
    counted = admission(clock)
    for allowed in (10_000, 2000, 2000):
        for _ in range(allowed):
            assert counted.request("127.0.0.1") is None
        refusal = counted.request("127.0.0.1")
        assert refusal == (HTTPStatus.SERVICE_UNAVAILABLE, "too many requests")
        await clock.advance(1)


async def test_r42_requests_of_an_address_have_the_documented_rate() -> None:
    """After 500 at once 50 per second."""
    clock = ManualClock()
    counted = admission(clock)
    for allowed in (500, 50, 50):
        for _ in range(allowed):
            assert counted.request(CLIENT) is None
        refusal = counted.request(CLIENT)
        assert refusal is not None
        assert refusal[0] == HTTPStatus.TOO_MANY_REQUESTS
        await clock.advance(1)


async def test_r42_requests_in_flight_count_for_their_client() -> None:
    """Those that come through one proxy, for the address that it names."""
    limits = {"trusted_proxies": ["127.0.0.1", "::1"], "connections_per_address": 1}
    config = parse({"gateway": {"port": 0}, "limits": limits})
    visitor = {"X-Forwarded-For": CLIENT}
    async with (
        WebSocketServer(config=config) as server,
        connect(server.url, additional_headers=visitor),
        line(server) as client,
    ):
        client.ask("/api/version", f"X-Forwarded-For: {CLIENT}")
        reply = await client.reply()
        assert (reply.status, reply.headers["Retry-After"]) == (429, "1")
        client.ask("/api/version", "X-Forwarded-For: 203.0.113.8")
        assert (await client.reply()).status == 200


# Descriptors


HOARDER = """
import os

from starlette.responses import Response
from starlette.routing import Route

from d_back_core import Server, hookimpl


class Provider:
    def __init__(self, config):
        self._hoard = []

    @hookimpl
    async def servers(self):
        return {"1": Server(name="One")}

    @hookimpl
    def routes(self):
        return [Route("/hoard", self._take), Route("/free", self._free)]

    async def _take(self, request):
        try:
            while True:
                self._hoard.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return Response("hoarded")

    async def _free(self, request):
        while self._hoard:
            os.close(self._hoard.pop())
        return Response("free")
"""
"""A plugin that uses up all descriptors of the process."""


@posix
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_r42_without_descriptors_connections_wait(tmp_path: Path, loop: str) -> None:
    """They are accepted later, or closed at once; the log has a line, and no traceback."""
    operator = Operator(tmp_path)
    operator.install("hoarder", HOARDER)
    operator.configure("[chain]\norder = ['hoarder']\n[gateway]\nport = 0\nhttp = ['hoarder']")
    if loop == "asyncio":
        operator.hide_uvloop()
    with operator.serving(limits="-n 200") as serving:
        port = int(serving.url.rpartition(":")[2])
        kept, later = (HTTPConnection("localhost", port, timeout=PATIENCE) for _ in range(2))
        assert said(kept, "/hoard") == b"hoarded"
        waiting = [socket.create_connection(("localhost", port)) for _ in range(20)]
        if loop == "asyncio":
            serving.until("d-back.toml: gateway: connections wait: .*Too many open files")
        time.sleep(2.5)  # asyncio tries again, and would log it again
        assert said(kept, "/free") == b"free"
        for each in waiting:
            each.close()
        assert said(later, "/free") == b"free"
        kept.close()
        later.close()
        log = serving.end()
    assert "Traceback" not in log
    assert "connections wait" not in log


def said(client: HTTPConnection, path: str) -> bytes:
    client.request("GET", path)
    return client.getresponse().read()


def test_the_limit_of_open_files_is_raised() -> None:
    """The soft one, to the hard one; what fits is less by what else needs descriptors."""
    code = (
        "import resource\n"
        "from d_back_core.gateway.listening import connections_that_fit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))\n"
        "print(connections_that_fit(10_000), resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    assert done.stdout.strip() == f"{300 - RESERVED_DESCRIPTORS} (300, 300)"


def test_connections_that_fit_are_at_most_those_wanted() -> None:
    """The limit of the configuration stays."""
    assert connections_that_fit(1) == 1
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connections_that_fit(soft) <= soft

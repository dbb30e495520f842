"""What a client may cost, the REST interface under the same rules as a join, and draining."""

import asyncio
import base64
import gzip
import json
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from msgspec import structs
from peers import until
from sample_users import ADA, BOB, ONE
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import InvalidStatus

from d_back_core import ConfigError, Message, Server, User, UserChanged
from d_back_core.config import GatewayConfig, Tls, parse
from d_back_core.config.decoding import File
from d_back_core.embedding.server import WebSocketServer
from d_back_core.gateway.rate_limits import Bucket, LoginThrottle, limit_key
from d_back_testing import ManualClock, ScriptedProvider
from d_back_testing.manual_client import RECEIVE_TIMEOUT

TRUSTED = {"trusted_proxies": ["127.0.0.0/8", "::1"]}
VISITOR = {"X-Forwarded-For": "203.0.113.7"}


def town() -> ScriptedProvider:
    servers = {"1": Server(name="One"), "2": Server(name="Two", passworded=True)}
    return ScriptedProvider(servers, {"1": {"7": ADA}, "2": {"8": BOB}})


def serving(
    provider: ScriptedProvider | None = None,
    clock: ManualClock | None = None,
    **tables: Any,  # noqa: ANN401  those of a d-back.toml
) -> WebSocketServer:
    config = parse({"gateway": {"port": 0}, "chain": {"order": ["town"]}, **tables})
    return WebSocketServer(config=config, providers={"town": provider or town()}, clock=clock)


async def answer(client: ClientConnection, message: object) -> dict[str, Any]:
    """The next frame after this message that is not the list."""
    await client.send(message if isinstance(message, str) else json.dumps(message))
    while True:
        frame: dict[str, Any] = json.loads(await client.recv())
        if frame["type"] != "server-list":
            return frame


async def code(client: ClientConnection, message: object) -> str:
    """The code of the error that answers this message; "" where it is none."""
    return str((await answer(client, message))["data"].get("code", ""))


async def http(
    server: WebSocketServer, path: str, *headers: str, method: str = "GET"
) -> tuple[int, str, bytes]:
    """Status, head and body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if not any(line.startswith("Connection:") for line in headers):
        lines.append("Connection: close")
    lines += ["", ""]
    async with asyncio.timeout(RECEIVE_TIMEOUT):
        reader, writer = await asyncio.open_connection("localhost", server.port)
        writer.write("\r\n".join(lines).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    return int(head.split()[1]), head.decode().lower(), body


# What one session may send


async def test_a_message_that_is_too_large_ends_the_session() -> None:
    """It is closed with 1009."""
    async with serving(limits={"message_size": 2000}) as server, connect(server.url) as client:
        await client.send("x" * 2001)
        await client.wait_closed()
        assert client.close_code == 1009


async def test_messages_over_the_rate_are_refused() -> None:
    """After the burst each one gets an error, and the connection stays for a while."""
    clock = ManualClock()
    limits = {"message_burst": 2, "messages_per_second": 1}
    async with serving(clock=clock, limits=limits) as server, connect(server.url) as client:
        ask = {"type": "get_server_data"}
        kinds = [(await answer(client, ask))["type"] for _ in range(3)]
        assert kinds == ["server_data", "server_data", "error"]
        await clock.advance(1)
        assert (await answer(client, ask))["type"] == "server_data"


# LoginThrottle


async def guess(client: ClientConnection, password: str = "wrong") -> str:
    request = {"type": "connect", "data": {"server": "2", "password": password}}
    return await code(client, request)


POLICY = {"2": {"password": "open sesame"}}


async def test_guesses_of_one_address_cost_longer_and_longer_waits() -> None:
    """After five refused passwords even the right one has to wait; a minute later it is taken."""
    clock = ManualClock()
    async with (
        serving(clock=clock, limits=TRUSTED, servers=POLICY) as server,
        connect(server.url, additional_headers=VISITOR) as client,
    ):
        assert [await guess(client) for _ in range(6)] == ["unauthorized"] * 5 + ["rate_limited"]
        assert await guess(client, "open sesame") == "rate_limited"
        await clock.advance(60)
        assert await guess(client) == "unauthorized"
        await clock.advance(60)
        assert await guess(client) == "rate_limited"
        await clock.advance(60)
        assert await guess(client, "open sesame") == ""


async def test_another_connection_of_the_same_address_is_no_way_out() -> None:
    """The guesses are counted by address."""
    async with serving(clock=ManualClock(), limits=TRUSTED, servers=POLICY) as server:
        async with connect(server.url, additional_headers=VISITOR) as client:
            for _ in range(5):
                await guess(client)
        async with connect(server.url, additional_headers=VISITOR) as client:
            assert await guess(client) == "rate_limited"
        other = {"X-Forwarded-For": "203.0.113.8"}
        async with connect(server.url, additional_headers=other) as client:
            assert await guess(client, "open sesame") == ""


async def test_a_refused_connection_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the address and the limit, however often it is tried."""
    limits = {"connections_per_address": 1, "trusted_proxies": ["127.0.0.1", "::1"]}
    async with (
        serving(clock=ManualClock(), limits=limits, servers=POLICY) as server,
        connect(server.url, additional_headers=VISITOR),
    ):
        for _ in range(3):
            with pytest.raises(InvalidStatus):
                await connect(server.url, additional_headers=VISITOR)
    refused = [text for text in caplog.messages if "connections_per_address" in text]
    assert refused == [
        (
            "built-in defaults: a connection is refused: limits.connections_per_address is 1"
            " (203.0.113.7)"
        )
    ]


async def test_r32_loopback_is_not_limited_by_address() -> None:
    """Who connects from this machine may be anybody behind a proxy."""
    limits = {"connections_per_address": 1}
    async with (
        serving(clock=ManualClock(), limits=limits, servers=POLICY) as server,
        connect(server.url) as client,
        connect(server.url, additional_headers=VISITOR) as visitor,
        connect(server.url, additional_headers=VISITOR),
    ):
        assert [await guess(client) for _ in range(7)] == ["unauthorized"] * 7
        assert await guess(visitor) == "unauthorized"


PROXIES = [{}, {"trusted_proxies": ["192.0.2.1"]}]


@pytest.mark.parametrize("limits", PROXIES, ids=["none", "another"])
async def test_r24_guesses_through_a_proxy_that_is_not_trusted_count(limits: Any) -> None:  # noqa: ANN401  a table
    """For the address that the header claims, over the WebSocket and HTTP together."""
    async with serving(clock=ManualClock(), limits=limits, servers=POLICY) as server:
        async with connect(server.url, additional_headers=VISITOR) as client:
            assert [await guess(client) for _ in range(3)] == ["unauthorized"] * 3
        header = "X-Forwarded-For: 198.51.100.1, 203.0.113.7"
        for _ in range(2):
            assert (await http(server, "/api/servers/two", header, basic("wrong")))[0] == 401
        assert (await http(server, "/api/servers/two", header, basic("open sesame")))[0] == 429
        async with connect(server.url, additional_headers=VISITOR) as client:
            assert await guess(client, "open sesame") == "rate_limited"
        other = {"X-Forwarded-For": "203.0.113.8"}
        async with connect(server.url, additional_headers=other) as client:
            assert await guess(client, "open sesame") == ""


async def test_r32_a_proxy_that_is_not_trusted_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The line names the key that is missing."""
    async with serving() as server:
        for _ in range(3):
            await http(server, "/api/servers", "X-Forwarded-For: 203.0.113.7")
    messages = [each.getMessage() for each in caplog.records]
    [line] = [each for each in messages if "X-Forwarded-For" in each]
    assert "127.0.0.1" in line or "::1" in line
    assert "limits.trusted_proxies" in line


async def test_r24_guesses_over_http_count_by_64() -> None:
    """The addresses of one IPv6 network are one guesser."""
    async with serving(clock=ManualClock(), limits=TRUSTED, servers=POLICY) as server:
        for number in range(5):
            header = f"X-Forwarded-For: 2001:db8:1:2::{number}"
            assert (await http(server, "/api/servers/two", header, basic("wrong")))[0] == 401
        header = "X-Forwarded-For: 2001:db8:1:2:ffff::1"
        assert (await http(server, "/api/servers/two", header, basic("open sesame")))[0] == 429
        header = "X-Forwarded-For: 2001:db8:1:3::1"
        assert (await http(server, "/api/servers/two", header, basic("open sesame")))[0] == 200


def test_waits_double_up_to_an_hour() -> None:
    """A minute after the fifth, then two, four, and never more than an hour."""
    guesses = LoginThrottle(ManualClock(), 5)
    waits = []
    for _ in range(13):
        guesses.attempt("a")
        waits.append(guesses.wait("a"))
    assert waits[:7] == [0, 0, 0, 0, 60, 120, 240]
    assert waits[-1] == 3600


def test_a_bucket_fills_with_time() -> None:
    """A burst at once, then one an interval."""

    class Fixed(ManualClock):
        now = 0.0

        def time(self) -> float:
            return self.now

    clock = Fixed()
    bucket = Bucket(clock, 2, 10)
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    clock.now = 10
    assert [bucket.take() for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("127.0.0.5", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("", None),
        ("unknown", "unknown"),
    ],
)
def test_ipv6_counts_by_64(address: str, counted: str | None) -> None:
    """What one subscriber has counts as one; loopback and Unix peers do not count."""
    assert limit_key(address) == counted


# Connections


async def test_connections_in_all_are_limited() -> None:
    """One too many gets 503, and a place that is free again is given away."""
    async with serving(limits={"connections": 1}) as server:
        async with connect(server.url) as client:
            await client.recv()
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.url)
            assert refused.value.response.status_code == 503
        await until(lambda: not server.connections)
        async with connect(server.url):
            pass


async def test_connections_of_an_address_are_limited() -> None:
    """One too many gets 429; another address is let in."""
    limits = TRUSTED | {"connections_per_address": 1}
    async with (
        serving(limits=limits) as server,
        connect(server.url, additional_headers=VISITOR) as client,
    ):
        await client.recv()
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url, additional_headers=VISITOR)
        assert refused.value.response.status_code == 429
        async with connect(server.url, additional_headers={"X-Forwarded-For": "203.0.113.8"}):
            pass


async def test_a_forged_forwarding_header_is_not_believed() -> None:
    """Only what the trusted proxy itself has added counts: the last address."""
    limits = TRUSTED | {"connections_per_address": 1}
    async with (
        serving(limits=limits) as server,
        connect(server.url, additional_headers=VISITOR) as client,
    ):
        await client.recv()
        forged = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}
        with pytest.raises(InvalidStatus):
            await connect(server.url, additional_headers=forged)


@pytest.mark.parametrize("written", ["203.0.113.7:4711", "[2001:db8::7]:4711", "unknown"])
async def test_a_proxy_may_write_a_port(written: str) -> None:
    """The address is counted without it, and what is no address is counted too."""
    limits = TRUSTED | {"connections_per_address": 1}
    headers = {"X-Forwarded-For": written}
    async with (
        serving(limits=limits) as server,
        connect(server.url, additional_headers=headers) as client,
    ):
        await client.recv()
        headers["X-Forwarded-For"] = written.replace("4711", "4712")
        with pytest.raises(InvalidStatus):
            await connect(server.url, additional_headers=headers)


def test_a_proxy_that_is_no_address_is_an_error() -> None:
    """The log says which."""
    with pytest.raises(ConfigError, match=r"limits\.trusted_proxies 'proxy'"):
        serving(limits={"trusted_proxies": ["proxy"]})


async def test_of_many_who_shake_hands_at_once_no_more_are_let_in() -> None:
    """The limit holds among those who come at the same time."""
    limits = TRUSTED | {"connections_per_address": 3}
    async with serving(limits=limits) as server, AsyncExitStack() as opened:
        attempts = [connect(server.url, additional_headers=VISITOR) for _ in range(20)]
        results = await asyncio.gather(*attempts, return_exceptions=True)
        clients = [result for result in results if isinstance(result, ClientConnection)]
        for client in clients:
            opened.push_async_callback(client.close)
        assert len(clients) == 3
        refused = [result for result in results if isinstance(result, InvalidStatus)]
        assert {each.response.status_code for each in refused} == {429}
        assert len(refused) == 17


async def test_a_handshake_that_fails_gives_its_place_back() -> None:
    """It was counted from the moment when it was let in."""
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    async with serving(limits={"connections": 1}) as server:
        for _ in range(3):
            status, _, _ = await http(server, "/", *upgrade)
            assert status == 400
        async with connect(server.url) as client:
            await client.recv()


async def test_who_says_nothing_is_not_waited_for() -> None:
    """The handshake has a time limit."""
    async with serving(limits={"handshake_timeout": "50ms"}) as server:
        async with asyncio.timeout(RECEIVE_TIMEOUT):
            reader, writer = await asyncio.open_connection("localhost", server.port)
            assert await reader.read() == b""
            writer.close()


# Chat


async def test_r33_chat_of_a_channel_has_a_rate() -> None:
    """What is over it is dropped and counted; another channel is not affected."""
    source, clock = town(), ManualClock()
    limits = {"chat_burst": 2, "chat_per_minute": 60}

    def say(channel: str) -> None:
        source.emit(Message(server_id="1", uid="7", message="hello", channel=channel))

    async with serving(source, clock, limits=limits) as server, connect(server.url) as client:
        await answer(client, {"type": "connect"})
        for _ in range(4):
            say("a")
        say("b")
        channels = [json.loads(await client.recv())["data"]["channel"] for _ in range(3)]
        assert channels == ["a", "a", "b"]
        assert server.live.counters.chat_dropped == 2
        await clock.advance(1)
        say("a")
        assert json.loads(await client.recv())["data"]["channel"] == "a"


# REST


async def test_servers_are_listed() -> None:
    """As clients receive them, protected ones too."""
    async with serving() as server:
        status, head, body = await http(server, "/api/servers")
    assert status == 200
    assert "content-type: application/json" in head
    assert json.loads(body)["servers"]["2"] == {"id": "two", "name": "Two", "passworded": True}


async def test_the_users_of_an_open_server_are_given() -> None:
    """By public id and by server_id."""
    async with serving() as server:
        for wanted in ("one", "1"):
            status, _, body = await http(server, f"/api/servers/{wanted}")
            assert status == 200
            assert json.loads(body)["users"]["7"]["username"] == "Ada"


def basic(password: str) -> str:
    return f"Authorization: Basic {base64.b64encode(f'x:{password}'.encode()).decode()}"


async def test_the_users_of_a_protected_server_need_credentials() -> None:
    """The password, or a token that a provider takes; without them there is a 401."""
    source = town()
    async with serving(source, servers=POLICY) as server:
        status, head, body = await http(server, "/api/servers/two")
        assert status == 401
        assert "www-authenticate:" in head
        assert b"Bob" not in body
        assert (await http(server, "/api/servers/two", basic("wrong")))[0] == 401
        assert (await http(server, "/api/servers/two", basic("open sesame")))[0] == 200
        source.authorize_answer = True
        assert (await http(server, "/api/servers/two", "Authorization: Bearer t0ken"))[0] == 200
        assert source.offered[-1][0].discord_token == "t0ken"


async def test_guesses_over_http_are_guesses() -> None:
    """They are under the same limit as joins."""
    header = "X-Forwarded-For: 203.0.113.7"
    async with serving(clock=ManualClock(), limits=TRUSTED, servers=POLICY) as server:
        for _ in range(5):
            assert (await http(server, "/api/servers/two", header, basic("wrong")))[0] == 401
        assert (await http(server, "/api/servers/two", header, basic("open sesame")))[0] == 429


def etag_of(head: str) -> str:
    return next(line[6:] for line in head.splitlines() if line.startswith("etag: "))


async def test_r42_a_known_list_is_not_sent_again() -> None:
    """The ETag of an answer gets a 304 without a body until a user changes."""
    source = town()
    async with serving(source) as server:
        etag = etag_of((await http(server, "/api/servers/1"))[1])
        known = f"If-None-Match: {etag}"
        status, head, body = await http(server, "/api/servers/1", known)
        assert (status, body, etag_of(head)) == (304, b"", etag)
        source.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await server.live.settle()
        status, head, body = await http(server, "/api/servers/1", known)
        assert (status, json.loads(body)["users"]["7"]["status"]) == (200, "dnd")
        assert etag_of(head) != etag


async def test_r42_a_long_list_is_sent_compressed_to_clients_that_accept_it() -> None:
    """The compressed answer has the same text and an entity tag of its own."""
    source = town()
    source.users_answers["1"] = {str(number): User(username=f"U{number}") for number in range(100)}
    async with serving(source) as server:
        _, head, plain = await http(server, "/api/servers/1")
        assert "content-encoding" not in head
        _, zipped_head, body = await http(server, "/api/servers/1", "Accept-Encoding: br, gzip")
        assert "content-encoding: gzip" in zipped_head
        assert gzip.decompress(body) == plain
        assert etag_of(zipped_head) != etag_of(head)


async def test_r42_caches_may_keep_the_list_of_an_open_server_for_a_second() -> None:
    """That of a protected server must not be stored."""
    async with serving(servers=POLICY) as server:
        _, head, _ = await http(server, "/api/servers/one", "Origin: https://example.org")
        assert "cache-control: public, max-age=1" in head
        varying = [line for line in head.splitlines() if line.startswith("vary: ")]
        assert varying == ["vary: accept-encoding", "vary: origin"]
        _, head, _ = await http(server, "/api/servers/two", basic("open sesame"))
        assert "cache-control: no-store" in head


async def test_an_unknown_server_is_not_found() -> None:
    """404, with the error as JSON."""
    async with serving() as server:
        status, _, body = await http(server, "/api/servers/nowhere")
    assert status == 404
    assert json.loads(body)["error"]["code"] == "unknown_server"


async def test_cross_origin_reading_is_for_the_allowed_origins() -> None:
    """Others get no permission from us."""
    gateway = {"port": 0, "origins": ["https://example.org"]}
    async with serving(gateway=gateway) as server:
        _, head, _ = await http(server, "/api/servers", "Origin: https://example.org")
        assert "access-control-allow-origin: https://example.org" in head
        _, head, _ = await http(server, "/api/servers", "Origin: https://evil.example")
        assert "access-control" not in head


async def test_a_preflight_is_answered() -> None:
    """OPTIONS: 204, with what is allowed."""
    async with serving() as server:
        origin = "Origin: https://example.org"
        status, head, body = await http(server, "/api/servers", origin, method="OPTIONS")
    assert (status, body) == (204, b"")
    assert "access-control-allow-origin: *" in head
    assert "access-control-allow-headers: authorization" in head


# Readiness and draining


def refusal(reason: str) -> bytes:
    """The body that gives this reason for not being ready."""
    return f"Service Unavailable: {reason}\n".encode()


async def test_it_is_ready_when_the_chain_answers() -> None:
    """While no provider can say what servers there are, it is not."""
    source = ScriptedProvider(None, {})
    async with serving(source) as server:
        status, _, body = await http(server, "/readyz")
        assert (status, body) == (503, refusal("no provider has listed its servers yet"))
        source.servers_answer = ONE
        assert source.context is not None
        source.context.degraded("x")
        source.context.recovered()
        await server.live.settle()
        assert (await http(server, "/readyz"))[0] == 200
        assert (await http(server, "/healthz"))[0] == 200


async def test_a_monitor_can_ask_for_one_provider() -> None:
    """While it has not recovered the answer is 503, with its health and for how long; the chain
    goes on, so the gateway stays ready."""
    clock = ManualClock()
    source = ScriptedProvider(ONE, {})
    async with serving(source, clock=clock) as server:
        assert (await http(server, "/readyz/town"))[::2] == (200, b"ready\n")
        assert source.context is not None
        source.context.degraded("a secret of the source")
        await clock.advance(5)
        status, _, body = await http(server, "/readyz/town")
        assert (status, body) == (503, refusal("degraded for 5 s"))
        assert (await http(server, "/readyz"))[0] == 200
        source.context.recovered()
        assert (await http(server, "/readyz/town"))[0] == 200
        assert (await http(server, "/readyz/nothing"))[0] == 404


async def test_clients_are_sent_away_over_the_drain_time() -> None:
    """One after the other, with 1001, while no new client is let in and /readyz says so."""
    clock = ManualClock()
    gateway = {"port": 0, "drain_time": "10s"}
    async with serving(clock=clock, gateway=gateway) as server:
        clients = [await connect(server.url) for _ in range(2)]
        stopping = asyncio.create_task(server.stop())
        await until(lambda: len(server.connections) <= 1)
        status, _, body = await http(server, "/readyz")
        assert (status, body) == (503, refusal("the gateway is stopping"))
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url)
        assert refused.value.response.status_code == 503
        assert server.live.counters.rejections["shutting down"] == 1
        assert not stopping.done()
        await clock.advance(5)
        await clock.advance(5)
        await stopping
        for client in clients:
            await client.wait_closed()
        assert [client.close_code for client in clients] == [1001, 1001]


# Where it listens


async def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    """Instead of host and port."""
    path = str(tmp_path / "socket")
    async with serving(gateway={"path": path}), unix_connect(path) as client:
        assert (await answer(client, {"type": "connect"}))["type"] == "server-join"


async def test_a_renewed_certificate_is_used_after_a_reload(tmp_path: Path) -> None:
    """The next handshake gets it; who is connected stays."""
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def issue() -> None:
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(cert)
        issued.private_key_pem.write_to_path(key)

    async def serial() -> object:
        _, writer = await asyncio.open_connection("localhost", server.port, ssl=trusting)
        found = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        await writer.wait_closed()
        return found

    issue()
    gateway = {"port": 0, "tls": {"cert": str(cert), "key": str(key)}}
    async with (
        serving(gateway=gateway) as server,
        connect(server.url, ssl=trusting) as client,
    ):
        before = await serial()
        issue()
        await server.reload(server.config)
        assert await serial() != before
        assert (await answer(client, {"type": "connect"}))["type"] == "server-join"


async def test_tls_that_a_reload_adds_is_said_to_wait_for_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A reload that leaves it as it is says nothing."""
    issued = trustme.CA().issue_cert("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    async with serving() as server:
        await server.reload(server.config)
        assert "takes effect" not in caplog.text
        tls = Tls(cert=File(str(cert)), key=File(str(key)))
        added = structs.replace(server.config.gateway, tls=tls)
        await server.reload(structs.replace(server.config, gateway=added))
        assert "gateway.tls: takes effect at the next start" in caplog.text
        assert server.url.startswith("ws://")


def test_a_certificate_that_cannot_be_read_is_an_error() -> None:
    """The log says which files."""
    tls = Tls(cert=File("/nowhere/cert"), key=File("/nowhere/key"))
    config = parse({"chain": {"order": ["town"]}})
    broken = type(config)(gateway=GatewayConfig(tls=tls), chain=config.chain)
    with pytest.raises(ConfigError, match="cert '/nowhere/cert'"):
        WebSocketServer(config=broken, providers={"town": town()})

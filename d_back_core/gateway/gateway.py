"""The front: listens, and gives every WebSocket connection a session and every other request
its page."""

import asyncio
import errno
import logging
import socket
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from msgspec import structs
from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from d_back_core.clock import Clock
from d_back_core.config import Config, GatewayConfig, LimitsConfig, Tls
from d_back_core.errors import ConfigError
from d_back_core.gateway.admission import Admission
from d_back_core.gateway.connection import Connection, SharedDeflate
from d_back_core.gateway.http import Pages, State
from d_back_core.gateway.keepalive import Keepalive
from d_back_core.gateway.session import Joins, Session
from d_back_core.web import HttpRequest, HttpResponse

CLOSE_TIMEOUT = 2.0
ABORT_TIMEOUT = 0.5
PORT_ATTEMPTS = 10
BACKLOG = 4096
"""Connections that wait to be accepted; where there are more, clients wait for seconds."""
FIXED = ("host", "port", "path", "control")
FIXED_LIMITS = ("message_size", "write_buffer", "handshake_timeout")
"""What only a new start can change."""

T = TypeVar("T", GatewayConfig, LimitsConfig)

log = logging.getLogger("d_back.gateway")


class Gateway:
    """Listens from `start` to `stop`. The configuration is checked at once, and raises
    `ConfigError`."""

    def __init__(self, config: Config, joins: Joins, http: State, clock: Clock) -> None:
        self.sessions: set[Session] = set()
        self._joins = joins
        self._http = http
        self._clock = clock
        self._connections: set[Connection] = set()
        self._admission = Admission(config)
        self._keepalive = Keepalive(clock)
        self._server: Server | None = None
        self._stopped = False
        self._port = config.gateway.port
        self._tls: ssl.SSLContext | None = None
        self._adopt(config)

    def apply(self, config: Config) -> None:
        """Go on with another configuration. Raises `ConfigError` and changes nothing where it
        cannot be; what only a new start can change is logged."""
        tls_before = self._tls
        gateway = self._with_fixed("gateway", config.gateway, self._config, FIXED)
        limits = self._with_fixed("limits", config.limits, self._limits, FIXED_LIMITS)
        self._adopt(structs.replace(config, gateway=gateway, limits=limits))
        if tls_before is not None and config.gateway.tls is not None:
            _load(tls_before, config.gateway.tls, self._where)  # it is the one that listens
            self._tls = tls_before
        elif (tls_before is None) != (config.gateway.tls is None):
            log.warning("%s.tls: takes effect at the next start", self._where)

    def _with_fixed(self, table: str, new: T, listening: T, keys: tuple[str, ...]) -> T:
        """The new table with what cannot be changed as it was, which is logged."""
        fixed = {key: getattr(listening, key) for key in keys}
        for key, value in fixed.items():
            if getattr(new, key) != value:
                where = self._where.removesuffix("gateway")
                log.warning("%s%s.%s: takes effect at the next start", where, table, key)
        return structs.replace(new, **fixed)

    def _adopt(self, config: Config) -> None:
        gateway = config.gateway
        where = f"{config.source}: gateway"
        if gateway.static_dir is not None and not Path(gateway.static_dir).is_dir():
            raise ConfigError(f"{where}.static_dir '{gateway.static_dir}': is no folder")
        tls = None
        if gateway.tls is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            _load(tls, gateway.tls, where)
        self._admission.adopt(config)
        self._tls, self._where = tls, where
        self._pages = Pages(gateway.static_dir, self._http)
        self._config: GatewayConfig = gateway
        self._limits: LimitsConfig = config.limits

    @property
    def port(self) -> int:
        """The port that it listens on; before `start` the configured one."""
        return self._port

    @property
    def url(self) -> str:
        """Where a client connects."""
        if self._config.path is not None:
            return f"unix:{self._config.path}"
        host = self._config.host
        scheme = "ws" if self._tls is None else "wss"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def start(self) -> None:
        """Listen; raises `ConfigError` where that is not possible."""
        self._server = await self._listen()
        if self._config.path is None:
            self._port = self._server.sockets[0].getsockname()[1]
        log.info("listening on %s", self.url)

    async def drain(self) -> None:
        """Let nobody in any more, and send the clients away with 1001, spread over
        ``drain_time``."""
        self._pages.draining = True
        sessions = list(self.sessions)
        for session in sessions if self._config.drain_time else ():
            session.send_away()
            await self._clock.sleep(self._config.drain_time / len(sessions))

    async def stop(self) -> None:
        """Close what connections there are with 1001, and stop listening; may be called
        twice."""
        self._stopped = True
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in self._connections - {each.connection for each in self.sessions}:
            connection.abort()  # no handshake yet, and nothing to wait for
        closed = asyncio.ensure_future(server.wait_closed())
        await asyncio.wait([closed], timeout=CLOSE_TIMEOUT)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.wait([closed], timeout=ABORT_TIMEOUT)
        closed.cancel()  # what is left is a TLS handshake, which `_made` or its timeout ends

    async def _listen(self) -> Server:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                if self._config.path is not None:
                    return await unix_serve(self._serve, self._config.path, **self._options())
                port = self._config.port or await _free_port(self._config.host)
                return await serve(self._serve, self._config.host or None, port, **self._options())
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
                if self._config.port or not taken or attempt == PORT_ATTEMPTS:
                    raise ConfigError(self._cannot_listen(error)) from error
        raise AssertionError("unreachable")

    def _options(self) -> dict[str, Any]:
        # The library reports every broken handshake of any client with a traceback.
        logger = logging.getLogger("d_back.gateway.websockets")
        logger.setLevel(logging.CRITICAL)
        return {
            "process_request": self._answer,
            "create_connection": self._connection,
            "compression": None,
            "extensions": [SharedDeflate()],
            "max_size": self._limits.message_size,
            "write_limit": 0,  # the connection keeps the limit itself
            "ping_interval": None,  # so does the keepalive, without a task for each
            "open_timeout": self._limits.handshake_timeout,
            "close_timeout": CLOSE_TIMEOUT,
            "backlog": BACKLOG,
            "server_header": "d-back",
            "logger": logger,
            "ssl": self._tls,
        }

    def _connection(self, *args: Any, **options: Any) -> Connection:  # noqa: ANN401  the library's
        connection = Connection(*args, **options)
        connection.most_waiting = self._limits.write_buffer
        connection.made, connection.lost = self._made, self._lost
        return connection

    def _made(self, connection: Connection) -> None:
        self._connections.add(connection)
        if self._stopped:  # its TLS handshake took longer than the gateway lived
            connection.abort()

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection.counted_as is not None:
            self._admission.leave(connection.counted_as)

    def _cannot_listen(self, error: OSError) -> str:
        host, port = self._config.host, self._config.port
        if self._config.path is not None:
            return f"{self._where}.path '{self._config.path}': {error.strerror or error}"
        if error.errno == errno.EADDRINUSE:
            return f"{self._where}.port '{port}': in use on {host} (choose another with --port)"
        if error.errno == errno.EACCES:
            return f"{self._where}.port '{port}': not permitted (1024 and above are)"
        return f"{self._where}.host '{host}': cannot listen there: {error.strerror or error}"

    async def _serve(self, connection: ServerConnection) -> None:
        if not isinstance(connection, Connection) or connection.request is None:
            raise TypeError(f"expected a {Connection.__name__} after its handshake")
        connection.response = None  # nobody asks for it any more, and it is not small
        address = self._address(connection, connection.request)
        session = Session(connection, self._joins, self._clock, address, self._limits)
        self.sessions.add(session)
        self._keepalive.add(session)
        self._joins.counters.sessions += 1
        try:
            await session.run()
        finally:
            self._keepalive.discard(session)
            self.sessions.discard(session)
            self._joins.counters.closes[connection.close_code or 0] += 1

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        if "websocket" in _header(request, "Upgrade").lower():
            origin, address = _header(request, "Origin"), self._address(connection, request)
            rejected = self._admission.rejected(origin, address)
            if self._pages.draining:
                rejected = HTTPStatus.SERVICE_UNAVAILABLE, "shutting down"
            if rejected is None:
                self._admit(connection, address)
                return None
            status, reason = rejected
            self._joins.counters.rejections[reason] += 1
            return connection.respond(status, f"{status.phrase}: {reason}\n")
        try:
            target = urlsplit(request.path)
            path = unquote(target.path)
        except ValueError:  # a host that is none, as in //[
            return connection.respond(HTTPStatus.BAD_REQUEST, "Bad Request\n")
        answer = await self._pages.answer(
            HttpRequest(
                method=request.method,
                path=path,
                query=target.query,
                headers={name.lower(): _header(request, name) for name in request.headers},
                address=self._address(connection, request),
            )
        )
        headers = self._admission.cors(_header(request, "Origin"))
        return _response(answer, headers, head=request.method == "HEAD")

    def _admit(self, connection: ServerConnection, address: str) -> None:
        """Count it from here on: many may be shaking hands at the same time."""
        if isinstance(connection, Connection):
            connection.counted_as = address
            self._admission.enter(address)

    def _address(self, connection: ServerConnection, request: Request) -> str:
        peer = connection.remote_address
        address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        return self._admission.address(address, _header(request, "X-Forwarded-For"))


def _load(context: ssl.SSLContext, tls: Tls, where: str) -> None:
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        files = f"{where}.tls: cert '{tls.cert}', key '{tls.key}'"
        raise ConfigError(f"{files}: cannot be read: {error}") from error


def _header(request: Request, name: str) -> str:
    """All values of a header, which a client may send more than once."""
    return ", ".join(request.headers.get_all(name))


async def _free_port(host: str) -> int:
    """A port that is free on every address of that host: listening on port 0 would take another
    one for each."""
    loop = asyncio.get_running_loop()
    family, kind, proto, _, address = (
        await loop.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    )[0]
    with socket.socket(family, kind, proto) as probe:
        probe.bind(address)
        port: int = probe.getsockname()[1]
        return port


def _response(answer: HttpResponse, more: dict[str, str], *, head: bool) -> Response:
    status = HTTPStatus(answer.status)
    headers = Headers(
        {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Connection": "close",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **more,
            **answer.headers,
        }
    )
    if status in {HTTPStatus.NOT_MODIFIED, HTTPStatus.NO_CONTENT}:
        del headers["Content-Length"], headers["Content-Type"]
    return Response(status.value, status.phrase, headers, b"" if head else answer.body)

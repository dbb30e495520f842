"""Listen; give WebSocket connections a session, and other requests an HTTP answer."""

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
from d_back_core.config.reading import problem_of
from d_back_core.errors import ConfigError, ListenError
from d_back_core.gateway.admission import Admission
from d_back_core.gateway.connection import Connection, SharedDeflate
from d_back_core.gateway.http import HttpBackend, HttpPages
from d_back_core.gateway.keepalive import Keepalive
from d_back_core.gateway.listening import UNUSABLE, SocketFile, free_port, usable_addresses
from d_back_core.gateway.requests import RequestHandler
from d_back_core.gateway.session import Session, SessionBackend
from d_back_core.web import HttpRequest, HttpResponse

CLOSE_TIMEOUT = 2.0
ABORT_TIMEOUT = 0.5
PORT_ATTEMPTS = 10
BACKLOG = 4096
"""Connections that the kernel queues until they are accepted. It drops further ones, and such a
client tries again after a second."""
FIXED = ("host", "port", "path", "control")
FIXED_LIMITS = ("message_size", "write_buffer", "handshake_timeout")
"""Keys that take effect at the next start only."""

T = TypeVar("T", GatewayConfig, LimitsConfig)

log = logging.getLogger("d_back.gateway")


class Gateway:
    """Listens from `start` to `stop`. Raises `ConfigError` if the configuration is not valid."""

    def __init__(
        self, config: Config, backend: SessionBackend, http_backend: HttpBackend, clock: Clock
    ) -> None:
        self.sessions: set[Session] = set()
        self._backend = backend
        self._http_backend = http_backend
        self._clock = clock
        self._connections: set[Connection] = set()
        self._admission = Admission(config)
        self._keepalive = Keepalive(clock)
        self._server: Server | None = None
        self._stopped = False
        self._hosts: list[str] = []
        """The addresses to listen on; empty before `check_address`."""
        self._socket_file: SocketFile | None = None
        self._port = config.gateway.port
        self._tls: ssl.SSLContext | None = None
        self._adopt(config)

    def apply(self, config: Config) -> None:
        """Use another configuration from now on; keys that cannot change while it listens are
        logged. Raises `ConfigError`, and changes nothing, if the configuration is not valid."""
        tls_before = self._tls
        gateway = self._with_fixed("gateway", config.gateway, self._config, FIXED)
        limits = self._with_fixed("limits", config.limits, self._limits, FIXED_LIMITS)
        self._adopt(structs.replace(config, gateway=gateway, limits=limits))
        if tls_before is not None and config.gateway.tls is not None:
            # The listening socket uses this context: new files must be loaded into it.
            _load(tls_before, config.gateway.tls, self._where)
            self._tls = tls_before
        elif (tls_before is None) != (config.gateway.tls is None):
            log.warning("%s.tls: takes effect at the next start", self._where)

    def _with_fixed(self, table: str, new: T, listening: T, keys: tuple[str, ...]) -> T:
        """Return the new table with the old values of ``keys``, and log those that differ."""
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
            place = config.place("static_dir")
            raise ConfigError(f"{place} '{gateway.static_dir}': is not a directory")
        tls = None
        if gateway.tls is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            _load(tls, gateway.tls, where)
        self._admission.adopt(config)
        self._tls, self._where, self._place = tls, where, config.place
        self._pages = HttpPages(gateway.static_dir, self._http_backend)
        self._config: GatewayConfig = gateway
        self._limits: LimitsConfig = config.limits

    @property
    def port(self) -> int:
        """The port that it listens on; before `start`, the configured one."""
        return self._port

    @property
    def listener(self) -> Server | None:
        """The server of the library ``websockets``; None while it does not listen."""
        return self._server

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        if self._config.path is not None:
            return f"unix:{self._config.path}"
        host = self._config.host
        scheme = "ws" if self._tls is None else "wss"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def check_address(self) -> None:
        """Raise `ConfigError` if it cannot listen. An address that this machine does not have is
        only logged if the host has another one."""
        try:
            if self._config.path is not None:
                self._socket_file = SocketFile(self._config.path)
                self._socket_file.check()
                return
            host = self._config.host
            self._hosts, others = await usable_addresses(host, self._config.port)
        except OSError as error:
            raise ListenError(self._cannot_listen(error), error) from error
        if others:
            missing = ", ".join(others)
            log.warning("%s '%s': this machine lacks %s", self._place("host"), host, missing)

    async def start(self) -> None:
        """Start to listen; raises `ConfigError` if that fails."""
        if not self._hosts and self._socket_file is None:
            await self.check_address()
        self._server = await self._listen()
        if self._config.path is None:
            self._port = self._server.sockets[0].getsockname()[1]
        log.info("listening on %s", self.url)

    async def drain(self) -> None:
        """Refuse new clients, and close the others with 1001, spread over ``drain_time``."""
        self._pages.draining = True
        sessions = list(self.sessions)
        for session in sessions if self._config.drain_time else ():
            session.start_closing()
            await self._clock.sleep(self._config.drain_time / len(sessions))

    async def stop(self) -> None:
        """Stop listening and close all connections with 1001; may be called twice."""
        self._stopped = True
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        if self._socket_file is not None:
            self._socket_file.remove()
        for connection in self._connections - {each.connection for each in self.sessions}:
            connection.abort()  # no session yet: the client expects no close frame
        closed = asyncio.ensure_future(server.wait_closed())
        await asyncio.wait([closed], timeout=CLOSE_TIMEOUT)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.wait([closed], timeout=ABORT_TIMEOUT)
        # What is left is a TLS handshake. `_made` aborts it when it ends, or its timeout does.
        closed.cancel()

    async def _listen(self) -> Server:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                if self._socket_file is not None:
                    sock = self._socket_file.bind()
                    return await unix_serve(self._serve, sock=sock, **self._options())
                port = self._config.port or await free_port(self._hosts[0])
                hosts: Any = self._hosts  # asyncio takes several, but the library's type does not
                return await serve(self._serve, hosts, port, **self._options())
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
                if self._config.port or not taken or attempt == PORT_ATTEMPTS:
                    raise ListenError(self._cannot_listen(error), error) from error
        raise AssertionError("unreachable")

    def _options(self) -> dict[str, Any]:
        # The library logs every failed handshake of any client with a traceback.
        logger = logging.getLogger("d_back.gateway.websockets")
        logger.setLevel(logging.CRITICAL)
        return {
            "process_request": self._answer,
            "create_connection": self._connection,
            "compression": None,
            "extensions": [SharedDeflate()],
            "max_size": self._limits.message_size,
            "write_limit": 0,  # see `connection`
            "ping_interval": None,  # `Keepalive` pings, without a task per connection
            "open_timeout": self._limits.handshake_timeout,
            "close_timeout": CLOSE_TIMEOUT,
            "backlog": BACKLOG,
            "server_header": "d-back",
            "logger": logger,
            "ssl": self._tls,
        }

    def _connection(self, *args: Any, **options: Any) -> Connection:  # noqa: ANN401  the library's
        return Connection(
            *args,
            **options,
            made=self._made,
            lost=self._lost,
            max_unsent=self._limits.write_buffer,
        )

    def _made(self, connection: Connection) -> None:
        self._connections.add(connection)
        if self._stopped:  # a TLS handshake that ended after `stop`
            connection.abort()

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection.client_address is not None:
            self._admission.leave(connection.client_address)

    def _cannot_listen(self, error: OSError) -> str:
        host, port = self._config.host, self._config.port
        reason = (error.strerror or type(error).__name__).lower()
        if self._config.path is not None:
            return f"{self._place('path')} '{self._config.path}': {reason}"
        if error.errno == errno.EADDRINUSE:
            hint = "choose another with --port"
            return f"{self._place('port')} '{port}': is in use on {host} ({hint})"
        if error.errno == errno.EACCES:
            return f"{self._place('port')} '{port}': is not permitted (use 1024 or above)"
        if isinstance(error, socket.gaierror):
            return f"{self._place('host')} '{host}': is not a known host ({reason})"
        if error.errno in UNUSABLE:
            return f"{self._place('host')} '{host}': is not an address of this machine"
        return f"{self._place('host')} '{host}': cannot listen: {reason}"

    async def _serve(self, connection: ServerConnection) -> None:
        if not isinstance(connection, Connection) or connection.request is None:
            raise TypeError(f"expected a {Connection.__name__} after its handshake")
        connection.response = None  # not used any more, and not small
        address = self._address(connection, connection.request)
        connection.request.headers.clear()  # those of a browser take some 5 KiB
        backend, clock, limits = self._backend, self._clock, self._limits
        session = Session(connection, backend, clock, address, limits)
        self.sessions.add(session)
        self._keepalive.add(session)
        self._backend.counters.sessions += 1
        try:
            await RequestHandler(session, backend, clock, limits).run()
        finally:
            self._keepalive.discard(session)
            self.sessions.discard(session)
            self._backend.counters.count_close(connection.close_code)

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
            self._backend.counters.rejections[reason] += 1
            return connection.respond(status, f"{status.phrase}: {reason}\n")
        try:
            target = urlsplit(request.path)
            path = unquote(target.path)
        except ValueError:  # an invalid host, as in //[
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
        """Count the client from now on; further handshakes may be under way at the same time."""
        if isinstance(connection, Connection):
            connection.client_address = address
            self._admission.enter(address)

    def _address(self, connection: ServerConnection, request: Request) -> str:
        peer = connection.remote_address
        address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        return self._admission.address(address, _header(request, "X-Forwarded-For"))


def _load(context: ssl.SSLContext, tls: Tls, where: str) -> None:
    for key in ("cert", "key"):
        file = getattr(tls, key)
        try:
            Path(file).read_bytes()  # the error of `ssl` names no file
        except (OSError, ValueError) as error:
            raise ConfigError(f"{where}.tls.{key} '{file}': {problem_of(error)}") from error
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except ssl.SSLError as error:
        reason = (error.reason or "is not a PEM file").replace("_", " ").lower()
        files = f"cert '{tls.cert}', key '{tls.key}'"
        raise ConfigError(f"{where}.tls: {files}: cannot be used: {reason}") from error


def _header(request: Request, name: str) -> str:
    """Return all values of a header, which a client may send more than once."""
    return ", ".join(request.headers.get_all(name))


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
            "Vary": ", ".join(each["Vary"] for each in (more, answer.headers) if "Vary" in each),
        }
    )
    if not headers["Vary"]:
        del headers["Vary"]
    if status in {HTTPStatus.NOT_MODIFIED, HTTPStatus.NO_CONTENT}:
        del headers["Content-Length"], headers["Content-Type"]
    return Response(status.value, status.phrase, headers, b"" if head else answer.body)

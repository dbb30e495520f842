"""Listen; give WebSocket connections a session, and other requests to the site."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec import structs
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.http11 import Request, Response

from d_back_core.clock import Clock
from d_back_core.config import Config, GatewayConfig, LimitsConfig, Tls
from d_back_core.config.reading import problem_of
from d_back_core.errors import ConfigError, ListenError
from d_back_core.gateway.admission import Admission
from d_back_core.gateway.connection import Connection, SharedDeflate
from d_back_core.gateway.http_protocol import CLOSE_TIMEOUT, Front
from d_back_core.gateway.keepalive import INTERVAL, Keepalive
from d_back_core.gateway.listening import (
    UNUSABLE,
    AcceptErrors,
    SocketFile,
    connections_that_fit,
    free_port,
    set_backlog,
    usable_addresses,
)
from d_back_core.gateway.requests import RequestHandler
from d_back_core.gateway.session import Session, SessionBackend
from d_back_core.gateway.site import HttpBackend, Site

ABORT_TIMEOUT = 0.5
PORT_ATTEMPTS = 10
ACCEPTED_AT_ONCE = 16
"""Connections that asyncio accepts in one turn of the loop."""
MAX_PORT = 65_535
BACKLOG = 4096
"""Connections that the kernel queues until they are accepted. It drops further ones, and such a
client tries again after a second."""
EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104  nothing is bound here
"""Values of ``host`` that no browser can open."""
FRAMES = 200
"""Frames that a client may send in an interval of the keepalive, besides two for each message."""
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
        self._admission = Admission(config, backend.counters.rejections, clock)
        self._keepalive = Keepalive(clock)
        self._server: Server | None = None
        self._draining = False
        self._site: Site | None = None
        """None before `start`: the providers' routes are not known."""
        self._hosts: list[str] = []
        """The addresses to listen on; empty before `check_address`."""
        self._socket_file: SocketFile | None = None
        self._port = config.gateway.port
        self._tls: ssl.SSLContext | None = None
        self._adopt(config)
        self._accept_errors = AcceptErrors(self._where)
        self._front = Front(self.app, self._admission, self._limits, self._tls, self._connection)

    def apply(self, config: Config) -> None:
        """Use another configuration from now on; keys that cannot change while it listens are
        logged. Raises `ConfigError`, and changes nothing, if the configuration is not valid."""
        tls_before = self._tls
        gateway = self._with_fixed("gateway", config.gateway, self._config, FIXED)
        limits = self._with_fixed("limits", config.limits, self._limits, FIXED_LIMITS)
        self._adopt(structs.replace(config, gateway=gateway, limits=limits))
        self._tls = tls_before  # the front uses this context: new files are loaded into it
        if tls_before is not None and config.gateway.tls is not None:
            _load(tls_before, config.gateway.tls, self._where)
        elif (tls_before is None) != (config.gateway.tls is None):
            log.warning("%s.tls: takes effect at the next start", self._where)
        self._front.adopt(self._limits)
        if self._site is not None:
            self.make_site()

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
        self._current = config
        self._config: GatewayConfig = gateway
        self._limits: LimitsConfig = config.limits

    def make_site(self) -> None:
        """Serve the routes that the providers have now."""
        self._site = Site(
            self._current, self._http_backend, self._admission, lambda: not self._draining
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is not an upgrade, as an ASGI application."""
        site = self._site or PlainTextResponse("Service Unavailable\n", 503)
        await site(scope, receive, send)

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
        return f"ws{self._authority(self._config.host)}"

    def _authority(self, host: str) -> str:
        """Return what follows ``ws`` or ``http`` in a URL of the gateway."""
        secure = "" if self._tls is None else "s"
        return f"{secure}://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def check_address(self) -> None:
        """Raise `ConfigError` if it cannot listen. An address that this machine does not have is
        only logged if the host has another one."""
        try:
            if self._config.path is not None:
                self._socket_file = SocketFile(self._config.path)
                self._socket_file.check()
                return
            host, port = self._config.host, self._config.port
            if not 0 <= port <= MAX_PORT:  # a program may have set it
                raise ConfigError(f"{self._place('port')} '{port}': expected 0 to {MAX_PORT}")
            self._hosts, others = await usable_addresses(host, port)
        except OSError as error:
            raise ListenError(self._cannot_listen(error), error) from error
        if others:
            missing = ", ".join(others)
            log.warning("%s '%s': this machine lacks %s", self._place("host"), host, missing)

    async def start(self) -> None:
        """Start to listen; raises `ConfigError` if that fails."""
        if not self._hosts and self._socket_file is None:
            await self.check_address()
        self.make_site()
        wanted = self._limits.connections
        self._admission.fitting = fitting = connections_that_fit(wanted)
        if fitting < wanted:
            where = self._where.removesuffix("gateway")
            log.warning(
                "%slimits.connections %d: the process may have %d (raise the limit of open files)",
                where,
                wanted,
                fitting,
            )
        self._accept_errors.start()
        sockets = await self._listen()
        set_backlog(sockets, BACKLOG)
        if self._config.path is None:
            self._port = sockets[0].getsockname()[1]
        log.info("listening on %s", self.url)
        if self._site is not None and self._site.has_page and self._config.path is None:
            host = self._config.host
            address = self._authority("localhost" if host in EVERY_ADDRESS else host)
            log.info("open http%s/ in a browser", address)

    async def drain(self) -> None:
        """Refuse new clients, and close the others with 1001, spread over ``drain_time``."""
        self._draining = True
        sessions = list(self.sessions)
        for session in sessions if self._config.drain_time else ():
            session.start_closing()
            await self._clock.sleep(self._config.drain_time / len(sessions))
        await self._front.finish()

    async def stop(self) -> None:
        """Stop listening and close all connections with 1001; may be called twice."""
        server, self._server = self._server, None
        self._accept_errors.stop()
        self._front.shut()
        if server is None:
            return
        server.close()
        if self._socket_file is not None:
            self._socket_file.remove()
        for connection in self._connections - {each.connection for each in self.sessions}:
            connection.abort()  # no session yet: the client expects no close frame
        closed = asyncio.ensure_future(server.wait_closed())
        emptied = asyncio.ensure_future(self._front.emptied.wait())
        await asyncio.wait([closed, emptied], timeout=CLOSE_TIMEOUT)
        emptied.cancel()
        for connection in list(self._connections):
            connection.abort()
        await self._front.end()
        await asyncio.wait([closed], timeout=ABORT_TIMEOUT)
        closed.cancel()

    async def _listen(self) -> Sequence[socket.socket]:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                self._server = await self._bound()
                await self._server.start_serving()  # cancelled here, `stop` closes the sockets
            except OSError as error:
                if self._server is not None:  # another process began to listen after `_bound`
                    self._server.close()
                    await self._server.wait_closed()
                taken = error.errno == errno.EADDRINUSE
                if self._config.port or not taken or attempt == PORT_ATTEMPTS:
                    raise ListenError(self._cannot_listen(error), error) from error
            else:
                return self._server.sockets
        raise AssertionError("unreachable")

    async def _bound(self) -> Server:
        """Return a server that has its sockets, and does not accept connections yet."""
        if self._socket_file is not None:
            sock = self._socket_file.bind()
            return await unix_serve(self._serve, sock=sock, **self._options())
        port = self._config.port or await free_port(self._hosts[0])
        hosts: Any = self._hosts  # asyncio takes several, but the library's type does not
        return await serve(self._serve, hosts, port, **self._options())

    def _options(self) -> dict[str, Any]:
        # The library logs every failed handshake of any client with a traceback.
        logger = logging.getLogger("d_back.gateway.websockets")
        logger.setLevel(logging.CRITICAL)
        return {
            "process_request": self._answer,
            "create_connection": self._front.accepted,
            "compression": None,
            "extensions": [SharedDeflate()],
            "max_size": self._limits.message_size,
            "write_limit": 0,  # see `connection`
            "ping_interval": None,  # `Keepalive` pings, without a task per connection
            "open_timeout": self._limits.handshake_timeout,
            "close_timeout": CLOSE_TIMEOUT,
            "backlog": ACCEPTED_AT_ONCE,
            "start_serving": False,
            "server_header": "d-back",
            "logger": logger,
        }

    def _connection(self, *args: Any, **options: Any) -> Connection:  # noqa: ANN401  the library's
        limits = self._limits
        messages = limits.message_burst + limits.messages_per_second * INTERVAL
        return Connection(
            *args,
            **options,
            made=self._connections.add,
            lost=self._lost,
            max_frames=FRAMES + int(2 * messages),
            max_unsent=limits.write_buffer,
        )

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
        connection.begin()
        self._backend.counters.sessions += 1
        try:
            await RequestHandler(session, backend, clock, limits).run()
        except Exception:  # a failure in its end, too: the library's own logger shows nothing
            log.exception("client %s: session failed", address)
            raise
        finally:
            self._keepalive.discard(session)
            self.sessions.discard(session)
            self._backend.counters.count_close(connection.close_code)

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the answer to an upgrade that is refused."""
        origin, host = _header(request, "Origin"), _header(request, "Host")
        address = self._admission.counted(self._address(connection, request))
        refusal = self._admission.refused(origin, host, draining=self._draining)
        if (
            refusal is None
            and isinstance(connection, Connection)
            and (connection.client_address != address)
        ):
            # It came through a proxy, and counts under its own address from now on.
            refusal = self._admission.request(address) or self._admission.claim(address)
            if refusal is None:
                connection.client_address = address
        if refusal is None:
            return None
        status, reason = refusal
        return connection.respond(status, f"{status.phrase}: {reason}\n")

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

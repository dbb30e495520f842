"""The front: listens, and gives every WebSocket connection a session and every other request
its page."""

import asyncio
import errno
import logging
import re
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from msgspec import structs
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from d_back_core.clock import Clock
from d_back_core.config import GatewayConfig, Tls
from d_back_core.errors import ConfigError
from d_back_core.fanout import Connection, SharedDeflate
from d_back_core.pages import Answer, Pages
from d_back_core.session import Joins, Session

CLOSE_TIMEOUT = 2.0
PORT_ATTEMPTS = 10
BACKLOG = 4096
"""Connections that wait to be accepted; where there are more, clients wait for seconds."""

log = logging.getLogger("d_back.gateway")


class Gateway:
    """Listens from `start` to `stop`. The configuration is checked at once, and raises
    `ConfigError`."""

    def __init__(
        self,
        config: GatewayConfig,
        source: str,
        joins: Joins,
        health: Callable[[], bytes],
        clock: Clock,
    ) -> None:
        self._joins = joins
        self._health = health
        self._clock = clock
        self._where = f"{source}: gateway"
        self._server: Server | None = None
        self._config = config
        self._adopt(config)

    def apply(self, config: GatewayConfig) -> None:
        """Go on with another configuration. Raises `ConfigError` and changes nothing where it
        cannot be; what only a new start can change is logged."""
        listening = self._config
        self._adopt(config)
        for key in ("host", "port", "tls", "control"):
            if getattr(config, key) != getattr(listening, key):
                log.warning("%s.%s changed: this takes effect at the next start", self._where, key)
        self._config = structs.replace(config, host=listening.host, port=listening.port)

    def _adopt(self, config: GatewayConfig) -> None:
        if config.static_dir is not None and not Path(config.static_dir).is_dir():
            raise ConfigError(f"{self._where}.static_dir '{config.static_dir}': is no folder")
        self._tls = None if config.tls is None else self._context(config.tls)
        self._pages = Pages(config.static_dir, self._health)
        self._origins = _origins(config.origins)
        self._config = config

    @property
    def port(self) -> int:
        """The port that it listens on; before `start` the configured one."""
        if self._server is None:
            return self._config.port
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Where a client connects."""
        host = self._config.host
        scheme = "ws" if self._config.tls is None else "wss"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def start(self) -> None:
        """Listen; raises `ConfigError` where that is not possible."""
        self._server = await self._listen()
        log.info("listening on %s", self.url)

    async def stop(self) -> None:
        """Stop listening and close all connections with 1001; may be called twice."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _listen(self) -> Server:
        # The library reports every broken handshake of any client with a traceback.
        logger = logging.getLogger("d_back.gateway.websockets")
        logger.setLevel(logging.CRITICAL)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                port = self._config.port or await _free_port(self._config.host)
                return await serve(
                    self._serve,
                    self._config.host or None,
                    port,
                    process_request=self._answer,
                    create_connection=Connection,
                    compression=None,
                    extensions=[SharedDeflate()],
                    write_limit=self._config.write_limit,
                    backlog=BACKLOG,
                    server_header="d-back",
                    close_timeout=CLOSE_TIMEOUT,
                    logger=logger,
                    ssl=self._tls,
                )
            except OSError as error:
                if (
                    self._config.port
                    or error.errno != errno.EADDRINUSE
                    or attempt == PORT_ATTEMPTS
                ):
                    raise ConfigError(self._cannot_listen(error)) from error
        raise AssertionError("unreachable")

    def _cannot_listen(self, error: OSError) -> str:
        host, port = self._config.host, self._config.port
        if error.errno == errno.EADDRINUSE:
            return f"{self._where}.port '{port}': in use on {host} (choose another with --port)"
        if error.errno == errno.EACCES:
            return f"{self._where}.port '{port}': not permitted (1024 and above are)"
        return f"{self._where}.host '{host}': cannot listen there: {error.strerror or error}"

    def _context(self, tls: Tls) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(tls.cert, tls.key)
        except (OSError, ssl.SSLError) as error:
            where = f"{self._where}.tls: cert '{tls.cert}', key '{tls.key}'"
            raise ConfigError(f"{where}: cannot be read: {error}") from error
        return context

    async def _serve(self, connection: ServerConnection) -> None:
        if not isinstance(connection, Connection):
            raise TypeError(f"expected {Connection.__name__}, got {type(connection).__name__}")
        patience = self._config.slow_client_timeout
        await Session(connection, self._joins, self._clock, patience).run()

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        if "websocket" in _header(request, "Upgrade").lower():
            origin = _header(request, "Origin")
            if self._origins is None or not origin or self._origins.fullmatch(origin):
                return None
            return connection.respond(HTTPStatus.FORBIDDEN, "This origin may not connect.\n")
        known = _header(request, "If-None-Match")
        answer = await self._pages.answer(request.method, request.path, known)
        return _response(answer, head=request.method == "HEAD")


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


def _origins(origins: tuple[str, ...]) -> re.Pattern[str] | None:
    """What the Origin header of a browser must match; None: anything."""
    if not origins:
        return None
    patterns = (re.escape(origin).replace(r"\*", r"[A-Za-z0-9.-]+") for origin in origins)
    return re.compile("|".join(patterns))


def _response(answer: Answer, *, head: bool) -> Response:
    headers = Headers(
        {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Connection": "close",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **answer.headers,
        }
    )
    if answer.status is HTTPStatus.NOT_MODIFIED:
        del headers["Content-Length"]
    body = b"" if head else answer.body
    return Response(answer.status.value, answer.status.phrase, headers, body)

"""A TCP connection that speaks HTTP/1.1, until it becomes a WebSocket connection.

uvicorn's `HttpToolsProtocol` parses requests, keeps the connection, queues pipelined requests and
runs the ASGI application, one task per request. It bounds neither what a client sends before a
request is complete nor how long that takes. These are the phases of a connection, and what ends
each of them:

    accepted ──▶ (TLS) ──▶ head ──▶ answer ──▶ kept ──▶ head …
                            └ upgrade ──▶ `Connection`

- *TLS*, if configured: ``handshake_timeout``. The connection counts already; one too many is
  closed before its handshake, which costs more than an answer.
- *head*, from the accept or from the first byte after an answer to the end of the headers:
  ``handshake_timeout`` and `MAX_HEAD`.
- *answer*: the body has the limits of `site`; the task is cancelled if the client leaves. Unsent
  bytes must make progress within ``slow_client_timeout``.
- *kept*, between two requests: ``keep_alive``, or the need for its place.

A request whose body has not arrived when it is answered is the last one of its connection: the
rest is read and dropped for ``body_timeout``, since a client may read the answer only after it has
sent everything.

This relies on parts of uvicorn that are not documented: the constructor, ``handle_websocket_
upgrade``, ``send_400_response``, ``on_response_complete``, ``cycle``, ``pipeline``,
``ServerState``, and that ``send`` is a method of the cycle. Tests cover each of them.
"""

import asyncio
import logging
import os
import re
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config as UvicornConfig
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from d_back_core.config import LimitsConfig
from d_back_core.gateway.admission import Admission
from d_back_core.gateway.connection import PARSED_AT_ONCE, Connection

MAX_HEAD = 16_384
"""Bytes of a request's first line and headers."""
MAX_PIPELINED = 16
"""Requests that wait for the answers before them. What follows them is not read."""
CLOSE_TIMEOUT = 2.0
"""Seconds for the end of a WebSocket connection, and of TLS."""
FINISH_TIMEOUT = 1.0
"""Seconds for the end of requests that are answered."""
SERVER = b"d-back"

_request_line = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ")
"""The beginning of a request with a method, known or not."""

log = logging.getLogger("d_back.gateway")
# uvicorn writes a line for each scanner. This is not its own logger: a program that embeds the
# gateway may use that one.
_uvicorn_log = logging.getLogger("d_back.gateway.uvicorn")
_uvicorn_log.setLevel(logging.CRITICAL + 1)


class Http(HttpToolsProtocol):
    """One connection. ``connect`` returns what it becomes at an upgrade."""

    def __init__(
        self, front: "Front", connect: Callable[[], Connection], address: str | None = None
    ) -> None:
        super().__init__(front.config, front.state, {})
        self.app = self._answer
        self.logger = _uvicorn_log
        self.access_log = False
        self.ws_protocol_class = self._upgraded  # type: ignore[assignment]
        self.timeout_keep_alive = front.limits.keep_alive  # type: ignore[assignment]
        self._front = front
        self._connect: Callable[[], Connection] | None = connect
        self._connection: Connection | None = None
        self._address = address
        """The address under which the connection is counted; None if it is not."""
        self._task: asyncio.Task[Any] | None = None
        """The task of the request that is being answered."""
        self._timer: asyncio.TimerHandle | None = None
        """Ends the connection: the head, or the rest of an unread body, takes too long."""
        self._progress: asyncio.TimerHandle | None = None
        self._head: int | None = 0
        """Bytes of the head that is arriving; None while a body is."""
        self._unread = False
        """True if the answer is sent, and the body is still arriving."""
        self._dropped = 0
        """Bytes of an unread body. Above the limit of a body they are not parsed."""
        self._received = b""

    @property
    def is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # From asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._front.closed:  # its TLS handshake took longer than the gateway lived
            transport.abort()
            return
        # Report everything that is unsent: a client that reads nothing must not keep its place.
        # Not 0: asyncio's TLS then takes a buffer without bytes for a full one.
        transport.set_write_buffer_limits(high=1, low=0)
        self._start_timer(self._front.limits.handshake_timeout)
        if self._address is not None:
            return
        peer = self._front.peer(transport)
        refusal = self._front.enter(peer)
        if refusal is None:
            self._address = peer
        else:
            self._refuse(*refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timers()
        self.leave()
        if self._task is not None and self.is_answering:
            # Else the answer is sent: the task only closes what it has opened, such as a file.
            self._task.cancel()
        self._break_cycles()
        self._front.check_empty()

    def data_received(self, data: bytes) -> None:
        self._front.idle.pop(self, None)
        for start in range(0, len(data), PARSED_AT_ONCE):
            if self.transport.is_closing() or self._dropped > self._front.limits.body_size:
                return
            protocol = self.transport.get_protocol()
            if isinstance(protocol, Connection):  # it is upgraded
                protocol.data_received(data[start:])
                return
            self._parse(data[start : start + PARSED_AT_ONCE])

    def _parse(self, data: bytes) -> None:
        if self._head is not None:
            self._head += len(data)
            if not self.is_answering and self._timer is None:
                self._start_timer(self._front.limits.handshake_timeout)
        elif self._unread:
            self._dropped += len(data)
        self._received = data
        super().data_received(data)
        self._received = b""
        if self._head is not None and self._head > MAX_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_progress(self.transport.get_write_buffer_size() + 1)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._progress is not None:
            self._progress.cancel()
            self._progress = None

    # From the parser

    def on_headers_complete(self) -> None:
        self._stop_timer()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise _HostError
        self._head = None
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _TooManyError
        self.url = self.url.replace(b"#", b"%23")  # a target is split at "?" only
        super().on_headers_complete()
        if self.parser.should_upgrade() and self.cycle is not None:
            self.cycle.keep_alive = False  # an upgrade that is not served ends the parser

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head = 0
        if self._unread:
            self.transport.close()

    # From uvicorn

    def handle_websocket_upgrade(self) -> None:
        # The answers under way come first, and then the end. A body would be taken for frames.
        has_body = any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self.headers
        )
        if self.is_answering or has_body:
            self.send_400_response("")
            return
        error = sys.exception()
        rest = self._received[error.args[0] :] if error is not None else b""
        super().handle_websocket_upgrade()
        self._stop_timers()
        self._front.check_empty()
        connection = self._connection
        self._break_cycles()
        if connection is not None and rest:  # frames that came together with the head
            connection.data_received(rest)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's
        """Answer what cannot be parsed; not in the middle of another answer."""
        in_body = self._head is None and not self.pipeline
        if self.is_answering and in_body and not self.cycle.response_started:
            # The application waits for the body: for it, the client has left.
            self.cycle.disconnected = self.cycle.response_complete = True
            self.cycle.message_event.set()
            self._refuse(HTTPStatus.BAD_REQUEST)
        elif self.is_answering:
            self.cycle.keep_alive = False
            self.transport.pause_reading()
        elif isinstance(sys.exception(), httptools.HttpParserInvalidMethodError) and (
            _request_line.match(self._received)
        ):
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, headers=b"allow: GET, HEAD, OPTIONS\r\n")
        else:
            self._refuse(HTTPStatus.BAD_REQUEST)

    def on_response_complete(self) -> None:
        last = not self.pipeline
        super().on_response_complete()
        if self.transport.is_closing() or not last:
            return
        if self.cycle.more_body:
            self._unread = True
            self._start_timer(self._front.limits.body_timeout)
        else:
            self._front.idle[self] = None

    # What ends it

    def leave(self) -> None:
        """Give its place to another connection; may be called twice."""
        self._front.idle.pop(self, None)
        address, self._address = self._address, None
        if address is not None:
            self._front.admission.leave(address)

    def _refuse(self, status: HTTPStatus, text: str = "", headers: bytes = b"") -> None:
        """Answer without the application, and end the connection."""
        body = f"{status.phrase}: {text}\n" if text else f"{status.phrase}\n"
        if not self.is_answering:
            self.transport.write(
                b"HTTP/1.1 %d %s\r\nserver: %s\r\ncontent-type: text/plain; charset=utf-8\r\n"
                b"content-length: %d\r\n%sconnection: close\r\n\r\n%s"
                % (status, status.phrase.encode(), SERVER, len(body), headers, body.encode())
            )
        self.transport.close()

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._time_is_over)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_timers(self) -> None:
        self._stop_timer()
        for timer in (self._progress, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()

    def _time_is_over(self) -> None:
        if self._head and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.abort()

    def _await_progress(self, before: int) -> None:
        """Abort the connection if the client reads nothing for ``slow_client_timeout``."""
        unsent = self.transport.get_write_buffer_size()
        if unsent >= before:
            self.transport.abort()
            return
        timeout = self._front.limits.slow_client_timeout
        self._progress = self.loop.call_later(timeout, self._await_progress, unsent)

    # The request, and the upgrade

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application. Its failures end here, where they can be logged with a reason."""
        self._task = asyncio.current_task()

        async def sent(message: Message) -> None:
            # uvicorn drops it, and an endless response would never give way to the loop.
            if self.transport.is_closing():
                raise asyncio.CancelledError
            await send(message)
            if self._task is not None and not self.is_answering:
                self._front.answered.add(self._task)

        try:
            await asyncio.sleep(0)  # a client that leaves at once is noticed only then
            if not self.transport.is_closing():
                await self._front.app(scope, receive, sent)
        except asyncio.CancelledError:  # the client has left, or the gateway stops
            if not self.transport.is_closing():
                self.transport.abort()
        except Exception:  # a failed request must not end the others
            log.exception("request %s %r failed", scope["method"], scope["path"][:200])
        finally:
            if self._task is not None:
                self._front.answered.discard(self._task)
            self._task = None
            if self.transport.is_closing():
                # Else uvicorn answers 500, and uvloop raises if a closed transport is written to.
                send.__self__.disconnected = True  # type: ignore[attr-defined]

    def _upgraded(self, **_: object) -> Connection:
        if self._connect is None:
            raise RuntimeError("the connection is upgraded already")
        self._connection = self._connect()
        # From here on it is the connection that is counted.
        self._connection.client_address, self._address = self._address, None
        return self._connection

    def _break_cycles(self) -> None:
        # The collector would do it later, and leave holes in the heap of a connection that stays.
        self.app = self.ws_protocol_class = self._connect = self._connection = None
        self.parser = self.cycle = self.flow = None  # type: ignore[assignment]


class _TlsHandshake(asyncio.Protocol):
    """A new connection, which counts before its TLS handshake. ``connect`` as in `Http`."""

    def __init__(
        self, front: "Front", tls: ssl.SSLContext, connect: Callable[[], Connection]
    ) -> None:
        self._front = front
        self._tls = tls
        self._connect = connect

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and begin the handshake on a transport of its own.

        ``loop.start_tls`` would need this transport not to read before; uvloop begins to.
        """
        front, peer = self._front, self._front.peer(transport)
        with suppress(OSError):  # there is no descriptor left, or the client has left
            sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            if front.closed or front.enter(peer) is not None:
                sock.close()
            else:
                front.own(self._shake_hands(Http(front, self._connect, peer), sock))
        transport.abort()  # type: ignore[attr-defined]

    async def _shake_hands(self, http: Http, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: http,
                sock,
                ssl=self._tls,
                ssl_handshake_timeout=self._front.limits.handshake_timeout,
                ssl_shutdown_timeout=CLOSE_TIMEOUT,
            )
        except OSError:  # the client has left, or its handshake failed; the socket is closed
            pass
        finally:
            if http.transport is None:
                http.leave()


class _TooManyError(Exception):
    """More requests at once than are read ahead."""


class _HostError(Exception):
    """The request has more than one ``Host``, or needs one (RFC 9112, 3.2)."""


class Front:
    """All connections that are not upgraded.

    ``app`` answers requests. ``connect`` makes the WebSocket connection of an upgrade from the
    arguments that the library ``websockets`` gives for a new connection.
    """

    def __init__(
        self,
        app: ASGIApp,
        admission: Admission,
        limits: LimitsConfig,
        tls: ssl.SSLContext | None,
        connect: Callable[..., Connection],
    ) -> None:
        self.app = app
        self.admission = admission
        self.limits = limits
        self.closed = False
        self.emptied = asyncio.Event()
        """Set when it is closed and no connection is left."""
        self.answered: set[asyncio.Task[Any]] = set()
        """The tasks of requests that are answered, and close what they have opened."""
        self.idle: dict[Http, None] = {}
        """The kept connections without a request, the longest idle first."""
        self.config = UvicornConfig(
            app,
            ws="none",
            lifespan="off",
            log_config=None,
            interface="asgi3",
            proxy_headers=False,
        )
        self.config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"server", SERVER)]
        self._tls = tls
        self._connect = connect

    def accepted(self, *args: Any, **options: Any) -> asyncio.Protocol:  # noqa: ANN401  the library's
        """Return the protocol of a new TCP connection."""

        def connect() -> Connection:
            return self._connect(*args, **options)

        return (
            Http(self, connect) if self._tls is None else _TlsHandshake(self, self._tls, connect)
        )

    def own(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task until `end` at most."""
        task = asyncio.create_task(work)
        self.state.tasks.add(task)
        task.add_done_callback(self.state.tasks.discard)

    def adopt(self, limits: LimitsConfig) -> None:
        """Use these limits for further connections and requests."""
        self.limits = limits

    def peer(self, transport: asyncio.BaseTransport) -> str:
        """Return the address under which a new connection counts: "" for a Unix socket, and for
        a trusted proxy, whose clients count."""
        client = get_remote_addr(transport)  # type: ignore[arg-type]
        return "" if client is None else self.admission.counted(client[0])

    def enter(self, peer: str) -> tuple[HTTPStatus, str] | None:
        """Count a connection, or return why it is refused. An idle one makes room for it."""
        if self.admission.is_full and self.idle:
            oldest = next(iter(self.idle))
            oldest.leave()
            oldest.transport.close()
        return self.admission.enter(peer)

    def shut(self) -> None:
        """End the connections that are idle, and the others after their answers."""
        self.closed = True
        for connection in list(self.state.connections):
            connection.shutdown()
        self.check_empty()

    def check_empty(self) -> None:
        """Set ``emptied`` if it is."""
        if self.closed and not self.state.connections:
            self.emptied.set()

    async def finish(self) -> None:
        """Let the requests end that are answered: cancelled, they would leave files open."""
        if self.answered:
            await asyncio.wait(self.answered, timeout=FINISH_TIMEOUT)

    async def end(self) -> None:
        """Abort what is left."""
        for connection in list(self.state.connections):
            connection.transport.abort()
        tasks = list(self.state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

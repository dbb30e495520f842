"""A WebSocket connection that takes frames which were built once for all clients.

There are two ways to write such frames:

- `Connection.write` passes them to the asyncio transport. `Connection.write_shared` does so in
  pieces, each when the transport has sent the one before: a transport may copy what it buffers,
  and a snapshot would be copied for every client that has not read it yet. Before each piece the
  kernel takes what it can without the transport. What is written meanwhile waits in the same
  queue, also the library's own frames. The kernel buffers little of it, for the same reason.
- A caller writes to `Connection.descriptor` itself, for many connections in one loop
  (`socket_writes`). This is a *direct write*.

A direct write overtakes everything that is buffered, so it is safe only while all of this holds:

1. The transport has nothing buffered, and nothing is queued for it: otherwise the client receives
   parts of frames out of order. While something is queued, the transport has something buffered.
2. No close frame has been sent or received: nothing may follow one (RFC 6455, section 5.5.1).
3. The descriptor still belongs to this connection: after ``close()`` the kernel gives the same
   number to another connection, which would receive this client's frames.

`descriptor` is None while one of them does not hold. The connection calls
`WriteObserver.stop_direct_writes` *before* one of them ends, so that a caller may keep the number
until then.

The transport's high-water mark is 0, so that the transport reports when anything is buffered. The
limit of unsent bytes, ``max_unsent``, is applied here.

This relies on parts of websockets that are not documented: ``connection.transport``,
``send_data``, which is called later than the library does while something is queued,
``recv_messages.paused``, and that a connection in the state OPEN accepts whole frames between its
own as long as it sends no fragmented message. Tests compare what clients receive this way with the
library's ``send()``, and check that nothing follows a close frame.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import NegotiationError
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import CloseCode
from websockets.protocol import Event, State
from websockets.typing import ExtensionParameter

from d_back_core.gateway.socket_writes import NO_LIMIT, descriptor, limit_unsent, write_all

WINDOW_BITS = 15
PARSED_AT_ONCE = 4096
"""Bytes of a client, after which its frames are counted, or the size of its head is checked. A
frame may have six bytes, and a header three."""
CHUNK = 65_536
"""Bytes that are passed to the transport at once."""
MAX_KERNEL_UNSENT = 2 * CHUNK
"""Bytes of a snapshot that the kernel keeps in its own copy, apart from those in flight."""


class WriteObserver(Protocol):
    """Called back by a connection about what happens to written bytes."""

    def stop_direct_writes(self) -> None:
        """Stop writing to `Connection.descriptor` before this returns."""

    def fall_behind(self) -> None:
        """The client has too many unsent bytes. Nothing is read from it until `recover`."""

    def recover(self) -> None:
        """All bytes are sent, or the connection is lost."""


class Connection(ServerConnection):
    """A server connection that allows direct writes while its transport has nothing buffered.

    Must be created with the library's ``write_limit`` 0. ``made`` is called when TCP, and TLS if
    configured, is connected; ``lost`` when the connection is lost, also before a WebSocket
    handshake. A client with more than ``max_unsent`` unsent bytes has fallen behind. One that
    sends more than ``max_frames`` between two pings of the keepalive is closed.
    """

    # Slots: the library's attributes are just few enough for CPython to share their names
    # between all connections, which saves more than a kilobyte of each.
    __slots__ = (
        "_buffered",
        "_descriptor",
        "_held",
        "_lost",
        "_made",
        "_queue",
        "client_address",
        "frames",
        "is_alive",
        "max_frames",
        "max_unsent",
        "observer",
    )

    def __init__(
        self,
        *args: Any,  # noqa: ANN401  the library's
        made: "Callable[[Connection], None]",
        lost: "Callable[[Connection], None]",
        max_frames: int,
        max_unsent: int,
        **options: Any,  # noqa: ANN401  the library's
    ) -> None:
        super().__init__(*args, **options)
        self.observer: WriteObserver | None = None
        self.client_address: str | None = None
        """Set when the client is admitted: the address under which it is counted."""
        self.max_frames = max_frames
        self.max_unsent = max_unsent
        self.frames = 0
        """Frames that the client has sent in this interval."""
        self.is_alive = False
        """True if the client has sent or received something in this interval."""
        self._descriptor: int | None = None
        self._held: bytes | None = b""
        """What has come behind the request; None after `begin`."""
        self._made = made
        self._lost = lost
        self._buffered = False
        """True if the transport has unsent bytes."""
        self._queue: deque[memoryview] | None = None
        """What the transport gets next; None if there is nothing. Most connections need none."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio when TCP, and TLS if configured, is connected."""
        super().connection_made(transport)
        if transport.get_extra_info("sslcontext") is not None:
            # Such a transport calls `pause_writing` at its limit, not above it: with 0 that would
            # be with every write, and nothing would resume it.
            self.transport.set_write_buffer_limits(high=1, low=0)
        self._descriptor = descriptor(transport)
        self._made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio when the connection is lost, also before a WebSocket handshake."""
        # First: asyncio closes the socket after this method, and then the kernel may give its
        # number to another connection.
        self._stop_direct_writes()
        self._descriptor = None
        self._queue = None
        super().connection_lost(exc)
        if self.observer is not None:
            self.observer.recover()
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with bytes of the client: up to 40,000 frames at once."""
        for start in range(0, len(data), PARSED_AT_ONCE):
            if self._held is not None and self.request is not None:
                self._held += data[start:]
                return
            if self.frames > self.max_frames:
                return
            self.is_alive = True
            super().data_received(data[start : start + PARSED_AT_ONCE])
            if self.frames > self.max_frames and self.protocol.state is State.OPEN:
                self.protocol.fail(CloseCode.POLICY_VIOLATION, "too many frames")
                self.send_data()

    def begin(self) -> None:
        """Read what the client has sent: its handshake has succeeded.

        The library would have read frames before, and ended the connection without an answer if
        they were wrong.
        """
        held, self._held = self._held, None
        self.data_received(held or b"")

    def begin_interval(self) -> bool:
        """Called by the keepalive. Returns False if the client is not alive; one that has sent
        too many frames is not, whatever it sends."""
        if self.frames <= self.max_frames:
            self.frames = 0
        was_alive, self.is_alive = self.is_alive, False
        return was_alive

    def process_event(self, event: Event) -> None:
        """Called by the library with the request, and with each frame."""
        self.frames += 1
        super().process_event(event)

    def send_data(self) -> None:
        """Called by the library to write its own frames, among them every close frame."""
        # Before the write: the state is CLOSING already if a close frame goes out now, and a
        # direct write must not follow it.
        if self.protocol.state is not State.OPEN:
            self._stop_direct_writes()
        # Not between the pieces of a frame. The library keeps its bytes until they are asked for.
        if self._queue is None:
            self._write_own()
        self._check_unsent()

    def _write_own(self) -> None:
        """As the library does, but in one write: a client may send thousands of pings at once,
        and asyncio logs each write to a connection that is lost."""
        parts = self.protocol.data_to_send()
        if frames := b"".join(parts):
            self.transport.write(frames)
        if parts and not parts[-1]:  # the library half-closes the connection
            if self.transport.can_write_eof():
                with suppress(OSError, RuntimeError):  # it is lost; the second one is uvloop's
                    self.transport.write_eof()
            else:
                self.transport.close()

    def pause_writing(self) -> None:
        """Called by the transport when it has unsent bytes."""
        self._buffered = True
        self._stop_direct_writes()

    def resume_writing(self) -> None:
        """Called by the transport when all bytes are sent."""
        self._buffered = False
        self.is_alive = True  # a client that reads is alive, even if it has sent nothing
        self._write_queued()
        if self._buffered or not self.paused:
            return
        super().resume_writing()
        if not self.recv_messages.paused:  # else the library itself does not want to read
            self.transport.resume_reading()
        # Last: the observer writes what it held back, which may fill the buffer again.
        if self.observer is not None:
            self.observer.recover()

    @property
    def descriptor(self) -> int | None:
        """The socket's descriptor while direct writes are safe; None while only `write` is.

        Valid until `WriteObserver.stop_direct_writes` is called.
        """
        if self._buffered or self.protocol.state is not State.OPEN:
            return None
        return self._descriptor

    @property
    def deflates(self) -> bool:
        """True if the client negotiated permessage-deflate."""
        return any(isinstance(each, PerMessageDeflate) for each in self.protocol.extensions)

    def write(self, frames: bytes) -> None:
        """Write whole frames, or the rest of a direct write that was short, in order.

        Does nothing if the connection is closing: the close frame is the last one.
        """
        if self.protocol.state is State.OPEN:
            if self._queue is None:
                self.transport.write(frames)
            else:
                self._queue.append(memoryview(frames))
            if self._buffered:
                self._check_unsent()

    def write_shared(self, parts: Sequence[bytes]) -> None:
        """Write whole frames, in parts that other connections write as well, in order.

        The parts are not copied: the memory of a client that has not read them is bounded.
        """
        if sum(map(len, parts)) <= CHUNK:
            self.write(b"".join(parts))
        elif self.protocol.state is State.OPEN:
            if self._queue is None:
                self._queue = deque()
                limit_unsent(self.transport, MAX_KERNEL_UNSENT)
            self._queue.extend(map(memoryview, parts))
            if not self._buffered:
                self._write_queued()
            self._check_unsent()

    def _write_queued(self) -> None:
        """Pass the queue to the transport until it has something buffered."""
        queue = self._queue
        if queue is None:
            return
        while queue and not self._buffered and not self.transport.is_closing():
            part = queue.popleft()
            if self._descriptor is not None:
                # First what the kernel takes: the transport would copy it. A close frame cannot
                # have been sent yet, whatever the state: it waits for the end of the queue.
                short = write_all((self._descriptor,), part)
                part = part[short.get(self._descriptor, len(part)) :]
            if len(part) > CHUNK:
                queue.appendleft(part[CHUNK:])
            self.transport.write(part[:CHUNK])
        if not queue:
            self._queue = None
            limit_unsent(self.transport, NO_LIMIT)
            self._write_own()  # what the library had to say meanwhile

    def abort(self) -> None:
        """Drop the connection and its unsent bytes."""
        # At once: `connection_lost` comes in a later turn of the loop.
        self._stop_direct_writes()
        self._descriptor = None
        self.transport.abort()

    def _stop_direct_writes(self) -> None:
        if self.observer is not None:
            self.observer.stop_direct_writes()

    def _check_unsent(self) -> None:
        """Pause a client that has more than ``max_unsent`` unsent bytes.

        Nothing is read from it then: answers to what it sends would pile up, among them the
        library's pongs.
        """
        if not self._buffered or self.paused:
            return
        queued = 0 if self._queue is None else sum(map(len, self._queue))
        if self.transport.get_write_buffer_size() + queued > self.max_unsent:
            super().pause_writing()
            self.transport.pause_reading()
            if self.observer is not None:
                self.observer.fall_behind()


class SharedDeflate(ServerPerMessageDeflateFactory):
    """permessage-deflate without context takeover, so that all clients receive the same bytes.

    Declines an offer with a smaller window than ours (RFC 7692, section 7.1.2.1): the shared
    bytes refer back further than such a client can.
    """

    def __init__(self) -> None:
        super().__init__(server_no_context_takeover=True, client_no_context_takeover=True)

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        """Accept or decline one offer of the client."""
        answer, extension = super().process_request_params(params, accepted_extensions)
        if extension.local_max_window_bits != WINDOW_BITS:
            raise NegotiationError("shared frames need the full window")
        return answer, extension

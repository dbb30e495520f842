"""The fast path: bytes that were framed once are written to the sockets directly.

This touches what the library does not document: ``connection.transport``, its ``send_data`` and
its ``recv_messages.paused``, and that a connection whose ``state`` is OPEN, and that sends no
fragmented message, takes whole frames in between its own. Tests compare what clients receive this
way with the library's ``send()``, and look for anything behind a close frame. `Connection.write`
is the plain path, which needs none but the first and the last of these.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import NegotiationError
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.protocol import State
from websockets.typing import ExtensionParameter

from d_back_core.gateway.socket_writes import descriptor

WINDOW_BITS = 15


class WriteObserver(Protocol):
    """Hears how the writing to a connection goes."""

    def stop_direct_writes(self) -> None:
        """`Connection.descriptor` is not to be written to from here on."""

    def fall_behind(self) -> None:
        """More waits to be sent than may; nothing is read from the client until `recover`."""

    def recover(self) -> None:
        """All is sent, or the connection is lost."""


class Connection(ServerConnection):
    """A server connection that is written to directly while nothing waits to be sent.

    It needs a write limit of 0 in the library's sense: the transport then tells when anything
    waits, and when nothing does any more. How much may wait is ``most_waiting``; what the
    library itself does under back pressure begins there.
    """

    # Slots: the library's attributes are just few enough for CPython to share their names
    # between all connections, which saves more than a kilobyte of each.
    __slots__ = (
        "_descriptor",
        "_waits",
        "counted_as",
        "is_heard",
        "lost",
        "made",
        "most_waiting",
        "observer",
    )

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  the library's
        super().__init__(*args, **options)
        self.observer: WriteObserver | None = None
        self.made: Callable[[Connection], None] | None = None
        self.lost: Callable[[Connection], None] | None = None
        self.counted_as: str | None = None
        """The address of the client, once it was admitted."""
        self.most_waiting = 0
        self.is_heard = False
        """Whether there was a sign of life since somebody last set this to False."""
        self._descriptor: int | None = None
        self._waits = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a TCP connection, and TLS on it where that is configured."""
        super().connection_made(transport)
        self._descriptor = descriptor(transport)
        if self.made is not None:
            self.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, whether there ever was a WebSocket on it or not. The socket is still open:
        the descriptor is given up before anybody else can get its number."""
        self._set_apart()
        self._descriptor = None
        super().connection_lost(exc)
        if self.observer is not None:
            self.observer.recover()
        if self.lost is not None:
            self.lost(self)

    def data_received(self, data: bytes) -> None:
        """The client says something."""
        self.is_heard = True
        super().data_received(data)

    def send_data(self) -> None:
        """The library's own way out. Every close frame goes this way, and nothing of ours may
        follow it."""
        if self.protocol.state is not State.OPEN:
            self._set_apart()
        super().send_data()
        self._measure()

    def pause_writing(self) -> None:
        """Something waits to be sent."""
        self._waits = True
        self._set_apart()

    def resume_writing(self) -> None:
        """All is sent, which is a sign of life."""
        self._waits = False
        self.is_heard = True
        if not self.paused:
            return
        super().resume_writing()
        if not self.recv_messages.paused:
            self.transport.resume_reading()
        if self.observer is not None:
            self.observer.recover()

    @property
    def descriptor(self) -> int | None:
        """Where whole frames may be written at this moment, as by `write`; None: only by that.
        It holds until ``watcher.stop_direct_writes`` is called."""
        if self._waits or self.protocol.state is not State.OPEN:
            return None
        return self._descriptor

    @property
    def deflates(self) -> bool:
        """Whether the client takes compressed messages."""
        return any(isinstance(each, PerMessageDeflate) for each in self.protocol.extensions)

    def write(self, frames: bytes) -> None:
        """Write whole frames (or the rest of some), at once and in order; nothing where the
        connection is closing."""
        if self.protocol.state is State.OPEN:
            self.transport.write(frames)
            if self._waits:
                self._measure()

    def abort(self) -> None:
        """Drop the connection and what it has not sent."""
        self._set_apart()
        self._descriptor = None
        self.transport.abort()

    def _set_apart(self) -> None:
        if self.observer is not None:
            self.observer.stop_direct_writes()

    def _measure(self) -> None:
        """Hold the client up where too much waits for it. Who does not read is not read from
        either: answers would pile up, the library's pongs among them."""
        if not self._waits or self.paused:
            return
        if self.transport.get_write_buffer_size() > self.most_waiting:
            super().pause_writing()
            self.transport.pause_reading()
            if self.observer is not None:
                self.observer.fall_behind()


class SharedDeflate(ServerPerMessageDeflateFactory):
    """permessage-deflate without contexts, so that all clients can get the same bytes.

    A client that asks for a smaller window than ours gets no compression.
    """

    def __init__(self) -> None:
        super().__init__(server_no_context_takeover=True, client_no_context_takeover=True)

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        """Accept or decline one offer of the client."""
        answer, extension = super().process_request_params(params, accepted_extensions)
        if extension.local_max_window_bits != WINDOW_BITS:
            raise NegotiationError("frames are shared and need the whole window")
        return answer, extension

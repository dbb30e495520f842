"""The fast path: bytes that were framed once are written to the transports directly.

This touches what the library does not document: ``connection.transport``, and that a connection
whose ``state`` is OPEN, and that sends no fragmented message, takes whole frames in between its
own. A test compares what clients receive this way with the library's ``send()``.
"""

from collections.abc import Callable, Sequence

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import NegotiationError
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.protocol import State
from websockets.typing import ExtensionParameter

WINDOW_BITS = 15


class Connection(ServerConnection):
    """A server connection that tells when its write buffer fills and when it has drained."""

    paused_writing: Callable[[], None] | None = None
    resumed_writing: Callable[[], None] | None = None
    lost: Callable[["Connection"], None] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection is gone, whether there ever was a WebSocket on it or not."""
        super().connection_lost(exc)
        if self.lost is not None:
            self.lost(self)

    def pause_writing(self) -> None:
        """The write buffer has passed its limit."""
        super().pause_writing()
        if self.paused_writing is not None:
            self.paused_writing()

    def resume_writing(self) -> None:
        """The write buffer has drained."""
        super().resume_writing()
        if self.resumed_writing is not None:
            self.resumed_writing()

    @property
    def deflates(self) -> bool:
        """Whether the client takes compressed messages."""
        return any(isinstance(each, PerMessageDeflate) for each in self.protocol.extensions)

    def write(self, frames: bytes) -> None:
        """Write whole frames, at once and in order; nothing where the connection is closing."""
        if self.protocol.state is State.OPEN:
            self.transport.write(frames)

    def abort(self) -> None:
        """Drop the connection and what it has not sent."""
        if hasattr(self, "transport"):  # not before a TLS handshake has ended
            self.transport.abort()


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

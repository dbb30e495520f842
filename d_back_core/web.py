"""Plain HTTP, as the pages and the ``http`` hook see it."""

from collections.abc import Mapping

from msgspec import Struct, field


class HttpRequest(Struct, frozen=True, kw_only=True):
    """A request that is no WebSocket handshake. It has no body."""

    method: str
    path: str
    """Percent-decoded, with its leading slash."""
    query: str = ""
    """Not decoded, without the question mark."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; several values of one header are joined by ", "."""
    address: str = ""
    """The client's IP address, or "" where it has none."""

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.path})"


class HttpResponse(Struct, frozen=True, kw_only=True):
    """The answer. Length, security headers and the omission of a HEAD's body are added."""

    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

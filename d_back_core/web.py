"""Requests and responses of the ``http`` hook."""

from collections.abc import Mapping

from msgspec import Struct, field


class HttpRequest(Struct, frozen=True, kw_only=True):
    """A request that is not a WebSocket handshake. It has no body."""

    method: str
    path: str
    """Percent-decoded, with its leading slash."""
    query: str = ""
    """Not decoded, without the question mark."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; several values of one header are joined by ", "."""
    address: str = ""
    """The client's IP address; "" if it has none (a Unix socket)."""

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.path})"


class HttpResponse(Struct, frozen=True, kw_only=True):
    """The response. The gateway adds length and security headers, and omits the body of a HEAD."""

    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

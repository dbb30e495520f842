"""Who is an operator: deny by default.

With a token, who offers it. Without one, who asks from this machine itself, and shows no sign of
asking for somebody else: a reverse proxy that stands beside the gateway has a loopback address
too, and so has the browser in which a page of somewhere else is open.
"""

import ipaddress
import re
from collections.abc import Mapping

from d_back_core import HttpRequest, Secret

FORWARDED = frozenset(
    {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"}
)
_LOCAL_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)


def is_operator(request: HttpRequest, token: Secret | None) -> bool:
    """Whether to show this client what is for operators only."""
    if token is not None:
        scheme, _, offered = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and token == Secret(offered.strip())
    return _is_loopback(request.address) and _speaks_for_itself(request.headers)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket has none, and behind it there is a proxy
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def _speaks_for_itself(headers: Mapping[str, str]) -> bool:
    """Whether it is no proxy that asks, and no page of another site or of another name for this
    machine (DNS rebinding)."""
    host = headers.get("host", "")
    if _LOCAL_HOST.fullmatch(host) is None or FORWARDED & headers.keys():
        return False
    # A browser keeps the connection; nginx, which may forward nothing, says "close" or "upgrade".
    if headers.get("connection", "keep-alive").lower() != "keep-alive":
        return False
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == host

"""Decide which clients may connect: by origin, by address, and by number.

Connections count from the accept on, in all and per address. A peer of ``trusted_proxies`` is not
counted as an address: what comes through it is counted under the client's address as soon as that
is known, a WebSocket connection as long as it lasts and a request until it is answered.
"""

import ipaddress
import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable
from http import HTTPStatus
from math import inf
from urllib.parse import urlsplit

import idna

from d_back_core.clock import Clock
from d_back_core.config import Config
from d_back_core.errors import ConfigError
from d_back_core.gateway.rate_limits import MAX_ADDRESSES, VIA, Bucket, limit_key
from d_back_core.log_once import LogOnce

DEFAULT_PORTS = {"http": 80, "https": 443}
REQUESTS_PER_SECOND, REQUEST_BURST = 50, 500
"""Requests and new connections of one address per second, after so many at once."""
TOTAL_PER_SECOND, TOTAL_BURST = 2_000, 10_000
"""Requests of all clients. They leave most of a core to the WebSocket connections."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Refusal = tuple[HTTPStatus, str]

log = logging.getLogger("d_back.gateway")


class Admission:
    """Counts the connected clients and decides about further ones.

    ``rejections`` counts the refused ones, by reason. Raises `ConfigError` if the configuration
    is not valid.
    """

    def __init__(self, config: Config, rejections: Counter[str], clock: Clock) -> None:
        self.fitting = inf
        """Connections for which the process has descriptors."""
        self._rejections = rejections
        self._clock = clock
        self._requests: OrderedDict[str, Bucket] = OrderedDict()
        """By address; "" has those of all."""
        self._connected = 0
        self._per_address: Counter[str] = Counter()
        self._has_logged_claim = False
        self._warn = LogOnce(log)
        self.adopt(config)

    def adopt(self, config: Config) -> None:
        """Use this configuration from now on."""
        self._proxies = _networks(config.limits.trusted_proxies, f"{config.source}: limits")
        self._origins = _origins(config.gateway.origins, f"{config.source}: gateway")
        self._source = config.source
        self._limits = config.limits

    @property
    def is_full(self) -> bool:
        """True if there is no place for another connection."""
        return self._connected >= min(self._limits.connections, self.fitting)

    def counted(self, address: str) -> str:
        """Return the address under which a peer or client is counted: "" for a trusted proxy."""
        return "" if _is_in(address, self._proxies) else address

    def enter(self, address: str) -> Refusal | None:
        """Count a connection that was accepted, or return why it is refused."""
        if self.is_full:
            self._log_limit("connections", "in all")
            return self._refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
        refusal = self._rate(address) or self.claim(address)
        if refusal is None:
            self._connected += 1
        return refusal

    def leave(self, address: str) -> None:
        """Stop counting a connection that is counted under that address."""
        self._connected -= 1
        self.release(address)

    def claim(self, address: str) -> Refusal | None:
        """Count what a client does through a proxy, or return why it is refused."""
        key = limit_key(address)
        if key is not None:
            if self._per_address[key] >= self._limits.connections_per_address:
                self._log_limit("connections_per_address", key)
                return self._refusal(
                    HTTPStatus.TOO_MANY_REQUESTS, "too many connections of one address"
                )
            self._per_address[key] += 1
        return None

    def release(self, address: str) -> None:
        """Stop counting it."""
        key = limit_key(address)
        if key is not None:
            self._per_address[key] -= 1
            if not self._per_address[key]:
                del self._per_address[key]

    def request(self, address: str) -> Refusal | None:
        """Count a request, or return why it is refused."""
        refusal = self._rate(address)
        if refusal is None and not self._bucket("", TOTAL_BURST, TOTAL_PER_SECOND).take():
            return self._refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests")
        return refusal

    def _rate(self, address: str) -> Refusal | None:
        key = limit_key(address)
        if key is None or self._bucket(key, REQUEST_BURST, REQUESTS_PER_SECOND).take():
            return None
        return self._refusal(HTTPStatus.TOO_MANY_REQUESTS, "too many requests of one address")

    def _bucket(self, key: str, burst: int, per_second: float) -> Bucket:
        bucket = self._requests.get(key)
        if bucket is None:
            bucket = self._requests[key] = Bucket(self._clock, burst, 1 / per_second)
            if len(self._requests) > MAX_ADDRESSES:
                self._requests.popitem(last=False)
        self._requests.move_to_end(key)
        return bucket

    def refused(self, origin: str, host: str, *, draining: bool) -> Refusal | None:
        """Return why a page of that origin may not connect; None if it may."""
        if draining:
            return self._refusal(HTTPStatus.SERVICE_UNAVAILABLE, "shutting down")
        if not self.may_read(origin, host):
            return self._refusal(HTTPStatus.FORBIDDEN, "this origin may not connect")
        return None

    def _log_limit(self, key: str, counted: str) -> None:
        limit = getattr(self._limits, key)
        sentence = "%s: a connection is refused: limits.%s is %d (%s)"
        self._warn(key, counted, sentence, self._source, key, limit, counted)

    def _refusal(self, status: HTTPStatus, reason: str) -> Refusal:
        self._rejections[reason] += 1
        return status, reason

    def may_read(self, origin: str, host: str) -> bool:
        """True if a page of that origin may read answers. Clients other than browsers send no
        origin, and may; so may the pages of this gateway, which ``host`` names."""
        if not origin or self._origins is None or self._origins.fullmatch(origin):
            return True
        scheme = origin.partition("://")[0]
        try:
            if normalised(f"{scheme}://{host}") == origin:
                return True
        except ValueError:  # the client may send any host
            pass
        sentence = "%s: pages of %.200a may not connect: gateway.origins lacks it"
        self._warn("origins", origin, sentence, self._source, origin)
        return False

    def cors(self, origin: str, host: str) -> dict[str, str]:
        """Return the CORS headers for a page of that origin; none if it may not read."""
        if not origin or not self.may_read(origin, host):
            return {}
        return {
            "access-control-allow-origin": "*" if self._origins is None else origin,
            "access-control-allow-methods": "GET, HEAD, OPTIONS",
            "access-control-allow-headers": "Authorization",
            "vary": "Origin",
        }

    def address(self, peer: str, forwarded: str) -> str:
        """Return the client's address: the peer, or behind trusted proxies the last address in
        ``X-Forwarded-For`` that is not one of them. ``peer`` is "" for a Unix socket.

        A local peer that sends the header without being trusted is probably a proxy. The address
        then names both, and guesses of credentials count for what the header claims.
        """
        if not self._proxies or (peer and not _is_in(peer, self._proxies)):
            claimed = _without_port(forwarded.rpartition(",")[2].strip())
            if claimed:
                self._log_claim(peer)
            return f"{claimed}{VIA}{peer}" if claimed and limit_key(peer) is None else peer
        # From the last entry on: each proxy appends the address that it was reached from, and
        # what precedes the first untrusted address is the client's own claim.
        address = peer
        for hop in reversed([each.strip() for each in forwarded.split(",") if each.strip()]):
            if address and not _is_in(address, self._proxies):
                break
            address = _without_port(hop)
        return address

    def _log_claim(self, peer: str) -> None:
        if not self._has_logged_claim:
            self._has_logged_claim = True
            log.warning(
                "%s sends X-Forwarded-For, which is not used: if it is a proxy, set"
                " limits.trusted_proxies, so that limits count the addresses of its clients",
                peer or "a peer on the Unix socket",
            )


def normalised(origin: str) -> str:
    """Return a web origin as browsers send it. Raises ``ValueError`` with a reason."""
    if origin == "null":
        return origin
    parts = urlsplit(origin)
    if not parts.scheme or not parts.hostname:
        raise ValueError("expected an origin such as https://example.org")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("an origin is a scheme, a host and a port")
    wildcard, host = "", parts.hostname
    if host.startswith("*."):
        wildcard, host = "*.", host[2:]
    if "*" in host:
        raise ValueError("a * can only stand for subdomains, as in https://*.example.org")
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode()
    elif ":" in host:
        host = f"[{ipaddress.IPv6Address(host)}]"
    port = parts.port
    suffix = "" if port in {None, DEFAULT_PORTS.get(parts.scheme)} else f":{port}"
    return f"{parts.scheme}://{wildcard}{host}{suffix}"


def _without_port(hop: str) -> str:
    """Return the address of an entry of ``X-Forwarded-For``; some proxies append a port."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    host, _, port = hop.rpartition(":")
    return host if port.isdecimal() and "." in host else hop


def _networks(names: Iterable[str], where: str) -> list[Network]:
    networks = []
    for name in names:
        try:
            network = ipaddress.ip_network(name, strict=False)
        except ValueError as error:
            expected = "is not an address or a network (expected one such as 10.0.0.0/8)"
            raise ConfigError(f"{where}.trusted_proxies '{name}': {expected}") from error
        if "/" in name and str(network.network_address) != name.partition("/")[0]:
            near = f"is not a network (did you mean '{network}'?)"
            raise ConfigError(f"{where}.trusted_proxies '{name}': {near}")
        networks.append(network)
    return networks


def _is_in(address: str, networks: Iterable[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _origins(origins: tuple[str, ...], where: str) -> re.Pattern[str] | None:
    """Return the pattern that an Origin header must match; None if any origin may connect."""
    patterns = []
    for origin in origins:
        try:
            pattern = re.escape(normalised(origin))
        except ValueError as error:
            raise ConfigError(f"{where}.origins '{origin}': {error}") from error
        patterns.append(pattern.replace(r"\*", r"[A-Za-z0-9.-]+"))
    return re.compile("|".join(patterns)) if patterns else None

"""Decide which clients may connect: by origin, by address, and by number."""

import ipaddress
import logging
import re
from collections import Counter
from collections.abc import Iterable
from http import HTTPStatus

from d_back_core.config import Config
from d_back_core.errors import ConfigError
from d_back_core.gateway.rate_limits import VIA, limit_key
from d_back_core.log_once import LogOnce

log = logging.getLogger("d_back.gateway")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Admission:
    """Counts the connected clients and decides about further ones.

    Raises `ConfigError` if the configuration is not valid.
    """

    def __init__(self, config: Config) -> None:
        self._connected = 0
        self._per_address: Counter[str] = Counter()
        self._has_logged_claim = False
        self._warn = LogOnce(log)
        self.adopt(config)

    def adopt(self, config: Config) -> None:
        """Use this configuration from now on."""
        self._proxies = _networks(config.limits.trusted_proxies, f"{config.source}: limits")
        self._origins = _origins(config.gateway.origins)
        self._source = config.source
        self._limits = config.limits

    def rejected(self, origin: str, address: str) -> tuple[HTTPStatus, str] | None:
        """Return the status and the reason if a client may not connect; None if it may."""
        if not self.may_read(origin):
            return HTTPStatus.FORBIDDEN, "this origin may not connect"
        if self._connected >= self._limits.connections:
            self._log_limit("connections", "in all")
            return HTTPStatus.SERVICE_UNAVAILABLE, "too many connections"
        key = limit_key(address)
        if key is not None and self._per_address[key] >= self._limits.connections_per_address:
            self._log_limit("connections_per_address", key)
            return HTTPStatus.TOO_MANY_REQUESTS, "too many connections of one address"
        return None

    def _log_limit(self, key: str, counted: str) -> None:
        limit = getattr(self._limits, key)
        sentence = "%s: a connection is refused: limits.%s is %d (%s)"
        self._warn(key, counted, sentence, self._source, key, limit, counted)

    def enter(self, address: str) -> None:
        """Count a client that has connected."""
        self._connected += 1
        key = limit_key(address)
        if key is not None:
            self._per_address[key] += 1

    def leave(self, address: str) -> None:
        """Stop counting a client that has disconnected."""
        self._connected -= 1
        key = limit_key(address)
        if key is not None:
            self._per_address[key] -= 1
            if not self._per_address[key]:
                del self._per_address[key]

    def may_read(self, origin: str) -> bool:
        """True if a page of that origin may read answers. Clients other than browsers send no
        origin, and may."""
        return not origin or self._origins is None or bool(self._origins.fullmatch(origin))

    def cors(self, origin: str) -> dict[str, str]:
        """Return the CORS headers for a page of that origin; none if it may not read."""
        if not origin or not self.may_read(origin):
            return {}
        return {
            "Access-Control-Allow-Origin": "*" if self._origins is None else origin,
            "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
            "Access-Control-Allow-Headers": "Authorization",
            "Vary": "Origin",
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


def _origins(origins: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return the pattern that an Origin header must match; None if any origin may connect."""
    if not origins:
        return None
    patterns = (re.escape(origin).replace(r"\*", r"[A-Za-z0-9.-]+") for origin in origins)
    return re.compile("|".join(patterns))

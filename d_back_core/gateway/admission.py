"""Who may connect: origins, addresses, and how many."""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable
from http import HTTPStatus

from d_back_core.config import Config
from d_back_core.errors import ConfigError
from d_back_core.gateway.rate_limits import counted_as

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Admission:
    """Counts the clients, and says which further one is let in. The configuration is checked at
    once, and raises `ConfigError`."""

    def __init__(self, config: Config) -> None:
        self._inside = 0
        self._addresses: Counter[str] = Counter()
        self.adopt(config)

    def adopt(self, config: Config) -> None:
        """Go on with this configuration."""
        self._proxies = _networks(config.limits.trusted_proxies, f"{config.source}: limits")
        self._origins = _origins(config.gateway.origins)
        self._limits = config.limits

    def rejected(self, origin: str, address: str) -> tuple[HTTPStatus, str] | None:
        """Why a client of that origin and address may not connect; None where it may."""
        if not self.may_read(origin):
            return HTTPStatus.FORBIDDEN, "this origin may not connect"
        if self._inside >= self._limits.connections:
            return HTTPStatus.SERVICE_UNAVAILABLE, "too many connections"
        counted = counted_as(address)
        most = self._limits.connections_per_address
        if counted is not None and self._addresses[counted] >= most:
            return HTTPStatus.TOO_MANY_REQUESTS, "too many connections of one address"
        return None

    def enter(self, address: str) -> None:
        """A client has connected."""
        self._inside += 1
        counted = counted_as(address)
        if counted is not None:
            self._addresses[counted] += 1

    def leave(self, address: str) -> None:
        """It has gone."""
        self._inside -= 1
        counted = counted_as(address)
        if counted is not None:
            self._addresses[counted] -= 1
            if not self._addresses[counted]:
                del self._addresses[counted]

    def may_read(self, origin: str) -> bool:
        """Whether a page of that origin may; clients that are no browser name none, and may."""
        return not origin or self._origins is None or bool(self._origins.fullmatch(origin))

    def cors(self, origin: str) -> dict[str, str]:
        """The headers that let a page of that origin read an answer, where it may."""
        if not origin or not self.may_read(origin):
            return {}
        return {
            "Access-Control-Allow-Origin": "*" if self._origins is None else origin,
            "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
            "Access-Control-Allow-Headers": "Authorization",
            "Vary": "Origin",
        }

    def address(self, peer: str, forwarded: str) -> str:
        """The client's own address: behind proxies that are trusted, the last one in
        ``X-Forwarded-For`` that is none of them. ``peer`` is "" for a Unix socket."""
        if not self._proxies:
            return peer
        address = peer
        for hop in reversed([each.strip() for each in forwarded.split(",") if each.strip()]):
            if address and not _is_in(address, self._proxies):
                break
            address = _without_port(hop)
        return address


def _without_port(hop: str) -> str:
    """An entry of ``X-Forwarded-For``, which some proxies write with the client's port."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    host, _, port = hop.rpartition(":")
    return host if port.isdecimal() and "." in host else hop


def _networks(names: Iterable[str], where: str) -> list[Network]:
    try:
        return [ipaddress.ip_network(name) for name in names]
    except ValueError as error:
        raise ConfigError(f"{where}.trusted_proxies: {error}") from error


def _is_in(address: str, networks: Iterable[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _origins(origins: tuple[str, ...]) -> re.Pattern[str] | None:
    """What the Origin header of a browser must match; None: anything."""
    if not origins:
        return None
    patterns = (re.escape(origin).replace(r"\*", r"[A-Za-z0-9.-]+") for origin in origins)
    return re.compile("|".join(patterns))

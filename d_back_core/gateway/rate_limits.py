"""Rate limits of sessions, chat channels and failed joins."""

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from d_back_core.clock import Clock

MAX_ADDRESSES = 10_000
MAX_CHANNELS = 1_000
MAX_LENGTH = 64
"""Characters of an address that count; a trusted proxy may send any text."""
IPV6_PREFIX = 64
"""Bits of the network that one IPv6 subscriber usually has; its addresses count as one."""
FORGIVEN_AFTER = 3600.0
"""Seconds without a failed join after which an address starts from zero."""
LONGEST_WAIT = 3600.0
"""Seconds."""
VIA = " via "
"""Between an address that a header claims and the peer, which is not a trusted proxy."""


class Bucket:
    """A token bucket: ``burst`` tokens at once, then one every ``interval`` seconds."""

    __slots__ = ("_at", "_burst", "_clock", "_interval", "_tokens")

    def __init__(self, clock: Clock, burst: int, interval: float) -> None:
        self._clock = clock
        self._burst = burst
        self._interval = interval
        self._tokens = float(burst)
        self._at = clock.time()

    def take(self) -> bool:
        """Take one token; False if none is left."""
        now = self._clock.time()
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self._interval)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class ChatRate:
    """A rate limit for the chat of each channel of a server."""

    def __init__(self, clock: Clock, burst: int, interval: float) -> None:
        self._clock = clock
        self._burst = burst
        self._interval = interval
        self._channels: OrderedDict[str, Bucket] = OrderedDict()

    def allows(self, channel: str) -> bool:
        """True if one more message of the channel may be sent now."""
        bucket = self._channels.get(channel)
        if bucket is None:
            bucket = self._channels[channel] = Bucket(self._clock, self._burst, self._interval)
            if len(self._channels) > MAX_CHANNELS:
                self._channels.popitem(last=False)
        self._channels.move_to_end(channel)
        return bucket.take()


class LoginThrottle:
    """Delays further joins of addresses that sent wrong credentials.

    The failed join number ``free`` makes the address wait for 60 s, and each further one twice as
    long as before, up to ``LONGEST_WAIT``.
    """

    def __init__(self, clock: Clock, free: int) -> None:
        self.free = free
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Return the seconds until the address may try again; 0 if it may now."""
        failures, at = self._failures.get(address, (0, 0.0))
        over = failures - self.free
        if over < 0:
            return 0.0
        return max(0.0, at + min(60.0 * 2.0**over, LONGEST_WAIT) - self._clock.time())

    def attempt(self, address: str) -> None:
        """Count an attempt as failed until `forgive`.

        Counting before the check makes attempts count that are checked at the same time.
        """
        now = self._clock.time()
        failures, at = self._failures.pop(address, (0, now))
        if now - at > FORGIVEN_AFTER:
            failures = 0
        self._failures[address] = failures + 1, now
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def forgive(self, address: str) -> None:
        """Take back one failed attempt: its credentials were right."""
        failures, at = self._failures.get(address, (0, 0.0))
        if failures > 1:
            self._failures[address] = failures - 1, at
        else:
            self._failures.pop(address, None)


def limit_key(address: str) -> str | None:
    """Return the key under which limits per address count this one.

    An IPv4 address, the /64 network of an IPv6 address, or any other text of a trusted proxy.
    None for peers without limits: loopback, and Unix sockets, whose address is "".
    """
    address = peer_of(address)
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:MAX_LENGTH] or None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback:
        return None
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, IPV6_PREFIX), strict=False))
    return str(parsed)


def guess_key(address: str) -> str | None:
    """Return the key under which wrong credentials of this address count.

    As `limit_key`, but a claimed address counts as well. A proxy on this machine that
    ``trusted_proxies`` lacks would otherwise allow any number of guesses.
    """
    return limit_key(address.partition(VIA)[0])


def peer_of(address: str) -> str:
    """Return the address without what a header claims."""
    return address.rpartition(VIA)[2]

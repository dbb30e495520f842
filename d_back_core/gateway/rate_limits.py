"""How much and how often somebody may do something."""

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from d_back_core.clock import Clock

MAX_ADDRESSES = 10_000
MAX_CHANNELS = 1_000
MAX_LENGTH = 64
IPV6_PREFIX = 64
"""What one subscriber is usually given; its addresses count as one."""
FORGIVEN_AFTER = 3600.0
LONGEST_WAIT = 3600.0


class Bucket:
    """A token bucket: ``burst`` at once, and after that one every ``interval`` seconds."""

    __slots__ = ("_at", "_burst", "_clock", "_interval", "_tokens")

    def __init__(self, clock: Clock, burst: int, interval: float) -> None:
        self._clock = clock
        self._burst = burst
        self._interval = interval
        self._tokens = float(burst)
        self._at = clock.time()

    def take(self) -> bool:
        """Take one token; False where there is none left."""
        now = self._clock.time()
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self._interval)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class ChatRate:
    """How much chat each channel of a server passes on."""

    def __init__(self, clock: Clock, burst: int, interval: float) -> None:
        self._clock = clock
        self._burst = burst
        self._interval = interval
        self._channels: OrderedDict[str, Bucket] = OrderedDict()

    def allows(self, channel: str) -> bool:
        """Whether one more message may pass now."""
        bucket = self._channels.get(channel)
        if bucket is None:
            bucket = self._channels[channel] = Bucket(self._clock, self._burst, self._interval)
            if len(self._channels) > MAX_CHANNELS:
                self._channels.popitem(last=False)
        self._channels.move_to_end(channel)
        return bucket.take()


class LoginThrottle:
    """Refused credentials by address: after ``free`` of them each one costs a longer wait."""

    def __init__(self, clock: Clock, free: int) -> None:
        self.free = free
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until that address may try again; 0 where it may now."""
        failures, at = self._failures.get(address, (0, 0.0))
        over = failures - self.free
        if over < 0:
            return 0.0
        return max(0.0, at + min(60.0 * 2.0**over, LONGEST_WAIT) - self._clock.time())

    def attempt(self, address: str) -> None:
        """Credentials from that address are being checked; they count as refused until
        `forgive`."""
        now = self._clock.time()
        failures, at = self._failures.pop(address, (0, now))
        if now - at > FORGIVEN_AFTER:
            failures = 0
        self._failures[address] = failures + 1, now
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def forgive(self, address: str) -> None:
        """They were right."""
        failures, at = self._failures.get(address, (0, 0.0))
        if failures > 1:
            self._failures[address] = failures - 1, at
        else:
            self._failures.pop(address, None)


def counted_as(address: str) -> str | None:
    """What limits per address count: an IPv4 address, the /64 of an IPv6 one, or whatever else a
    trusted proxy says. None for peers that are not limited: loopback, and Unix sockets, which
    have no address."""
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

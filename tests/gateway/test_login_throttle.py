"""How failed joins of one address are counted, and how many addresses are remembered (R24)."""

import pytest

from d_back_core.clock import Clock
from d_back_core.gateway import rate_limits
from d_back_core.gateway.rate_limits import FORGIVEN_AFTER, ChatRate, LoginThrottle


class LateClock(Clock):
    """A clock that has run for a long time, as it has on most machines."""

    now = 10 * FORGIVEN_AFTER

    def time(self) -> float:
        return self.now


def test_r24_failures_add_up_whatever_the_time_is() -> None:
    """They are forgiven an hour after the last one only."""
    clock = LateClock()
    throttle = LoginThrottle(clock, free=2)
    for _ in range(2):
        throttle.attempt("a")
    assert throttle.wait("a") == 60
    clock.now += FORGIVEN_AFTER + 1
    throttle.attempt("a")
    assert throttle.wait("a") == 0


def test_r24_a_right_login_is_not_a_failure() -> None:
    """However often it happens; the failures before it still count."""
    throttle = LoginThrottle(LateClock(), free=2)
    for _ in range(5):
        throttle.attempt("a")
        throttle.forgive("a")
    assert throttle.wait("a") == 0
    throttle.attempt("a")
    throttle.attempt("a")
    throttle.forgive("a")
    assert throttle.wait("a") == 0
    throttle.attempt("a")
    assert throttle.wait("a") == 60


def test_r24_the_oldest_address_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt makes an address the newest one."""
    monkeypatch.setattr(rate_limits, "MAX_ADDRESSES", 2)
    throttle = LoginThrottle(LateClock(), free=1)
    for address in "abac":
        throttle.attempt(address)
    waits = {address: throttle.wait(address) for address in "abc"}
    assert waits == {"a": 120, "b": 0, "c": 60}


def test_r33_the_channel_silent_for_longest_is_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A message makes a channel the newest one."""
    monkeypatch.setattr(rate_limits, "MAX_CHANNELS", 2)
    rate = ChatRate(LateClock(), burst=1, interval=60)
    assert [rate.allows(channel) for channel in "abacab"] == [True, True, False, True, False, True]

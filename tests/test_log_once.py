"""Warnings about what is refused: once per cause, and not at the speed of clients."""

import logging

import pytest

from d_back_core.log_once import INTERVAL, MAX_DETAILS, LogOnce


def test_a_warning_is_logged_once_per_detail_and_interval(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Then again, if the cause is still there."""
    now = 0.0
    warn = LogOnce(logging.getLogger("d_back.test"), lambda: now)
    for time, detail in ((0.0, "a"), (1.0, "a"), (2.0, "b"), (INTERVAL, "a"), (INTERVAL, "b")):
        now = time
        warn("origin", detail, "%s is refused", detail)
    assert caplog.messages == ["a is refused", "b is refused", "a is refused"]


def test_clients_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Of one cause a few details are logged; another cause has its own."""
    warn = LogOnce(logging.getLogger("d_back.test"), lambda: 0.0)
    for number in range(1000):
        warn("origin", str(number), "origin %d", number)
    warn("address", "a", "address")
    assert len(caplog.messages) == MAX_DETAILS + 1

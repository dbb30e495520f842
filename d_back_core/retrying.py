"""Attempts without end, with growing waits, on the injected clock."""

from collections.abc import Callable

import tenacity

from d_back_core.clock import Clock

FIRST_WAIT, LONGEST_WAIT, JITTER = 0.5, 60.0, 0.5
"""Seconds. Each wait is twice the one before it, plus a random part, so that many gateways that
lost one database do not all come back at the same moment."""


def retrying(
    clock: Clock,
    retry_on: type[BaseException] | tuple[type[BaseException], ...],
    failed: Callable[[tenacity.RetryCallState], None] | None = None,
) -> tenacity.AsyncRetrying:
    """Return tenacity's attempts; use them as ``async for attempt in …: with attempt: …``.

    The block is run again after each exception of the type ``retry_on``, without end; any other
    exception passes. ``failed`` is called before each wait.
    """
    return tenacity.AsyncRetrying(
        sleep=clock.sleep,
        wait=tenacity.wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)
        + tenacity.wait_random(0, JITTER),
        retry=tenacity.retry_if_exception_type(retry_on),
        before_sleep=failed,
    )

"""Warnings about what is refused: once per cause, and not at the speed of clients."""

import logging
from collections.abc import Callable
from time import monotonic

INTERVAL = 600.0
"""Seconds after which the same warning is logged again."""
MAX_DETAILS = 20
"""Warnings of one cause in that time. Clients choose the details, such as an origin."""


class LogOnce:
    """Logs a warning once per cause and detail in each interval."""

    def __init__(self, log: logging.Logger, time: Callable[[], float] = monotonic) -> None:
        self._log = log
        self._time = time
        self._logged: dict[str, dict[str, float]] = {}

    def __call__(self, cause: str, detail: str, message: str, *arguments: object) -> None:
        """Log the message. ``cause`` is one of a few words, ``detail`` may be any text."""
        now = self._time()
        logged = self._logged.setdefault(cause, {})
        for known in [each for each, at in logged.items() if now - at >= INTERVAL]:
            del logged[known]
        if detail not in logged and len(logged) < MAX_DETAILS:
            logged[detail] = now
            self._log.warning(message, *arguments)

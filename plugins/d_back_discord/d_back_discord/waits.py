"""How long the bot waits before it connects again."""

import random

from msgspec import Struct

JITTER = 0.25
MAX_DOUBLINGS = 64
"""An outage of a day has more attempts than a float has doublings."""


class Waits(Struct, frozen=True, kw_only=True):
    """Seconds before the next attempt, doubled with each one that follows. Up to a quarter is
    added, so that many bots which lost the same connection do not all come at the same moment."""

    reconnect: float = 1.0
    """Before the second attempt in a row to connect, in order to resume; the first is at once."""
    longest_reconnect: float = 60.0
    new_session: float = 5.0
    """Before the second new session; `IdentifyBudget` counts them."""
    longest_new_session: float = 1200.0
    between_identifies: float = 5.0
    """Between two IDENTIFYs of any shards, as Discord asks for; it has no jitter."""


def growing(first: float, longest: float, attempt: int) -> float:
    """The wait before that attempt; the first one has the number 1."""
    wait = min(first * 2.0 ** min(attempt - 1, MAX_DOUBLINGS), longest)
    return wait * (1 + JITTER * random.random())  # noqa: S311

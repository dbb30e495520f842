"""How often somebody may do something."""

from d_back_core.clock import Clock


class Bucket:
    """A token bucket: ``burst`` at once, and after that one every ``interval`` seconds."""

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

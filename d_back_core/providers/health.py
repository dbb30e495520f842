"""The health of one provider: one notion for the log, the API, metrics and the chain.

    starting ──first attempt over──▶ ready ⇄ degraded ──grace is over──▶ failed ──▶ ready

It has two inputs. The run: it has failed, or the provider reported that its data may be out of
date (`failing_since`). The layers: calls of ``servers`` and ``users`` that fail (`layer_changed`).
A run that has begun again proves nothing by itself: each layer stays degraded until it has a new
answer (R10). A provider has failed when its run, or every layer that is asked for, has been
failing for longer than its grace.
"""

import logging
from collections.abc import Callable
from typing import Literal

from d_back_core.clock import Clock, Timer

State = Literal["starting", "ready", "degraded", "failed"]

MAX_REASONS = 20
"""Reasons of one failure that are logged as warnings: some contain a time or a number."""
KEPT = "its last data stays in use for a while"

log = logging.getLogger("d_back.providers")


class Health:
    """What is known of a provider's health. ``changed`` is called when time alone changes it."""

    def __init__(self, name: str, grace: float, clock: Clock, changed: Callable[[], None]) -> None:
        self.failing_since: float | None = None
        """When the run, or the source that the provider reports about, has begun to fail."""
        self.ready_since = 0.0
        self.has_failed = False
        """True once a run or a layer has failed: the provider's return is delayed (R9)."""
        self.last_error = ""
        self._name = name
        self._grace = grace
        self._clock = clock
        self._changed = changed
        self._starting_since: float | None = clock.time()
        self._has_run = False
        self._layers: dict[str | None, float | None] = {}
        """The layers that are asked for, by server_id (None: the list): failing since when."""
        self._logged: set[str] | None = set()
        """The reasons that were logged since it was ready; None: it was logged as ready."""
        self._was_ready = False
        self._timer: Timer | None = None

    @property
    def starting(self) -> bool:
        """True until the first attempt to start has succeeded or failed."""
        return self._starting_since is not None

    @property
    def state(self) -> State:
        # Computed, not stored: the end of a grace changes it without an event.
        if self.starting:
            return "starting"
        if not self._has_run or self.expired(None):
            return "failed"
        # The list counts only while no users are asked for: a provider that still lists servers
        # but cannot return the users of any is of no use to clients.
        users = [since for key, since in self._layers.items() if key is not None]
        asked = users or list(self._layers.values())
        if asked and all(since is not None and self.expired(since) for since in asked):
            return "failed"
        return "ready" if self._earliest is None else "degraded"

    @property
    def since(self) -> float:
        """The time from which on it has had this state."""
        if self._starting_since is not None:
            return self._starting_since
        earliest = self._earliest
        if earliest is None:
            return self.ready_since
        return earliest + self._grace if self._has_run and self.state == "failed" else earliest

    def expired(self, layer_failing_since: float | None) -> bool:
        """Return True if the grace of a layer, failing since then (None: not), has run out."""
        since = [at for at in (self.failing_since, layer_failing_since) if at is not None]
        return bool(since) and self._clock.time() >= min(since) + self._grace

    def grace_ends(self, failing_since: float) -> float:
        """Return the time at which the grace of a layer ends."""
        return failing_since + self._grace

    def set_grace(self, grace: float) -> None:
        """Use another grace from now on."""
        self._grace = grace
        if self.failing_since is not None:
            self._arm_timer(self.failing_since)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def run_began(self) -> float | None:
        """A run has begun, or the source is there again. Returns since when it was failing: its
        layers are out of date since then."""
        # `_layers` stays: each layer is degraded until it has a new answer (R10).
        failing_since, self.failing_since = self.failing_since, None
        self._starting_since, self._has_run = None, True
        self.ready_since = self._clock.time()
        self.close()
        return failing_since

    def fail(self, reason: str) -> None:
        """The run has failed, or the provider reports that its data may be out of date."""
        self._starting_since, self.has_failed, self.last_error = None, True, reason
        # The grace counts from the first failure in a row: a provider that fails again and again
        # would otherwise never lose its layers.
        if self.failing_since is None:
            self.failing_since = self._clock.time()
            self._arm_timer(self.failing_since)

    def layer_changed(self, key: str | None, failing_since: float | None, error: str = "") -> None:
        """A layer (server_id; None: the list) is asked for, and is failing since then or not."""
        self._layers[key] = failing_since
        if failing_since is None:
            # Only here: the run began earlier, but the last layer to answer makes it ready.
            self.log_ready()
            return
        self.has_failed = True
        if error:
            self.last_error = error
            self.log_failure(KEPT)

    def layer_released(self, key: str | None) -> None:
        """The layer is no longer asked for."""
        self._layers.pop(key, None)

    def log_failure(self, plan: str) -> None:
        """Log a reason as a warning if it is new since the provider was ready, else at debug
        level: calls that fail in turn must not fill the log."""
        logged = self._logged = self._logged or set()
        new = self.last_error not in logged and len(logged) < MAX_REASONS
        if new:  # not otherwise: reasons with a time or a number in them never end
            logged.add(self.last_error)
        text = self.last_error
        if not text.startswith(f"provider {self._name}: "):  # the provider's own words
            text = f"provider {self._name} is degraded: {text}"
        log.log(logging.WARNING if new else logging.DEBUG, "%s; %s", text, plan)

    def log_ready(self) -> None:
        """Log once that the provider is ready, when it is."""
        if self._logged is None or self.state != "ready":
            return
        log.info("provider %s is ready%s", self._name, " again" if self._was_ready else "")
        # None, not an empty set: the next failure is logged as a warning again, and only that
        # leads to another "is ready again".
        self._logged, self._was_ready = None, True

    @property
    def _earliest(self) -> float | None:
        """The time from which on the run or a layer has been failing."""
        failing = [self.failing_since, *self._layers.values()]
        return min((at for at in failing if at is not None), default=None)

    def _arm_timer(self, since: float) -> None:
        # No event comes at the end of the grace, and the chain must decide again then.
        self.close()
        left = max(0.0, self.grace_ends(since) - self._clock.time())
        self._timer = self._clock.call_later(left, self._changed)

"""One provider's life: start it, drain its stream, start it again when that fails.

A *run* lasts from a successful ``start`` to the failure of the stream (or to the end):

    start ──ok──▶ running ──stream raises──▶ stop ──wait──▶ start …
      │raises                stream returns: no more news; the core polls
      └──▶ stop ──wait──▶ start …          (ConfigError: never again)

The waits grow from run to run. They begin small again only after a run has lasted longer than the
longest wait: a provider that logs in and fails at once must not log in every second.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Protocol

import tenacity

from d_back_core.clock import Clock
from d_back_core.config import ChainConfig, ProviderConfig
from d_back_core.errors import ConfigError, ProviderError, one_line
from d_back_core.hookspecs import Context
from d_back_core.models import Credentials, Event, Grant
from d_back_core.providers.calls import Calls
from d_back_core.providers.health import KEPT, Health
from d_back_core.providers.loader import Plugin
from d_back_core.providers.streams import pass_on
from d_back_core.retrying import LONGEST_WAIT, retrying
from d_back_core.stats import Stats

DEFAULT_REFRESH = 30.0
STOP_TIMEOUT = 2.0

log = logging.getLogger("d_back.providers")


class ProviderListener(Protocol):
    """What a supervisor calls and asks; no method may raise."""

    def on_event(self, name: str, event: Event) -> None:
        """Apply an event of the provider's stream."""

    def on_health_changed(self, name: str) -> None:
        """Decide again which layers are in use."""

    def invalidate(self, name: str, failing_since: float | None = None) -> None:
        """Fetch everything of the provider again. ``failing_since``: it may be out of date since
        then, and is until the new answer."""

    def stats(self) -> Stats:
        """Return the counters and the state of all providers."""

    def problems(self) -> list[str]:
        """Return what is wrong although no provider has failed."""

    def on_names_reported(self, name: str) -> None:
        """`Supervisor.unresolved` or `Supervisor.channels` of that provider has changed."""

    def holds(self, server_id: str) -> bool:
        """Return True if events about the users of that server are wanted."""

    async def authorize(
        self, server_id: str, credentials: Credentials, address: str
    ) -> Grant | bool:
        """Return by what that client may join that server, or False."""

    async def reauthorize(self, server_id: str, person: str) -> bool | None:
        """Return True if that grant of `authorize` still holds; None: it cannot be said now."""


class Supervisor:
    """Keeps one provider running from `begin` to `end`."""

    def __init__(
        self, plugin: Plugin, chain: ChainConfig, clock: Clock, listener: ProviderListener
    ) -> None:
        self.name = plugin.name
        self.core = plugin.core
        self.plugin = plugin
        self.health = Health(plugin.name, plugin.core.grace, clock, self._on_health_changed)
        self.running = False
        """True from a successful ``start`` to the end of that run."""
        self.ended = False
        self.next_retry: float | None = None
        self.calls = Calls(plugin, clock)
        self.gauges: dict[str, float] = {}
        self.unresolved: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        """Option → its names that match nothing at the source, and names that would."""
        self.channels: dict[str, frozenset[str]] = {}
        """server_id → the ids and names of its channels."""
        self._clock = clock
        self._chain = chain
        self._listener = listener
        self._run_number = 0
        self._task: asyncio.Task[None] | None = None
        self._owes_stop = False
        self._stopping: asyncio.Task[None] | None = None
        """The last call of ``stop``."""
        self._settled_start = asyncio.Event()

    def reconfigure(self, core: ProviderConfig, chain: ChainConfig) -> None:
        """Continue with other settings of the core."""
        self.core, self._chain = core, chain
        self.health.set_grace(core.grace)

    # From begin to end

    def begin(self) -> None:
        """Start the provider in the background; see `settled`."""
        self._task = asyncio.create_task(self._run(), name=f"provider {self.name}")
        self._task.add_done_callback(self._on_task_done)

    async def settled(self) -> None:
        """Return when the first attempt to start has succeeded or failed, or at its end."""
        await self._settled_start.wait()

    async def end(self) -> None:
        """Stop the provider. Nothing of it is reported after this call has begun."""
        self.ended = True  # first: nothing that the provider does while it stops is reported
        self._settled_start.set()  # a recorder's queue and a starting gateway wait for it
        task, self._task = self._task, None
        self.health.close()
        if task is not None:
            task.cancel()
            # Bounded: a provider that ignores its cancellation must not hold up a reload.
            await asyncio.wait([task], timeout=STOP_TIMEOUT)
        self.running = False
        # After the run: `stop` must not overtake `start` or the stream (R17).
        await self._stop()
        self.calls.cancel()

    async def call(self, hook: str, **arguments: object) -> Any:
        """Call a hook. Raises `ProviderError` for every failure, a time-out included."""
        self._check_running(hook)
        return await self.calls.call(hook, self.core.timeout, arguments)

    async def serve(
        self, answer: Callable[[], Awaitable[None]], begun: asyncio.Future[None]
    ) -> None:
        """Await the answer to an HTTP request; see `Calls.serve`."""
        self._check_running("routes")
        await self.calls.serve(answer, begun, self.core.timeout)

    def _check_running(self, hook: str) -> None:
        if self.ended:
            raise ProviderError(self.name, hook, RuntimeError("it is not configured any more"))
        if not self.running:
            raise ProviderError(self.name, hook, RuntimeError("it is not running"))

    async def _run(self) -> None:
        async for attempt in retrying(self._clock, ProviderError, self._on_attempt_failed):
            with attempt:
                began = self._clock.time()
                try:
                    await self._run_once()
                except ConfigError as error:
                    self._on_failure(ProviderError(self.name, "start", error, self.plugin.masked))
                    self.health.log_failure("not tried again until the configuration changes")
                    return
                except ProviderError:
                    if self._clock.time() - began > LONGEST_WAIT:
                        attempt.retry_state.attempt_number = 1  # the waits begin small again
                    raise

    async def _run_once(self) -> None:
        """Start, drain the stream until it ends, then poll. Raises what ended the run."""
        # Before the start: one that fails half-way is stopped, too (R17).
        self._owes_stop = True
        polling: asyncio.Task[None] | None = None
        try:
            if self.plugin.implements("start"):
                await self._start()
            # After `start`, in which the provider has subscribed: events that come while the
            # layers are fetched wait in its stream and are applied on top (R14).
            self._on_started()
            if self.core.refresh is not None:
                polling = asyncio.create_task(self._poll(self.core.refresh))
            if self.plugin.implements("events"):
                await self._drain(self.plugin.events())
            # The stream has returned: there is no more news, so the core polls (R16).
            if polling is None:
                await self._poll(DEFAULT_REFRESH)
            else:
                await polling
        except ProviderError as error:
            # Before stop: calls that fail because of it are not the cause.
            self.running = False
            self._on_failure(error)
            await self._stop()
            raise
        finally:
            if polling is not None:
                polling.cancel()

    async def _start(self) -> None:
        context = Context(
            name=self.name,
            log=logging.getLogger(f"d_back.providers.{self.name}"),
            clock=self._clock,
            probe=self.plugin.probe,
            # With the number of the run: what a former run reports is about a closed source.
            degraded=partial(self._on_degraded, self._run_number + 1),
            recovered=partial(self._on_recovered, self._run_number + 1),
            stats=self._listener.stats,
            problems=self._listener.problems,
            authorize=self._listener.authorize,
            reauthorize=self._listener.reauthorize,
            holds=self._listener.holds,
            gauge=self.gauges.__setitem__,
            unresolved=self._on_unresolved,
            channels=self._on_channels,
            retrying=partial(retrying, self._clock),
        )
        # A start logs in and loads: it may take as long as the gateway waits before it listens.
        timeout = max(self._chain.startup_timeout, self.core.timeout)
        try:
            await self.calls.call("start", timeout, {"context": context})
        except ProviderError as error:
            if isinstance(error.__cause__, ConfigError):
                await self._stop()
                raise error.__cause__ from None
            raise

    async def _stop(self) -> None:
        """Call ``stop`` once per start; a second caller waits for the call of the first one."""
        if self._owes_stop and self.plugin.implements("stop"):
            self._stopping = asyncio.create_task(self._call_stop(), name=f"stop {self.name}")
        self._owes_stop = False
        if self._stopping is not None:
            # `end` cancels a run that may be here. A stop that is cut off half-way leaves sockets
            # open, and the next instance of the provider finds its source occupied.
            await asyncio.shield(self._stopping)

    async def _call_stop(self) -> None:
        try:
            await self.calls.call("stop", min(self.core.timeout, STOP_TIMEOUT), {})
        except ProviderError as error:
            log.warning("%s", error)

    async def _drain(self, stream: AsyncIterator[Event]) -> None:
        """Pass the events on until the stream returns; raises `ProviderError` if it raises."""
        # Not a call: a stream has no time limit, and its end is not an answer.
        with self.calls.failures_of("events"):
            await pass_on(
                stream,
                lambda event: self._listener.on_event(self.name, event),
                partial(self.calls.log_blocking, "events"),
                lambda: self.ended,
            )

    async def _poll(self, interval: float) -> None:
        while True:
            await self._clock.sleep(interval)
            self._listener.invalidate(self.name)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the supervision of provider %s failed", self.name, exc_info=error)
            self.running = False
            self._on_failure(ProviderError(self.name, "supervision", error))
            self.health.log_failure("not tried again until the configuration changes")

    # What changes the health

    def _on_started(self) -> None:
        # Both first: `_on_current` lets the layers be fetched, and a fetch checks `running`.
        self._run_number += 1
        self.running = True
        self._on_current()
        self._settled_start.set()

    def _on_degraded(self, run: int, reason: str) -> None:
        """`Context.degraded` of one run; of a run that is over it does nothing."""
        if self._is_present(run):
            self.health.fail(one_line(self.plugin.masked(reason)))
            self.health.log_failure(KEPT)
            self._on_health_changed()

    def _on_recovered(self, run: int) -> None:
        """`Context.recovered` of one run; of a run that is over it does nothing."""
        if self._is_present(run) and self.health.failing_since is not None:
            self._on_current()

    def _on_unresolved(self, key: str, names: Iterable[str], known: Iterable[str]) -> None:
        self.unresolved[key] = tuple(names), tuple(known)
        self._listener.on_names_reported(self.name)

    def _on_channels(self, server_id: str, names: Iterable[str]) -> None:
        self.channels[server_id] = frozenset(names)
        self._listener.on_names_reported(self.name)

    def _is_present(self, run: int) -> bool:
        return run == self._run_number and self.running and not self.ended

    def _on_current(self) -> None:
        """The run has begun, or the provider reports that its source is there again."""
        self.next_retry = None
        failing_since = self.health.run_began()
        if failing_since is not None:
            # Before the log: the layers are out of date until they have been fetched again.
            self._listener.invalidate(self.name, failing_since)
        self.health.log_ready()
        self._on_health_changed()

    def _on_failure(self, error: ProviderError) -> None:
        self.health.fail(str(error))
        # A failed attempt ends the wait as well: the gateway listens without this provider (R8).
        self._settled_start.set()
        self._on_health_changed()

    def _on_health_changed(self) -> None:
        self._listener.on_health_changed(self.name)

    def _on_attempt_failed(self, state: tenacity.RetryCallState) -> None:
        if state.next_action is not None:
            seconds = state.next_action.sleep
            self.next_retry = self._clock.time() + seconds
            self.health.log_failure(f"next attempt in {seconds:.1f} s")

"""One provider's life: start it, drain its stream, retry, and know its health."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, Protocol

import tenacity

from d_back_core.clock import Clock, Timer
from d_back_core.config import ChainConfig, ProviderConfig
from d_back_core.errors import ConfigError, ProviderError
from d_back_core.hookspecs import Context
from d_back_core.models import Credentials, Event
from d_back_core.providers.blocking import TimedAwaitable
from d_back_core.providers.loader import Plugin
from d_back_core.stats import Stats

Health = Literal["starting", "ready", "degraded", "failed"]

DEFAULT_REFRESH = 30.0
EVENTS_PER_TURN = 256
STOP_TIMEOUT = 2.0

log = logging.getLogger("d_back.providers")


class ProviderListener(Protocol):
    """Who a supervisor reports to; no call may raise."""

    def on_event(self, name: str, event: Event) -> None:
        """The provider's stream brought an event."""

    def on_health_changed(self, name: str) -> None:
        """The provider's health may have changed."""

    def invalidate(self, name: str) -> None:
        """All that is held of the provider is to be fetched again."""

    def stats(self) -> Stats:
        """What the core counts."""

    def holds(self, server_id: str) -> bool:
        """Whether events about that server's users are wanted."""

    async def authorize(self, server_id: str, credentials: Credentials, address: str) -> bool:
        """Whether that client may join that server; never raises."""


def retrying(
    clock: Clock, failed: Callable[[tenacity.RetryCallState], None]
) -> tenacity.AsyncRetrying:
    """Attempts without end, with growing, jittered waits, as long as `ProviderError` is raised."""
    return tenacity.AsyncRetrying(
        sleep=clock.sleep,
        wait=tenacity.wait_exponential(multiplier=0.5, max=60) + tenacity.wait_random(0, 0.5),
        retry=tenacity.retry_if_exception_type(ProviderError),
        before_sleep=failed,
    )


class Supervisor:
    """Keeps one provider running from `start` to `stop`.

    ``start`` is retried until it succeeds once, and never called again after that; a stream
    that raises is called again. A provider whose ``start`` raised `ConfigError` has failed for
    good.
    """

    def __init__(
        self, plugin: Plugin, chain: ChainConfig, clock: Clock, listener: ProviderListener
    ) -> None:
        self.name = plugin.name
        self.core = plugin.settings.core
        self.plugin = plugin
        self.starting = True
        self.started = False
        self.failing_since: float | None = None
        self.ready_since = 0.0
        self.last_error = ""
        self.next_retry: float | None = None
        self.calls = 0
        self.failures = 0
        self.latency: float | None = None
        """Seconds that the last answer took."""
        self.gauges: dict[str, float] = {}
        """What it tells of itself."""
        self.ended = False
        self.flush: Callable[[], Awaitable[None]] | None = None
        """Of a recorder: stores what is queued for it; to be awaited before it is asked."""
        self._clock = clock
        self._chain = chain
        self._listener = listener
        self._begun_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._owes_stop = False
        self._settled_start = asyncio.Event()
        self._grace: Timer | None = None

    @property
    def health(self) -> Health:
        if self.starting:
            return "starting"
        if not self.started or self.expired(None):
            return "failed"
        return "ready" if self.failing_since is None else "degraded"

    @property
    def since(self) -> float:
        """The time since when it has been in this health."""
        if self.starting:
            return self._begun_at
        if self.failing_since is None:
            return self.ready_since
        lasting = self.started and self.health == "failed"
        return self.failing_since + self.core.grace if lasting else self.failing_since

    def expired(self, layer_failing_since: float | None) -> bool:
        """Whether the grace of a layer, which fails since then or not at all, has run out."""
        since = [at for at in (self.failing_since, layer_failing_since) if at is not None]
        return bool(since) and self._clock.time() >= min(since) + self.core.grace

    def reconfigure(self, core: ProviderConfig, chain: ChainConfig) -> None:
        """Go on with other settings of the core."""
        self.core, self._chain = core, chain
        if self.failing_since is not None:
            self._turn_when_grace_ends(self.failing_since)

    def begin(self) -> None:
        """Start the provider in the background; see `settled`."""
        self._begun_at = self._clock.time()
        self._task = asyncio.create_task(self._run(), name=f"provider {self.name}")
        self._task.add_done_callback(self._ended)

    async def settled(self) -> None:
        """Return when the first attempt to start has succeeded or failed."""
        await self._settled_start.wait()

    async def end(self) -> None:
        """Stop the provider; nothing of it is reported any more."""
        self.ended = True
        task, self._task = self._task, None
        if self._grace is not None:
            self._grace.cancel()
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=STOP_TIMEOUT)
        await self._stop()
        for call in self._calls:
            call.cancel()

    async def call(self, hook: str, **arguments: object) -> Any:
        """Ask the provider; raises `ProviderError` for whatever goes wrong, the time included."""
        if self.ended:
            raise ProviderError(self.name, hook, RuntimeError("it is not configured any more"))
        return await self._call(hook, self.core.timeout, arguments)

    async def _call(self, hook: str, timeout: float, arguments: dict[str, object]) -> Any:
        # In a task of its own, for a provider that sits out its cancellation to hold up nobody.
        task = asyncio.ensure_future(self._begun(hook, arguments))
        self._calls.add(task)
        task.add_done_callback(self._called)
        began = self._clock.time()
        self.calls += 1
        self.failures += 1  # until it has answered
        try:
            async with self._clock.timeout(timeout):
                answer = await asyncio.shield(task)
        except TimeoutError as error:
            late = TimeoutError(f"no answer within {timeout:g} s")
            raise ProviderError(self.name, hook, error if task.done() else late) from error
        except asyncio.CancelledError as error:
            if not task.cancelled() or _is_cancelled():
                raise
            raise ProviderError(self.name, hook, error) from error  # it cancelled itself
        except Exception as error:  # other people's code: a provider's call can raise anything
            raise ProviderError(self.name, hook, error) from error
        finally:
            task.cancel()
        self.failures -= 1
        self.latency = self._clock.time() - began
        return answer

    async def _begun(self, hook: str, arguments: dict[str, object]) -> Any:
        return await TimedAwaitable(self.plugin.call(hook, **arguments), self._blocking(hook))

    def _blocking(self, hook: str) -> Callable[[float], None]:
        return lambda seconds: log.warning(
            "provider %s: %s: blocked the event loop for %.2f s", self.name, hook, seconds
        )

    def _called(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # of a call that nobody waits for any more

    async def _run(self) -> None:
        self._owes_stop = True
        if self.plugin.implements("start") and not await self._start():
            return
        self._ready()
        async with asyncio.TaskGroup() as group:
            if self.core.refresh is not None:
                group.create_task(self._poll())
            await self._drain()
            if self.core.refresh is None:
                await self._poll()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the supervision of provider %s failed", self.name, exc_info=error)
            self._failed(ProviderError(self.name, "supervision", error), None)

    async def _start(self) -> bool:
        start_timeout = max(self._chain.startup_timeout, self.core.timeout)
        context = Context(
            name=self.name,
            log=logging.getLogger(f"d_back.providers.{self.name}"),
            clock=self._clock,
            probe=self.plugin.probe,
            degraded=self._degraded,
            recovered=self._recovered,
            stats=self._listener.stats,
            authorize=self._listener.authorize,
            holds=self._listener.holds,
            gauge=self.gauges.__setitem__,
        )
        try:
            async for attempt in retrying(self._clock, self._call_failed):
                with attempt:
                    self._owes_stop = True
                    try:
                        await self._call("start", start_timeout, {"context": context})
                    except ProviderError as error:
                        await self._stop()
                        if isinstance(error.__cause__, ConfigError):
                            raise error.__cause__ from None
                        raise
        except ConfigError as error:
            self._failed(ProviderError(self.name, "start", error), None)
            return False
        return True

    async def _stop(self) -> None:
        if not self._owes_stop:
            return
        self._owes_stop = False
        if self.plugin.implements("stop"):
            try:
                await self._call("stop", min(self.core.timeout, STOP_TIMEOUT), {})
            except ProviderError as error:
                log.warning("%s", error)

    async def _drain(self) -> None:
        """Pass the stream on until it ends; call it again when it raises."""
        if not self.plugin.implements("events"):
            return
        async for attempt in retrying(self._clock, self._call_failed):
            with attempt:
                state = attempt.retry_state
                try:
                    await self._drain_once(again=state.attempt_number > 1)
                except ProviderError:
                    if self.failing_since is None:  # since recovered: the waits begin small again
                        state.attempt_number = 1
                    raise

    async def _drain_once(self, *, again: bool) -> None:
        recovery: Timer | None = None
        if again:  # what the stream missed is fetched again once it has held for a while
            recovery = self._clock.call_later(self._chain.failback_after, self._recovered)
        try:
            await self._pass_on(self.plugin.events())
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            raise ProviderError(self.name, "events", error) from error  # it cancelled itself
        except Exception as error:  # other people's code: a provider's stream can raise anything
            raise ProviderError(self.name, "events", error) from error
        finally:
            if recovery is not None:
                recovery.cancel()
        if again:  # a stream that has no more news cannot fail again
            self._recovered()

    async def _pass_on(self, stream: AsyncIterator[Event]) -> None:
        count = 0
        async with _closing(stream):
            watched = self._blocking("events")
            while True:
                try:
                    event = await TimedAwaitable(anext(stream), watched)
                except StopAsyncIteration:
                    return
                finally:
                    if self.ended:  # the stream has sat out its cancellation
                        raise asyncio.CancelledError
                self._listener.on_event(self.name, event)
                count += 1
                if count % EVENTS_PER_TURN == 0:  # one that never awaits would starve the loop
                    await asyncio.sleep(0)

    async def _poll(self) -> None:
        while True:
            await self._clock.sleep(self.core.refresh or DEFAULT_REFRESH)
            self._listener.invalidate(self.name)

    def _call_failed(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        if isinstance(error, ProviderError) and state.next_action is not None:
            self._failed(error, state.next_action.sleep)

    def _failed(self, error: ProviderError, retry_in: float | None) -> None:
        first = self.failing_since is None
        if first:
            self.failing_since = self._clock.time()
            self._turn_when_grace_ends(self.failing_since)
        self.last_error = str(error)
        self.next_retry = None if retry_in is None else self._clock.time() + retry_in
        self.starting = False
        self._settled_start.set()
        plan = "not tried again" if retry_in is None else f"trying again in {retry_in:.1f} s"
        log.log(logging.WARNING if first else logging.DEBUG, "%s; %s", error, plan)
        self._listener.on_health_changed(self.name)

    def _degraded(self, reason: str) -> None:
        if self.ended:
            return
        if self.failing_since is None:
            self.failing_since = self._clock.time()
            self._turn_when_grace_ends(self.failing_since)
            log.warning("provider %s is degraded: %s", self.name, reason)
        self.last_error = reason
        self._listener.on_health_changed(self.name)

    def _recovered(self) -> None:
        if self.started and not self.ended and self.failing_since is not None:
            self._ready()
            self._listener.invalidate(self.name)

    def _ready(self) -> None:
        failed = self.failing_since is not None
        self.starting, self.started = False, True
        self.failing_since = self.next_retry = None
        self.ready_since = self._clock.time()
        if self._grace is not None:
            self._grace.cancel()
        log.info("provider %s is ready%s", self.name, " again" if failed else "")
        self._settled_start.set()
        self._listener.on_health_changed(self.name)

    def _turn_when_grace_ends(self, since: float) -> None:
        if self._grace is not None:
            self._grace.cancel()
        left = max(0.0, since + self.core.grace - self._clock.time())
        self._grace = self._clock.call_later(
            left, lambda: self._listener.on_health_changed(self.name)
        )


def _is_cancelled() -> bool:
    """Whether somebody has cancelled the current task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@asynccontextmanager
async def _closing(stream: AsyncIterator[Event]) -> AsyncIterator[None]:
    """Close the generator at once, not whenever it is collected."""
    try:
        yield
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()

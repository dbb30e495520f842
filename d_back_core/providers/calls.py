"""Calls of one provider's code: bounded in time, timed, and with every failure as `ProviderError`.

A call runs in a task of its own: a provider that ignores its cancellation delays no one else. Its
`SystemExit` and `KeyboardInterrupt` are failures like any other; a task that raises one of these
would end the event loop, and the gateway with it.
"""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from d_back_core.clock import Clock
from d_back_core.errors import ProviderError
from d_back_core.providers.blocking import TimedAwaitable
from d_back_core.providers.loader import Plugin

T = TypeVar("T")

log = logging.getLogger("d_back.providers")


class Calls:
    """The calls of one provider: their number, failures and latency."""

    def __init__(self, plugin: Plugin, clock: Clock) -> None:
        self.count = 0
        self.failures = 0
        self.latency: float | None = None
        """Seconds that the last answer took."""
        self._name = plugin.name
        self._plugin = plugin
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()

    async def call(self, hook: str, timeout: float, arguments: dict[str, object]) -> Any:  # noqa: ANN401  the hook's
        """Call a hook. Raises `ProviderError` for every failure, a time-out included."""
        work = self._guarded(hook, self._plugin.call(hook, **arguments))
        return await self._wait(hook, timeout, work)

    async def serve(
        self, answer: Callable[[], Awaitable[None]], begun: asyncio.Future[None], timeout: float
    ) -> None:
        """Await the answer to an HTTP request. ``begun`` is done as soon as the response begins,
        which has to be within ``timeout``. Raises `ProviderError` for every failure."""
        task = self._owned(self._guarded("routes", answer()))
        try:
            await self._wait("routes", timeout, _first(task, begun))
            # The response has begun: it may stream for as long as the client reads.
            await asyncio.shield(task)
        except (ProviderError, asyncio.CancelledError):
            raise
        except Exception as error:  # other people's code: an answer can fail in the middle
            raise self.failure("routes", error) from error
        finally:
            task.cancel()

    def cancel(self) -> None:
        """Cancel the calls that are under way."""
        for task in self._tasks:
            task.cancel()

    @contextmanager
    def failures_of(self, hook: str) -> Iterator[None]:
        """Raise as `ProviderError` what the provider's code raises in the block."""
        try:
            with self._exits_are_failures(hook):
                yield
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            raise self.failure(hook, error) from error  # it cancelled itself
        except ProviderError:
            raise
        except Exception as error:  # other people's code can raise anything
            raise self.failure(hook, error) from error

    def failure(self, hook: str, error: BaseException) -> ProviderError:
        """Return an exception of the provider's code as its failure; log its traceback."""
        if log.isEnabledFor(logging.DEBUG):
            trace = "".join(traceback.format_exception(error)).rstrip()
            log.debug("provider %s: %s failed\n%s", self._name, hook, self._plugin.masked(trace))
        return ProviderError(self._name, hook, error, self._plugin.masked)

    def log_blocking(self, hook: str, seconds: float) -> None:
        """Warn of a step of the provider's code that took too long."""
        log.warning(
            "provider %s: %s: blocked the event loop for %.2f s", self._name, hook, seconds
        )

    def _owned(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # a task without a reference may be collected while it runs
        task.add_done_callback(self._on_call_done)
        return task

    async def _wait(self, hook: str, timeout: float, work: Coroutine[Any, Any, T]) -> T:
        task = self._owned(work)
        began = self._clock.time()
        self.count += 1
        self.failures += 1  # until it has answered
        try:
            async with self._clock.timeout(timeout):
                # Shielded: the time-out ends the wait, whatever the call does about it.
                answer = await asyncio.shield(task)
        except TimeoutError as error:
            key = "chain.startup_timeout" if hook == "start" else f"providers.{self._name}.timeout"
            hint = "" if hook == "stop" else f" (the limit is {key})"
            late = TimeoutError(f"no answer within {timeout:g} s{hint}")
            raise self.failure(hook, error if task.done() else late) from error
        except asyncio.CancelledError as error:
            if not task.cancelled() or _is_cancelled():
                raise
            raise self.failure(hook, error) from error  # it cancelled itself
        except ProviderError:
            raise
        except Exception as error:  # other people's code: a provider's call can raise anything
            raise self.failure(hook, error) from error
        finally:
            task.cancel()  # also if its caller was cancelled: nothing else waits for it
        self.failures -= 1
        self.latency = self._clock.time() - began
        return answer

    async def _guarded(self, hook: str, work: Awaitable[T]) -> T:
        with self._exits_are_failures(hook):
            return await TimedAwaitable(work, lambda took: self.log_blocking(hook, took))

    @contextmanager
    def _exits_are_failures(self, hook: str) -> Iterator[None]:
        """A task that raises one of these would end the event loop, and the gateway with it."""
        try:
            yield
        except (SystemExit, KeyboardInterrupt) as error:
            raise self.failure(hook, error) from error

    def _on_call_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, also if the caller did not wait for it


async def _first(task: asyncio.Task[None], begun: asyncio.Future[None]) -> None:
    """Return when the response has begun; raise what the task raises before."""
    await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()


def _is_cancelled() -> bool:
    """Return True if the current task has been cancelled from outside."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

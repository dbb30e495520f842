"""The stream of events."""

import asyncio
from types import TracebackType
from typing import Self

import pytest

from d_back_core.border import checked_event
from d_back_core.errors import described
from d_back_core.testing.contract.answers import Refused
from d_back_core.testing.contract.checks import Suite, check, needs
from d_back_core.testing.contract.error import ContractError
from d_back_core.testing.contract.promises import CANCELLED, EVENTS, STOP
from d_back_core.testing.contract.trial import Trial

A_MINUTE = 60.0


class Drained:
    """Drains the stream in the background, as the core does."""

    def __init__(self, trial: Trial) -> None:
        self.events: list[object] = []
        self._trial = trial
        self._stream = trial.plugin.events()
        self.task = asyncio.create_task(self._drain())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.task.cancel()
        await asyncio.wait([self.task], timeout=self._trial.patience)

    async def _drain(self) -> None:
        try:
            async for event in self._stream:
                self.events.append(event)
        finally:
            close = getattr(self._stream, "aclose", None)
            if close is not None:
                await close()

    def check_running(self) -> None:
        """Break the contract where the stream has raised."""
        if self.task.done() and not self.task.cancelled():
            error = self.task.exception()
            if error is not None:
                raise ContractError(
                    f"{self._trial.kind}.events raised {described(error)}.", EVENTS
                ) from error


class Stream(Suite):
    """Checks of the stream."""

    @check
    async def test_its_events_are_valid(self, trial: Trial) -> None:
        """Each event is one of the event structs, with valid fields."""
        needs(trial, "events")
        await trial.ready()
        async with Drained(trial) as drained:
            await trial.pass_time(A_MINUTE)
            drained.check_running()
        if not drained.events:
            pytest.skip("no event came in a minute of its time")
        for event in drained.events:
            refused = Refused()
            checked_event(event, refused)
            if refused.values:
                raise ContractError(
                    f"{trial.kind}.events yielded {event!r:.160}, which is not valid:"
                    f" {refused.values[0]}.",
                    EVENTS,
                )

    @check
    async def test_stop_ends_the_stream(self, trial: Trial) -> None:
        """A stream that is waited for ends when the provider is stopped, and raises nothing."""
        needs(trial, "events")
        await trial.ready()
        async with Drained(trial) as drained:
            await asyncio.sleep(0)
            await trial.stop()
            if not await trial.until(drained.task.done):
                raise ContractError(
                    f"{trial.kind}.events goes on {trial.patience:g} s after stop().", STOP
                )
            drained.check_running()
        await trial.check_nothing_left("after stop()")

    @check
    async def test_a_stream_that_is_cancelled_ends(self, trial: Trial) -> None:
        """A stream whose reader is cancelled ends as cancelled, and leaves nothing."""
        needs(trial, "events")
        await trial.ready()
        drained = Drained(trial)
        await trial.until(lambda: True)
        await asyncio.sleep(0)
        drained.task.cancel()
        if not await trial.until(drained.task.done):
            raise ContractError(f"{trial.kind}.events goes on after it was cancelled.", CANCELLED)
        drained.check_running()
        await trial.stop()
        await trial.check_nothing_left("after its stream was cancelled, and stop()")
        trial.check_heard()

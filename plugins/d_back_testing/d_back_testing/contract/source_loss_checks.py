"""Checks of a source that is lost while the provider runs, and is there again later.

The checks do what the core does. If the stream raises, the run ends: ``stop``, then ``start``
until it succeeds. If the provider calls ``degraded``, the run continues, and the provider calls
``recovered``. A provider without a stream is asked until it answers again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import pytest

from d_back_core import ConfigError
from d_back_core.errors import described
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.event_checks import StreamReader, check_agreement
from d_back_testing.contract.harness import TURN, Harness
from d_back_testing.contract.rules import (
    AGAIN,
    CANNOT_SAY,
    FAILED,
    NEVER,
    NOT_MINE,
    REFETCHED,
    SUBSCRIBE,
    WAITING,
    Rule,
)
from d_back_testing.contract.suite import Suite, check, needs


class SourceLossChecks(Suite):
    """Checks of a lost source."""

    @check
    async def test_lost_source_is_reported(self, harness: Harness) -> None:
        """When the source is lost, ``events`` raises or ``degraded`` is called, in every run."""
        self._needs_source(harness)
        known = await harness.ready()
        async with _Connection(self, harness, known) as connection:
            for _ in range(2):
                await connection.lose()
                await connection.restore()

    @check
    async def test_lost_source_returns_no_data(self, harness: Harness) -> None:
        """While the source is lost, ``servers`` and ``users`` return None or raise. Until its run
        ends, a degraded provider may return its last data."""
        self._needs_source(harness)
        known = await harness.ready()
        async with _Connection(self, harness, known) as connection:
            await connection.lose()
            if not connection.run_has_ended or await connection.restarted() is None:
                await _check_answers_without_source(harness, known)

    @check
    async def test_reconnect_returns_new_data(self, harness: Harness) -> None:
        """After a reconnect, ``users`` returns what the source has now."""
        self._needs_source(harness)
        needs(harness, "users")
        known = await harness.ready()
        before = {each: dict(await harness.users(each) or {}) for each in known}
        async with _Connection(self, harness, known) as connection:
            await connection.lose()
            await connection.restore()

            async def is_new() -> bool:
                connection.check_running()
                now = {each: await _answer(harness, "users", server_id=each) for each in known}
                return None not in now.values() and now != before

            if not await _becomes(harness, is_new):
                raise ContractError(
                    f"{harness.kind}.users returns after the reconnect what it returned before:"
                    f" {before!r:.160}. Expected the change that restore_source() has made.",
                    REFETCHED,
                )

    @check
    async def test_reconnect_yields_new_events(self, harness: Harness) -> None:
        """After a reconnect, ``events`` yields what happens then."""
        self._needs_source(harness)
        needs(harness, "events")
        if not self.can_trigger_event:
            pytest.skip("needs `async def trigger_event(self)`")
        known = await harness.ready()
        async with _Connection(self, harness, known) as connection:
            await connection.lose()
            await connection.restore()
            await harness.known()
            reader = connection.reader
            reader.events.clear()
            before = {each: await harness.users(each) for each in known}
            await self.trigger_event()
            await harness.until(lambda: reader.events or reader.task.done())
            connection.check_running()
            if not reader.events:
                raise ContractError(
                    f"{harness.kind}.events {'returned' if reader.task.done() else 'waits'} after"
                    " the reconnect, and yielded nothing of what happened then.",
                    SUBSCRIBE,
                )
            await check_agreement(harness, before, reader)

    def _needs_source(self, harness: Harness) -> None:
        if not self.can_lose_source:
            pytest.skip("needs `async def lose_source(self)` and `restore_source(self)`")
        needs(harness, "servers", "users", "events")


class _Connection:
    """The connection of a started provider to its source, over one or more runs."""

    reader: StreamReader
    """Reads the stream of this run, if the provider has streams."""

    def __init__(self, suite: Suite, harness: Harness, known: list[str]) -> None:
        self._suite = suite
        self._harness = harness
        self._known = known
        self._has_stream = harness.implements("events")

    async def __aenter__(self) -> Self:
        await self._read()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._has_stream:
            await self.reader.__aexit__(kind, error, traceback)

    @property
    def run_has_ended(self) -> bool:
        """True if the stream has raised."""
        return self._has_stream and self.reader.error is not None

    def check_running(self) -> None:
        """Raise `ContractError` if the stream has raised."""
        if self._has_stream:
            self.reader.check_running()

    async def lose(self) -> None:
        """Lose the source. Raises `ContractError` if the provider does not report that."""
        harness = self._harness
        is_polled = not self._has_stream or self.reader.task.done()
        await self._suite.lose_source()
        if is_polled:
            if not await _becomes(harness, self._reports_by_hooks):
                raise ContractError(
                    f"{harness.kind} still returns data {harness.timeout:g} s after its source was"
                    " lost, and has not called context.degraded.",
                    CANNOT_SAY,
                )
            return
        if not await harness.until(lambda: harness.is_degraded or self.reader.task.done()):
            raise ContractError(
                f"{harness.kind}.events still waits {harness.timeout:g} s after the source was"
                " lost, and context.degraded was not called. It must raise: the core takes the old"
                " data for current, and does not call start() again.",
                WAITING,
            )
        if not harness.is_degraded and not self.run_has_ended:
            raise ContractError(
                f"{harness.kind}.events returned when the source was lost. It must raise: the core"
                " does not call start() again.",
                FAILED,
            )

    async def restore(self) -> None:
        """Restore the source. Raises `ContractError` if the provider does not reconnect."""
        harness = self._harness
        if self.run_has_ended:
            await harness.stop()
        await self._suite.restore_source()
        if not self.run_has_ended:
            if not await _becomes(harness, self._has_recovered):
                raise ContractError(
                    f"{harness.kind} has not reconnected {harness.timeout:g} s after the source"
                    " was there again: events has not raised, and context.recovered was not"
                    " called.",
                    AGAIN,
                )
            if not self.run_has_ended:
                return
            await harness.stop()
        errors: list[Exception] = []

        async def has_started() -> bool:
            error = await self._started()
            errors.extend([error] if error else [])
            return error is None

        if not await _becomes(harness, has_started):
            raise ContractError(
                f"{harness.kind}.start still raises {harness.timeout:g} s after the source was"
                f" there again: {described(errors[-1])}.",
                AGAIN,
            ) from errors[-1]
        await self._read()

    async def restarted(self) -> Exception | None:
        """End this run and start the next one. Return what ``start`` raised."""
        await self._harness.stop()
        return await self._started()

    async def _started(self) -> Exception | None:
        harness = self._harness
        error = await harness.attempt_start()
        if isinstance(error, ConfigError):
            raise ContractError(
                f"{harness.kind}.start raised ConfigError without its source: the core would"
                " never retry.",
                NEVER,
            ) from error
        if error is not None:
            await harness.stop()
        return error

    async def _read(self) -> None:
        if self._has_stream:
            self.reader = StreamReader(self._harness)
            await self._harness.pause()

    async def _reports_by_hooks(self) -> bool:
        return self._harness.is_degraded or not any(await self._answers())

    async def _has_recovered(self) -> bool:
        if self.run_has_ended or self._harness.is_degraded:
            return self.run_has_ended
        return all(await self._answers())

    async def _answers(self) -> list[bool]:
        """For each server, if its users are returned. Without any, if the list is: it may come
        from the configuration, and so stay while the source is lost."""
        harness = self._harness
        asked: list[dict[str, str]] = [{"server_id": each} for each in self._known]
        answers = [await _answer(harness, "users", **each) for each in asked]
        if not answers and harness.implements("servers"):
            answers.append(await _answer(harness, "servers"))
        return [answer is not None for answer in answers]


async def _answer(harness: Harness, hook: str, **arguments: str) -> Any:  # noqa: ANN401
    """Call ``servers`` or ``users``; None if it raises."""
    try:
        return await harness.call(hook, CANNOT_SAY, **arguments)
    except ContractError:
        raise
    except Exception:  # noqa: BLE001  raising is a valid answer, of a type that the provider chooses
        return None


async def _becomes(harness: Harness, condition: Callable[[], Awaitable[bool]]) -> bool:
    """Wait until the condition holds; False if it does not in time."""
    holds = False

    async def evaluate() -> None:
        nonlocal holds
        holds = await condition()
        await asyncio.sleep(0 if holds else TURN)

    return await harness.until(lambda: holds, evaluate)


async def _check_answers_without_source(harness: Harness, known: list[str]) -> None:
    """Raise `ContractError` if a hook returns an empty mapping, or ``users`` returns users in a
    run that has begun without the source.

    A provider that has called ``degraded`` may return its last users: the core knows that they may
    be out of date. A list of servers may come from the configuration.
    """
    calls: list[tuple[str, dict[str, str], Rule]] = [
        ("servers", {}, CANNOT_SAY),
        *(("users", {"server_id": each}, NOT_MINE) for each in known),
    ]
    for hook, arguments, rule in calls:
        answer = await _answer(harness, hook, **arguments)
        if answer is None or (answer and (hook == "servers" or harness.is_degraded)):
            continue
        what = "old data" if answer else "an empty mapping"
        shown = ", ".join(map(repr, arguments.values()))
        raise ContractError(
            f"{harness.kind}.{hook}({shown}) returned {what} while its source was lost:"
            f" {answer!r:.80}. Expected None or an exception.",
            rule,
        )

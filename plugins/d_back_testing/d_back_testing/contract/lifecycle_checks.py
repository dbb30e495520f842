"""Checks of ``start`` and ``stop``."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

from d_back_core import ConfigError
from d_back_core.errors import described
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.harness import Harness
from d_back_testing.contract.rules import (
    CALLS,
    CANCELLED,
    CANNOT_SAY,
    NEVER,
    NOT_MINE,
    PAIRS,
    PROBE,
    Rule,
)
from d_back_testing.contract.suite import Suite, check, check_unavailable, needs

STEPS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
"""The suspensions of a call at which the checks cancel it, one after the other."""


class LifecycleChecks(Suite):
    """Checks of ``start`` and ``stop``."""

    @check
    async def test_provider_can_be_restarted(self, harness: Harness) -> None:
        """One instance can be started and stopped repeatedly, and knows the same servers."""
        before: object = None
        for turn in range(3):
            known = await harness.ready()
            if turn and known != before:
                raise ContractError(
                    f"{harness.kind} knows {known} after a restart, and knew {before} before.",
                    PAIRS,
                )
            before = known
            await harness.stop()

    @check
    async def test_stop_releases_everything(self, harness: Harness) -> None:
        """No task, socket, thread or timer is left after ``stop``."""
        for _ in range(2):
            for server_id in await harness.ready():
                await harness.users(server_id)
            await harness.stop()
            await harness.check_no_leaks("after stop()")
        harness.check_no_unhandled()

    @check
    async def test_cancelled_start_can_be_stopped(self, harness: Harness) -> None:
        """After a ``start`` that is cancelled, at each point where it waits, ``stop`` releases
        everything, and the next ``start`` works."""
        needs(harness, "start", "stop")
        for step in STEPS:
            reached = await cancelled_at(
                harness, "start", step, CANCELLED, context=harness.context()
            )
            await harness.ask("stop", PAIRS)
            await harness.check_no_leaks("after a cancelled start() and stop()")
            if not reached:
                break
        await harness.ready()
        await harness.stop()

    @check_unavailable
    async def test_failed_start_can_be_stopped(self, harness: Harness) -> None:
        """Without its source, ``start`` raises or the hooks return None; ``stop`` releases
        everything."""
        for _ in range(2):
            error = await _failed_start(harness)
            if isinstance(error, ConfigError):
                raise ContractError(
                    f"{harness.kind}.start raised ConfigError without its source: the core would"
                    " never retry.",
                    NEVER,
                ) from error
            if error is None:
                await _check_returns_none(harness)
            await harness.ask("stop", PAIRS)
            await harness.check_no_leaks("after a failed start() and stop()")
        harness.check_no_unhandled()

    @check
    async def test_probe_releases_everything(self, harness: Harness) -> None:
        """After a ``start`` with ``context.probe``, ``servers`` answers and ``stop`` releases
        everything."""
        await harness.start(probe=True)
        try:
            await harness.servers()
        finally:
            await harness.stop()
        if leaks := await harness.leaks():
            raise ContractError(
                f"{harness.kind} has not released after a probe: {', '.join(leaks)}.", PROBE
            )
        harness.check_no_unhandled()


async def _failed_start(harness: Harness) -> Exception | None:
    try:
        await harness.call("start", CALLS, context=harness.context())
    except ContractError:
        raise
    except Exception as error:  # noqa: BLE001  the provider's code may raise anything
        return error
    return None


async def _check_returns_none(harness: Harness) -> None:
    """Raise `ContractError` if a hook returns an empty mapping: started without its source, the
    provider cannot know that there are no servers or users."""
    asked = {"servers": CANNOT_SAY} | ({"users": NOT_MINE} if harness.server_id else {})
    for hook, rule in asked.items():
        given = {"server_id": harness.server_id} if hook == "users" else {}
        try:
            answer = await harness.call(hook, rule, **given)
        except ContractError:
            raise
        except Exception:  # noqa: BLE001, S112  raising is a valid answer, too
            continue
        if answer is not None and not answer:
            raise ContractError(
                f"{harness.kind}.{hook} returned {answer!r} without its source, expected None.",
                rule,
            )


class CancelAtStep:
    """Awaits an awaitable, and cancels the current task at its nth suspension."""

    def __init__(self, awaitable: Awaitable[Any], step: int) -> None:
        self.reached = False
        self._awaitable = awaitable
        self._step = step

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._awaitable.__await__()
        step, value, number = steps.send, None, 0
        while True:
            try:
                waited_for = step(value)
            except StopIteration as done:
                return done.value
            number += 1
            task = asyncio.current_task()
            if number == self._step and task is not None:
                self.reached = True
                task.cancel()
            try:
                step, value = steps.send, (yield waited_for)
            except BaseException as error:  # noqa: BLE001  await passes on every exception
                step, value = steps.throw, error


async def cancelled_at(
    harness: Harness, hook: str, step: int, rule: Rule, **arguments: object
) -> bool:
    """Call a hook and cancel it at that suspension (0: do not call it). Return False if the call
    returns before. Raises `ContractError` if it does not end as cancelled."""
    if step == 0:
        return True
    call = CancelAtStep(harness.plugin.call(hook, **arguments), step)

    async def run() -> Any:  # noqa: ANN401
        return await call

    task = asyncio.create_task(run())
    if not await harness.until(task.done):
        raise ContractError(f"{harness.kind}.{hook} has not ended after it was cancelled.", rule)
    if task.cancelled():
        return True
    error = task.exception()
    if not call.reached and error is None:
        return False
    if error is None:
        raise ContractError(f"{harness.kind}.{hook} continued after it was cancelled.", rule)
    raise ContractError(
        f"{harness.kind}.{hook}, when it was cancelled, raised {described(error)}.", rule
    ) from error

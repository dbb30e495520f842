"""Start and stop."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

from d_back_core.errors import ConfigError, described
from d_back_testing.contract.checks import Suite, check, check_unavailable, needs
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.promises import (
    CALLS,
    CANCELLED,
    CANNOT_SAY,
    NEVER,
    NOT_MINE,
    PAIRS,
    PROBE,
    Promise,
)
from d_back_testing.contract.trial import Trial

STEPS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
"""At which of its suspensions a call is cancelled, one after the other."""


class Life(Suite):
    """Checks of start and stop."""

    @check
    async def test_start_and_stop_come_in_pairs(self, trial: Trial) -> None:
        """One instance is started and stopped more than once, and answers each time."""
        before: object = None
        for turn in range(3):
            known = await trial.ready()
            if turn and known != before:
                raise ContractError(
                    f"{trial.kind} knows {known} after it was started again, and knew {before}"
                    " before.",
                    PAIRS,
                )
            before = known
            await trial.stop()

    @check
    async def test_nothing_is_left_after_stop(self, trial: Trial) -> None:
        """No task, socket, thread or timer outlives stop."""
        for _ in range(2):
            for server_id in await trial.ready():
                await trial.users(server_id)
            await trial.stop()
            await trial.check_nothing_left("after stop()")
        trial.check_heard()

    @check
    async def test_stop_follows_a_start_that_was_cut_short(self, trial: Trial) -> None:
        """A start that is cancelled, wherever it waits, is followed by a stop that gives all
        back, and by a start that works."""
        needs(trial, "start", "stop")
        for step in STEPS:
            reached = await cut_short(trial, "start", step, CANCELLED, context=trial.context())
            await trial.ask("stop", PAIRS)
            await trial.check_nothing_left("after a start() that was cut short, and stop()")
            if not reached:
                break
        await trial.ready()
        await trial.stop()

    @check_unavailable
    async def test_stop_follows_a_start_that_failed(self, trial: Trial) -> None:
        """Without its source it raises or says that it cannot say, each time, and leaves
        nothing."""
        for _ in range(2):
            error = await _failed_start(trial)
            if isinstance(error, ConfigError):
                raise ContractError(
                    f"{trial.kind}.start raised ConfigError without its source: it would never"
                    " be tried again.",
                    NEVER,
                ) from error
            if error is None:
                await _check_cannot_say(trial)
            await trial.ask("stop", PAIRS)
            await trial.check_nothing_left("after a start() that failed, and stop()")
        trial.check_heard()

    @check
    async def test_a_probe_leaves_nothing(self, trial: Trial) -> None:
        """A start that only asks once answers and is stopped, without a stream."""
        await trial.start(probe=True)
        try:
            await trial.servers()
        finally:
            await trial.stop()
        if left := await trial.left():
            raise ContractError(
                f"{trial.kind} left behind after a probe: {', '.join(left)}.", PROBE
            )
        trial.check_heard()


async def _failed_start(trial: Trial) -> Exception | None:
    try:
        await trial.call("start", CALLS, context=trial.context())
    except ContractError:
        raise
    except Exception as error:  # noqa: BLE001  other people's code: what is to be seen
        return error
    return None


async def _check_cannot_say(trial: Trial) -> None:
    """It has started without its source: then it must not answer that there is nobody."""
    asked = {"servers": CANNOT_SAY} | ({"users": NOT_MINE} if trial.server_id else {})
    for hook, promise in asked.items():
        given = {"server_id": trial.server_id} if hook == "users" else {}
        try:
            answer = await trial.call(hook, promise, **given)
        except ContractError:
            raise
        except Exception:  # noqa: BLE001, S112  it may say so by raising anything
            continue
        if answer is not None and not answer:
            raise ContractError(
                f"{trial.kind}.{hook} answered {answer!r} without its source, not None.", promise
            )


class Cut:
    """Awaits what it is given, and cancels it where it waits for the nth time."""

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
            except BaseException as error:  # noqa: BLE001  passed on as it is, as await does
                step, value = steps.throw, error


async def cut_short(
    trial: Trial, hook: str, step: int, promise: Promise, **arguments: object
) -> bool:
    """Cancel the call where it waits for that many times (0: before its first line); returns
    whether it waited so often. It has to end as cancelled."""
    if step == 0:
        return True
    cut = Cut(trial.plugin.call(hook, **arguments), step)

    async def called() -> Any:  # noqa: ANN401
        return await cut

    task = asyncio.create_task(called())
    if not await trial.until(task.done):
        raise ContractError(f"{trial.kind}.{hook} has not ended after it was cancelled.", promise)
    if task.cancelled():
        return True
    error = task.exception()
    if not cut.reached and error is None:
        return False
    if error is None:
        raise ContractError(f"{trial.kind}.{hook} went on after it was cancelled.", promise)
    raise ContractError(
        f"{trial.kind}.{hook}, when it was cancelled, raised {described(error)}.", promise
    ) from error

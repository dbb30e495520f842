"""The stream of events."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import pytest
from msgspec import UNSET, structs

from d_back_core.errors import described
from d_back_core.models import Message, Reload, User, UserChanged, UserRemoved, channel_id
from d_back_core.providers.validation import checked_event
from d_back_testing.contract.answers import Refused
from d_back_testing.contract.checks import Suite, check, needs
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.promises import CANCELLED, EVENTS, FAILED, STOP, SUBSCRIBE
from d_back_testing.contract.trial import TURN, Trial

A_MINUTE = 60.0


class Drained:
    """Drains the stream in the background, as the core does."""

    def __init__(self, trial: Trial) -> None:
        self.events: list[object] = []
        self._trial = trial
        self._stream = trial.plugin.events()
        self.task = asyncio.create_task(self._drain(), name="the reader of the stream")

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
                raised = f"{self._trial.kind}.events raised {described(error)}."
                raise ContractError(raised, FAILED) from error


class Stream(Suite):
    """Checks of the stream."""

    @check
    async def test_its_events_are_valid(self, trial: Trial) -> None:
        """Each event is one of the event structs, with valid fields."""
        needs(trial, "events")
        await trial.ready()
        async with Drained(trial) as drained:
            await self._something(trial)
            came = not self.can_happen or await trial.until(
                lambda: drained.events or drained.task.done()
            )
            drained.check_running()
            if not came or (self.can_happen and not drained.events):
                raise ContractError(
                    f"{trial.kind}.events yielded nothing of what happened.", EVENTS
                )
        if not drained.events:
            pytest.skip("nothing happened in a minute of its time; say `async def happen(self)`")
        for event in drained.events:
            check_event(trial, event)

    @check
    async def test_its_events_and_its_users_agree(self, trial: Trial) -> None:
        """What it said of the users, changed by its events, is what it says now."""
        needs(trial, "events")
        known = await trial.ready()
        before = {each: await trial.users(each) for each in known}
        async with Drained(trial) as drained:
            await self._something(trial)
            await asyncio.sleep(0)
            if not drained.events and not self.can_happen:
                pytest.skip("nothing happened; say `async def happen(self)`")
            await check_agreement(trial, before, drained)

    @check
    async def test_what_happens_before_the_stream_is_read_is_in_it(self, trial: Trial) -> None:
        """It subscribes in start: what happens from then on reaches events, whenever these are
        read."""
        needs(trial, "events")
        if not self.can_happen:
            pytest.skip("say `async def happen(self)`")
        known = await trial.ready()
        before = {each: await trial.users(each) for each in known}
        await self.happen()
        async with Drained(trial) as drained:
            if not await trial.until(lambda: drained.events):
                drained.check_running()
                raise ContractError(
                    f"{trial.kind}.events yielded nothing of what happened between start() and"
                    " events().",
                    SUBSCRIBE,
                )
            await check_agreement(trial, before, drained)

    @check
    async def test_stop_ends_the_stream(self, trial: Trial) -> None:
        """A stream that is waited for ends when the provider is stopped."""
        needs(trial, "events")
        await trial.ready()
        async with Drained(trial) as drained:
            await asyncio.sleep(TURN)
            await trial.stop()
            if not await trial.until(drained.task.done):
                raise ContractError(
                    f"{trial.kind}.events goes on {trial.patience:g} s after stop().", STOP
                )
        await trial.check_nothing_left("after stop()")

    @check
    async def test_a_stream_that_is_cancelled_ends(self, trial: Trial) -> None:
        """A stream whose reader is cancelled ends as cancelled, and leaves nothing."""
        needs(trial, "events")
        await trial.ready()
        drained = Drained(trial)
        await asyncio.sleep(TURN)
        ended = drained.task.done()
        drained.task.cancel()
        if not await trial.until(drained.task.done):
            raise ContractError(f"{trial.kind}.events goes on after it was cancelled.", CANCELLED)
        drained.check_running()
        if not ended and not drained.task.cancelled():
            raise ContractError(
                f"{trial.kind}.events, when it was cancelled, returned: it has swallowed that.",
                CANCELLED,
            )
        await trial.stop()
        await trial.check_nothing_left("after its stream was cancelled, and stop()")
        trial.check_heard()

    async def _something(self, trial: Trial) -> None:
        """Let something happen, or at least time pass."""
        if self.can_happen:
            await self.happen()
        else:
            await trial.pass_time(A_MINUTE)


def check_event(trial: Trial, event: object) -> None:
    """Break the contract where the border would refuse something of the event."""
    refused = Refused()
    checked_event(event, refused)
    if isinstance(event, Message) and not event.message:
        refused("message", event.message)
    if isinstance(event, Message) and channel_id(event.channel) != event.channel:
        refused("channel", event.channel)
    if refused.values:
        raise ContractError(
            f"{trial.kind}.events yielded {event!r:.160}, which is not valid:"
            f" {refused.values[0]}.",
            EVENTS,
        )


async def check_agreement(
    trial: Trial, before: Mapping[str, Mapping[str, User] | None], drained: Drained
) -> None:
    """Break the contract where events and answers do not come to the same, in time."""
    for server_id, users in before.items():
        layer = _Layer(server_id, users or {})

        async def differs(layer: _Layer = layer) -> str | None:
            drained.check_running()
            return layer.difference(drained.events, await trial.users(layer.server_id) or {})

        loop = asyncio.get_running_loop()
        began = loop.time()
        while difference := await differs():
            if loop.time() - began > trial.patience:
                raise ContractError(
                    f"{trial.kind}: events and users({server_id!r}) contradict each other:"
                    f" {difference}.",
                    EVENTS,
                )
            await asyncio.sleep(TURN)


class _Layer:
    """What the core would have of one server."""

    def __init__(self, server_id: str, users: Mapping[str, User]) -> None:
        self.server_id = server_id
        self._users = dict(users)
        self._read = 0

    def difference(self, events: list[object], now: Mapping[str, User]) -> str | None:
        """Apply what is new, and say where the answer of now is another one."""
        for event in events[self._read :]:
            self._apply(event, now)
        self._read = len(events)
        for uid in [*self._users, *now]:
            told, said = self._users.get(uid), now.get(uid)
            if told != said:
                return f"of '{uid}' the events say {told!r}, users {said!r}"
        return None

    def _apply(self, event: object, now: Mapping[str, User]) -> None:
        match event:
            case Reload(server_id=None | self.server_id):
                self._users = dict(now)
            case UserRemoved(server_id=self.server_id, uid=uid):
                self._users.pop(uid, None)
            case UserChanged(server_id=self.server_id, uid=uid):
                fields = {name: getattr(event, name) for name in User.__struct_fields__}
                said = {name: value for name, value in fields.items() if value is not UNSET}
                self._users[uid] = structs.replace(self._users.get(uid, User()), **said)

"""Checks of ``events``."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import pytest
from msgspec import UNSET, structs

from d_back_core import Message, Reload, User, UserChanged, UserRemoved
from d_back_core.errors import described
from d_back_core.models import Chat, channel_id
from d_back_core.providers.validation import checked_event
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.harness import TURN, Harness
from d_back_testing.contract.record_checks import RejectedValues
from d_back_testing.contract.rules import CANCELLED, EVENTS, FAILED, STOP, SUBSCRIBE
from d_back_testing.contract.suite import Suite, check, needs

A_MINUTE = 60.0
NO_EVENT = "the provider yields no event within a minute; define `async def trigger_event(self)`"


class StreamReader:
    """Reads the stream of a provider in the background, as the core does."""

    def __init__(self, harness: Harness) -> None:
        self.events: list[object] = []
        self._trial = harness
        self._stream = harness.plugin.events()
        self.task = asyncio.create_task(self._read(), name="the reader of the stream")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.task.cancel()
        await asyncio.wait([self.task], timeout=self._trial.timeout)

    async def _read(self) -> None:
        try:
            async for event in self._stream:
                self.events.append(event)
        finally:
            close = getattr(self._stream, "aclose", None)
            if close is not None:
                await close()

    @property
    def error(self) -> BaseException | None:
        """What the stream has raised."""
        if not self.task.done() or self.task.cancelled():
            return None
        return self.task.exception()

    def check_running(self) -> None:
        """Raise `ContractError` if the stream has raised."""
        if self.error is not None:
            raised = f"{self._trial.kind}.events raised {described(self.error)}."
            raise ContractError(raised, FAILED) from self.error


class EventChecks(Suite):
    """Checks of ``events``."""

    @check
    async def test_events_are_valid(self, harness: Harness) -> None:
        """``events`` yields event structs with valid fields."""
        needs(harness, "events")
        await harness.ready()
        async with StreamReader(harness) as reader:
            await harness.pause()
            before = len(reader.events)  # of `start`, such as a first Reload
            await self._trigger_event(harness)
            if self.can_trigger_event:
                await harness.until(lambda: len(reader.events) > before or reader.task.done())
            reader.check_running()
            if self.can_trigger_event and len(reader.events) == before:
                raise ContractError(
                    f"{harness.kind}.events yielded nothing after trigger_event().", EVENTS
                )
        if not reader.events:
            pytest.skip(NO_EVENT)
        for event in reader.events:
            check_event(harness, event)

    @check
    async def test_events_and_users_agree(self, harness: Harness) -> None:
        """The users of before, changed by the events, are the users of now."""
        needs(harness, "events")
        known = await harness.ready()
        before = {each: await harness.users(each) for each in known}
        async with StreamReader(harness) as reader:
            await self._trigger_event(harness)
            await asyncio.sleep(0)
            if not reader.events and not self.can_trigger_event:
                pytest.skip(NO_EVENT)
            await check_agreement(harness, before, reader)

    @check
    async def test_start_subscribes(self, harness: Harness) -> None:
        """Events that happen after ``start`` and before ``events`` is read are not lost."""
        needs(harness, "events")
        if not self.can_trigger_event:
            pytest.skip("needs `async def trigger_event(self)`")
        known = await harness.ready()
        before = {each: await harness.users(each) for each in known}
        await self.trigger_event()
        async with StreamReader(harness) as reader:
            if not await harness.until(lambda: reader.events):
                reader.check_running()
                raise ContractError(
                    f"{harness.kind}.events yielded nothing of what happened between start() and"
                    " events().",
                    SUBSCRIBE,
                )
            await check_agreement(harness, before, reader)

    @check
    async def test_stop_ends_the_stream(self, harness: Harness) -> None:
        """``stop`` ends a stream that is being read."""
        needs(harness, "events")
        await harness.ready()
        async with StreamReader(harness) as reader:
            await asyncio.sleep(TURN)
            await harness.stop()
            if not await harness.until(reader.task.done):
                raise ContractError(
                    f"{harness.kind}.events continues {harness.timeout:g} s after stop().", STOP
                )
        await harness.check_no_leaks("after stop()")

    @check
    async def test_cancelled_stream_ends(self, harness: Harness) -> None:
        """A stream whose reader is cancelled ends as cancelled and releases everything."""
        needs(harness, "events")
        await harness.ready()
        reader = StreamReader(harness)
        await asyncio.sleep(TURN)
        ended = reader.task.done()
        reader.task.cancel()
        if not await harness.until(reader.task.done):
            raise ContractError(
                f"{harness.kind}.events continues after it was cancelled.", CANCELLED
            )
        reader.check_running()
        if not ended and not reader.task.cancelled():
            raise ContractError(
                f"{harness.kind}.events returned when it was cancelled: it must let CancelledError"
                " pass.",
                CANCELLED,
            )
        await harness.stop()
        await harness.check_no_leaks("after a cancelled stream and stop()")
        harness.check_no_unhandled()

    async def _trigger_event(self, harness: Harness) -> None:
        """Trigger an event if the suite can, and otherwise move the clock by a minute."""
        if self.can_trigger_event:
            await self.trigger_event()
        else:
            await harness.advance(A_MINUTE)


def check_event(harness: Harness, event: object) -> None:
    """Raise `ContractError` if validation rejects a part of the event."""
    rejected = RejectedValues()
    checked_event(event, rejected)
    if isinstance(event, Message) and not event.message:
        rejected("message", event.message)
    if isinstance(event, Chat):
        if channel_id(event.channel) != event.channel:
            rejected("channel", event.channel)
        if event.id is not None and channel_id(event.id) != event.id:
            rejected("id", event.id)
    if rejected.values:
        raise ContractError(
            f"{harness.kind}.events yielded {event!r:.160}, which is invalid:"
            f" {rejected.values[0]}.",
            EVENTS,
        )


async def check_agreement(
    harness: Harness, before: Mapping[str, Mapping[str, User] | None], reader: StreamReader
) -> None:
    """Raise `ContractError` if events and answers do not agree in time."""
    for server_id, users in before.items():
        layer = _Layer(server_id, users or {})

        async def differs(layer: _Layer = layer) -> str | None:
            reader.check_running()
            return layer.difference(reader.events, await harness.users(layer.server_id) or {})

        loop = asyncio.get_running_loop()
        began = loop.time()
        while difference := await differs():
            if loop.time() - began > harness.timeout:
                raise ContractError(
                    f"{harness.kind}: events and users({server_id!r}) do not agree: {difference}.",
                    EVENTS,
                )
            await harness.pause()  # the stream may look at its source from time to time


class _Layer:
    """The layer that the core would hold of one server."""

    def __init__(self, server_id: str, users: Mapping[str, User]) -> None:
        self.server_id = server_id
        self._users = dict(users)
        self._read = 0

    def difference(self, events: list[object], now: Mapping[str, User]) -> str | None:
        """Apply the new events, and return the first difference from the users of now."""
        for event in events[self._read :]:
            self._apply(event, now)
        self._read = len(events)
        for uid in [*self._users, *now]:
            by_events, answered = self._users.get(uid), now.get(uid)
            if _supplied(by_events) != _supplied(answered):
                return f"uid '{uid}' is {by_events!r} by the events, {answered!r} in users"
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


def _supplied(user: User | None) -> dict[str, object] | None:
    """Return the fields that the provider supplies; None and a field that is left out supply the
    same: nothing."""
    if user is None:
        return None
    fields = structs.asdict(user).items()
    return {name: value for name, value in fields if value is not None and value is not UNSET}

"""What one provider says about one subject: asked for, checked, held, and kept live by events."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, TypeAlias

import tenacity
from msgspec import Struct

from d_back_core.chain.layers import Link, R, patched, rebased
from d_back_core.clock import Clock
from d_back_core.errors import ProviderError
from d_back_core.models import ServerRemoved, UserRemoved
from d_back_core.providers.supervisor import Supervisor, retrying
from d_back_core.providers.validation import Patch, ValidationLog, checked_records

MAX_KEPT_EVENTS = 10_000

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

log = logging.getLogger("d_back.chain")


class Subject(Struct, Generic[R], frozen=True, kw_only=True):
    """What a chain is walked for: the users of one server, or the list of servers."""

    kind: type[R]
    server_id: str | None
    """None: the list of servers."""
    clock: Clock
    spawn: Spawn
    """Begin a task that is owned, and ended, by whoever owns the subject."""


class Member(Struct, frozen=True, kw_only=True):
    """A provider in the chain."""

    link: Link
    supervisor: Supervisor
    validation_log: ValidationLog


class LayerSource(Generic[R]):
    """One provider's layer of one subject, in use or not.

    ``records`` is what is held, None where nothing is. Events change it in place; a new answer
    replaces it.
    """

    def __init__(self, subject: Subject[R], member: Member, turned: Callable[[], None]) -> None:
        self.link = member.link
        self.supervisor = member.supervisor
        self.records: dict[str, R] | None = None
        self.answered = False
        """Whether it has said something, None included, since it was last released."""
        self.due = False
        """Whether what is held is of a former instance, and this one is still to be asked."""
        self.removed = False
        """Whether the provider has no place in the chain any more."""
        self.failing_since: float | None = None
        self._turned = turned
        self._subject = subject
        self._validation_log = member.validation_log
        self._recovered_at = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._kept: list[tuple[str, Patch]] | None = None
        self._in_flight = False
        self._again = False
        self._renews = False
        """Whether the answer that is on its way takes the place of one that was too old."""
        self._asked_at = 0.0
        self._base: dict[str, R] | None = None
        """The last answer as it was given, where a newer one is to be compared with it."""

    @property
    def hook(self) -> str:
        return "servers" if self._subject.server_id is None else "users"

    @property
    def failing(self) -> bool:
        """Whether its last answer, or its provider, has failed; there may still be grace."""
        return self.failing_since is not None or self.supervisor.failing_since is not None

    @property
    def ready_since(self) -> float:
        """The time since when this layer could have been had without interruption."""
        return max(self._recovered_at, self.supervisor.ready_since)

    @property
    def expired(self) -> bool:
        """Whether the grace of this layer has run out."""
        return self.supervisor.expired(self.failing_since)

    @property
    def asking(self) -> bool:
        """Whether an answer is on its way, the first one or a newer one."""
        return self._asking is not None

    def ask(self) -> None:
        """Fetch the layer, now and again until there is an answer; once more after an answer
        that is on its way already."""
        self.due = False
        if self._in_flight:
            self._again = True
            return
        failing = self.failing_since
        if failing is not None and self.asking and failing >= self.supervisor.ready_since:
            return  # its retry will come
        self._cancel()
        self._asking = self._subject.spawn(self._ask())

    @property
    def renewing(self) -> bool:
        """Whether a join has to wait, because a newer answer is on its way."""
        failing = self.failing_since is not None
        return self._max_age is not None and self.answered and self.asking and not failing

    @property
    def old(self) -> bool:
        """Whether the answer is older than its provider allows it to be on a join."""
        max_age = self._max_age
        if max_age is None or not self.answered or self.asking or self.failing_since is not None:
            return False
        return self._subject.clock.time() - self._asked_at >= max_age

    def renew(self) -> None:
        """Fetch the layer again if it is too old for a join."""
        if self.old:
            self.ask()
            self._renews = True

    @property
    def _max_age(self) -> float | None:
        return self.supervisor.plugin.capabilities.max_ages.get(self.hook)

    def release(self) -> None:
        """Hold nothing any more; a late answer is discarded."""
        self._cancel()
        self._kept = self.records = self.failing_since = self._base = None
        self.answered = False

    def relink(self, member: Member) -> None:
        """Take another place in the chain. Of another instance of the provider what is held
        stays in use until that has answered."""
        self.link = member.link
        if member.supervisor is self.supervisor and not self.removed:
            return
        self._forget_answers()
        self.removed = False
        self.supervisor = member.supervisor
        self.due = self.records is not None

    def remove(self) -> None:
        """Be asked no more; what is held may stay in use until somebody else has answered."""
        self._forget_answers()
        self.removed = True

    def drop(self) -> None:
        """Hold the layer no more; a failed provider is still asked again in its time, and one
        that cannot say after a `Reload`."""
        if self.removed or (not self.failing and self.records is not None):
            self.release()
        self.records = self._base = None

    def apply(self, key: str, patch: Patch) -> bool:
        """Change the layer by an event; False where there is no layer to change."""
        if self.removed:
            return False
        if self._kept is not None:
            self._keep(key, patch)
        if self.records is None:
            return False
        self._patch(self.records, key, patch)
        return True

    def _forget_answers(self) -> None:
        self._cancel()
        self._kept = self.failing_since = self._base = None
        self.answered = False

    def _cancel(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._asking = None
        self._in_flight = self._renews = False

    async def _ask(self) -> None:
        async for attempt in retrying(self._subject.clock, self._failed):
            with attempt:
                self._in_flight = True
                records = await self._answer()
        if self._asking is not asyncio.current_task():
            return  # it was released, and the provider sat out its cancellation
        kept, self._kept, self._asking, self._in_flight = self._kept, None, None, False
        records = self._rebased(records)
        if records is not None:
            for key, patch in kept or ():
                self._patch(records, key, patch)
        self.records, self.answered = records, True
        if self.failing_since is not None:
            self.failing_since, self._recovered_at = None, self._subject.clock.time()
            log.info("provider %s: %s: answers again", self.link.name, self.hook)
        if self._again:
            self.ask()
        self._turned()

    def _rebased(self, answer: dict[str, R] | None) -> dict[str, R] | None:
        """The answer, with what events have changed since the last one if this one renews it."""
        base, renews = self._base, self._renews and not self._again
        aging = self._max_age is not None
        self._base = dict(answer) if aging and answer is not None else None
        self._renews = False
        if not renews or answer is None or base is None or self.records is None:
            return answer
        return rebased(base, self.records, answer)

    def _failed(self, state: tenacity.RetryCallState) -> None:
        self._in_flight = self._renews = False
        if self.failing_since is None:
            self.failing_since = self._subject.clock.time()
            self.supervisor.last_error = str(state.outcome and state.outcome.exception())
            log.warning("%s", self.supervisor.last_error)
        self._turned()

    async def _answer(self) -> dict[str, R] | None:
        self._kept, self._again = [], False
        self._asked_at = self._subject.clock.time()
        supervisor, server_id = self.supervisor, self._subject.server_id
        if not supervisor.plugin.implements(self.hook):
            return None
        if supervisor.flush is not None:
            await supervisor.flush()
        arguments = {} if server_id is None else {"server_id": server_id}
        answer = await supervisor.call(self.hook, **arguments)
        if answer is None:
            return None
        if not isinstance(answer, Mapping):
            wrong = TypeError(f"returned {type(answer).__name__}, expected a mapping or None")
            raise ProviderError(supervisor.name, self.hook, wrong)
        try:
            return await checked_records(answer, self._subject.kind, self._validation_log)
        except Exception as error:  # other people's code: a mapping need not be a plain one
            raise ProviderError(supervisor.name, self.hook, error) from error

    def _keep(self, key: str, patch: Patch) -> None:
        if self._kept is not None and len(self._kept) < MAX_KEPT_EVENTS:
            self._kept.append((key, patch))
        else:
            self._again = True

    def _patch(self, records: dict[str, R], key: str, patch: Patch) -> None:
        if isinstance(patch, UserRemoved | ServerRemoved):
            records.pop(key, None)
        else:
            records[key] = patched(records.get(key) or self._subject.kind(), patch)

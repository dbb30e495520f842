"""One provider's layer of one subject: fetched, checked, held, and kept current by events.

A *subject* is the list of servers, or the users of one server. `State` says what the last answer
was:

    IDLE ──records──▶ HELD ──None──▶ SILENT ──records──▶ HELD
      │                │ another instance
      └──None──▶ SILENT └──────────▶ INHERITED ──records──▶ HELD, ──None──▶ SILENT
    any ──remove──▶ REMOVED ──set_member──▶ INHERITED (if records are held), else IDLE
    any ──release──▶ IDLE

Whether a call is under way is a second, independent fact (`_call`): a held layer is fetched again
without being given up. At most one call runs; a request during a call makes a second one follow.

Invariants: ``records`` is None in IDLE and SILENT. ``failing_since`` is set from the first failure
until the next answer with records: a provider that starts again and then answers None, or hangs,
loses its layer when the grace is over (R10). An answer that arrives after `release` is discarded,
since `_call` is another one then (R15).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from enum import Enum, auto
from typing import Any, Generic, TypeAlias

import tenacity
from msgspec import Struct, structs

from d_back_core.chain.layers import Link, R, patched, rebased
from d_back_core.clock import Clock
from d_back_core.errors import ProviderError
from d_back_core.models import Overlay, ServerRemoved, UserRemoved
from d_back_core.providers.supervisor import Supervisor
from d_back_core.providers.validation import Patch, ValidationLog, checked_records
from d_back_core.retrying import retrying

MAX_KEPT_EVENTS = 10_000
SILENT_RETRY = 30.0
"""Seconds after which a provider that answered None is asked again."""
EMPTY_RETRY, EMPTY_RETRY_MAX = 1.0, 5.0
"""Seconds after which an empty list of servers is fetched again, while no server is known."""

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Subject(Struct, Generic[R], frozen=True, kw_only=True):
    """What providers are asked for: the users of one server, or the list of servers."""

    kind: type[R]
    server_id: str | None
    """None: the list of servers."""
    clock: Clock
    spawn: Spawn
    """Starts a task that the owner of the subject ends."""

    @property
    def is_list(self) -> bool:
        return self.server_id is None

    def is_covered_by(self, link: Link) -> bool:
        """Return True if an answer of this provider stands for every fallback below it."""
        return link.mode == "fallback" and (link.servers is None or not self.is_list)


class Member(Struct, frozen=True, kw_only=True):
    """A provider in the chain."""

    link: Link
    supervisor: Supervisor
    validation_log: ValidationLog
    flush: Callable[[], Awaitable[None]] | None = None
    """For a recorder: stores what is queued, before the provider is asked (R23)."""


class State(Enum):
    """The result of the last answer; see the header."""

    IDLE = auto()
    SILENT = auto()
    HELD = auto()
    INHERITED = auto()
    REMOVED = auto()


class _Call(Struct, eq=False):
    """One fetch, with its retries."""

    by_age: bool
    """True if the former answer was too old for a join, rather than out of date."""
    began: float
    """When its last attempt began."""
    task: asyncio.Task[None] | None = None
    in_flight: bool = False
    """False while it waits for its next attempt."""
    repeat: bool = False
    """True if a request came meanwhile, or more events than are kept: call once more."""
    patches: list[tuple[str, Patch]] = []
    """The events during this attempt; they are applied to its answer."""


class LayerSource(Generic[R]):
    """One provider's layer, in use or not. Events change ``records`` in place; a new answer
    replaces it."""

    def __init__(self, subject: Subject[R], member: Member, changed: Callable[[], None]) -> None:
        self.supervisor = member.supervisor
        self.records: dict[str, R] | None = None
        self.state = State.IDLE
        self.failing_since: float | None = None
        self.has_failed = False
        self._member = member
        self._overlay = False
        self._changed = changed
        self._subject = subject
        self._recovered_at = 0.0
        self._answered_at = 0.0
        self._empty_answers = 0
        self._call: _Call | None = None
        self._base: dict[str, R] | None = None
        """The last answer as it was returned, if a newer one is compared with it."""

    @property
    def link(self) -> Link:
        """The place in the chain. An answer that is an `Overlay` merges, whatever the mode is."""
        link = self._member.link
        return structs.replace(link, mode="merge") if self._overlay else link

    @property
    def hook(self) -> str:
        return "servers" if self._subject.is_list else "users"

    @property
    def answered(self) -> bool:
        """True if the present instance has answered, None included."""
        return self.state in {State.SILENT, State.HELD}

    @property
    def removed(self) -> bool:
        """True if the provider has no place in the chain any more."""
        return self.state is State.REMOVED or self.supervisor.ended

    @property
    def failing(self) -> bool:
        """True if the provider or its last call has failed; there may be grace left."""
        return self.failing_since is not None or self.supervisor.health.failing_since is not None

    @property
    def expired(self) -> bool:
        """True if the grace of this layer has run out."""
        return self.supervisor.health.expired(self.failing_since)

    @property
    def ready_since(self) -> float:
        """The time from which on this layer has been available without interruption."""
        return max(self._recovered_at, self.supervisor.health.ready_since)

    @property
    def asking(self) -> bool:
        """True if an answer is awaited, the first one or a newer one."""
        return self._call is not None

    @property
    def lists(self) -> bool:
        """True if the provider can add records of its own."""
        return self.supervisor.plugin.implements(self.hook) and self.link.mode != "enrich"

    @property
    def is_unanswered(self) -> bool:
        """True if the provider can add records and has neither answered nor failed."""
        if not self.lists or self.removed or self.answered or self.records is not None:
            return False
        return self.supervisor.health.starting or (self.supervisor.running and not self.failing)

    def is_first_awaited(self, patience: float) -> bool:
        """True if the provider may still give its first answer with records: joins wait for it
        (R8). A provider that answers None is waited for during ``patience`` seconds."""
        supervisor = self.supervisor
        if not self.lists:
            return False
        if supervisor.health.starting:
            return True
        if not supervisor.running or self.failing or self.records is not None:
            return False
        late = self._subject.clock.time() >= supervisor.health.ready_since + patience
        return not (late and self.state is State.SILENT)

    @property
    def retry_at(self) -> float | None:
        """The time at which an answer that brought nothing is fetched again; None: never."""
        if self._call is not None or not self.supervisor.plugin.implements(self.hook):
            return None
        silent = self.state is State.SILENT
        if silent or (self.state is State.HELD and self.failing_since is not None):
            return self._answered_at + SILENT_RETRY
        if self._subject.is_list and self.records is not None and not self.records:
            return self._answered_at + min(EMPTY_RETRY * self._empty_answers, EMPTY_RETRY_MAX)
        return None

    def ask(self, *, by_age: bool = False) -> None:
        """Fetch the layer, with retries until there is an answer. During a call, fetch it once
        more after that."""
        call = self._call
        if call is not None:
            if call.in_flight:
                # Its answer may have been made before the change that this request is about.
                call.repeat = True
                return
            if call.began >= self.supervisor.health.ready_since:
                return  # its next attempt comes; a new run of the provider does not wait for it
            self.cancel()
        # Set before the task begins: events of this same turn belong to the call (R14).
        self._call = call = _Call(by_age=by_age, began=self._subject.clock.time())
        self.supervisor.health.layer_changed(self._subject.server_id, self.failing_since)
        call.task = self._subject.spawn(self._fetch(call))

    @property
    def renewing(self) -> bool:
        """True if a join waits for an answer, because answers of this provider age."""
        failing = self.failing_since is not None
        return self._max_age is not None and self.answered and self.asking and not failing

    @property
    def old(self) -> bool:
        """True if the answer is older than a join accepts."""
        max_age = self._max_age
        if max_age is None or not self.answered or self.asking or self.failing_since is not None:
            return False
        return self._subject.clock.time() - self._answered_at >= max_age

    @property
    def _max_age(self) -> float | None:
        return self.supervisor.plugin.max_age(self.hook)

    def mark_failing(self, since: float) -> None:
        """The records may be out of date since then, until the next answer."""
        self.has_failed = True
        # The earliest one: a second failure must not extend the grace.
        if self.failing_since is None or since < self.failing_since:
            self.failing_since = since

    def release(self) -> None:
        """Hold nothing; an answer that is under way is discarded."""
        self.cancel()
        self.supervisor.health.layer_released(self._subject.server_id)
        self.records = self.failing_since = self._base = None
        self.state = State.IDLE

    def set_member(self, member: Member) -> None:
        """Take another place in the chain. Records of a former instance of the provider stay in
        use until the new one has answered."""
        same = member.supervisor is self.supervisor and self.state is not State.REMOVED
        self._member = member
        if same:
            return
        self._disown()  # before the supervisor changes: the old one's health forgets the layer
        self.supervisor = member.supervisor
        self.state = State.IDLE if self.records is None else State.INHERITED

    def remove(self) -> None:
        """Ask no more. The records may stay in use until another provider has answered."""
        self._disown()
        self.state = State.REMOVED

    def drop(self) -> None:
        """Hold the layer no more. A failed provider is still asked again in its time, and a silent
        one after its `Reload`."""
        if self.removed or (not self.failing and self.records is not None):
            self.release()
        self.records = self._base = None
        # SILENT, not IDLE: it is not asked again at once. A call under way goes on, and its answer
        # brings the layer back.
        if self.state is not State.IDLE:
            self.state = State.SILENT
            healthy = self.supervisor.running and self.supervisor.health.failing_since is None
            if healthy and self._call is None:  # it answered None: that is no failure any more
                self.failing_since = None
                self.supervisor.health.layer_changed(self._subject.server_id, None)

    def apply(self, key: str, patch: Patch) -> bool:
        """Change the layer by an event; False if there is no layer to change."""
        if self.removed:
            return False
        if self._call is not None and self._call.in_flight:
            # Both to the call's answer and to the records: the answer may or may not include it,
            # and clients must not wait for it.
            if len(self._call.patches) < MAX_KEPT_EVENTS:
                self._call.patches.append((key, patch))
            else:
                self._call.repeat = True
        if self.records is None:
            return False
        self._patch(self.records, key, patch)
        return True

    def _disown(self) -> None:
        self.cancel()
        self.supervisor.health.layer_released(self._subject.server_id)
        self.failing_since = self._base = None
        self.has_failed = False

    def cancel(self) -> None:
        """Discard the answer of the call under way (R15)."""
        call, self._call = self._call, None
        if call is not None and call.task is not None:
            call.task.cancel()

    async def _fetch(self, call: _Call) -> None:
        clock = self._subject.clock
        async for attempt in retrying(clock, ProviderError, self._on_attempt_failed):
            with attempt:
                if not self.supervisor.running:
                    self._give_up(call)
                    return
                # Per attempt: what came before it, its answer includes.
                call.in_flight, call.began = True, clock.time()
                call.patches, call.repeat = [], False
                answer, overlay = await self._answer()
        if self._call is not call:
            return  # it was released, and the provider has ignored its cancellation
        # Before `ask` below, which would take this call for one that is under way.
        self._call = None
        # From the beginning of the call: the records may be that old.
        self._answered_at = call.began
        if answer is None and self.records is not None and self.failing_since is not None:
            # Not yet complete after a failure: the records stay until their grace is over.
            self.state = State.HELD
        else:
            self._accept(call, answer, overlay=overlay)
        # Before `_changed`: a join that waits for the newest answer must find the call.
        if call.repeat:
            self.ask()
        self._changed()

    def _give_up(self, call: _Call) -> None:
        """The run is over before the call began; the next run is asked instead."""
        if self._call is call:
            self._call = None
            self._changed()

    def _accept(self, call: _Call, answer: dict[str, R] | None, *, overlay: bool) -> None:
        records = self._rebased(call, answer)
        # On top of the answer, in order: it may or may not include them (R14).
        if records is not None:
            for key, patch in call.patches:
                self._patch(records, key, patch)
        self.records, self._overlay = records, overlay
        self.state = State.SILENT if records is None else State.HELD
        self._empty_answers = 0 if records else self._empty_answers + 1
        # Not while the provider itself reports a failure: then its answer proves nothing.
        if self.failing_since is not None and self.supervisor.health.failing_since is None:
            self._recovered_at = self._subject.clock.time()
            self.failing_since = None
        self.supervisor.health.layer_changed(self._subject.server_id, self.failing_since)

    def _rebased(self, call: _Call, answer: dict[str, R] | None) -> dict[str, R] | None:
        """The answer. If it replaces one that was only too old, the changes by events since then
        stay where the new answer repeats the former one."""
        base, held = self._base, self.records
        keeps_base = self._max_age is not None and answer is not None
        self._base = dict(answer) if keeps_base and answer is not None else None
        if not call.by_age or call.repeat or answer is None or base is None or held is None:
            return answer
        return rebased(base, held, answer)

    def _on_attempt_failed(self, state: tenacity.RetryCallState) -> None:
        if self._call is not None:
            self._call.in_flight = self._call.by_age = False
        self.mark_failing(self._subject.clock.time())
        error = str(state.outcome and state.outcome.exception())
        self.supervisor.health.layer_changed(self._subject.server_id, self.failing_since, error)
        self._changed()

    async def _answer(self) -> tuple[dict[str, R] | None, bool]:
        supervisor, server_id = self.supervisor, self._subject.server_id
        if not supervisor.plugin.implements(self.hook):
            return None, False
        # First: a recorder that is asked for its memory must have stored all of it (R23).
        if self._member.flush is not None:
            await self._member.flush()
        arguments = {} if server_id is None else {"server_id": server_id}
        answer = await supervisor.call(self.hook, **arguments)
        if answer is None:
            return None, False
        if not isinstance(answer, Mapping):
            wrong = TypeError(f"returned {type(answer).__name__}, expected a mapping or None")
            raise ProviderError(supervisor.name, self.hook, wrong)
        log = self._member.validation_log
        try:
            records = await checked_records(answer, self._subject.kind, log)
        except Exception as error:  # other people's code: a mapping need not be a plain one
            raise ProviderError(supervisor.name, self.hook, error) from error
        return records, isinstance(answer, Overlay)

    def _patch(self, records: dict[str, R], key: str, patch: Patch) -> None:
        if isinstance(patch, UserRemoved | ServerRemoved):
            records.pop(key, None)
        else:
            records[key] = patched(records.get(key) or self._subject.kind(), patch)

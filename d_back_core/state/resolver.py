"""Keeps the layers of one subject in use, and the merged records that follow from them.

A subject is the list of servers, or the users of one server. After each change (the health of a
provider, an answer, a moment in time, a reload) a `Decision` is taken from the start, by one task
that runs until nothing is left to decide.

Invariant: the layers in use and the records in the sink change together, in one step without an
await (R7). The records are merged before, in slices; events that arrive meanwhile are merged
again, and a reload that arrives meanwhile discards the merge (R15).
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from d_back_core.chain.layers import Layers, Link, R
from d_back_core.clock import Timer
from d_back_core.providers.validation import SLICE, Patch
from d_back_core.state.decision import Decision, Wanted
from d_back_core.state.layer_source import LayerSource, Member, Subject

E = TypeVar("E")
R_contra = TypeVar("R_contra", contravariant=True)


class Sink(Protocol[R_contra, E]):
    """Receives the merged records; all calls are synchronous."""

    def derive(self, key: str, merged: R_contra | None) -> E | None:
        """Return what becomes of a merged record; None: it is not shown."""

    def put(self, key: str, effective: E | None) -> None:
        """One record has changed."""

    def swap(self, effective: dict[str, E]) -> None:
        """These are all records."""


IsComplete: TypeAlias = Callable[[str | None], bool]


class Observer(Protocol):
    """Is called with what providers in use return and yield, never when a layer is lost (R22)."""

    def on_records(self, layers: Layers[Any], name: str, keys: Collection[str]) -> None:
        """The provider returned or yielded these keys; the merged records are up to date."""

    def on_snapshot(self, layers: Layers[Any], is_complete: IsComplete) -> None:
        """All keys of a snapshot have been passed to `on_records`. ``is_complete(above)``: True if
        the providers above that one (None: all) have no other keys."""


class Resolver(Generic[R, E]):
    """The layers of one subject, and the merged records in its sink. `set_chain` starts it."""

    def __init__(
        self,
        subject: Subject[R],
        sink: Sink[R, E],
        observer: Observer,
        decided: Callable[[], None] | None = None,
    ) -> None:
        """``decided`` is called after each decision."""
        self.sources: dict[str, LayerSource[R]] = {}
        self.layers = Layers(subject.kind, (), {})
        self.stale = False
        """True if the state in use is the last one of providers that have failed since."""
        self.withdrawn: frozenset[str] = frozenset()
        """The providers that have taken back the server: once such a provider answers None, its
        last records do not stay, whether another one answers or not (R3)."""
        self.ready = asyncio.Event()
        """Set when every provider that may be asked has answered or failed."""
        self._subject = subject
        self._sink = sink
        self._observer = observer
        self._decided = decided
        self._late: set[str] | None = None
        """The keys that events changed during a merge; None: no merge is under way."""
        self._staged: Collection[str] = ()
        """The providers whose layers are being merged."""
        self._reloads = 0
        """Number of calls of `set_chain`: a merge that a reload overtakes is discarded."""
        self._reloads_in_use = 0
        """The same number when the merge in use began."""
        self._underived = False
        """True if the sink may derive other records than those in use (another policy)."""
        self._report_all = False
        self._dirty = False
        self._task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._failback_after = 0.0

    def set_chain(
        self, members: Sequence[Member], failback_after: float, *, report_all: bool = False
    ) -> None:
        """Use this chain from now on. A provider that has left it is not asked any more; its layer
        stays until another provider has answered. ``report_all``: call the observer with
        everything in use again."""
        former = self.sources
        self._report_all = self._report_all or report_all
        self._failback_after = failback_after
        self.sources = {}
        for member in members:
            source = former.pop(member.link.name, None)
            if source is None:
                source = LayerSource(self._subject, member, self.reconsider)
            else:
                source.set_member(member)
            self.sources[member.link.name] = source
        for name, source in former.items():
            # Also if it is only being merged: the merge reads its records until it is discarded.
            if name in self.layers.in_use or name in self._staged:
                source.remove()
                self.sources[name] = source
            else:
                source.release()
        # After the sources: a merge under way is discarded, and the decision sees the new chain.
        self._reloads += 1
        self._underived = bool(self.layers.in_use or self._staged)
        self.reconsider()

    def reconsider(self) -> None:
        """Decide again: something has changed."""
        # First: a task that is running decides again before it ends, so no wake-up is lost.
        self._dirty = True
        if self._task is None:
            self._task = self._subject.spawn(self._decide_until_clean())

    def refetch(self, name: str, failing_since: float | None = None) -> None:
        """Fetch that provider's layer again, if it has been fetched. ``failing_since``: the layer
        may be out of date since then, and is until the new answer (R10)."""
        source = self.sources.get(name)
        if source is None or source.removed:
            return
        if failing_since is not None and source.records is not None:
            source.mark_failing(failing_since)
        if source.answered or source.asking:
            source.ask()

    def set_withdrawn(self, names: frozenset[str]) -> None:
        """These providers have taken back the server, and no others; see `withdrawn`."""
        changed, self.withdrawn = names ^ self.withdrawn, names
        for name in changed:
            # What it brought is recorded, and its layer may have left before this was known.
            self._report_all = self._report_all or name not in self.layers.in_use
            self.refetch(name)
        self.reconsider()

    @property
    def old(self) -> bool:
        """True if an answer is older than a join accepts, or a newer one is under way."""
        return any(source.old or source.renewing for source in self.sources.values())

    async def fresh(self) -> None:
        """Return when every provider that may be asked has answered or failed, and no answer is
        older than a join accepts. Concurrent callers share the calls (R18)."""
        if self.ready.is_set():
            for source in self.sources.values():
                if source.old:
                    source.ask(by_age=True)
            # No await since the check of `ready`: a decision cannot set it in between, and each
            # of these calls leads to another decision when it ends.
            if any(source.renewing for source in self.sources.values()):
                self.ready.clear()
        await self.ready.wait()

    async def settled(self) -> None:
        """Return when every provider that may be asked now has answered or failed."""
        self.ready.clear()
        self.reconsider()
        await self.ready.wait()

    def apply(self, name: str, key: str, patch: Patch) -> None:
        """Apply an event of that provider to one of its records."""
        source = self.sources.get(name)
        if source is None or not source.apply(key, patch):
            return
        # Both: the key may have been merged already, and the clients see the former layers until
        # the swap.
        if self._late is not None:
            self._late.add(key)
        if name in self.layers.in_use:
            self._sink.put(key, self._sink.derive(key, self.layers.merge(key)))
            self._observer.on_records(self.layers, name, (key,))

    def is_complete(self, above: str | None) -> bool:
        """Return True if a key that no provider above that one (None: any) has does not exist:
        all that could add it are healthy and have answered."""
        found, answered, silent = False, False, self._subject.is_list
        for name, source in self.sources.items():
            if name == above:
                break
            if source.failing or not source.supervisor.running:
                return False
            in_use = name in self.layers.in_use
            if self._subject.is_list and not in_use and source.lists:
                return False
            found = found or (in_use and self._subject.is_covered_by(source.link))
            if found and not self._subject.is_list:
                return True
            answered = answered or in_use
            silent = silent or (source.lists and not in_use and name not in self._withdrawing)
        return found or (answered and not silent)

    def awaited(self, patience: float) -> list[Link]:
        """Return the links of the providers that may still give their first answer."""
        sources = self.sources.values()
        return [source.link for source in sources if source.is_first_awaited(patience)]

    @property
    def unanswered(self) -> list[Link]:
        """The links of the providers that have neither answered nor failed yet."""
        return [source.link for source in self.sources.values() if source.is_unanswered]

    @property
    def have_all_answered(self) -> bool:
        """True if every provider that can add records has returned some."""
        adding = [source for source in self.sources.values() if source.lists]
        return all(source.records is not None or source.removed for source in adding)

    def close(self) -> None:
        """Hold nothing and ask no more."""
        for source in self.sources.values():
            source.release()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self.ready.set()  # no answer follows: a caller of `settled` would wait without end

    # Decide

    async def _decide_until_clean(self) -> None:
        try:
            while self._dirty:
                self._dirty = False  # before the decision: what changes during it counts again
                await self._decide_once()
                if self._decided is not None:
                    self._decided()
        finally:
            self._task = None

    async def _decide_once(self) -> None:
        decision = Decision(
            self._subject,
            self.sources,
            self.layers,
            stale=self.stale,
            withdrawn=self._withdrawing,
            failback_after=self._failback_after,
        )
        decision.take()
        # Before the merge, which awaits: the next decision starts from this one.
        self.stale = decision.stale
        self._arm_timer(decision.wake_at)
        waiting, wanted, kept = decision.waiting, decision.wanted, decision.kept
        stale = frozenset(kept) if self._subject.is_list else frozenset[str]()
        layers = Layers(self._subject.kind, self._links, wanted | kept, stale=stale)
        in_use = self.layers.in_use
        reloaded = bool(in_use) and self._reloads != self._reloads_in_use
        if reloaded and waiting and self._links != self.layers.links:
            # What is in use stays until all that are to replace it have answered; only the
            # policy applies at once.
            if self._underived:
                await self._put_in_use(self.layers)
            return
        if reloaded or not layers.same_as(self.layers):
            if not await self._put_in_use(layers):
                return
        elif not waiting and not in_use and not self.ready.is_set():
            self._sink.swap({})  # no provider answers: there is nothing to show until one does
        # Last: a join that is woken here reads the layers and the world at once.
        if not waiting:
            self.ready.set()
            if self._report_all and in_use:
                await self._report(self.layers)

    @property
    def _links(self) -> tuple[Link, ...]:
        return tuple(source.link for source in self.sources.values())

    @property
    def _withdrawing(self) -> frozenset[str]:
        """Those of `withdrawn` that a reload has not removed: these say nothing any more."""
        sources = self.sources
        return frozenset(
            name for name in self.withdrawn if name in sources and not sources[name].removed
        )

    def _arm_timer(self, wake_at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake_at < inf:
            delay = wake_at - self._subject.clock.time()
            self._timer = self._subject.clock.call_later(delay, self.reconsider)

    # Put in use

    async def _put_in_use(self, layers: Layers[R]) -> bool:
        """Merge in slices, then swap in one step. Returns False if a reload has overtaken it."""
        reloads = self._reloads
        self._late, self._staged = set(), layers.in_use.keys()
        merged: dict[str, E] = {}
        for count, key in enumerate(layers.keys(), 1):
            self._derive(layers, key, merged)
            if count % SLICE == 0:
                await asyncio.sleep(0)
        # Merged again, without an await: from here to the swap no event can come.
        for key in self._late:
            self._derive(layers, key, merged)
        self._late, self._staged = None, ()
        if reloads != self._reloads:
            # It was merged by the former chain or policy; the new one is decided on next.
            self._forget_removed()
            return False
        # No await from here to the end of the swap.
        self._underived = False
        if layers is not self.layers:  # else only the policy is new; the chain is still to come
            self._reloads_in_use = reloads
        # The layers first: the sink logs which providers are in use now.
        before, self.layers = self.layers, layers
        self._sink.swap(merged)
        for name in before.in_use.keys() - layers.in_use.keys():
            self.sources[name].drop()
        self._forget_removed()
        # Last, since it awaits: recorders may lag behind, clients may not.
        await self._report(before)
        return True

    def _forget_removed(self) -> None:
        for name in [name for name, source in self.sources.items() if source.removed]:
            if name not in self.layers.in_use:
                self.sources.pop(name).release()

    def _derive(self, layers: Layers[R], key: str, merged: dict[str, E]) -> None:
        effective = self._sink.derive(key, layers.merge(key))
        if effective is None:
            merged.pop(key, None)
        else:
            merged[key] = effective

    async def _report(self, before: Layers[R]) -> None:
        """Pass the snapshots that have come into use to the observer."""
        # With another order or other modes, the same layers make other records.
        report_all = self._report_all or self.layers.links != before.links
        self._report_all = False
        in_use = self.layers.in_use
        # What a provider takes back is recorded, unlike what it loses (R22).
        gone = before.in_use.keys() - in_use.keys()
        withdrawn: Wanted[R] = {name: {} for name in gone & self._withdrawing}
        for name, records in (withdrawn | in_use).items():
            former = before.in_use.get(name, {})
            if records is former and not report_all:  # its events were reported one by one
                continue
            # With the keys that are gone: a recorder has to forget them.
            keys = [*records, *(key for key in former if key not in records)]
            for start in range(0, len(keys), SLICE):
                self._observer.on_records(self.layers, name, keys[start : start + SLICE])
                await asyncio.sleep(0)
        # After all keys: a recorder drops what the snapshot does not name (R22).
        self._observer.on_snapshot(self.layers, self.is_complete)

"""One subject kept in its right layers: which providers are asked, and whose layers are in use.

The decision follows from the present state alone. It is taken anew whenever something turned:
a provider's health, an answer, a moment in time.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from math import inf
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from d_back_core.chain.layers import Layers, Link, R
from d_back_core.clock import Timer
from d_back_core.providers.validation import SLICE, Patch
from d_back_core.state.layer_source import LayerSource, Member, Subject

E = TypeVar("E")
R_contra = TypeVar("R_contra", contravariant=True)


class Sink(Protocol[R_contra, E]):
    """Where the merged records go; all calls are synchronous."""

    def derive(self, key: str, merged: R_contra | None) -> E | None:
        """What becomes of a merged record; None: nothing is to be seen of it."""

    def put(self, key: str, effective: E | None) -> None:
        """One of them changed."""

    def swap(self, effective: dict[str, E]) -> None:
        """These are all of them now."""


class Observer(Protocol):
    """Hears what providers in use say, in snapshots and events; never that one was lost."""

    def said(self, name: str, keys: Collection[str]) -> None:
        """The provider said something of these keys; the merged records are up to date."""

    def completed(self) -> None:
        """All of a snapshot was reported by `said`."""


Verdict: TypeAlias = Literal["use", "wait", "skip"]
Wanted: TypeAlias = dict[str, Mapping[str, R]]
"""The layers that are to be in use, by provider."""


class Resolver(Generic[R, E]):
    """The layers of one subject, and the merged records in its sink. Begins with `relink`."""

    def __init__(self, subject: Subject[R], sink: Sink[R, E]) -> None:
        self.sources: dict[str, LayerSource[R]] = {}
        self.layers = Layers(subject.kind, (), {})
        self.stale = False
        """Whether what is in use is the last state of providers that failed since."""
        self.observer: Observer | None = None
        self.ready = asyncio.Event()
        """Set once every provider that may be asked has answered or failed."""
        self._subject = subject
        self._sink = sink
        self._late: set[str] | None = None
        """The keys that events changed while an exchange is being merged."""
        self._staged: Collection[str] = ()
        """The providers whose layers are being merged."""
        self._wake_at = inf
        self._relinked = False
        self._underived = False
        """Whether the sink may derive otherwise now than when it was filled."""
        self._retell = False
        self._dirty = False
        self._task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._failback_after = 0.0

    def relink(
        self, members: Sequence[Member], failback_after: float, *, retell: bool = False
    ) -> None:
        """Walk this chain, in place of the former one. A provider that is not in it any more is
        not asked; its layer stays until somebody else has answered. ``retell``: let the observer
        hear again all that is in use."""
        former = self.sources
        self._retell = self._retell or retell
        self._failback_after = failback_after
        self.sources = {}
        for member in members:
            source = former.pop(member.link.name, None)
            if source is None:
                source = LayerSource(self._subject, member, self.turn)
            else:
                source.relink(member)
            self.sources[member.link.name] = source
        for name, source in former.items():
            if name in self.layers.in_use or name in self._staged:
                source.remove()
                self.sources[name] = source
            else:
                source.release()
        self._relinked = self._underived = bool(self.layers.in_use)
        self.turn()

    def turn(self) -> None:
        """Decide again: something turned."""
        self._dirty = True
        if self._task is None:
            self._task = self._subject.spawn(self._work())

    def refetch(self, name: str) -> None:
        """Ask that provider again where it is held or where it had nothing to say."""
        source = self.sources.get(name)
        if source is None or source.supervisor.ended:
            return
        if source.answered or source.asking:
            source.ask()

    @property
    def old(self) -> bool:
        """Whether an answer is older than its provider allows it to be on a join, or a newer one
        is on its way."""
        return any(source.old or source.renewing for source in self.sources.values())

    async def fresh(self) -> None:
        """Return when every provider that may be asked has answered or failed, and no answer is
        older than its provider allows it to be on a join. Who calls meanwhile shares the call."""
        if self.ready.is_set():
            for source in self.sources.values():
                source.renew()
            if any(source.renewing for source in self.sources.values()):
                self.ready.clear()
        await self.ready.wait()

    async def settled(self) -> None:
        """Return when every provider that may be asked now has answered or failed."""
        self.ready.clear()
        self.turn()
        await self.ready.wait()

    def apply(self, name: str, key: str, patch: Patch) -> None:
        """An event of that provider for one of its records."""
        source = self.sources.get(name)
        if source is None or not source.apply(key, patch):
            return
        if self._late is not None:
            self._late.add(key)
        if name in self.layers.in_use:
            self._sink.put(key, self._sink.derive(key, self.layers.merge(key)))
            if self.observer is not None:
                self.observer.said(name, (key,))

    def whole(self, above: str | None) -> bool:
        """Whether a provider above that one (None: any) that stands for all others is in use,
        and all above it have said what there is: who is not in the layers is then not there."""
        for name, source in self.sources.items():
            if name == above:
                return False
            if source.supervisor.health != "ready" or source.failing_since is not None:
                return False
            if name in self.layers.in_use and self._covers(source.link):
                return True
        return False

    def close(self) -> None:
        """Hold nothing and ask nobody any more."""
        for source in self.sources.values():
            source.release()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def _work(self) -> None:
        try:
            while self._dirty:
                self._dirty = False
                await self._work_once()
        finally:
            self._task = None

    async def _work_once(self) -> None:
        wanted, waiting = self._decide()
        in_use = self.layers.in_use
        if self._relinked and waiting and in_use and self._links != self.layers.links:
            if self._underived:
                await self._put_in_use(self.layers)
            return  # what is in use stays, as it is, until all are there who are to replace it
        if (
            self._relinked
            or wanted.keys() != in_use.keys()
            or any(in_use[name] is not records for name, records in wanted.items())
        ):
            self._relinked = False
            await self._exchange(wanted)
        elif not waiting and not in_use and not self.ready.is_set():
            self._sink.swap({})  # nobody answers: there is nothing to see, until one does
        if not waiting:
            self.ready.set()

    def _decide(self) -> tuple[Wanted[R], bool]:
        """The layers to be in use, and whether somebody is still to be waited for."""
        self._wake_at = inf
        wanted: Wanted[R] = {}
        waiting = answered = covered = False
        for name, source in self.sources.items():
            if source.link.mode == "fallback" and answered:
                if covered and name not in self.layers.in_use:
                    source.release()
                if covered or name not in self.layers.in_use:
                    continue
            verdict = self._verdict(source)
            waiting = waiting or source.renewing
            if verdict == "use" and source.records is not None:
                wanted[name] = source.records
            elif verdict == "wait" and name in self.layers.in_use:
                wanted[name] = self.layers.in_use[name]
            waiting = waiting or verdict == "wait"
            if verdict != "skip" and self._covers(source.link):
                answered = True
                covered = covered or verdict == "use"
        kept = self._kept(wanted, covered=covered, waiting=waiting)
        self.stale = bool(kept) and not waiting
        self._rearm()
        return wanted | kept, waiting

    @property
    def _links(self) -> tuple[Link, ...]:
        return tuple(source.link for source in self.sources.values())

    def _verdict(self, source: LayerSource[R]) -> Verdict:
        """Whether the layer of that provider is to be used, or may come, or counts as absent."""
        supervisor = source.supervisor
        if source.removed or supervisor.ended:
            return "skip"
        if supervisor.starting:
            return "wait"
        if source.expired or (not supervisor.started and source.records is None):
            return "skip"
        if source.failing_since is not None:
            self._wake(source.failing_since + supervisor.core.grace)
        if source.records is not None:
            if source.due and supervisor.started:
                source.ask()
            return "use" if self._may_come(source) else "skip"
        if source.answered or source.failing_since is not None:
            return "skip"
        if not source.asking:
            if not self._may_come(source):
                return "skip"
            source.ask()
        return "wait"

    def _may_come(self, source: LayerSource[R]) -> bool:
        """A better fallback takes over from a lesser one only when it has been ready for long
        enough; everything else may come into use at once."""
        name = source.link.name
        if source.link.mode != "fallback" or name in self.layers.in_use or self.stale:
            return True
        below = list(self.sources)[list(self.sources).index(name) + 1 :]
        lesser = [other for other in below if other in self.layers.in_use]
        if not any(
            self._covers(self.sources[other].link) and not self._removed(other) for other in lesser
        ):
            return True
        if source.failing:
            return False
        due = source.ready_since + self._failback_after
        self._wake(due)
        return self._subject.clock.time() >= due

    def _covers(self, link: Link) -> bool:
        """Whether an answer of this provider stands for every fallback below it."""
        everything = link.servers is None or self._subject.server_id is not None
        return link.mode == "fallback" and everything

    def _kept(self, wanted: Wanted[R], *, covered: bool, waiting: bool) -> Wanted[R]:
        """The layers that stay although their time is over, as there is nobody in their place."""
        before = {
            mode: {
                name: records
                for name, records in self.layers.in_use.items()
                if self.sources[name].link.mode == mode and name not in wanted
            }
            for mode in ("fallback", "merge")
        }
        adding = any(self.sources[name].link.mode != "enrich" for name in wanted)
        kept = {
            name: records
            for name, records in before["fallback"].items()
            if not covered and (waiting or not adding or not self._removed(name))
        }
        return kept if adding or kept else before["merge"]

    def _removed(self, name: str) -> bool:
        """Whether that provider is no longer configured, rather than out of order."""
        return self.sources[name].removed or self.sources[name].supervisor.ended

    async def _exchange(self, wanted: Wanted[R]) -> None:
        """Put these layers in use, in the order of the chain as it is now."""
        await self._put_in_use(Layers(self._subject.kind, self._links, wanted))

    async def _put_in_use(self, layers: Layers[R]) -> None:
        """Merged in slices, swapped in one step, as one change."""
        self._underived = False
        self._late, self._staged = set(), layers.in_use.keys()
        merged: dict[str, E] = {}
        for count, key in enumerate(layers.keys(), 1):
            self._derive(layers, key, merged)
            if count % SLICE == 0:
                await asyncio.sleep(0)
        for key in self._late:
            self._derive(layers, key, merged)
        self._late, self._staged = None, ()
        before, self.layers = self.layers, layers
        self._sink.swap(merged)
        for name in before.in_use.keys() - layers.in_use.keys():
            self.sources[name].drop()
            if self.sources[name].removed:
                del self.sources[name]
        await self._report(before)

    async def _report(self, before: Layers[R]) -> None:
        """Tell the observer of the snapshots that have come into use."""
        retell, self._retell = self._retell, False
        if self.observer is None:
            return
        for name, records in self.layers.in_use.items():
            former = before.in_use.get(name, {})
            if records is former and not retell:
                continue
            keys = [*records, *(key for key in former if key not in records)]
            for start in range(0, len(keys), SLICE):
                self.observer.said(name, keys[start : start + SLICE])
                await asyncio.sleep(0)
        self.observer.completed()

    def _derive(self, layers: Layers[R], key: str, merged: dict[str, E]) -> None:
        effective = self._sink.derive(key, layers.merge(key))
        if effective is None:
            merged.pop(key, None)
        else:
            merged[key] = effective

    def _wake(self, at: float) -> None:
        if at > self._subject.clock.time():
            self._wake_at = min(self._wake_at, at)

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._wake_at < inf:
            delay = self._wake_at - self._subject.clock.time()
            self._timer = self._subject.clock.call_later(delay, self.turn)

"""One subject kept in its right layers: which providers are asked, and whose layers are in use.

The decision follows from the present state alone. It is taken anew whenever something turned:
a provider's health, an answer, a moment in time.
"""

import asyncio
from collections.abc import Mapping, Sequence
from math import inf
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from d_back_core.border import SLICE, Patch
from d_back_core.chain import Layers, Link, R
from d_back_core.clock import Timer
from d_back_core.source import Source, Subject

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


Verdict: TypeAlias = Literal["use", "wait", "skip"]
Wanted: TypeAlias = dict[str, Mapping[str, R]]
"""The layers that are to be in use, by provider."""


class Feed(Generic[R, E]):
    """The layers of one subject, and the merged records in its sink."""

    def __init__(
        self,
        subject: Subject[R],
        sources: Sequence[Source[R]],
        sink: Sink[R, E],
        failback_after: float,
    ) -> None:
        self.sources = {source.link.name: source for source in sources}
        self.layers = Layers(subject.kind, (), {})
        self.stale = False
        """Whether what is in use is the last state of providers that failed since."""
        self.ready = asyncio.Event()
        """Set once every provider that may be asked has answered or failed."""
        self._subject = subject
        self._links = tuple(source.link for source in sources)
        self._sink = sink
        self._failback_after = failback_after
        self._late: set[str] | None = None
        """The keys that events changed while an exchange is being merged."""
        self._wake_at = inf
        for source in sources:
            source.turned = self.turn
        self._dirty = False
        self._task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None

    def turn(self) -> None:
        """Decide again: something turned."""
        self._dirty = True
        if self._task is None:
            self._task = self._subject.spawn(self._work())

    def refetch(self, name: str) -> None:
        """Ask that provider again where it is held or where it had nothing to say."""
        source = self.sources.get(name)
        if source is not None and (source.answered or source.asking):
            source.ask()

    def apply(self, name: str, key: str, patch: Patch) -> None:
        """An event of that provider for one of its records."""
        source = self.sources.get(name)
        if source is None or not source.apply(key, patch):
            return
        if self._late is not None:
            self._late.add(key)
        if name in self.layers.in_use:
            self._sink.put(key, self._sink.derive(key, self.layers.merge(key)))

    def close(self) -> None:
        """Hold nothing and ask nobody any more."""
        for source in self.sources.values():
            source.release()
        if self._timer is not None:
            self._timer.cancel()

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
        if wanted.keys() != in_use.keys() or any(
            in_use[name] is not records for name, records in wanted.items()
        ):
            await self._exchange(wanted)
        elif not waiting and not self.ready.is_set():
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
            if verdict == "use" and source.records is not None:
                wanted[name] = source.records
            waiting = waiting or verdict == "wait"
            if verdict != "skip" and self._covers(source.link):
                answered = True
                covered = covered or verdict == "use"
        kept = self._kept(wanted, covered=covered)
        self.stale = bool(kept) and not waiting
        self._rearm()
        return wanted | kept, waiting

    def _verdict(self, source: Source[R]) -> Verdict:
        """Whether the layer of that provider is to be used, or may come, or counts as absent."""
        supervisor = source.supervisor
        if supervisor.starting:
            return "wait"
        if source.expired or not supervisor.started:
            return "skip"
        if source.failing_since is not None:
            self._wake(source.failing_since + supervisor.core.grace)
        if source.records is not None:
            return "use" if self._may_come(source) else "skip"
        if source.answered or source.failing_since is not None:
            return "skip"
        if not source.asking:
            if not self._may_come(source):
                return "skip"
            source.ask()
        return "wait"

    def _may_come(self, source: Source[R]) -> bool:
        """A better fallback takes over from a lesser one only when it has been ready for long
        enough; everything else may come into use at once."""
        name = source.link.name
        if source.link.mode != "fallback" or name in self.layers.in_use or self.stale:
            return True
        below = list(self.sources)[list(self.sources).index(name) + 1 :]
        lesser = (self.sources[other].link for other in below if other in self.layers.in_use)
        if not any(self._covers(link) for link in lesser):
            return True
        due = source.ready_since + self._failback_after
        self._wake(due)
        return self._subject.clock.time() >= due

    def _covers(self, link: Link) -> bool:
        """Whether an answer of this provider stands for every fallback below it."""
        everything = link.servers is None or self._subject.server_id is not None
        return link.mode == "fallback" and everything

    def _kept(self, wanted: Wanted[R], *, covered: bool) -> Wanted[R]:
        """The layers that stay although their time is over, as there is nobody in their place."""
        before = {
            mode: {
                name: records
                for name, records in self.layers.in_use.items()
                if self.sources[name].link.mode == mode and name not in wanted
            }
            for mode in ("fallback", "merge")
        }
        kept = {} if covered else before["fallback"]
        adding = any(self.sources[name].link.mode != "enrich" for name in wanted.keys() | kept)
        return kept if adding else kept | before["merge"]

    async def _exchange(self, wanted: Wanted[R]) -> None:
        """Put these layers in use: merged in slices, swapped in one step, as one change."""
        layers = Layers(self._subject.kind, self._links, wanted)
        self._late = set()
        merged: dict[str, E] = {}
        for count, key in enumerate(layers.keys(), 1):
            self._derive(layers, key, merged)
            if count % SLICE == 0:
                await asyncio.sleep(0)
        for key in self._late:
            self._derive(layers, key, merged)
        self._late = None
        unused = self.layers.in_use.keys() - wanted.keys()
        self.layers = layers
        self._sink.swap(merged)
        for name in unused:
            self.sources[name].drop()

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

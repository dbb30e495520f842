"""The decision which layers of one subject are to be in use, and which providers are asked.

It is a function of the present state alone. For each provider, from the highest priority to the
lowest, there is a verdict:

    use    its layer is in use
    wait   its layer may come; what it would replace stays in use until then
    skip   it counts as absent

The users of a server come from one fallback: below a fallback whose verdict is ``use``, no other
fallback is asked; below one whose verdict is ``wait``, a lower fallback stays only if it is in use
already. The list of servers has no such exclusion: every fallback is asked, and `Layers` decides
for each server (R3).
"""

from collections.abc import Collection, Mapping
from math import inf
from typing import Generic, Literal, TypeAlias

from d_back_core.chain.layers import Layers, R
from d_back_core.state.layer_source import LayerSource, State, Subject

Verdict: TypeAlias = Literal["use", "wait", "skip"]
Wanted: TypeAlias = dict[str, Mapping[str, R]]
"""The layers to use, by provider."""


class Decision(Generic[R]):
    """What is decided about one subject; `take` decides."""

    def __init__(  # noqa: PLR0913  the whole present state
        self,
        subject: Subject[R],
        sources: Mapping[str, LayerSource[R]],
        layers: Layers[R],
        *,
        stale: bool,
        withdrawn: Collection[str],
        failback_after: float,
    ) -> None:
        """``layers`` are in use now, and ``stale`` is what the decision before found."""
        self.wanted: Wanted[R] = {}
        """The layers to use."""
        self.kept: Wanted[R] = {}
        """The layers that stay although their time is over, since no other provider replaces
        them."""
        self.waiting = False
        """True if a provider is still waited for."""
        self.wake_at = inf
        """The time of the next decision, if nothing changes before."""
        self.stale = stale
        """True if the layers are the last ones of providers that have failed since."""
        self._subject = subject
        self._sources = sources
        self._layers = layers
        self._withdrawn = withdrawn
        self._failback_after = failback_after

    def take(self) -> None:
        """Decide about each provider. Ask those whose answers are needed; give up calls and layers
        that are not needed any more."""
        answered = covered = False
        in_use = self._layers.in_use
        for name, source in self._sources.items():
            held = name in in_use
            if source.link.mode == "fallback" and answered:
                # Nothing asks for this layer any more. Its health must not count, and a later
                # failover needs a new answer, not an old one (R7).
                if covered and not held:
                    source.release()
                if covered or not held:
                    continue
                # A higher fallback is still waited for: this one stays until then.
            verdict = self._verdict(source)
            if verdict == "use" and source.records is not None:
                self.wanted[name] = source.records
            elif verdict == "wait" and held:  # what is in use stays until the answer (R7)
                self.wanted[name] = in_use[name]
            # `renewing`: the layer is in use, but a join waits for its newer answer.
            self.waiting = self.waiting or source.renewing or verdict == "wait"
            covers = self._subject.is_covered_by(source.link) and not self._subject.is_list
            if verdict != "skip" and covers:
                answered = True
                covered = covered or verdict == "use"
        # After the loop: what is kept depends on whether any other provider answers.
        self.kept = self._lost(covered=covered)
        alone = not self._subject.is_list or not self._adds(self.wanted)
        self.stale = bool(self.kept) and not self.waiting and alone

    def _verdict(self, source: LayerSource[R]) -> Verdict:
        supervisor = source.supervisor
        if source.state is State.REMOVED:
            # Not `source.removed`: while a reload stops a provider, its layer stays in use, and
            # the next provider must not take its place for that moment (R17).
            return "skip"
        if supervisor.health.starting:
            return "wait"
        if not supervisor.running and source.asking:
            source.cancel()  # an answer of the run that is over is not taken (R15)
        if source.state is State.INHERITED and supervisor.running and not source.asking:
            source.ask()  # also if its time is over: nothing else asks the new instance
        if source.expired or (not supervisor.running and source.records is None):
            return "skip"
        if source.failing_since is not None:
            self._wake(supervisor.health.grace_ends(source.failing_since))
        self._retry(source)
        return self._verdict_by_answer(source)

    def _verdict_by_answer(self, source: LayerSource[R]) -> Verdict:
        """The verdict about a provider that runs, or whose layer has grace left."""
        if source.records is not None:
            return "use" if self._may_come(source) else "skip"
        if source.answered or source.failing_since is not None:
            return "skip"  # it answered None, or failed: absent until its retry
        if not source.asking:
            if not self._may_come(source):
                return "skip"
            source.ask()  # here, and not when it is ready: only what is needed is fetched (R2)
        return "wait"

    def _retry(self, source: LayerSource[R]) -> None:
        """Ask again a provider whose last answer brought nothing, in its time."""
        at = source.retry_at
        if at is None or not source.supervisor.running:
            return
        if self._subject.is_list and source.records is not None and self._layers.keys():
            return  # an empty list matters only while no server is known
        if at <= self._subject.clock.time():
            source.ask()
        else:
            self._wake(at)

    def _may_come(self, source: LayerSource[R]) -> bool:
        """Return True if the layer may come into use now. A fallback that had failed replaces a
        lower one only after it has been ready for ``failback_after`` (R9)."""
        name = source.link.name
        in_use = self._layers.in_use.keys() - self._layers.stale
        has_failed = source.has_failed or source.supervisor.health.has_failed
        if source.link.mode != "fallback" or name in in_use or self.stale or not has_failed:
            return True
        names = list(self._sources)
        below = [self._sources[each] for each in names[names.index(name) + 1 :] if each in in_use]
        if not any(self._subject.is_covered_by(each.link) and not each.removed for each in below):
            return True
        if source.failing:
            return False  # its time of readiness has not begun
        due = source.ready_since + self._failback_after
        self._wake(due)
        return self._subject.clock.time() >= due

    def _lost(self, *, covered: bool) -> Wanted[R]:
        """Return the layers to keep; see `kept`."""
        in_use = self._layers.in_use
        lost = {name: each for name, each in in_use.items() if name not in self.wanted}
        modes = {name: self._sources[name].link.mode for name in lost}
        adding = self._adds(self.wanted)
        if self._subject.is_list:
            # `Layers` shows of these only the servers that no other provider lists (R3).
            return {
                name: records
                for name, records in lost.items()
                if modes[name] != "enrich" and not (adding and self._sources[name].removed)
            }
        lost = {name: each for name, each in lost.items() if name not in self._withdrawn}
        kept = {
            name: records
            for name, records in lost.items()
            if modes[name] == "fallback"
            and not covered
            and (self.waiting or not adding or not self._sources[name].removed)
        }
        if adding or kept:
            return kept
        return {name: records for name, records in lost.items() if modes[name] == "merge"}

    def _adds(self, names: Collection[str]) -> bool:
        """Return True if one of these providers adds records of its own."""
        return any(self._sources[name].link.mode != "enrich" for name in names)

    def _wake(self, at: float) -> None:
        # A moment that has passed is decided on now; a timer for it would fire without end.
        if at > self._subject.clock.time():
            self.wake_at = min(self.wake_at, at)

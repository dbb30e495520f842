"""The providers of the configuration while they run, and what a reload changes of them."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from d_back_core.chain.layers import Link
from d_back_core.clock import Clock
from d_back_core.config import Config
from d_back_core.providers.loader import Plugin
from d_back_core.providers.recorder_queue import RecorderQueue
from d_back_core.providers.supervisor import ProviderListener, Supervisor
from d_back_core.providers.validation import ValidationLog
from d_back_core.state.layer_source import Member
from d_back_core.state.resolver import Resolver
from d_back_core.stats import ProviderStats


class ProviderSet:
    """Supervisors by name, in the order of the configuration, and the queues of the recorders."""

    def __init__(self, clock: Clock) -> None:
        self.supervisors: dict[str, Supervisor] = {}
        self.recorder_queues: list[RecorderQueue] = []
        self.validation_logs: dict[str, ValidationLog] = {}
        self.links: dict[str, Link] = {}
        """The places in the chain; a recorder that is not in the order has none."""
        self._clock = clock

    async def adopt(
        self, config: Config, plugins: Sequence[Plugin], listener: ProviderListener
    ) -> None:
        """Run exactly these. A provider whose own table has not changed keeps its instance; of the
        others, the old instance is stopped before the new one is started (R17)."""
        names = {plugin.name for plugin in plugins}
        kept = {
            plugin.name: self.supervisors[plugin.name]
            for plugin in plugins
            if plugin.name in self.supervisors
            and self.supervisors[plugin.name].plugin.same_instance(plugin)
            and not self.supervisors[plugin.name].ended  # by a reload that was cancelled
        }
        await self._end_queues(config.chain.recorders)  # while they can still store
        # Stopped before the new ones are started: two instances may not share a connection or a
        # file. Their layers stay in use meanwhile (R17).
        await self._end(each for name, each in self.supervisors.items() if name not in kept)
        # No await from here on: supervisors, links and queues always fit each other.
        logs = self.validation_logs
        self.validation_logs = {name: logs.get(name) or ValidationLog(name) for name in names}
        self.supervisors = {}
        for plugin in plugins:
            supervisor = kept.get(plugin.name)
            if supervisor is None:
                supervisor = Supervisor(plugin, config.chain, self._clock, listener)
                supervisor.begin()
            else:
                supervisor.reconfigure(plugin.core, config.chain)
            self.supervisors[plugin.name] = supervisor
        self.links = {name: self._link(name) for name in config.chain.order}
        self._adopt_recorders(config)

    async def end(self) -> None:
        """Store what recorders have not stored yet, and stop all providers."""
        # While the recorders still run.
        await asyncio.gather(*(queue.end() for queue in self.recorder_queues))
        await self._end(self.supervisors.values())

    def members(self, server_id: str | None) -> list[Member]:
        """Return the providers to ask about that server, in order (None: about the list)."""
        return [
            self._member(link)
            for link in self.links.values()
            if server_id is None or link.admits(server_id)
        ]

    def _member(self, link: Link) -> Member:
        flush = next(
            (q.flush for q in self.recorder_queues if q.supervisor.name == link.name), None
        )
        return Member(
            link=link,
            supervisor=self.supervisors[link.name],
            validation_log=self.validation_logs[link.name],
            flush=flush,
        )

    def records(self, server_id: str) -> bool:
        """Return True if a recorder stores that server."""
        return any(queue.link.admits(server_id) for queue in self.recorder_queues)

    @property
    def answers_unlisted(self) -> bool:
        """True if a provider has users but no list: it may know servers that no list has."""
        return any(
            each.plugin.implements("users") and not each.plugin.implements("servers")
            for name, each in self.supervisors.items()
            if name in self.links and self.links[name].mode != "enrich"
        )

    @property
    def recorders(self) -> list[tuple[Supervisor, Link, str | None]]:
        """The recorders, with the servers they store and the provider they stand below."""
        return [(each.supervisor, each.link, each.above) for each in self.recorder_queues]

    @property
    def records_public(self) -> bool:
        """True if a recorder stores the state after the operator's policy."""
        return any(queue.public for queue in self.recorder_queues)

    def stats(self, resolvers: Sequence[Resolver[Any, Any]]) -> list[ProviderStats]:
        """Return the state of every provider; ``resolvers`` are all that there are."""
        now = self._clock.time()
        return [
            ProviderStats(
                name=name,
                mode=self.links[name].mode if name in self.links else "",
                health=each.health.state,
                since=now - each.health.since,
                next_retry=None if each.next_retry is None else max(0.0, each.next_retry - now),
                calls=each.calls.count,
                failures=each.calls.failures,
                latency=each.calls.latency,
                records=sum(
                    len(resolver.sources[name].records or ())
                    for resolver in resolvers
                    if name in resolver.sources
                ),
                refused=sum(self.validation_logs[name].counts.values()),
                gauges=dict(each.gauges),
            )
            for name, each in self.supervisors.items()
        ]

    def errors(self) -> dict[str, str]:
        """Return the last error of each provider that is not ready; for operators."""
        return {
            name: each.health.last_error
            for name, each in self.supervisors.items()
            if each.health.last_error and each.health.state != "ready"
        }

    async def _end_queues(self, named: Collection[str]) -> None:
        ending = [each for each in self.recorder_queues if each.supervisor.name not in named]
        await asyncio.gather(*(queue.end() for queue in ending))
        # In place, here and below: the observers of all resolvers share this list.
        self.recorder_queues[:] = [each for each in self.recorder_queues if each not in ending]

    def _adopt_recorders(self, config: Config) -> None:
        former = {queue.supervisor.name: queue for queue in self.recorder_queues}
        self.recorder_queues.clear()
        for name in config.chain.recorders:
            link = self.links.get(name) or self._link(name)
            above = name if name in self.links else None
            queue = former.pop(name, None)
            if queue is None:
                queue = RecorderQueue(self.supervisors[name], link, above, self._clock)
                queue.begin()
            else:
                queue.reconfigure(self.supervisors[name], link, above)
            self.recorder_queues.append(queue)

    async def _end(self, supervisors: Iterable[Supervisor]) -> None:
        await asyncio.gather(*(supervisor.end() for supervisor in supervisors))

    def _link(self, name: str) -> Link:
        core = self.supervisors[name].core
        fields = None
        if core.fields is not None:
            fields = frozenset(
                "role_color" if field == "roleColor" else field for field in core.fields
            )
        return Link(name=name, mode=core.mode or "fallback", servers=core.servers, fields=fields)

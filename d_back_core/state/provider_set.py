"""The providers of the configuration while they run, and what of them a reload changes."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from msgspec import structs

from d_back_core.chain.layers import Link
from d_back_core.clock import Clock
from d_back_core.config import Config, Provider
from d_back_core.providers.loader import Plugin
from d_back_core.providers.recorder_queue import RecorderQueue
from d_back_core.providers.supervisor import ProviderListener, Supervisor
from d_back_core.providers.validation import ValidationLog
from d_back_core.state.layer_source import Member
from d_back_core.state.resolver import Resolver
from d_back_core.stats import ProviderStats


class ProviderSet:
    """Supervisors by name, in the order of the configuration, and the recorders among them."""

    def __init__(self, clock: Clock, listener: ProviderListener) -> None:
        self.supervisors: dict[str, Supervisor] = {}
        self.recorder_queues: list[RecorderQueue] = []
        self.validation_logs: dict[str, ValidationLog] = {}
        self.links: dict[str, Link] = {}
        """The places in the chain; a recorder that is not in the order has none."""
        self._clock = clock
        self._listener = listener

    async def adopt(self, config: Config, plugins: Sequence[Plugin]) -> list[str]:
        """Run exactly these. A provider whose own table is as it was keeps its instance; of one
        that changed, the old instance is stopped before the new one is started. Returns the names
        of those that were started."""
        names = {plugin.name for plugin in plugins}
        kept = {
            plugin.name: self.supervisors[plugin.name]
            for plugin in plugins
            if plugin.name in self.supervisors
            and self.supervisors[plugin.name].plugin.same_instance(plugin)
        }
        await self._end_recordings(config.chain.recorders)  # while they can still store
        await self._end(each for name, each in self.supervisors.items() if name not in kept)
        self.validation_logs = {
            name: self.validation_logs.get(name) or ValidationLog(name) for name in names
        }
        self.supervisors = {}
        for plugin in plugins:
            supervisor = kept.get(plugin.name)
            if supervisor is None:
                supervisor = Supervisor(plugin, config.chain, self._clock, self._listener)
                supervisor.begin()
            else:
                supervisor.reconfigure(plugin.settings.core, config.chain)
                supervisor.plugin.muted = plugin.muted
            self.supervisors[plugin.name] = supervisor
        self.links = {name: _link(config.provider(name)) for name in config.chain.order}
        self._adopt_recorders(config)
        return [name for name in self.supervisors if name not in kept]

    async def end(self) -> None:
        """Store what recorders have not stored yet, and stop all providers."""
        await asyncio.gather(*(queue.end() for queue in self.recorder_queues))
        await self._end(self.supervisors.values())

    def members(self, server_id: str | None) -> list[Member]:
        """Who is asked about that server, in order (None: about the list of servers)."""
        hook = "servers" if server_id is None else "users"
        return [
            self._member(link, hook)
            for link in self.links.values()
            if server_id is None or link.admits(server_id)
        ]

    def _member(self, link: Link, hook: str) -> Member:
        supervisor = self.supervisors[link.name]
        if hook in supervisor.plugin.capabilities.overlays:
            link = structs.replace(link, mode="merge")
        validation_log = self.validation_logs[link.name]
        return Member(link=link, supervisor=supervisor, validation_log=validation_log)

    def recorders(self) -> list[tuple[Supervisor, Link, str | None]]:
        """Who records, of which servers, and below whom."""
        return [(each.supervisor, each.link, each.above) for each in self.recorder_queues]

    @property
    def records_public(self) -> bool:
        """Whether any recorder wants the state after the operator's policy."""
        return any(queue.public for queue in self.recorder_queues)

    def stats(self, resolvers: Sequence[Resolver[Any, Any]]) -> list[ProviderStats]:
        """How every provider is; ``resolvers`` are all that hold something of it."""
        found = []
        now = self._clock.time()
        for name, supervisor in self.supervisors.items():
            sources = [
                resolver.sources[name] for resolver in resolvers if name in resolver.sources
            ]
            failing = any(source.failing_since is not None for source in sources)
            health, retry = supervisor.health, supervisor.next_retry
            found.append(
                ProviderStats(
                    name=name,
                    mode=self.links[name].mode if name in self.links else "",
                    health="degraded" if failing and health == "ready" else health,
                    since=now - supervisor.since,
                    next_retry=None if retry is None else max(0.0, retry - now),
                    calls=supervisor.calls,
                    failures=supervisor.failures,
                    latency=supervisor.latency,
                    records=sum(len(source.records or ()) for source in sources),
                    refused=sum(self.validation_logs[name].counts.values()),
                    gauges=dict(supervisor.gauges),
                )
            )
        return found

    def errors(self, providers: Iterable[ProviderStats]) -> dict[str, str]:
        """The last error of those that are not ready; for operators."""
        failing = [each.name for each in providers if each.health != "ready"]
        last = {name: self.supervisors[name].last_error for name in failing}
        return {name: error for name, error in last.items() if error}

    async def _end_recordings(self, named: Collection[str]) -> None:
        ending = [each for each in self.recorder_queues if each.supervisor.name not in named]
        await asyncio.gather(*(queue.end() for queue in ending))
        self.recorder_queues[:] = [each for each in self.recorder_queues if each not in ending]

    def _adopt_recorders(self, config: Config) -> None:
        former = {queue.supervisor.name: queue for queue in self.recorder_queues}
        self.recorder_queues.clear()
        for name in config.chain.recorders:
            link = self.links.get(name) or _link(config.provider(name))
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


def _link(provider: Provider) -> Link:
    core = provider.core
    fields = None
    if core.fields is not None:
        fields = frozenset("role_color" if name == "roleColor" else name for name in core.fields)
    return Link(name=provider.name, mode=core.mode, servers=core.servers, fields=fields)

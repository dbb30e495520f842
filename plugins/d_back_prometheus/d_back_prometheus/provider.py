"""The provider: answers one path, and looks how late the event loop is."""

import asyncio
from collections.abc import Sequence

from msgspec import Struct
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from d_back_core import Context, hookimpl
from d_back_prometheus.metrics import Metrics

LAG_INTERVAL = 1.0


class PrometheusConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.prometheus]``."""

    path: str = "/metrics"
    """Where the metrics are."""

    def __post_init__(self) -> None:
        """Refuse a path that no request can have."""
        if not self.path.startswith("/"):
            raise ValueError(f"path '{self.path}' does not begin with /")


class PrometheusProvider:
    """Has no servers and no users; it is named in ``gateway.http``, not in ``chain.order``."""

    Config = PrometheusConfig

    def __init__(self, config: PrometheusConfig) -> None:
        self._path = config.path
        self._metrics: Metrics | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._watch: asyncio.Task[None] | None = None

    @hookimpl
    async def start(self, context: Context) -> None:
        """Begin to serve."""
        self._metrics = Metrics(context.stats)
        self._registry.register(self._metrics)
        self._watch = asyncio.create_task(_watch_loop(context, self._metrics))

    @hookimpl
    async def stop(self) -> None:
        """Serve no more."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
            self._watch = None
        if self._metrics is not None:
            self._registry.unregister(self._metrics)
            self._metrics = None

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        """Serve the metrics at their path."""
        return [Route(self._path, self._show)]

    async def _show(self, request: Request) -> Response:
        """Return the metrics, in the format that the scraper prefers."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
        return Response(encode(self._registry), headers=headers)


async def _watch_loop(context: Context, metrics: Metrics) -> None:
    """Measure by how much a wait takes longer than it should."""
    while True:
        before = context.clock.time()
        await context.clock.sleep(LAG_INTERVAL)
        metrics.loop_lag = max(0.0, context.clock.time() - before - LAG_INTERVAL)

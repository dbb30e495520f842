"""The metrics: made of the core's statistics at each scrape. No user data is in a label."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from d_back_core import ProviderStats, Stats

HEALTHS = ("starting", "ready", "degraded", "failed")

TOTALS = {
    "sessions": "Clients that connected.",
    "joins": "Snapshots that were sent.",
    "resumes": "Clients that went on where their connection was lost.",
    "deltas": "Changes of worlds.",
    "deliveries": "Deltas that were written to sessions.",
    "bytes": "Bytes of deltas that were written to sessions.",
    "conflated": "Deltas that were held back from clients that read too slowly.",
    "slow_clients": "Clients that were ended since they stayed behind.",
    "chat_dropped": "Messages over the rate of their channel.",
}
BY_LABEL = {
    "refusals": ("code", "Errors that clients were told."),
    "rejections": ("reason", "Connections that were not accepted."),
    "closes": ("code", "Sessions that ended, by close code; 0 where none was sent."),
}


class Metrics(Collector):
    """Collects ``d_back_*``."""

    def __init__(self, stats: Callable[[], Stats]) -> None:
        self.loop_lag = 0.0
        """Seconds."""
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        """All metrics, as of now."""
        stats = self._stats()
        yield from _totals(stats)
        for name, value, text in (
            ("sessions", stats.sessions, "Clients that are connected."),
            ("servers", stats.servers, "Servers that are held."),
            ("users", stats.users, "Users of the servers that are held."),
            ("loop_lag_seconds", self.loop_lag, "By how much the event loop is late."),
        ):
            yield GaugeMetricFamily(f"d_back_{name}", text, value=value)
        queued = GaugeMetricFamily(
            "d_back_recorder_queue", "Changes that wait for a recorder.", labels=["provider"]
        )
        for name, waiting in stats.queued.items():
            queued.add_metric([name], waiting)
        yield queued
        yield from _providers(stats.providers)


def _totals(stats: Stats) -> Iterator[Metric]:
    for name, text in TOTALS.items():
        total = getattr(stats.counters, name)
        # "sessions" is also a gauge: a total says what it counts
        what = "sessions_opened" if name == "sessions" else name
        yield CounterMetricFamily(f"d_back_{what}", text, value=total)
    for name, (label, text) in BY_LABEL.items():
        family = CounterMetricFamily(f"d_back_{name}", text, labels=[label])
        for key, count in getattr(stats.counters, name).items():
            family.add_metric([str(key)], count)
        yield family


def _providers(providers: list[ProviderStats]) -> Iterator[Metric]:
    health = GaugeMetricFamily(
        "d_back_provider_health", "1 at the present health.", labels=["provider", "health"]
    )
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
        "since": GaugeMetricFamily(
            "d_back_provider_health_seconds", "Seconds in this health.", labels=["provider"]
        ),
        "records": GaugeMetricFamily(
            "d_back_provider_records", "Records that are held.", labels=["provider"]
        ),
        "latency": GaugeMetricFamily(
            "d_back_provider_latency_seconds", "The last answer took.", labels=["provider"]
        ),
        "calls": CounterMetricFamily(
            "d_back_provider_calls", "Calls of hooks.", labels=["provider"]
        ),
        "failures": CounterMetricFamily(
            "d_back_provider_failures", "Calls that failed.", labels=["provider"]
        ),
        "refused": CounterMetricFamily(
            "d_back_provider_refused", "Values that were not valid.", labels=["provider"]
        ),
    }
    figures = GaugeMetricFamily(
        "d_back_provider_gauge", "What a provider tells of itself.", labels=["provider", "figure"]
    )
    for provider in providers:
        for name, value in provider.gauges.items():
            figures.add_metric([provider.name, name], value)
        for state in HEALTHS:
            health.add_metric([provider.name, state], float(provider.health == state))
        for field, family in families.items():
            value = getattr(provider, field)
            if value is not None:
                family.add_metric([provider.name], value)
    yield health
    yield figures
    yield from families.values()

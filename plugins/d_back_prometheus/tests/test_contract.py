"""The metrics keep the contract of what they have of a provider."""

from d_back_prometheus import PrometheusConfig, PrometheusProvider
from d_back_testing import ProviderContract


class TestMetrics(ProviderContract):
    """Neither servers nor users, but a path."""

    http_paths = ("/metrics",)

    def provider(self) -> PrometheusProvider:
        return PrometheusProvider(PrometheusConfig())

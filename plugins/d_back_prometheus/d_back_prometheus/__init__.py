"""What a d-back gateway counts, in the format of Prometheus.

::

    [gateway]
    http = ["prometheus"]
"""

from d_back_prometheus.provider import PrometheusConfig, PrometheusProvider

__all__ = ["PrometheusConfig", "PrometheusProvider"]

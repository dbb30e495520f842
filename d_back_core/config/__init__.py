"""``d-back.toml``: its tables as structs, and how they are read."""

from d_back_core.config.loading import Source, find, load, parse, schema
from d_back_core.config.tables import (
    ChainConfig,
    Config,
    GatewayConfig,
    LimitsConfig,
    Provider,
    ProviderConfig,
    Tls,
)

__all__ = [
    "ChainConfig",
    "Config",
    "GatewayConfig",
    "LimitsConfig",
    "Provider",
    "ProviderConfig",
    "Source",
    "Tls",
    "find",
    "load",
    "parse",
    "schema",
]

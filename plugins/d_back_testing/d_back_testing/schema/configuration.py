"""``d-back.toml`` as a JSON Schema with the text of each key, which editors show beside it."""

from typing import Any

from d_back_core import config
from d_back_core.chain.policy import Policy
from d_back_core.cli.config_template import descriptions

TABLES = (
    config.GatewayConfig,
    config.Tls,
    config.LimitsConfig,
    config.ChainConfig,
    config.ProviderConfig,
    Policy,
)


def document() -> dict[str, Any]:
    """Return the schema."""
    schema = config.schema()
    for table in TABLES:
        keys = schema["$defs"][table.__name__]["properties"]
        for key, text in descriptions(table).items():
            # Not into the object: keys of one type share it.
            keys[key] = {**keys[key], "description": text}
    return schema

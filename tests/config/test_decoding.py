"""The error texts of msgspec that are parsed, and the messages that are made of them."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from d_back_core import ConfigError, Secret
from d_back_core.config.decoding import decode


class Pool(Struct, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """A table inside a table."""

    max_size: Annotated[int, Meta(ge=1)] = 4


class Options(Struct, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """Every kind of key that is treated in a way of its own."""

    host_name: str
    ratio: float | None = None
    chunk: bool = True
    mode: Literal["fast", "safe"] = "safe"
    modes: frozenset[Literal["fast", "safe"]] = frozenset()
    sizes: tuple[int, ...] = ()
    names: str | list[str] = ""
    code: Annotated[str, Meta(max_length=2)] = ""
    pool: Pool | None = None
    pools: dict[str, Pool] = {}
    token: Secret | None = None


TEXTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing field": (
        {"host-name": msgspec.UNSET},
        "Object missing required field `host-name`",
        "x.host-name: is missing",
    ),
    "type": (
        {"host-name": 5},
        "Expected `str`, got `int` - at `$.host-name`",
        "x.host-name '5': expected a string, got a whole number",
    ),
    "optional type": (
        {"ratio": "a"},
        "Expected `float | null`, got `str` - at `$.ratio`",
        "x.ratio 'a': expected a number, got a string",
    ),
    "union": (
        {"names": True},
        "Expected `str | array`, got `bool` - at `$.names`",
        "x.names 'true': expected a string or a list, got true or false",
    ),
    "table": (
        {"pool": []},
        "Expected `object | null`, got `array` - at `$.pool`",
        "x.pool '[]': expected a table, got a list",
    ),
    "list": (
        {"sizes": {}},
        "Expected `array`, got `object` - at `$.sizes`",
        "x.sizes '{}': expected a list, got a table",
    ),
    "item of a list": (
        {"sizes": [1, "a"]},
        "Expected `int`, got `str` - at `$.sizes[1]`",
        "x.sizes[1] 'a': expected a whole number, got a string",
    ),
    "bound": (
        {"pool": {"max-size": 0}},
        "Expected `int` >= 1 - at `$.pool.max-size`",
        "x.pool.max-size '0': expected a whole number >= 1",
    ),
    "length": (
        {"code": "abc"},
        "Expected `str` of length <= 2 - at `$.code`",
        "x.code 'abc': expected a string of length <= 2",
    ),
    "choice": (
        {"mode": "faster"},
        "Invalid enum value 'faster' - at `$.mode`",
        "x.mode 'faster': is not a valid value (did you mean 'fast'? known: fast, safe)",
    ),
    "choice in a list": (
        {"modes": ["sfe"]},
        "Invalid enum value 'sfe' - at `$.modes[0]`",
        "x.modes[0] 'sfe': is not a valid value (did you mean 'safe'? known: fast, safe)",
    ),
    "value of a mapping": (
        {"pools": {"a.b": {"max-size": []}}},
        "Expected `int`, got `array` - at `$.pools[...].max-size`",
        'x.pools[...].max-size \'{"a.b":{"max-size":[]}}\': expected a whole number, got a list',
    ),
    "conversion": (
        {"token": ""},
        "is empty - at `$.token`",
        "x.token: is empty",
    ),
}
"""Wrong keys, the text of msgspec, and the message of d-back."""


def table(keys: dict[str, Any]) -> dict[str, Any]:
    """A table that is right except for these keys."""
    merged = {"host-name": "a"} | keys
    return {key: value for key, value in merged.items() if value is not msgspec.UNSET}


def refuse(_kind: type, _value: object) -> object:
    raise ValueError("is empty")


@pytest.mark.parametrize(("keys", "text", "_message"), TEXTS.values(), ids=TEXTS)
def test_msgspec_writes_the_text_that_is_parsed(
    keys: dict[str, Any], text: str, _message: str
) -> None:
    """A new version of msgspec that words it differently shows here."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(table(keys), Options, dec_hook=refuse)
    assert str(caught.value) == text


@pytest.mark.parametrize(("keys", "_text", "message"), TEXTS.values(), ids=TEXTS)
def test_the_message_is_in_the_terms_of_toml(
    keys: dict[str, Any], _text: str, message: str
) -> None:
    """It names the key, the value and what is possible; a secret is not quoted."""
    with pytest.raises(ConfigError) as caught:
        decode(Options, table(keys), "x")
    assert str(caught.value) == message

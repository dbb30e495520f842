"""``[providers.nats]``: what it may say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from d_back_core import ConfigError
from d_back_core.config import parse
from d_back_core.providers.loader import load
from d_back_nats import NatsConfig, provider

GUIDE = Path(__file__).parents[3] / "docs" / "en" / "cluster.md"


def loaded(**options: Any) -> None:  # noqa: ANN401
    table = {"chain": {"order": ["nats"]}, "providers": {"nats": options}}
    load(parse(table))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"urls": ["tls://a:4222", "nats://b"]},
        {"user": "edge", "password": "pw"},
        {"token": "t"},
        {"credentials": "edge.creds"},
        {"nkey": "SU"},
        {"tls": {"ca": "ca.pem", "cert": "c.pem", "key": "k.pem", "first": True}},
        {"replicas": 3, "storage": "memory", "lease": "5s", "bucket": "b", "inbox": "_INBOX_e"},
    ],
)
def test_what_may_be_said(options: dict[str, Any]) -> None:
    """Every key is taken."""
    loaded(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"urls": []}, "urls: expected at least one"),
        ({"urls": ["localhost"]}, "urls: expected nats://HOST:PORT"),
        ({"urls": ["http://a"]}, "urls: expected nats://HOST:PORT"),
        ({"urls": ["nats://u:pw@a"]}, "urls: user and password have keys of their own"),
        ({"urls": ["nats://a:1,nats://b:2"]}, "urls: expected one address per string"),
        ({"urls": ["nats://a:port"]}, "urls: expected nats://HOST:PORT"),
        ({"urls": "nats://u:pw@a"}, "urls: expected a list, got a string"),
        ({"bucket": "a.b"}, "bucket: expected letters"),
        ({"bucket": ""}, "bucket: expected letters"),
        ({"inbox": "a.*"}, "inbox: expected the beginning of a subject"),
        ({"user": "edge"}, "user and password go together"),
        ({"password": "pw"}, "user and password go together"),
        ({"token": "t", "nkey": "SU"}, "expected one of user, token, credentials and nkey"),
        ({"lease": "1s"}, "lease: expected 2 s or more"),
        ({"tls": {"cert": "c.pem"}}, "tls: cert and key go together"),
        ({"replicas": 0}, "replicas"),
        ({"storage": "disk"}, "storage"),
        ({"bukket": "b"}, "bukket"),
    ],
)
def test_what_may_not_be_said(options: dict[str, Any], message: str) -> None:
    """What cannot work is an error that names the key, and shows no secret."""
    with pytest.raises(ConfigError) as error:
        loaded(**options)
    assert message in str(error.value)
    assert "pw" not in str(error.value).replace("password", "")


def test_every_key_is_documented() -> None:
    """The guide's table names each key of the configuration, and no other."""
    text = GUIDE.read_text()
    table = text[text.index("| key | default | meaning |") :].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    named = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert named == set(NatsConfig.__struct_fields__)
    assert all(f"`{name}`" in table for name in ("ca", "cert", "key", "first = true"))


def test_every_figure_is_documented() -> None:
    """The guide's table names each figure that the provider reports."""
    source = (Path(provider.__file__)).read_text()
    told = set(re.findall(r'context.gauge\("(\w+)"', source))
    text = GUIDE.read_text()
    table = text[text.index("| figure | meaning |") :].partition("\n\n")[0]
    assert {line.split("`")[1] for line in table.splitlines()[2:] if "`" in line} == told

"""``[providers.nats]``: where NATS is, who we are there, and what the bucket is like."""

import re
import ssl
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from d_back_core import Duration, Secret, WatchedFile

SCHEMES = ("nats", "tls", "ws", "wss")
SHORTEST_LEASE = 2.0
"""Seconds."""

_BUCKET = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SUBJECT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class NatsTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``tls``: PEM files. With the table the connection is encrypted, or there is none."""

    ca: WatchedFile | None = None
    """Who may have signed the servers' certificates. Unset: whom the system trusts."""
    cert: WatchedFile | None = None
    """Our own certificate, where the servers ask for one; with ``key``."""
    key: WatchedFile | None = None
    first: bool = False
    """Whether the servers expect TLS before anything else (``handshake_first``)."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("tls: cert and key go together")

    def context(self) -> ssl.SSLContext:
        """What to connect with; raises OSError where a file cannot be read."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context


class NatsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.nats]``."""

    urls: tuple[str, ...] = ("nats://localhost:4222",)
    """Servers of one cluster; one that answers is enough, it names the others."""
    bucket: str = "d-back"
    """The key-value bucket; the origin makes it."""
    user: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    credentials: WatchedFile | None = None
    """A ``.creds`` file: a JWT, and the seed to sign with."""
    nkey: Secret | None = None
    """The seed of an nkey (``SU…``)."""
    tls: NatsTls | None = None
    inbox: str = "_INBOX"
    """What subjects for answers begin with."""
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    """Servers that store the bucket: with 3, one may be lost. Only the origin's is used."""
    storage: Literal["file", "memory"] = "file"
    """Where they store it. Only the origin's is used."""
    lease: Duration | None = None
    """Time until a silent origin loses the bucket; with it, other origins stand by. Unset: there
    is one origin."""

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("urls: expected at least one")
        for url in self.urls:
            _check_url(url)
        if _BUCKET.fullmatch(self.bucket) is None:
            raise ValueError("bucket: expected letters, digits, '_' and '-'")
        if _SUBJECT.fullmatch(self.inbox) is None:
            raise ValueError("inbox: expected the beginning of a subject")
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together")
        ways = (self.user, self.token, self.credentials, self.nkey)
        if sum(way is not None for way in ways) > 1:
            raise ValueError("expected one of user, token, credentials and nkey")
        if self.lease is not None and self.lease < SHORTEST_LEASE:
            raise ValueError(f"lease: expected {SHORTEST_LEASE:g} s or more")


def _check_url(url: str) -> None:
    """Raise ``ValueError`` for an address that NATS cannot use. It does not quote the address: a
    password may be in it."""
    if "," in url or any(char.isspace() for char in url):
        raise ValueError("urls: expected one address per string")
    if "@" in url:
        raise ValueError("urls: user and password have keys of their own")
    try:
        parts = urlsplit(url)
        known = parts.scheme in SCHEMES and parts.hostname and parts.port != 0
    except ValueError:  # an invalid port or IPv6 address; the text quotes it
        known = False
    if not known:
        raise ValueError("urls: expected nats://HOST:PORT, or tls, ws, wss")

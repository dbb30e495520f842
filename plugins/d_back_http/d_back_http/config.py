"""``[providers.http]``: what is asked, and who may push."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field
from msgspec.structs import asdict

from d_back_core import Duration, Secret

MIN_SECRET = 16
"""Characters: what can be guessed as often as one likes must not be guessable."""
SERVER_ID = "{server_id}"


class UsersFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``users_fields``: where the fields of one user are, as a path such as ``profile.name``."""

    uid: str = "uid"
    username: str = "username"
    status: str = "status"
    role_color: str = "roleColor"
    extra: dict[str, str] = field(default_factory=dict)
    """Further texts: a key of ``User.extra``, and its path."""


class ServersFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``servers_fields``: where the fields of one server are."""

    server_id: str = "server_id"
    name: str = "name"
    id: str = "id"
    default: str = "is_default"
    passworded: str = "passworded"
    enabled: str = "enabled"


class PushSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``push.NAME``: a program that may push."""

    secret: Secret
    """It sends ``Authorization: Bearer SECRET``; 16 characters at least."""
    servers: frozenset[str] = frozenset()
    """The ids of the only servers that it may push. Empty: all."""


class HttpConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.http]``."""

    users_url: str | None = None
    """Pull: the URL of the users of a server; ``{server_id}`` stands for its id."""
    servers_url: str | None = None
    """Pull: the URL of the list of servers."""
    server_names: dict[str, str] = field(default_factory=dict)
    """Pull without ``servers_url``: the ids of the servers, and their names."""
    every: Duration = Duration(30)
    """Pull: the time between two requests for the same URL."""
    token: Secret | None = None
    """Pull: sent as ``Authorization: Bearer TOKEN``."""
    users_at: str = ""
    """Pull: where in the answer the users are, as a path such as ``data.members``."""
    servers_at: str = ""
    """Pull: the same for servers."""
    users_fields: UsersFields = UsersFields()
    servers_fields: ServersFields = ServersFields()
    statuses: dict[str, str] = field(default_factory=dict)
    """Pull: what the source calls a status, and what it is here: ``{ away = "idle" }``."""
    max_size: Annotated[int, Meta(ge=1024)] = 32 * 1024 * 1024
    """Pull: bytes of an answer at most."""
    push: dict[str, PushSource] = field(default_factory=dict)
    """Push: the programs that may push, by a name of your choice."""
    path: str = "/http"
    """Push: the path below which they push."""

    def __post_init__(self) -> None:
        for key in ("users_url", "servers_url"):
            _check_url(key, getattr(self, key))
        if self.users_url is not None:
            self._check_servers(self.users_url)
        if self.every < 1:
            raise ValueError("every: expected a duration of 1 s at least")
        self._check_fields()
        self._check_push()

    def _check_servers(self, users_url: str) -> None:
        if self.servers_url is None and not self.server_names:
            raise ValueError("users_url: expected servers_url or server_names as well")
        if SERVER_ID not in users_url and len(self.server_names) != 1:
            raise ValueError(f"users_url: expected {SERVER_ID} in it, for more than one server")

    def _check_fields(self) -> None:
        for table, fields in (
            ("users_fields", asdict(self.users_fields)),
            ("servers_fields", asdict(self.servers_fields)),
        ):
            for key in ("uid", "server_id"):
                if fields.get(key) == "":
                    raise ValueError(f"{table}.{key}: cannot be left out")
        for name, status in self.statuses.items():
            if status not in {"online", "idle", "dnd", "offline"}:
                raise ValueError(
                    f"statuses.{name}: '{status}' is not a status (online, idle, dnd, offline)"
                )

    def _check_push(self) -> None:
        if not re.fullmatch(r"(/[A-Za-z0-9_-]+)+", self.path):
            raise ValueError(f"path: '{self.path}' is not a path such as /http")
        secrets = set()
        for name, source in self.push.items():
            secret = source.secret.reveal()
            if source.secret.is_hash:
                raise ValueError(f"push.{name}.secret: expected the secret itself, got a hash")
            if len(secret) < MIN_SECRET:
                raise ValueError(f"push.{name}.secret: is shorter than {MIN_SECRET} characters")
            if secret in secrets:
                raise ValueError(f"push.{name}.secret: another source has the same one")
            secrets.add(secret)


def _check_url(key: str, url: str | None) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{key}: expected http://… or https://…")  # not quoted: it may have a key

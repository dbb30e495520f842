"""The keys and subjects of a bucket, and how any id becomes a part of one."""

import re

from msgspec import Struct

ORIGIN = "origin"
"""Where the origin that writes the bucket says who it is."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_ESCAPED = re.compile(r"=([0-9A-F]{2})")


class Place(Struct, frozen=True, gc=False):
    """What a key is about. ``group`` is "servers" or "users.SERVER_ID"; ``name`` a
    server_id, or a uid."""

    group: str
    name: str


def users_of(server_id: str) -> str:
    """The group of the users of a server."""
    return f"users.{server_id}"


def token(name: str) -> str:
    """An id as one part of a key: letters, digits, ``_`` and ``-`` as they are, all else (dots and
    wildcards) as ``=HH``. Snowflakes stay readable."""
    return _UNSAFE.sub(lambda match: f"={ord(match[0]):02X}", name)


def name_of(part: str) -> str | None:
    """The id that a part of a key stands for; None where no id does."""
    name = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), part)
    return name if name and token(name) == part else None


def key_of(place: Place) -> str:
    """The key of the bucket for that."""
    if place.group == "servers":
        return f"servers.{token(place.name)}"
    return f"users.{token(place.group.removeprefix('users.'))}.{token(place.name)}"


def place_of(key: str) -> Place | None:
    """What a key is about; None for keys of others."""
    match key.split("."):
        case ["servers", server] if name := name_of(server):
            return Place("servers", name)
        case ["users", server, user] if (server_id := name_of(server)) and (uid := name_of(user)):
            return Place(users_of(server_id), uid)
    return None


class Subjects(Struct, frozen=True):
    """The names that belong to a bucket of JetStream's key-value store."""

    bucket: str

    @property
    def stream(self) -> str:
        """The stream that the bucket is."""
        return f"KV_{self.bucket}"

    @property
    def prefix(self) -> str:
        """What stands before a key in its subject."""
        return f"$KV.{self.bucket}."

    @property
    def all_keys(self) -> str:
        return f"{self.prefix}>"

    @property
    def list_keys(self) -> tuple[str, ...]:
        """Who the origin is, and the list of servers."""
        return f"{self.prefix}{ORIGIN}", f"{self.prefix}servers.>"

    def user_keys(self, server_id: str) -> str:
        return f"{self.prefix}users.{token(server_id)}.*"

    def chat(self, server_id: str) -> str:
        """Where chat of a server is published: no key, kept nowhere."""
        return f"d-back.{self.bucket}.chat.{token(server_id)}"

    @property
    def authorize(self) -> str:
        """Where edges ask the origin who may join."""
        return f"d-back.{self.bucket}.authorize"

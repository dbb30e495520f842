"""The operator's rules per server, applied after the merge to the data of all providers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count
from typing import Annotated

from msgspec import Meta, Struct, UnsetType

from d_back_core.models import (
    DEFAULT_ROLE_COLOR,
    DEFAULT_STATUS,
    NO_EXTRA,
    Chat,
    EffectiveServer,
    EffectiveUser,
    Server,
    User,
    effective_user,
    is_public_id,
)
from d_back_core.secret import Secret

NAMES = {
    kind: Meta(extra={"names": kind})
    for kind in ("channel", "plugin", "provider", "server", "text", "user")
}
"""Marks a key of the configuration whose value names something; a name that matches nothing is
reported (R45)."""


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[servers.ID]``: the operator's rules for one server."""

    alias: str | None = None
    """The public id, which clients use: 1 to 64 of ``A-Z a-z 0-9 _ -``, not ``default`` or
    ``null``. Unset: the provider's, else the name in ASCII (``Straße`` becomes ``strasse``)."""
    default: bool = False
    """Clients that name no server join this one; at most one server may set it."""
    enabled: bool = True
    """``false`` hides the server."""
    passworded: bool = False
    """The server is protected: a provider must authorize each join. If no provider does, no client
    can join."""
    password: Secret | None = None
    """Protects the server, and opens it to clients that send it. Plain, or the output of ``d-back
    hash-password``."""
    eager: bool = False
    """Keep the server in memory from the start, not only while a client watches it."""
    hide_offline: bool = False
    """Leave out offline users when a client joins."""
    ignore_users: Annotated[frozenset[str], NAMES["user"]] = frozenset()
    """Uids of users who are never shown."""
    ignore_channels: Annotated[frozenset[str], NAMES["channel"]] = frozenset()
    """Ids or names of channels whose chat is not shown; ``#general`` is the same as
    ``general``."""
    listen_channels: Annotated[frozenset[str] | None, NAMES["channel"]] = None
    """Ids or names of the only channels whose chat is shown. Unset: all."""
    extra: Annotated[frozenset[str] | None, NAMES["text"]] = None
    """Keys of extra texts that clients of this server receive. Unset: those of
    ``gateway.extra``."""

    @property
    def protects(self) -> bool:
        return self.passworded or self.password is not None

    def user(self, uid: str, merged: User | None) -> EffectiveUser | None:
        """Return the user with defaults filled in; None if the user is missing or ignored."""
        if merged is None or uid in self.ignore_users:
            return None
        return effective_user(
            uid,
            merged.username or uid,
            merged.status or DEFAULT_STATUS,
            merged.role_color or DEFAULT_ROLE_COLOR,
            self._shown(merged.extra) if merged.extra else NO_EXTRA,
        )

    def _shown(self, extra: Mapping[str, str | None]) -> Mapping[str, str]:
        shown = self.extra or ()
        return {key: text for key, text in extra.items() if key in shown and text is not None}

    def hears(self, chat: Chat) -> bool:
        """True if chat of that channel is shown."""
        names = bare_names((chat.channel, chat.channel_name or ""))
        if names & bare_names(self.ignore_channels):
            return False
        return self.listen_channels is None or bool(names & bare_names(self.listen_channels))


def bare_names(channels: Iterable[str]) -> set[str]:
    """Return the names of channels without the ``#`` with which people write them."""
    return {name.removeprefix("#") for name in channels}


NO_POLICY = Policy()
MAX_SLUG_LENGTH = 64


class PublicIds:
    """server_id → public id, the same for the life of the process (R12).

    If two servers want the same id, the order is: the operator's alias, then a provider's id, then
    the order of the list. The loser gets its server_id. A provider's id may have any characters:
    then a slug is made from it.
    """

    RESERVED = frozenset({"default", "null"})

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._used: set[str] = set(self.RESERVED)
        self._spellings: dict[str, str] = {}

    def assign(self, servers: Mapping[str, Server], policies: Mapping[str, Policy]) -> None:
        """Assign a public id to every server that has none yet."""
        new = [server_id for server_id in servers if server_id not in self._ids]
        if new:
            self._assign(new, servers, policies)
        for server_id, server in servers.items():
            if server.id and server.id != self._ids[server_id]:
                self._spellings[server_id] = server.id.strip()

    def spelling(self, server_id: str) -> str | None:
        """Return the last id of a provider that is not the public id: clients may know it, also
        after that provider has failed."""
        return self._spellings.get(server_id)

    def _assign(
        self, new: Sequence[str], servers: Mapping[str, Server], policies: Mapping[str, Policy]
    ) -> None:
        aliases = {policy.alias: server_id for server_id, policy in policies.items()}
        wishes: tuple[Callable[[str], str | UnsetType | None], ...] = (
            lambda server_id: policies.get(server_id, NO_POLICY).alias,
            lambda server_id: _given_id(servers[server_id]),
            lambda server_id: slug(servers[server_id].name or ""),
        )
        # All aliases before the first provider's id, and all of these before the first slug: the
        # order in which servers appear must not decide between an alias and a slug.
        for wish in wishes:
            for server_id in new:
                wanted = wish(server_id)
                if server_id in self._ids or not wanted or wanted in self._used:
                    continue
                # Another server's server_id or alias is not available, even if that server has
                # another public id: `resolve` would find two servers by one text.
                if (wanted in servers or wanted in self._ids) and wanted != server_id:
                    continue
                if aliases.get(wanted, server_id) == server_id:
                    self._take(server_id, wanted)
        for server_id in new:
            if server_id not in self._ids:
                # The server_id can be taken: as the public id of a server that was listed before.
                numbered = (f"{server_id}-{number}" for number in count(2))
                free = (each for each in chain([server_id], numbered) if each not in self._used)
                self._take(server_id, next(free))

    def copy(self) -> "PublicIds":
        """Return a copy, to try an assignment."""
        other = PublicIds()
        other._ids, other._used = dict(self._ids), set(self._used)
        return other

    def __getitem__(self, server_id: str) -> str:
        return self._ids[server_id]

    def __contains__(self, server_id: str) -> bool:
        return server_id in self._ids

    def _take(self, server_id: str, public_id: str) -> None:
        self._ids[server_id] = public_id
        self._used.add(public_id)


def _given_id(server: Server) -> str:
    """Return the id that a provider gave, as a public id."""
    given = server.id or ""
    return given if is_public_id(given) else slug(given)


def slug(name: str) -> str:
    """Return a public id made from a name, transliterated to ASCII; "" if that is impossible."""
    from slugify import slugify  # noqa: PLC0415  10 to 20 ms, needed only without an id

    # A name is plain text. Decoding "&#…;" would also raise OverflowError for large numbers.
    wanted = slugify(
        name, max_length=MAX_SLUG_LENGTH, entities=False, decimal=False, hexadecimal=False
    )
    return wanted if is_public_id(wanted) else ""


def effective_servers(
    merged: Mapping[str, Server],
    policies: Mapping[str, Policy],
    public_ids: PublicIds,
    *,
    protected: Iterable[str] = (),
    preferred: Iterable[str] = (),
) -> dict[str, EffectiveServer]:
    """Return the servers that clients see, with the default server marked.

    ``merged`` is in the order of the chain. ``protected``: the server_ids that a provider has
    protected and not opened since. ``preferred``: server_ids that may be the default, the best one
    first. The default does not depend on the order of ``merged``: without any of these it is the
    open server with the smallest server_id (R3).
    """
    public_ids.assign(merged, policies)
    closed = set(protected) | {key for key, policy in policies.items() if policy.protects}
    shown = {
        server_id: server
        for server_id, server in merged.items()
        if server.enabled is not False and policies.get(server_id, NO_POLICY).enabled
    }
    opened = {server_id: None for server_id in shown if server_id not in closed}
    chosen = [key for key in opened if policies.get(key, NO_POLICY).default]
    wanted = [key for key in preferred if key in opened]
    smallest = sorted(opened, key=lambda key: (len(key), key))[:1]
    default = next(iter([*chosen, *wanted, *smallest]), None)
    return {
        server_id: EffectiveServer(
            server_id=server_id,
            public_id=public_ids[server_id],
            name=server.name or server_id,
            default=server_id == default,
            spelling=public_ids.spelling(server_id),
            passworded=server_id in closed,
            client_id=server.client_id or None,
        )
        for server_id, server in shown.items()
    }


def means_default(wanted: str | None) -> bool:
    """True if the request names no server, so that the client joins the default one."""
    return (wanted or "").strip() in {"", *PublicIds.RESERVED}


def resolve(servers: Mapping[str, EffectiveServer], wanted: str | None) -> EffectiveServer | None:
    """Return the server that a client requests: by server_id, by public id, by the id that a
    provider gave, or the default."""
    if means_default(wanted):
        return next((server for server in servers.values() if server.default), None)
    wanted = (wanted or "").strip()
    by_public_id = (server for server in servers.values() if server.public_id == wanted)
    by_spelling = (server for server in servers.values() if server.spelling == wanted)
    return servers.get(wanted) or next(by_public_id, None) or next(by_spelling, None)

"""The operator's rules per server, applied after the merge, whatever the provider."""

from collections.abc import Iterable, Mapping
from itertools import chain, count
from unicodedata import normalize

from msgspec import Struct

from d_back_core.models import (
    DEFAULT_ROLE_COLOR,
    DEFAULT_STATUS,
    EffectiveServer,
    EffectiveUser,
    Message,
    Server,
    User,
    is_public_id,
)
from d_back_core.secret import Secret


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[servers.ID]``: what the operator says of one server."""

    alias: str | None = None
    """The public id of the server, ``[A-Za-z0-9_-]{1,64}``."""
    default: bool = False
    """Clients that name no server come here. At most one server may say so."""
    enabled: bool = True
    """``false`` takes the server away."""
    passworded: bool = False
    """Joins must be authorized: by the password, or by a provider that knows the person."""
    password: Secret | None = None
    """Lets in who gives it; the server is then protected. Plain, or from
    ``d-back hash-password``."""
    eager: bool = False
    """Hold it from the start and for ever, not only while somebody watches."""
    hide_offline: bool = False
    """Leave out users who are offline when a client joins."""
    ignore_users: frozenset[str] = frozenset()
    """uids of users who are never shown."""
    ignore_channels: frozenset[str] = frozenset()
    """Ids or names of channels whose chat is not shown."""
    listen_channels: frozenset[str] | None = None
    """Ids or names of the only channels whose chat is shown."""

    @property
    def protects(self) -> bool:
        return self.passworded or self.password is not None

    def user(self, uid: str, merged: User | None) -> EffectiveUser | None:
        """The user with its defaults; None if there is none to show."""
        if merged is None or uid in self.ignore_users:
            return None
        return EffectiveUser(
            uid,
            merged.username or uid,
            merged.status or DEFAULT_STATUS,
            merged.role_color or DEFAULT_ROLE_COLOR,
        )

    def hears(self, message: Message) -> bool:
        """Whether chat of that channel is shown."""
        names = {message.channel, message.channel_name}
        if names & self.ignore_channels:
            return False
        return self.listen_channels is None or bool(names & self.listen_channels)


NO_POLICY = Policy()


class PublicIds:
    """server_id → public id, the same for the life of the process.

    Where two servers want the same id, the order is: the operator's alias, then a provider's
    id, then the order of the list; the loser gets its server_id.
    """

    RESERVED = frozenset({"default", "null"})

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def assign(self, servers: Mapping[str, Server], policies: Mapping[str, Policy]) -> None:
        """Give every server that has none yet its public id."""
        new = [server_id for server_id in servers if server_id not in self._ids]
        if not new:
            return
        used = {*self._ids.values(), *self.RESERVED}
        server_ids = {*self._ids, *servers, *policies}
        wishes = (
            {server_id: policy.alias for server_id, policy in policies.items()},
            {server_id: servers[server_id].id for server_id in new},
            {server_id: slug(servers[server_id].name or "") for server_id in new},
        )
        aliases = {policy.alias: server_id for server_id, policy in policies.items()}
        for wish in wishes:
            for server_id in new:
                wanted = wish.get(server_id)
                if server_id in self._ids or not wanted:
                    continue
                owner = aliases.get(wanted, server_id)
                if wanted in used or wanted in server_ids - {server_id} or owner != server_id:
                    continue
                self._ids[server_id] = wanted
                used.add(wanted)
        for server_id in new:
            if server_id not in self._ids:  # numbered where it became another one's id before
                numbered = (f"{server_id}-{number}" for number in count(2))
                own = next(each for each in chain([server_id], numbered) if each not in used)
                self._ids[server_id] = own
                used.add(own)

    def __getitem__(self, server_id: str) -> str:
        return self._ids[server_id]


def slug(name: str) -> str:
    """A public id from a name, or "" where nothing of the name can be one."""
    ascii_name = normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = "".join(char if char.isalnum() else " " for char in ascii_name).split()
    wanted = "-".join(words)[:64].rstrip("-")
    return wanted if is_public_id(wanted) else ""


def effective_servers(
    merged: Mapping[str, Server],
    policies: Mapping[str, Policy],
    public_ids: PublicIds,
    *,
    protected: Iterable[str] = (),
    flagged: Iterable[str] = (),
) -> dict[str, EffectiveServer]:
    """The servers that clients may know, with the default one marked.

    ``merged`` is in the order of the chain. ``protected`` are the server_ids that a provider
    has ever protected and not opened again, ``flagged`` those that a provider calls the default,
    the highest provider's first.
    """
    public_ids.assign(merged, policies)
    closed = set(protected) | {key for key, policy in policies.items() if policy.protects}
    shown = {
        server_id: server
        for server_id, server in merged.items()
        if server.enabled is not False and policies.get(server_id, NO_POLICY).enabled
    }
    opened = [server_id for server_id in shown if server_id not in closed]
    chosen = [key for key in opened if policies.get(key, NO_POLICY).default]
    default = next(iter([*chosen, *(key for key in flagged if key in opened), *opened]), None)
    return {
        server_id: EffectiveServer(
            server_id=server_id,
            public_id=public_ids[server_id],
            name=server.name or server_id,
            default=server_id == default,
            passworded=server_id in closed,
        )
        for server_id, server in shown.items()
    }


def means_default(wanted: str | None) -> bool:
    """Whether a client that asks for this server leaves the choice to us."""
    return (wanted or "").strip() in {"", *PublicIds.RESERVED}


def resolve(servers: Mapping[str, EffectiveServer], wanted: str | None) -> EffectiveServer | None:
    """The server that a client means: by its server_id, its public id, or as the default."""
    if means_default(wanted):
        return next((server for server in servers.values() if server.default), None)
    wanted = (wanted or "").strip()
    by_public_id = (server for server in servers.values() if server.public_id == wanted)
    return servers.get(wanted) or next(by_public_id, None)

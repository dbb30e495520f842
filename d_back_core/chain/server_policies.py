"""The operator's tables ``[servers.X]``, and the server that each of them names (R45).

X is a server_id, or the public id that people see: the one that clients use, or the one that a
provider gives, as it spells it. Which server that is, is known only when providers have listed it:

    unresolved ──a server of that name is listed──▶ resolved, for the life of the process
        └──every provider has listed its servers──▶ dangling: it names nothing, and is reported

While a table that closes a server is unresolved, any server could be the one: those that no table
names are closed in the same way (R6). A dangling table closes nothing.
"""

from collections.abc import Iterable, Mapping

from msgspec import structs

from d_back_core.chain.policy import NO_POLICY, Policy, PublicIds
from d_back_core.models import Server


class ServerPolicies:
    """Finds the policy of a server. `resolve` is called with every new list of servers."""

    def __init__(self, tables: Mapping[str, Policy]) -> None:
        self._servers: dict[str, str] = {}
        """Name of a table → server_id, once it is resolved."""
        self.dangling: frozenset[str] = frozenset()
        """The tables that named nothing when every server was known."""
        self.adopt(tables)

    def adopt(self, tables: Mapping[str, Policy]) -> None:
        """Use these tables; a name that was resolved before keeps its server."""
        self.tables = tables
        self.dangling &= tables.keys()
        self._combine(complete=False)

    def resolve(
        self,
        servers: Mapping[str, Server],
        given: Iterable[tuple[str, str]],
        public_ids: PublicIds,
        *,
        complete: bool,
    ) -> None:
        """Find the servers that tables name, among those that have just been listed.

        ``given``: (public id that a provider gives, server_id). ``complete``: every provider that
        may list servers has done so.
        """
        missing = self.unresolved
        found = {name: name for name in missing & servers.keys()}
        if missing - found.keys():
            # As clients will see them, before the alias of such a table changes it.
            seen = public_ids.copy()
            seen.assign(servers, self.among(servers))
            names = dict(reversed([*((seen[key], key) for key in servers), *given]))
            found = {name: names[name] for name in missing & names.keys()} | found
        self._servers |= found
        if complete:
            self.dangling = self.unresolved
        self._combine(complete=complete)

    def of(self, server_id: str) -> Policy:
        """Return the policy of that server."""
        # By its server_id also if the table has named another server's public id before.
        found = self._by_server.get(server_id) or self.tables.get(server_id)
        return self._for_others if found is None else found

    def among(self, servers: Iterable[str]) -> dict[str, Policy]:
        """Return the policies of these servers, and of those that are not listed yet."""
        if not self.tables:
            return {}
        return self._by_server | {server_id: self.of(server_id) for server_id in servers}

    def server_of(self, name: str) -> str | None:
        """Return the server that a table names; None while that is not known."""
        return self._servers.get(name)

    @property
    def unresolved(self) -> frozenset[str]:
        """The tables whose server is not known."""
        return frozenset(self.tables.keys() - self._servers.keys())

    @property
    def closes_others(self) -> bool:
        """True if servers that no table names are closed, because a table is unresolved."""
        return self._for_others is not NO_POLICY

    def _combine(self, *, complete: bool) -> None:
        self._by_server: dict[str, Policy] = {}
        """server_id → policy; a table that is not resolved is under its own name."""
        for name, policy in self.tables.items():
            key = self._servers.get(name, name)
            other = self._by_server.get(key)
            self._by_server[key] = policy if other is None else _stricter(other, policy)
        waiting = [] if complete else self.unresolved - self.dangling
        guards = [self.tables[name] for name in waiting]
        closed = any(policy.protects for policy in guards)
        enabled = all(policy.enabled for policy in guards)
        self._for_others = NO_POLICY
        if closed or not enabled:
            self._for_others = Policy(passworded=closed, enabled=enabled)


def _stricter(policy: Policy, other: Policy) -> Policy:
    """Return the first policy with the guards of both: two tables can name one server."""
    return structs.replace(
        policy,
        enabled=policy.enabled and other.enabled,
        passworded=policy.passworded or other.passworded,
        password=policy.password or other.password,
        ignore_users=policy.ignore_users | other.ignore_users,
        ignore_channels=policy.ignore_channels | other.ignore_channels,
        extra=_common(policy.extra, other.extra),
    )


def _common(keys: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    """Return the keys that are in both; None says nothing."""
    if keys is None or other is None:
        return other if keys is None else keys
    return keys & other

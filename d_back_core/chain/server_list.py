"""The list of servers: the merged records of the chain, with the operator's policy applied."""

from collections.abc import Callable, Mapping, Sequence

from msgspec import UNSET, structs

from d_back_core.chain.layers import Layers, Link
from d_back_core.chain.policy import Policy, PublicIds, effective_servers, resolve
from d_back_core.chain.server_policies import ServerPolicies
from d_back_core.models import EffectiveServer, Server


class ServerList:
    """The sink of the resolver of server records.

    Protection is sticky (R6): a server stays protected until the provider that protected it
    reports otherwise, so that a failover never opens one.
    """

    def __init__(self, tables: Mapping[str, Policy], changed: Callable[[], None]) -> None:
        self.servers: dict[str, EffectiveServer] = {}
        """The servers that clients may know, by server_id."""
        self.policies = ServerPolicies(tables)
        self.deferred = False
        """True if a server is held back: a higher provider, which may list it as well, has not
        answered yet, and its public id would be another one (R12)."""
        self._changed = changed
        self._merged: dict[str, Server] = {}
        self._public_ids = PublicIds()
        self._protectors: dict[str, set[str]] = {}

    def derive(self, key: str, merged: Server | None) -> Server | None:  # noqa: ARG002
        """Return the merged record as it is; `refresh` applies the policy to the whole list."""
        return merged

    def put(self, key: str, effective: Server | None) -> None:
        """One server's record has changed."""
        if effective is None:
            self._merged.pop(key, None)
        else:
            self._merged[key] = effective
        self._changed()

    def swap(self, effective: dict[str, Server]) -> None:
        """These are all records."""
        self._merged = effective
        self._changed()

    def find(self, wanted: str | None) -> EffectiveServer | None:
        """Return the server that a client means; see `policy.resolve`."""
        return resolve(self.servers, wanted)

    def is_protected(self, server_id: str) -> bool:
        """Return True if a provider has protected the server and not opened it again."""
        return bool(self._protectors.get(server_id))

    def is_known(self, server_id: str) -> bool:
        """Return True if a provider lists or protects the server, also if it is hidden."""
        return server_id in self._merged or self.is_protected(server_id)

    def public_id(self, server_id: str) -> str:
        """Return the server's public id, which is the same for the life of the process."""
        return self._public_ids[server_id]

    def note_protection(self, layers: Layers[Server], name: str, server_id: str) -> None:
        """Remember whether that provider protects that server.

        Called with each of its records: it may withdraw the server before the next `refresh`.
        """
        record = layers.record(name, server_id)
        if record is None or record.passworded is UNSET:
            return
        if record.passworded:
            self._protectors.setdefault(server_id, set()).add(name)
        else:
            self._protectors.get(server_id, set()).discard(name)

    def refresh(
        self, layers: Layers[Server], unanswered: Sequence[Link], *, complete: bool = True
    ) -> bool:
        """Apply the policy. Returns True if `servers` has changed.

        ``unanswered``: the links of the providers that have neither answered nor failed yet.
        ``complete``: none has, and none has failed without an answer.
        """
        disabled: set[str] = set()
        for name, records in layers.in_use.items():
            for server_id in records:
                self.note_protection(layers, name, server_id)
                record = layers.record(name, server_id)
                if record is not None and record.enabled is False:
                    disabled.add(server_id)
        order = layers.keys()  # an event appends a server, wherever its provider stands
        merged = {key: self._merged[key] for key in order if key in self._merged}
        for server_id in disabled & merged.keys():
            merged[server_id] = structs.replace(merged[server_id], enabled=False)
        deferred = [key for key in merged if self._must_wait(layers, key, unanswered)]
        self.deferred = bool(deferred)
        for key in deferred:
            del merged[key]
        flagged = [key for key, server in merged.items() if server.default]
        flagged.sort(key=lambda key: layers.rank(key, "default"))
        present = [server.server_id for server in self.servers.values() if server.default]
        given = (
            (record.id, key)
            for records in layers.in_use.values()
            for key, record in records.items()
            if key in merged and isinstance(record.id, str)
        )
        self.policies.resolve(merged, given, self._public_ids, complete=complete)
        servers = effective_servers(
            merged,
            self.policies.among(merged),
            self._public_ids,
            protected=filter(self.is_protected, self._protectors),
            preferred=[*flagged, *present],
        )
        changed = servers != self.servers or list(servers) != list(self.servers)
        self.servers = servers
        return changed

    def _must_wait(self, layers: Layers[Server], key: str, unanswered: Sequence[Link]) -> bool:
        if not unanswered or key in self._public_ids:
            return False
        highest = next((link.name for link, _ in layers.contributors(key)), None)
        return any(link.admits(key) and layers.is_above(link.name, highest) for link in unanswered)

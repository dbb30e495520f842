"""The list of servers: what the chain says of them, with the operator's policy applied."""

from collections.abc import Callable, Mapping

from msgspec import UNSET, structs

from d_back_core.chain.layers import Layers
from d_back_core.chain.policy import Policy, PublicIds, effective_servers
from d_back_core.models import EffectiveServer, Server


class ServerList:
    """A feed's sink for server records.

    Protection is sticky: a server stays protected until the provider that protected it says
    otherwise, so that failing over never opens one.
    """

    def __init__(self, policies: Mapping[str, Policy], changed: Callable[[], None]) -> None:
        self.servers: dict[str, EffectiveServer] = {}
        self.policies = policies
        self._changed = changed
        self._merged: dict[str, Server] = {}
        self._public_ids = PublicIds()
        self._protectors: dict[str, set[str]] = {}

    def derive(self, key: str, merged: Server | None) -> Server | None:  # noqa: ARG002
        """The merged record as it is: policy is applied to the whole list by `refresh`."""
        return merged

    def put(self, key: str, effective: Server | None) -> None:
        """One server's record changed."""
        if effective is None:
            self._merged.pop(key, None)
        else:
            self._merged[key] = effective
        self._changed()

    def swap(self, effective: dict[str, Server]) -> None:
        """These are all records now."""
        self._merged = effective
        self._changed()

    def is_protected(self, server_id: str) -> bool:
        """Whether a provider has protected it and not opened it again."""
        return bool(self._protectors.get(server_id))

    def is_known(self, server_id: str) -> bool:
        """Whether a provider lists it, or has protected it, whether clients see it or not."""
        return server_id in self._merged or self.is_protected(server_id)

    def public_id(self, server_id: str) -> str:
        """The public id that the server has for the life of the process."""
        return self._public_ids[server_id]

    def note(self, layers: Layers[Server], name: str, server_id: str) -> None:
        """Remember whether that provider protects that server, of which it has just said
        something: by the next `refresh` it may have taken the server back."""
        record = layers.record(name, server_id)
        if record is None or record.passworded is UNSET:
            return
        if record.passworded:
            self._protectors.setdefault(server_id, set()).add(name)
        else:
            self._protectors.get(server_id, set()).discard(name)

    def refresh(self, layers: Layers[Server]) -> bool:
        """Apply the policy; whether `servers` changed by it."""
        for name, records in layers.in_use.items():
            for server_id in records:
                self.note(layers, name, server_id)
        order = layers.keys()  # an event adds a server at the end, wherever its provider stands
        merged = {key: self._merged[key] for key in order if key in self._merged}
        for server_id, server in self._merged.items():
            if any(each.enabled is False for _, each in layers.contributors(server_id)):
                merged[server_id] = structs.replace(server, enabled=False)
        flagged = [key for key, server in self._merged.items() if server.default]
        servers = effective_servers(
            merged,
            self.policies,
            self._public_ids,
            protected=filter(self.is_protected, self._protectors),
            flagged=sorted(flagged, key=lambda key: layers.rank(key, "default")),
        )
        changed = servers != self.servers or list(servers) != list(self.servers)
        self.servers = servers
        return changed

"""Which servers are held: those that a client watches or waits for, and those that are eager."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import structs

from d_back_core.chain.policy import Policy
from d_back_core.chain.server_list import ServerList
from d_back_core.config import Config
from d_back_core.gateway.rate_limits import ChatRate
from d_back_core.state.provider_set import ProviderSet
from d_back_core.state.resolver import Resolver
from d_back_core.state.server_state import ServerState, Shared


class ServerRegistry:
    """Holds a server from its first join until no client has watched it for ``chain.idle``."""

    def __init__(
        self, config: Config, providers: ProviderSet, server_list: ServerList, shared: Shared
    ) -> None:
        self.servers: dict[str, ServerState] = {}
        self._config = config
        self._providers = providers
        self._server_list = server_list
        self._shared = shared
        self._closed = False

    def apply(self, config: Config, *, report_all: bool) -> None:
        """Use another configuration and its chain; for ``report_all`` see
        `Resolver.set_chain`."""
        self._config = config
        for server in self.servers.values():
            server.reconfigure(self.policy(server.server_id), self._chat_rate())
            self.set_chain(server.resolver, server.server_id, report_all=report_all)
            self.restart_idle_timer(server)

    def renew_policies(self) -> None:
        """Use the policies of tables that have been found to name a held server."""
        for server in self.servers.values():
            policy = self.policy(server.server_id)
            # Not by identity alone: a policy that combines two tables is made again each time.
            if policy is not server.policy and policy != server.policy:
                server.reconfigure(policy, self._chat_rate())
                self.set_chain(server.resolver, server.server_id)
                self._record_access(server)

    def record_access(self) -> None:
        """Record of each protected server that any access to it may have ended."""
        for server in self.servers.values():
            self._record_access(server)

    def _record_access(self, server: ServerState) -> None:
        listed = self._server_list.servers.get(server.server_id)
        if listed is not None and listed.passworded:
            server.record_access()

    def close(self) -> None:
        """Hold none of them any more; may be called twice."""
        self._closed = True  # first: sessions that leave from now on start no timer
        for server in self.servers.values():
            server.close()
        self.servers.clear()

    @contextmanager
    def watching(self, server_id: str) -> Iterator[ServerState]:
        """Hold the server inside the block, and for a while after it."""
        server = self.hold(server_id)
        server.joining += 1
        self.restart_idle_timer(server)  # it does not run while a join waits
        try:
            yield server
        finally:
            server.joining -= 1
            self.restart_idle_timer(server)

    def hold_eager(self) -> None:
        """Hold the servers that are held without a client."""
        for server_id in self._server_list.servers:
            if self._is_eager(server_id):
                self.hold(server_id)

    def hold(self, server_id: str) -> ServerState:
        """Return the server's state; it is held from now on if it was not before."""
        server = self.servers.get(server_id)
        if server is None:
            shared = structs.replace(self._shared, history=self._config.gateway.history)
            policy = self.policy(server_id)
            server = ServerState(server_id, policy, self._chat_rate(), shared)
            self.set_chain(server.resolver, server_id)
            self.servers[server_id] = server
        return server

    def restart_idle_timer(self, server: ServerState) -> None:
        """Start the time after which the server is released, if no client watches it."""
        if server.idle is not None:
            server.idle.cancel()
            server.idle = None
        if self._closed:
            return
        if not server.sessions and not server.joining and not self._is_eager(server.server_id):
            # Not kept if it is on no list: ids that clients invent would fill the memory.
            listed = server.server_id in self._server_list.servers
            idle = self._config.chain.idle if listed else 0
            server.idle = self._shared.clock.call_later(idle, lambda: self._release(server))

    def policy(self, server_id: str) -> Policy:
        """Return the operator's policy for that server."""
        policy = self._server_list.policies.of(server_id)
        extra = self._config.gateway.extra
        return structs.replace(policy, extra=extra) if policy.extra is None and extra else policy

    def set_chain(
        self, resolver: Resolver[Any, Any], server_id: str | None, *, report_all: bool = False
    ) -> None:
        """Give the resolver the chain as it is configured now."""
        members = self._providers.members(server_id)
        failback_after = self._config.chain.failback_after
        resolver.set_chain(members, failback_after, report_all=report_all)

    def _release(self, server: ServerState) -> None:
        if self._is_eager(server.server_id):  # it is back in the list
            return
        server.close()
        self.servers.pop(server.server_id, None)

    def _is_eager(self, server_id: str) -> bool:
        if server_id not in self._server_list.servers:
            return False
        return self._providers.records(server_id) or self.policy(server_id).eager

    def _chat_rate(self) -> ChatRate:
        limits = self._config.limits
        return ChatRate(self._shared.clock, limits.chat_burst, 60 / limits.chat_per_minute)

"""Which servers are held: those that somebody watches or waits for, and those that are eager."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import structs

from d_back_core.chain.policy import NO_POLICY, Policy
from d_back_core.chain.server_list import ServerList
from d_back_core.config import Config
from d_back_core.gateway.rate_limits import ChatRate
from d_back_core.models import User
from d_back_core.secret import Secret
from d_back_core.state.layer_source import Subject
from d_back_core.state.provider_set import ProviderSet
from d_back_core.state.recorders import UsersObserver
from d_back_core.state.resolver import Resolver
from d_back_core.state.server_state import ServerState, Shared


class ServerRegistry:
    """Begins to hold a server when it is first asked for, and lets it go when nobody has watched
    it for a while."""

    def __init__(
        self, config: Config, provider_set: ProviderSet, server_list: ServerList, shared: Shared
    ) -> None:
        self.servers: dict[str, ServerState] = {}
        self.passwords: Mapping[str, Secret] = {}
        """By server_id, for those whose policy has none."""
        self._config = config
        self._provider_set = provider_set
        self._server_list = server_list
        self._shared = shared
        self._closed = False

    def apply(self, config: Config, *, retell: bool) -> None:
        """Go on with another configuration, and with the chain that it brought; ``retell`` is
        for `Resolver.relink`."""
        self._config = config
        for live in self.servers.values():
            live.reconfigure(self.policy(live.server_id), self._chat_rate())
            self.relink(live.resolver, live.server_id, retell=retell)
            self.let_idle(live)

    def close(self) -> None:
        """Hold none of them any longer; may be called twice."""
        self._closed = True
        for live in self.servers.values():
            live.close()

    @contextmanager
    def watching(self, server_id: str) -> Iterator[ServerState]:
        """Hold it inside the block, and for a while after it."""
        live = self.hold(server_id)
        live.joining += 1
        self.let_idle(live)  # not while somebody waits for it
        try:
            yield live
        finally:
            live.joining -= 1
            self.let_idle(live)

    def hold_eager(self) -> None:
        """Hold the servers that are held without anybody who watches."""
        for server_id in self._server_list.servers:
            if self._eager(server_id):
                self.hold(server_id)

    def hold(self, server_id: str) -> ServerState:
        """The server as it is held, from now on if it was not."""
        live = self.servers.get(server_id)
        if live is None:
            shared = structs.replace(self._shared, history=self._config.gateway.history)
            live = ServerState(server_id, self.policy(server_id), self._chat_rate(), shared)
            subject = Subject(
                kind=User, server_id=server_id, clock=shared.clock, spawn=shared.spawn
            )
            live.resolver = Resolver(subject, live)
            live.resolver.observer = UsersObserver(
                self._provider_set.recorder_queues, live, live.resolver
            )
            self.relink(live.resolver, server_id)
            self.servers[server_id] = live
        return live

    def records(self, server_id: str) -> bool:
        """Whether there is a recorder for that server."""
        return any(each.link.admits(server_id) for each in self._provider_set.recorder_queues)

    def let_idle(self, live: ServerState) -> None:
        """Begin the time after which a server is let go that nobody watches."""
        if live.idle is not None:
            live.idle.cancel()
            live.idle = None
        if self._closed:
            return
        if not live.sessions and not live.joining and not self._eager(live.server_id):
            listed = live.server_id in self._server_list.servers
            idle = self._config.chain.idle if listed else 0
            live.idle = self._shared.clock.call_later(idle, lambda: self._let_go(live))

    def policy(self, server_id: str) -> Policy:
        """What the operator, or else a callback, says of that server."""
        policy = self._config.servers.get(server_id, NO_POLICY)
        password = self.passwords.get(server_id)
        if password is None or policy.password is not None:
            return policy
        return structs.replace(policy, password=password)

    def relink(
        self, resolver: Resolver[Any, Any], server_id: str | None, *, retell: bool = False
    ) -> None:
        """Let the resolver walk the chain as it is configured now."""
        members = self._provider_set.members(server_id)
        resolver.relink(members, self._config.chain.failback_after, retell=retell)

    def _let_go(self, live: ServerState) -> None:
        if self._eager(live.server_id):  # it is back in the list
            return
        live.close()
        self.servers.pop(live.server_id, None)

    def _eager(self, server_id: str) -> bool:
        if server_id not in self._server_list.servers:
            return False
        return self.records(server_id) or self.policy(server_id).eager

    def _chat_rate(self) -> ChatRate:
        limits = self._config.limits
        return ChatRate(self._shared.clock, limits.chat_burst, 60 / limits.chat_per_minute)

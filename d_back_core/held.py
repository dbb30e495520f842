"""Which servers are held: those that somebody watches or waits for, and those that are eager."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import structs

from d_back_core.config import Config
from d_back_core.feed import Feed
from d_back_core.limits import ChatRate
from d_back_core.listing import Listing
from d_back_core.live_server import LiveServer, Shared
from d_back_core.models import User
from d_back_core.policy import NO_POLICY, Policy
from d_back_core.recorders import UsersObserver
from d_back_core.roster import Roster
from d_back_core.secret import Secret
from d_back_core.source import Subject


class Held:
    """Begins to hold a server when it is first asked for, and lets it go when nobody has watched
    it for a while."""

    def __init__(self, config: Config, roster: Roster, listing: Listing, shared: Shared) -> None:
        self.servers: dict[str, LiveServer] = {}
        self.passwords: Mapping[str, Secret] = {}
        """By server_id, for those whose policy has none."""
        self._config = config
        self._roster = roster
        self._listing = listing
        self._shared = shared
        self._closed = False

    def apply(self, config: Config, *, retell: bool) -> None:
        """Go on with another configuration, and with the chain that it brought; ``retell`` is
        for `Feed.relink`."""
        self._config = config
        for live in self.servers.values():
            live.reconfigure(self.policy(live.server_id), self._chat_rate())
            self.relink(live.feed, live.server_id, retell=retell)
            self.let_idle(live)

    def close(self) -> None:
        """Hold none of them any longer; may be called twice."""
        self._closed = True
        for live in self.servers.values():
            live.close()

    @contextmanager
    def watching(self, server_id: str) -> Iterator[LiveServer]:
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
        for server_id in self._listing.servers:
            if self._eager(server_id):
                self.hold(server_id)

    def hold(self, server_id: str) -> LiveServer:
        """The server as it is held, from now on if it was not."""
        live = self.servers.get(server_id)
        if live is None:
            shared = structs.replace(self._shared, history=self._config.gateway.history)
            live = LiveServer(server_id, self.policy(server_id), self._chat_rate(), shared)
            subject = Subject(
                kind=User, server_id=server_id, clock=shared.clock, spawn=shared.spawn
            )
            live.feed = Feed(subject, live)
            live.feed.observer = UsersObserver(self._roster.recordings, live, live.feed)
            self.relink(live.feed, server_id)
            self.servers[server_id] = live
        return live

    def records(self, server_id: str) -> bool:
        """Whether there is a recorder for that server."""
        return any(each.link.admits(server_id) for each in self._roster.recordings)

    def let_idle(self, live: LiveServer) -> None:
        """Begin the time after which a server is let go that nobody watches."""
        if live.idle is not None:
            live.idle.cancel()
            live.idle = None
        if self._closed:
            return
        if not live.sessions and not live.joining and not self._eager(live.server_id):
            listed = live.server_id in self._listing.servers
            idle = self._config.chain.idle if listed else 0
            live.idle = self._shared.clock.call_later(idle, lambda: self._let_go(live))

    def policy(self, server_id: str) -> Policy:
        """What the operator, or else a callback, says of that server."""
        policy = self._config.servers.get(server_id, NO_POLICY)
        password = self.passwords.get(server_id)
        if password is None or policy.password is not None:
            return policy
        return structs.replace(policy, password=password)

    def relink(self, feed: Feed[Any, Any], server_id: str | None, *, retell: bool = False) -> None:
        """Let the feed walk the chain as it is configured now."""
        members = self._roster.members(server_id)
        feed.relink(members, self._config.chain.failback_after, retell=retell)

    def _let_go(self, live: LiveServer) -> None:
        if self._eager(live.server_id):  # it is back in the list
            return
        live.close()
        self.servers.pop(live.server_id, None)

    def _eager(self, server_id: str) -> bool:
        if server_id not in self._listing.servers:
            return False
        return self.records(server_id) or self.policy(server_id).eager

    def _chat_rate(self) -> ChatRate:
        limits = self._config.limits
        return ChatRate(self._shared.clock, limits.chat_burst, 60 / limits.chat_per_minute)

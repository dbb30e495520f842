"""One server while it is watched: its policy, its world, and the sessions that joined."""

from collections.abc import Callable, Iterator
from typing import Protocol

from d_back_core import protocol
from d_back_core.clock import Timer
from d_back_core.feed import Feed
from d_back_core.models import EffectiveUser, Message, User
from d_back_core.policy import Policy
from d_back_core.world import Delta, Removal, World


class Subscriber(Protocol):
    """What the live state knows of a session."""

    def send(self, frame: bytes) -> None:
        """Write a frame, at once and without waiting; never raises."""


class LiveServer:
    """The sink of the feed of one server's users: policy is applied on the way in, deltas go
    to the sessions on the way out."""

    def __init__(
        self, server_id: str, policy: Policy, changed: Callable[["LiveServer"], None]
    ) -> None:
        self.server_id = server_id
        self.policy = policy
        self.world = World(server_id, {}, hide_offline=policy.hide_offline)
        self.feed: Feed[User, EffectiveUser]
        """What fills it; set by whoever composes the two."""
        self.sessions: dict[Subscriber, int] = {}
        """Each session, with the sequence number at which it joined."""
        self.joining = 0
        """How many joins are under way."""
        self.idle: Timer | None = None
        self._changed = changed
        self._filled = False

    def derive(self, key: str, merged: User | None) -> EffectiveUser | None:
        """The user as it is shown."""
        return self.policy.user(key, merged)

    def put(self, key: str, effective: EffectiveUser | None) -> None:
        """One user changed."""
        self.world.put(key, effective)
        self._changed(self)

    def swap(self, effective: dict[str, EffectiveUser]) -> None:
        """These are all users now; the first ones are where the world begins."""
        if self._filled:
            self.world.swap(effective)
            self._changed(self)
        else:
            self.world = World(self.server_id, effective, hide_offline=self.policy.hide_offline)
            self._filled = True

    def say(self, message: Message) -> bool:
        """Pass chat on, where policy allows it and its author is shown."""
        said = self.policy.hears(message) and self.world.say(message)
        if said:
            self._changed(self)
        return said

    def reconfigure(self, policy: Policy) -> None:
        """Apply another policy: at once to what it hides, and to the users when the feed swaps
        them next."""
        self.policy = policy
        self.world.hide(offline=policy.hide_offline)
        self._changed(self)

    def close(self) -> None:
        """Nobody watches any more."""
        if self.idle is not None:
            self.idle.cancel()
        self.feed.close()

    def deliver(self) -> None:
        """Send what happened since the last call, each delta encoded once."""
        deltas = self.world.take()
        if not self.sessions:
            return
        for delta in deltas:
            frame = protocol.delta(self.server_id, delta)
            for session in self._audience(delta):
                session.send(frame)

    def _audience(self, delta: Delta) -> Iterator[Subscriber]:
        told_before = delta.change.told_before if isinstance(delta.change, Removal) else None
        for session, joined_at in self.sessions.items():
            if told_before is None or joined_at < told_before:
                yield session

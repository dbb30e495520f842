"""One server while it is held: its policy, its world, and the sessions that joined."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from d_back_core.chain.policy import Policy
from d_back_core.chain.world import Delta, World
from d_back_core.clock import Clock, Timer
from d_back_core.gateway.rate_limits import ChatRate
from d_back_core.models import EffectiveServer, EffectiveUser, Message, User
from d_back_core.state.failover_log import FailoverLog
from d_back_core.state.layer_source import Spawn
from d_back_core.state.resolver import Resolver
from d_back_core.state.snapshot import CachedSnapshot, SnapshotCache
from d_back_core.state.subscribers import (
    SESSIONS_PER_TURN,
    Batch,
    Subscriber,
    Subscribers,
    Subscription,
)
from d_back_core.stats import Counters, ServerStats
from d_back_core.wire import protocol
from d_back_core.wire.frames import Piece, pieces_frame, stored, text_frame


class Shared(Struct, frozen=True, kw_only=True):
    """What all live servers are given."""

    history: int
    """Deltas that a world keeps."""
    counters: Counters
    clock: Clock
    changed: Callable[["ServerState"], None]
    """Hears that a server has something to deliver."""
    spawn: Spawn


class ServerState:
    """The sink of the resolver of one server's users: policy is applied on the way in, deltas go
    to the sessions on the way out."""

    def __init__(
        self, server_id: str, policy: Policy, chat_rate: ChatRate, shared: Shared
    ) -> None:
        self.server_id = server_id
        self.policy = policy
        self.resolver: Resolver[User, EffectiveUser]
        """What fills it; set by whoever composes the two."""
        self.joining = 0
        """How many joins are under way."""
        self.idle: Timer | None = None
        self.recorded_client_id: str | None = None
        """The client id that recorders have heard of."""
        self._chat_rate = chat_rate
        self._history = shared.history
        self._counters = shared.counters
        self._changed = shared.changed
        self._spawn = shared.spawn
        self._audience = Subscribers(shared.counters)
        self._filled = False
        self._succession = FailoverLog(shared.clock)
        self._delivering: asyncio.Task[None] | None = None
        self._fill({})

    @property
    def sessions(self) -> Mapping[Subscriber, Subscription]:
        """Those that joined."""
        return self._audience.sessions

    def derive(self, key: str, merged: User | None) -> EffectiveUser | None:
        """The user as it is shown."""
        return self.policy.user(key, merged)

    def put(self, key: str, effective: EffectiveUser | None) -> None:
        """One user changed."""
        self.world.put(key, effective)
        self._changed(self)

    def swap(self, effective: dict[str, EffectiveUser]) -> None:
        """These are all users now; the first ones are where the world begins."""
        before = self.world.seq
        if self._filled:
            self.world.swap(effective)
            self._changed(self)
        else:
            self._fill(effective)
            self._filled = True
        in_use = self.resolver.layers.in_use
        self._succession.note(in_use, self.world.epoch, before + 1, self.world.seq)

    def say(self, message: Message) -> bool:
        """Pass chat on, where policy allows it, its author is shown, and its channel is not
        over its rate."""
        if not self.policy.hears(message) or self.world.visible(message.uid) is None:
            return False
        if not self._chat_rate.allows(message.channel):
            self._counters.chat_dropped += 1
            return False
        self.world.say(message)
        self._changed(self)
        return True

    def reconfigure(self, policy: Policy, chat_rate: ChatRate) -> None:
        """Apply another policy: at once to what it hides, and to the users when the resolver swaps
        them next."""
        self.policy = policy
        self._chat_rate = chat_rate
        self.world.hide(offline=policy.hide_offline)
        self._changed(self)

    def stats(self) -> ServerStats:
        """How it is at the moment."""
        return ServerStats(
            server_id=self.server_id,
            providers=tuple(self.resolver.layers.in_use),
            since=self._succession.since,
            stale=self.resolver.stale,
            users=len(self.world.users),
            sessions=len(self.sessions),
            exchanges=self._succession.exchanges(),
        )

    def close(self) -> None:
        """Nobody watches any more."""
        if self.idle is not None:
            self.idle.cancel()
        self.snapshot.close()
        self.resolver.close()

    # From the world to the sessions

    def join(
        self,
        session: Subscriber,
        server: EffectiveServer,
        users: CachedSnapshot,
        client_id: str | None,
    ) -> None:
        """Subscribe the session, and send it the snapshot as of now. ``users`` is what
        ``snapshot.ready()`` returned in this same turn of the loop."""
        deflate = session.deflates and bool(users.users.deflated)
        head = protocol.join_head(server, self.world, client_id)
        pieces = (stored(head) if deflate else Piece(head, b""), users.users)
        self._audience.join(session, joined_at=self.world.position, position=self.world.position)
        session.write_snapshot(pieces_frame(pieces, deflate=deflate) + users.tail())

    def resume(self, session: Subscriber, seq: int, missed: list[Delta]) -> None:
        """Subscribe a session that knows all up to that number, and send it these deltas."""
        frames = (protocol.delta(self.server_id, each.seq, each.change) for each in missed)
        answer = protocol.resumed(self.world, seq)
        # Nobody knows when it joined first; to be told of a removal twice harms it less.
        self._audience.join(session, joined_at=0, position=self.world.position)
        session.write(b"".join(map(text_frame, (answer, *frames))))

    def deliver(self) -> None:
        """Send what happened since the last call, each delta encoded and framed once, and each
        session written to once."""
        if self._delivering is not None:
            return  # it goes on with what is new when it is done
        deltas = self.world.take()
        self.snapshot.trim()
        self._counters.deltas += len(deltas)
        if not self.sessions or not deltas:
            return
        frames = [
            text_frame(protocol.delta(self.server_id, delta.seq, delta.change)) for delta in deltas
        ]
        batch = Batch.of(deltas, frames)
        if len(self.sessions) > SESSIONS_PER_TURN:
            self._delivering = self._spawn(self._deliver_in(self._audience.turns(batch)))
        else:
            self._audience.deliver(batch)

    def leave(self, session: Subscriber) -> None:
        """End its subscription, where it has one."""
        self._audience.leave(session)

    def stop_direct_writes(self, session: Subscriber) -> None:
        """Use its descriptor no more."""
        self._audience.stop_direct_writes(session)

    def catch_up(self, session: Subscriber) -> None:
        """Send a session that was paused what waited for it, as it is now."""
        changes = self._audience.catch_up(session, self.world)
        if changes is None:
            return
        frames = [
            text_frame(protocol.delta(self.server_id, self.world.seq, change, resync=number == 0))
            for number, change in enumerate(changes)
        ]
        if not frames:  # the numbers have gone on all the same
            frames = [text_frame(protocol.resumed(self.world, self.world.seq))]
        session.write(b"".join(frames))

    async def _deliver_in(self, turns: Iterator[None]) -> None:
        for _ in turns:
            await asyncio.sleep(0)
        self._delivering = None
        self.deliver()

    def _fill(self, users: dict[str, EffectiveUser]) -> None:
        hide_offline = self.policy.hide_offline
        self.world = World(self.server_id, users, hide_offline=hide_offline, history=self._history)
        self.snapshot = SnapshotCache(self.world)

"""One server while it is held: its policy, its resolver, its world, and its subscribers.

    resolver ──put, swap──▶ world ──deltas──▶ `deliver` ──frames──▶ subscribers
                              └──snapshot, tail──▶ `join`

`deliver` encodes and frames each delta once, whatever the number of sessions. With more than
``SESSIONS_PER_TURN`` sessions it goes on over several turns of the event loop; until it is done,
newer deltas stay in the world, and the next batch takes them all.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from d_back_core.chain.policy import Policy
from d_back_core.chain.world import Delta, World
from d_back_core.clock import Clock, Timer
from d_back_core.gateway.rate_limits import ChatRate
from d_back_core.models import (
    Chat,
    EffectiveServer,
    EffectiveUser,
    Message,
    MessageDeleted,
    MessageEdited,
    User,
    deletion_of,
)
from d_back_core.providers.recorder_queue import RecorderQueue
from d_back_core.state.failover_log import FailoverLog
from d_back_core.state.layer_source import Spawn, Subject
from d_back_core.state.recorders import UserRecorder
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
from d_back_core.wire.frames import text_frame

log = logging.getLogger("d_back.live")


class Shared(Struct, frozen=True, kw_only=True):
    """What all servers share."""

    history: int
    """Deltas that a world keeps."""
    counters: Counters
    clock: Clock
    queues: Sequence[RecorderQueue]
    changed: Callable[["ServerState"], None]
    """Called when a server has something to deliver."""
    decided: Callable[["ServerState"], None]
    """Called when it has been decided which layers of a server are in use."""
    spawn: Spawn
    listed_by: Callable[[str], frozenset[str]]
    """Returns the providers whose lists in use name the server."""


class ServerState:
    """The sink of the resolver of one server's users: policy applies on the way in, deltas leave
    on the way out."""

    def __init__(
        self, server_id: str, policy: Policy, chat_rate: ChatRate, shared: Shared
    ) -> None:
        self.server_id = server_id
        self.policy = policy
        self.joining = 0
        """Number of joins under way."""
        self.idle: Timer | None = None
        self._chat_rate = chat_rate
        self._shared = shared
        self._subscribers = Subscribers(shared.counters)
        self._filled = False
        self._listed_by = shared.listed_by(server_id)
        self._failover_log = FailoverLog(shared.clock)
        self._recorder = UserRecorder(server_id, shared.queues, lambda: self.policy)
        self._delivering: asyncio.Task[None] | None = None
        subject = Subject(kind=User, server_id=server_id, clock=shared.clock, spawn=shared.spawn)
        self.resolver: Resolver[User, EffectiveUser] = Resolver(
            subject, self, self._recorder, decided=lambda: shared.decided(self)
        )
        self._fill({})

    @property
    def sessions(self) -> Mapping[Subscriber, Subscription]:
        """Those that have joined."""
        return self._subscribers.sessions

    # From the resolver to the world

    def derive(self, key: str, merged: User | None) -> EffectiveUser | None:
        """Return the user as it is shown."""
        return self.policy.user(key, merged)

    def put(self, key: str, effective: EffectiveUser | None) -> None:
        """One user has changed."""
        self.world.put(key, effective)
        self._shared.changed(self)

    def swap(self, effective: dict[str, EffectiveUser]) -> None:
        """These are all users. The world begins with the first ones."""
        before = self.world.seq
        # The first users make a world of their own: as deltas they would fill the history, and no
        # client has joined the empty one.
        if self._filled:
            self.world.swap(effective)
            self._shared.changed(self)
        else:
            self._fill(effective)
            self._filled = True
        in_use = self.resolver.layers.in_use
        former = self._failover_log.names
        if self._failover_log.note(in_use, self.world.epoch, before + 1, self.world.seq):
            self._log_failover(former, in_use)

    def pass_on(self, name: str, chat: Chat) -> None:
        """Send chat of that provider to the clients and the recorders.

        A message is dropped if the policy does not allow it, if its author is not shown, or if
        its channel is over its rate. An edit that is not shown takes the message back: clients
        must not keep a text that its author has replaced. A deletion is always sent, except of
        what no client can have.
        """
        if not isinstance(chat, MessageDeleted) and not self._may_show(chat):
            if isinstance(chat, Message):
                return
            chat = deletion_of(chat)
        # Of a channel that was shown until a reload, only what was said there: ids of messages
        # in hidden channels are nothing for clients.
        if isinstance(chat, MessageDeleted) and not (
            self.policy.hears(chat) or self.world.has_said(chat)
        ):
            return
        self.world.say(chat)
        self._recorder.on_chat(self.resolver.layers, name, chat)
        self._shared.changed(self)

    def record_access(self, person: str | None = None) -> None:
        """Record that this access to the server has ended; None: that any may have."""
        self._recorder.on_access(person)

    def _may_show(self, chat: Message | MessageEdited) -> bool:
        if not self.policy.hears(chat) or self.world.visible(chat.uid) is None:
            return False
        # The rate last: chat that is not shown must not use up the channel's share (R33).
        allowed = self._chat_rate.allows(chat.channel)
        self._shared.counters.chat_dropped += not allowed
        return allowed

    def reconfigure(self, policy: Policy, chat_rate: ChatRate) -> None:
        """Use another policy. What it hides, it hides at once; the rest follows with the
        resolver's next swap."""
        self.policy = policy
        self._chat_rate = chat_rate
        # Not left to the swap: that may wait for a provider, and the operator hides people now.
        self.world.hide(offline=policy.hide_offline)
        self.world.show_extra(policy.extra or frozenset())
        for uid in policy.ignore_users:
            self.world.put(uid, None)
        self._shared.changed(self)

    def on_list_changed(self) -> None:
        """A provider that no longer lists the server takes back its part: what it returned about
        the users is out of date, too (R3)."""
        resolver, names = self.resolver, self._shared.listed_by(self.server_id)
        gone, back = self._listed_by - names, names & resolver.withdrawn
        if gone or back:
            resolver.set_withdrawn((resolver.withdrawn | gone) - back)
        self._listed_by = names

    def stats(self) -> ServerStats:
        """Return the present state, for operators."""
        return ServerStats(
            server_id=self.server_id,
            providers=tuple(self.resolver.layers.in_use),
            since=self._failover_log.since,
            stale=self.resolver.stale,
            users=len(self.world.users),
            sessions=len(self.sessions),
            exchanges=self._failover_log.exchanges(),
        )

    def close(self) -> None:
        """Hold the server no more."""
        if self.idle is not None:
            self.idle.cancel()
        self.snapshot.close()
        self.resolver.close()

    # From the world to the sessions

    def join(self, session: Subscriber, server: EffectiveServer, users: CachedSnapshot) -> None:
        """Subscribe the session, and send it the snapshot as of now. ``users`` is the result of
        ``snapshot.ready()`` in this same turn of the loop."""
        seq, tail = users.tail()
        head = protocol.join_head(server, self.world.epoch, seq)
        # The snapshot includes the deltas that are still pending: the position skips them.
        position = self.world.position
        self._subscribers.join(session, joined_at=position, position=position)
        session.write_snapshot((*users.server_join(head, deflate=session.deflates), tail))

    def resume(self, session: Subscriber, seq: int, missed: list[Delta]) -> None:
        """Subscribe a session that has everything up to that number, and send it these deltas."""
        frames = (protocol.delta(self.server_id, each.seq, each.change) for each in missed)
        answer = protocol.resumed(self.world, seq)
        # When it first joined is not known. Receiving a removal twice does the least harm.
        self._subscribers.join(session, joined_at=0, position=self.world.position)
        session.write(b"".join(map(text_frame, (answer, *frames))))

    def deliver(self) -> None:
        """Send what has happened since the last call. Each session is written to once (R27)."""
        if self._delivering is not None:
            # It takes what is new when it is done. A second batch would overtake the first one for
            # the sessions that have not had their turn.
            return
        deltas = self.world.take()
        self.snapshot.trim()
        self._shared.counters.deltas += len(deltas)
        # After `take`: without sessions the deltas stay in the history only.
        if not self.sessions or not deltas:
            return
        frames = [
            text_frame(protocol.delta(self.server_id, delta.seq, delta.change)) for delta in deltas
        ]
        batch = Batch.of(deltas, frames)
        if len(self.sessions) > SESSIONS_PER_TURN:
            turns = self._subscribers.turns(batch)
            self._delivering = self._shared.spawn(self._deliver_in(turns))
        else:
            self._subscribers.deliver(batch)

    def leave(self, session: Subscriber) -> None:
        """End the session's subscription, if it has one."""
        self._subscribers.leave(session)

    def stop_direct_writes(self, session: Subscriber) -> None:
        """Do not write to the session's descriptor any more."""
        self._subscribers.stop_direct_writes(session)

    def catch_up(self, session: Subscriber) -> None:
        """Send a session that was paused the present state of what it missed, in one write (R29).

        All frames but the last carry the number up to which the client had everything before:
        one that loses the connection between them resumes from there (R48).
        """
        recovery = self._subscribers.catch_up(session, self.world)
        if recovery is None:
            return
        last = len(recovery.changes) - 1
        frames = [
            protocol.delta(
                self.server_id,
                self.world.seq if number == last else recovery.seq,
                change,
                resync=number in {0, last},
            )
            for number, change in enumerate(recovery.changes)
        ]
        if not frames:  # the numbers have gone on nevertheless
            frames = [protocol.resumed(self.world, self.world.seq)]
        session.write(b"".join(map(text_frame, frames)))

    async def _deliver_in(self, turns: Iterator[None]) -> None:
        for _ in turns:
            await asyncio.sleep(0)
        self._delivering = None  # before `deliver`, which would return at once otherwise
        self.deliver()

    def _fill(self, users: dict[str, EffectiveUser]) -> None:
        history = self._shared.history
        hide_offline = self.policy.hide_offline
        self.world = World(self.server_id, users, hide_offline=hide_offline, history=history)
        self.world.show_extra(self.policy.extra or frozenset())
        self.snapshot = SnapshotCache(self.world, self._shared.clock)

    def _log_failover(self, former: Iterable[str], names: Iterable[str]) -> None:
        """Log one line: which server, from which providers to which, and why."""
        lost = [name for name in former if name not in names]
        reasons = [self.resolver.sources[name].supervisor.health.last_error for name in lost]
        why = "; ".join(reason for reason in reasons if reason)
        log.info(
            "server %s: its users now come from %s, before from %s%s",
            self.server_id,
            ", ".join(names) or "no provider",
            ", ".join(former),
            f" ({why})" if why else "",
        )

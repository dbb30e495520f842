"""Random programs against a plain model of what clients are to see.

Hypothesis writes a program; it is run with real clients against a gateway of three providers,
and beside it on `Model`, which knows the rules and nothing of how the core keeps them. Whenever
everything that takes time is over, each client's copy of the world equals the model's. In between
it equals what the gateway holds, no number is missing, and no delta says nothing.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, TypeAlias, assert_never

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d_back_core import (
    Message,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
    hookimpl,
)
from d_back_core.config import Config
from d_back_core.models import EffectiveUser
from d_back_core.wire.protocol import (
    Error,
    MessageFrame,
    PresenceFrame,
    ServerJoin,
    ServerListUpdate,
    ServerMessage,
)
from d_back_testing import ManualClient, RunningGateway, ScriptedProvider, configured, served
from d_back_testing.scripted_provider import DOWN

pytestmark = pytest.mark.long

EXAMPLES = int(os.environ.get("D_BACK_MODEL_EXAMPLES", "0"))
"""Programs that are run, other ones each time; 0: some that are always the same."""
ALL_TIMERS = 400.0
"""Longer than a timeout, the longest wait of a retry, another timeout, a stream's recovery,
a grace and the wait before failback together."""

PROVIDERS = ("a", "b", "c")
SERVERS = ("1", "2")
UIDS = ("7", "8", "9")

Mode: TypeAlias = Literal["fallback", "merge", "enrich"]
Fields: TypeAlias = dict[str, Any]
"""A record: what is said, field by field."""
Records: TypeAlias = dict[str, Fields]
Trouble: TypeAlias = Literal["raises", "hangs", "cannot say", "stream", "well"]


# The model


@dataclass(frozen=True)
class Link:
    """A provider's place in the chain."""

    name: str
    mode: Mode = "fallback"
    servers: frozenset[str] | None = None
    fields: frozenset[str] | None = None

    def table(self) -> dict[str, Any]:
        """As the operator writes it."""
        table: dict[str, Any] = {"mode": self.mode}
        if self.servers is not None:
            table["servers"] = sorted(self.servers)
        if self.fields is not None:
            wire = {"role_color": "roleColor"}
            table["fields"] = sorted(wire.get(name, name) for name in self.fields)
        return table


@dataclass
class Truth:
    """What one provider knows, and whether it can say it."""

    servers: Records
    users: dict[str, Records]
    streams: bool = True
    trouble: dict[str | None, Trouble] = field(default_factory=dict)
    """By server; None: the list of servers."""

    def answer(self, server_id: str | None) -> Records | None:
        """What it says in the end, if it is asked for long enough."""
        if not self.streams or server_id in self.trouble:
            return None
        return self.servers if server_id is None else self.users[server_id]


@dataclass
class InUse:
    """The layers of one subject that are in use, highest first."""

    layers: dict[Link, Records] = field(default_factory=dict)
    stale: bool = False
    kept: frozenset[Link] = frozenset()
    """Of the list: the layers of providers that have failed. Only the servers that no other
    provider lists are shown of them."""

    def of(self, name: str) -> Records | None:
        return next((found for link, found in self.layers.items() if link.name == name), None)


def copied(records: Records) -> Records:
    return {key: dict(fields) for key, fields in records.items()}


def patch(records: Records, key: str, fields: Fields) -> None:
    """What an event does to a layer."""
    records.setdefault(key, {}).update(fields)


def supply(merged: Fields, link: Link, fields: Fields) -> None:
    """What nothing above has supplied, this provider supplies."""
    for name, value in fields.items():
        if value is not None and (link.fields is None or name in link.fields):
            merged.setdefault(name, value)


class Model:
    """What the rules say."""

    def __init__(self, chain: list[Link], truths: dict[str, Truth], *, eager: bool) -> None:
        self.chain = chain
        self.truths = truths
        self.eager = eager
        self.list = InUse()
        self.held: dict[str, InUse] = {}
        """The servers that a client joined, or all where they are eager."""

    def settle(self) -> None:
        """All that takes time is over: healthy providers have answered, the others are lost."""
        self.list = self.chosen(self.list, None)
        self.relist()
        for server_id, in_use in self.held.items():
            self.held[server_id] = self.chosen(in_use, server_id)

    def relist(self) -> None:
        """The list may have changed: what is not in it is not held any more."""
        listed = self.listed()
        self.held = {key: in_use for key, in_use in self.held.items() if key in listed}
        if self.eager:
            for server_id in listed:
                self.hold(server_id)

    def hold(self, server_id: str) -> None:
        """A client watches it from now on."""
        if server_id not in self.held:
            self.held[server_id] = self.chosen(InUse(), server_id)

    def chosen(self, before: InUse, server_id: str | None) -> InUse:
        """Whose layers are to be in use (R2, R3, R7)."""
        answers = {}
        covered = False
        for link in self.chain:
            asked = server_id is None or link.servers is None or server_id in link.servers
            if not asked:
                continue
            if link.mode == "fallback" and covered:
                continue
            answer = self.truths[link.name].answer(server_id)
            if answer is None:
                continue
            answers[link] = copied(answer)
            covered = covered or (link.mode == "fallback" and server_id is not None)
        lost = self.lost(before, answers, server_id)
        adding = any(link.mode != "enrich" for link in answers)
        if server_id is None:
            return self.chosen_list(answers, lost, adding=adding)
        kept = {
            link: records
            for link, records in lost.items()
            if link.mode == "fallback" and not covered and (link in self.chain or not adding)
        }
        if not adding and not kept:
            kept = {link: records for link, records in lost.items() if link.mode == "merge"}
        found = answers | kept
        ordered = {link: found[link] for link in self.chain if link in found}
        return InUse(ordered | found, stale=bool(kept))

    def chosen_list(
        self, answers: dict[Link, Records], lost: dict[Link, Records], *, adding: bool
    ) -> InUse:
        """Every provider's list is in use; those of failed ones are kept (R3)."""
        kept = {
            link: records
            for link, records in lost.items()
            if link.mode != "enrich" and (link in self.chain or not adding)
        }
        found = answers | kept
        ordered = {link: found[link] for link in self.chain if link in found}
        stale = bool(kept) and not adding
        return InUse(ordered | found, stale=stale, kept=frozenset(kept))

    def lost(
        self, before: InUse, answers: dict[Link, Records], server_id: str | None
    ) -> dict[Link, Records]:
        """The layers in use that no provider brings any more. One whose provider has another mode
        or filter now has it here too, as long as it has a place in the chain of that server."""
        places = {
            link.name: link
            for link in self.chain
            if server_id is None or link.servers is None or server_id in link.servers
        }
        found = {places.get(link.name, link): records for link, records in before.layers.items()}
        return {link: records for link, records in found.items() if link not in answers}

    def merged(self, in_use: InUse, key: str) -> Fields | None:
        """The record of that user, field by field."""
        present = False
        answered = False
        merged: Fields = {}
        for link, records in in_use.layers.items():
            if link.mode == "fallback":
                if answered:
                    continue
                answered = True
            if key not in records:
                continue
            present = present or link.mode != "enrich"
            supply(merged, link, records[key])
        return merged if present else None

    def merged_server(self, server_id: str) -> Fields | None:
        """The record of that server. Only the highest fallback that lists it counts, and a kept
        layer only if no other one lists it; any layer may disable it."""
        admitted = {
            link: records[server_id]
            for link, records in self.list.layers.items()
            if server_id in records and (link.servers is None or server_id in link.servers)
        }
        fresh = {link: each for link, each in admitted.items() if link not in self.list.kept}
        if not any(link.mode != "enrich" for link in fresh):
            fresh = admitted
        if not any(link.mode != "enrich" for link in fresh):
            return None
        merged: Fields = {}
        answered = False
        for link, fields in fresh.items():
            if link.mode == "fallback":
                if answered:
                    continue
                answered = True
            supply(merged, link, fields)
        merged["enabled"] = all(each.get("enabled") is not False for each in admitted.values())
        return merged

    def listed(self) -> dict[str, str]:
        """The servers that clients know, and their names."""
        found = {}
        for server_id in SERVERS:
            merged = self.merged_server(server_id)
            if merged is not None and merged["enabled"]:
                found[server_id] = merged.get("name", server_id)
        return found

    def world(self, server_id: str) -> dict[str, EffectiveUser]:
        """The users of a server that is held."""
        found = {}
        for uid in UIDS:
            merged = self.merged(self.held[server_id], uid)
            if merged is not None:
                found[uid] = EffectiveUser(
                    uid,
                    merged.get("username", uid),
                    merged.get("status", "offline"),
                    merged.get("role_color", "#ffffff"),
                )
        return found

    def hears(self, name: str, server_id: str, uid: str) -> bool:
        """Whether chat of that provider reaches the clients (R11)."""
        in_use = self.held.get(server_id)
        if in_use is None or not self.truths[name].streams:
            return False
        link = next((link for link in in_use.layers if link.name == name), None)
        in_chain = link is not None and link in self.chain
        fits = link is not None and link.fields is None
        return in_chain and fits and uid in self.world(server_id)


# The programs


@dataclass(frozen=True)
class SetUser:
    name: str
    server_id: str
    uid: str
    fields: Fields


@dataclass(frozen=True)
class RemoveUser:
    name: str
    server_id: str
    uid: str


@dataclass(frozen=True)
class Say:
    name: str
    server_id: str
    uid: str


@dataclass(frozen=True)
class SetServer:
    name: str
    server_id: str
    fields: Fields


@dataclass(frozen=True)
class RemoveServer:
    name: str
    server_id: str


News: TypeAlias = SetUser | RemoveUser | Say | SetServer | RemoveServer


@dataclass(frozen=True)
class Burst:
    """All in one turn of the loop."""

    news: list[News]


@dataclass(frozen=True)
class Refetch:
    name: str
    server_id: str | None


@dataclass(frozen=True)
class Turn:
    """Trouble begins or ends, of any number of providers at the same time."""

    turns: list[tuple[str, str | None, Trouble]]


@dataclass(frozen=True)
class Reconfigure:
    chain: list[Link]


@dataclass(frozen=True)
class Join:
    client: int
    server_id: str


@dataclass(frozen=True)
class Leave:
    client: int


@dataclass(frozen=True)
class Wait:
    """Some time, or (None) all the time that anything can take."""

    seconds: float | None


Step: TypeAlias = Burst | Refetch | Turn | Reconfigure | Join | Leave | Wait


@dataclass(frozen=True)
class Program:
    chain: list[Link]
    servers: dict[str, Records]
    users: dict[str, dict[str, Records]]
    eager: bool
    joins: list[str]
    """The servers that the clients join first of all."""
    steps: list[Step]


names = st.sampled_from(PROVIDERS)
server_ids = st.sampled_from(SERVERS)
uids = st.sampled_from(UIDS)
user_fields = st.fixed_dictionaries(
    {},
    optional={
        "username": st.sampled_from(["Ada", "Bob", None]),
        "status": st.sampled_from(["online", "dnd", None]),
        "role_color": st.sampled_from(["#aaaaaa", "#bbbbbb", None]),
    },
)
server_fields = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["One", "Two", None]),
        "enabled": st.sampled_from([True, False, None]),
    },
)
filters = st.none() | st.none() | st.frozensets(server_ids, min_size=1)
field_filters = (
    st.none()
    | st.none()
    | st.frozensets(st.sampled_from(["username", "status", "role_color", "name"]))
)


@st.composite
def chains(draw: st.DrawFn) -> list[Link]:
    order = draw(st.permutations(PROVIDERS))
    modes = st.sampled_from(["fallback", "fallback", "merge", "enrich"])
    return [
        Link(name, draw(modes), draw(filters), draw(field_filters))  # type: ignore[arg-type]
        for name in order
    ]


news = st.one_of(
    st.builds(SetUser, names, server_ids, uids, user_fields),
    st.builds(SetUser, names, server_ids, uids, user_fields),
    st.builds(RemoveUser, names, server_ids, uids),
    st.builds(Say, names, server_ids, uids),
)
any_news = st.one_of(
    news,
    news,
    news,
    st.builds(SetServer, names, server_ids, server_fields),
    st.builds(RemoveServer, names, server_ids),
)
troubles = st.sampled_from(["raises", "hangs", "cannot say", "stream", "well", "well"])
turns = st.tuples(names, st.none() | server_ids | server_ids, troubles)
clients = st.integers(0, 1)
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Burst, st.lists(any_news, min_size=1, max_size=1)),
    st.builds(Burst, st.lists(news, min_size=1, max_size=1)),
    st.builds(Burst, st.lists(any_news, min_size=2, max_size=6)),
    st.builds(Refetch, names, st.none() | server_ids),
    st.builds(Turn, st.lists(turns, min_size=1, max_size=3)),
    st.builds(Reconfigure, chains()),
    st.builds(Join, clients, server_ids),
    st.builds(Leave, clients),
    st.builds(Wait, st.sampled_from([0.1, 1.0, 4.9, 5.0, 6.0, 29.0, 30.0, 45.0, 70.0])),
    st.builds(Wait, st.none()),
)
programs = st.builds(
    Program,
    chain=chains(),
    servers=st.fixed_dictionaries(
        {name: st.dictionaries(server_ids, server_fields) for name in PROVIDERS}
    ),
    users=st.fixed_dictionaries(
        {
            name: st.fixed_dictionaries(
                {server_id: st.dictionaries(uids, user_fields) for server_id in SERVERS}
            )
            for name in PROVIDERS
        }
    ),
    eager=st.booleans(),
    joins=st.lists(server_ids, min_size=1, max_size=2),
    steps=st.lists(steps, min_size=1, max_size=30),
)


# Running them


class Source(ScriptedProvider):
    """A provider that says what the model's truth is, as far as it can."""

    def __init__(self, truth: Truth) -> None:
        super().__init__()
        self.truth = truth

    @hookimpl
    async def servers(self) -> Mapping[str, Server] | None:
        records = await self._said(None)
        if records is None:
            return None
        return {key: Server(**fields) for key, fields in records.items()}

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        records = await self._said(server_id)
        if records is None:
            return None
        return {key: User(**fields) for key, fields in records.items()}

    async def _said(self, server_id: str | None) -> Records | None:
        trouble = self.truth.trouble.get(server_id)
        if trouble == "raises":
            raise DOWN
        if trouble == "hangs":
            await asyncio.Event().wait()
        if trouble == "cannot say":
            return None
        return self.truth.servers if server_id is None else self.truth.users[server_id]


class Watchful(ManualClient):
    """A client to whom no delta may say what it knows already."""

    def apply(self, frame: ServerMessage) -> None:
        before = dict(self.users)
        super().apply(frame)
        if isinstance(frame, PresenceFrame):
            assert self.users != before, frame


@dataclass
class Visitor:
    """A client, and the server that it is in."""

    client: ManualClient
    server_id: str | None = None


class Run:
    """One program, on the gateway and on the model."""

    steps = 0
    """Of all runs."""

    def __init__(
        self,
        gateway: RunningGateway,
        watcher: ManualClient,
        model: Model,
        sources: dict[str, Source],
    ) -> None:
        self.gateway = gateway
        self.observer = watcher
        """Joins nothing, and sees every list."""
        self.model = model
        self.sources = sources
        self.visitors: dict[int, Visitor] = {}
        self.missed: set[str] = set()
        """The servers that were not in the list at some time since all was stable."""
        self.gaps: set[str] = set()
        """The same, for the last time that it was not."""
        self.stable = True
        """Whether all that takes time is over."""
        self.calm = True
        """The same, at the beginning of the step: no chat of before is still to come."""
        self.expected: list[tuple[str, str, str]] = []
        """Chat that is to come: server_id, uid, text."""
        self.texts = count()

    async def step(self, step: Step) -> None:
        """Do it, and compare."""
        Run.steps += 1
        self.expected, self.calm = [], self.stable
        match step:
            case Burst(burst):
                await self.burst(burst)
            case Refetch(name, server_id):
                await self.refetch(name, server_id)
            case Turn(turns):
                await self.turn(turns)
            case Reconfigure(chain):
                await self.reconfigure(chain)
            case Join(number, server_id):
                await self.join(number, server_id)
            case Leave(number):
                await self.leave(number)
            case Wait(seconds):
                await self.wait(seconds)
            case _:
                assert_never(step)
        await self.compare()

    async def burst(self, burst: list[News]) -> None:
        relists = any(isinstance(each, SetServer | RemoveServer) for each in burst)
        if relists:
            await self.calm_down()
        before = self.model.held.keys()
        first = {each.name: place for place, each in reversed([*enumerate(burst)])}
        for each in sorted(burst, key=lambda each: first[each.name]):  # stream by stream
            self.tell(each)
        if relists:
            self.model.relist()
            await self.gateway.advance(0)
            if self.model.held.keys() - before:  # a provider is being asked
                self.stable = False

    def tell(self, each: News) -> None:  # noqa: C901  a case for each kind of news
        """One piece of news: it is true at once, and told if there is a stream."""
        model, truth = self.model, self.model.truths[each.name]
        source = self.sources[each.name]
        event: Any
        match each:
            case SetUser(name, server_id, uid, fields):
                patch(truth.users[server_id], uid, fields)
                event = UserChanged(server_id=server_id, uid=uid, **fields)
                layer = self.layer(name, server_id)
                if layer is not None:
                    patch(layer, uid, fields)
            case RemoveUser(name, server_id, uid):
                truth.users[server_id].pop(uid, None)
                event = UserRemoved(server_id=server_id, uid=uid)
                layer = self.layer(name, server_id)
                if layer is not None:
                    layer.pop(uid, None)
            case Say(name, server_id, uid):
                text = f"text {next(self.texts)}"
                event = Message(server_id=server_id, uid=uid, message=text, channel="c")
                if model.hears(name, server_id, uid):
                    self.expected.append((server_id, uid, text))
            case SetServer(name, server_id, fields):
                patch(truth.servers, server_id, fields)
                event = ServerChanged(server_id=server_id, **fields)
                layer = self.layer(name, None)
                if layer is not None:
                    patch(layer, server_id, fields)
            case RemoveServer(name, server_id):
                truth.servers.pop(server_id, None)
                event = ServerRemoved(server_id=server_id)
                layer = self.layer(name, None)
                if layer is not None:
                    layer.pop(server_id, None)
            case _:
                assert_never(each)
        if truth.streams:
            source.emit(event)

    def layer(self, name: str, server_id: str | None) -> Records | None:
        """The layer in use that the provider's events change."""
        truth = self.model.truths[name]
        if not truth.streams or truth.trouble.get(server_id) == "cannot say":
            return None
        in_use = self.model.list if server_id is None else self.model.held.get(server_id)
        if in_use is None:
            return None
        link = next((link for link in in_use.layers if link.name == name), None)
        return in_use.layers[link] if link is not None and link in self.model.chain else None

    async def refetch(self, name: str, server_id: str | None) -> None:
        if self.model.truths[name].streams:
            self.sources[name].emit(Reload(server_id=server_id))

    async def turn(self, turns: list[tuple[str, str | None, Trouble]]) -> None:
        """What is noticed at different times is done one after the other, so that the model need
        not know in which order providers are given up."""
        for begin in filter(None, self.groups(turns)):
            await self.calm_down()
            self.stable = False
            for each in begin:
                self.change(*each)

    def groups(
        self, turns: list[tuple[str, str | None, Trouble]]
    ) -> Iterator[list[tuple[str, str | None, Trouble]]]:
        for each in turns:
            if each[2] == "cannot say":
                yield [each]
        yield [each for each in turns if each[2] == "hangs"]
        yield [each for each in turns if each[2] in {"raises", "stream"}]
        yield [each for each in turns if each[2] == "well"]

    def change(self, name: str, server_id: str | None, trouble: Trouble) -> None:
        truth, source = self.model.truths[name], self.sources[name]
        if trouble == "well":
            truth.trouble.clear()
            source.broken, truth.streams = False, True
            source.emit(Reload())
        elif trouble == "stream":
            truth.streams = False
            source.break_stream()
        else:
            truth.trouble.setdefault(server_id, trouble)
            if truth.streams:
                source.emit(Reload(server_id=server_id))

    async def reconfigure(self, chain: list[Link]) -> None:
        await self.calm_down()
        listed = self.model.listed().keys()
        worlds = {server_id: self.model.world(server_id) for server_id in self.model.held}
        frames = {number: len(each.client.frames) for number, each in self.visitors.items()}
        self.stable = False
        self.model.chain = chain
        await self.gateway.server.reload(configuration(chain, eager=self.model.eager))
        if any(truth.trouble or not truth.streams for truth in self.model.truths.values()):
            return
        await self.calm_down()
        assert not self.gaps & listed & self.model.listed().keys()
        for number, visitor in self.visitors.items():
            if visitor.server_id is None:
                continue
            both = worlds[visitor.server_id].keys() & visitor.client.users.keys()
            for frame in visitor.client.frames[frames[number] :]:
                if isinstance(frame, PresenceFrame) and frame.data.uid in both:
                    assert frame.data.delete is not True

    async def join(self, number: int, server_id: str) -> None:
        if server_id not in self.model.held:
            await self.calm_down()
        visitor = self.visitors.get(number)
        if visitor is None:
            visitor = self.visitors[number] = Visitor(await self.gateway.connect(Watchful))
        await visitor.client.ask(server_id)
        answer = await self.answer(visitor)
        if self.stable:
            assert isinstance(answer, ServerJoin) is (server_id in self.model.listed())
        if isinstance(answer, ServerJoin):
            visitor.server_id = server_id
            self.model.hold(server_id)

    async def answer(self, visitor: Visitor) -> ServerJoin | Error:
        """What comes of a join; all time passes if a provider that is asked hangs."""
        for seconds in (0, 0, 0, ALL_TIMERS, 0):
            await self.gateway.advance(seconds)
            for frame in await visitor.client.new_frames():
                if isinstance(frame, ServerJoin | Error):
                    return frame
        raise AssertionError("no answer")

    async def leave(self, number: int) -> None:
        visitor = self.visitors.pop(number, None)
        if visitor is not None:
            await visitor.client.connection.close()

    async def wait(self, seconds: float | None) -> None:
        if seconds is not None:
            await self.gateway.advance(seconds)
            return
        await self.gateway.advance(ALL_TIMERS)
        await self.watch()
        for server_id in self.missed & self.model.held.keys():  # it starts again
            del self.model.held[server_id]
        self.model.settle()
        self.stable = True
        self.gaps, self.missed = self.missed, set()

    async def watch(self) -> None:
        """See which servers were not in the list for a while."""
        for frame in await self.observer.new_frames():
            if isinstance(frame, ServerListUpdate):
                self.missed |= set(frame.removed or ())

    async def calm_down(self) -> None:
        """Wait for all that takes time, and compare, before something new begins."""
        if not self.stable:
            await self.wait(None)
            await self.compare()
            self.calm = True

    async def compare(self) -> None:
        await self.gateway.settle()
        for visitor in self.visitors.values():
            await self.compare_chat(visitor)
        if self.stable:
            self.compare_all()
            await self.watch()
            self.missed.clear()

    async def compare_chat(self, visitor: Visitor) -> None:
        """Take the frames; whatever else is so, the client's copy is that of the gateway."""
        heard = []
        for frame in await visitor.client.new_frames():
            match frame:
                case MessageFrame():
                    heard.append((frame.server, frame.data.uid, frame.data.message))
                case Error():
                    assert frame.data.code == "gone"
                    visitor.server_id = None
                case ServerListUpdate() | PresenceFrame():
                    pass
                case _:
                    raise AssertionError(frame)
        if visitor.server_id is None:
            return
        held = self.gateway.live.servers[visitor.server_id].world
        assert visitor.client.users == {user.uid: user for user in held.shown()}
        assert visitor.client.world.seq == held.seq
        if self.calm:
            assert heard == [each for each in self.expected if each[0] == visitor.server_id]

    def compare_all(self) -> None:
        model, live = self.model, self.gateway.live
        listed = model.listed()
        assert {key: server.name for key, server in live.server_list.servers.items()} == listed
        assert live.list_resolver.stale is model.list.stale
        for server_id, in_use in model.held.items():
            feed = live.servers[server_id].resolver
            assert list(feed.layers.in_use) == [link.name for link in in_use.layers]
            assert feed.stale is in_use.stale
        for visitor in self.visitors.values():
            names = {key: each.name for key, each in visitor.client.world.servers.items()}
            assert names == listed
            if visitor.server_id is not None:
                assert visitor.server_id in listed
                assert visitor.client.users == model.world(visitor.server_id)


def configuration(chain: list[Link], *, eager: bool) -> Config:
    return configured([link.name for link in chain], **tables(chain, eager=eager))


def tables(chain: list[Link], *, eager: bool) -> dict[str, Any]:
    return {
        "tables": {link.name: link.table() for link in chain},
        "chain": {"idle": 1_000_000},
        "policies": {server_id: {"eager": eager} for server_id in SERVERS},
    }


async def run(program: Program) -> None:
    truths = {
        name: Truth(
            copied(program.servers[name]),
            {server_id: copied(users) for server_id, users in program.users[name].items()},
        )
        for name in PROVIDERS
    }
    sources = {name: Source(truth) for name, truth in truths.items()}
    given = {link.name: sources[link.name] for link in program.chain}
    async with served(given, **tables(program.chain, eager=program.eager)) as gateway:
        await gateway.advance(ALL_TIMERS)  # all have been well for long
        model = Model(program.chain, truths, eager=program.eager)
        model.settle()
        running = Run(gateway, await gateway.connect(), model, sources)
        joins = [Join(number, server_id) for number, server_id in enumerate(program.joins)]
        for step in (*joins, *program.steps, Wait(None)):
            await running.step(step)


@settings(
    max_examples=EXAMPLES or 250,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(programs)
def test_what_clients_see_is_what_the_rules_say(program: Program) -> None:
    """After every step of every program."""
    asyncio.run(run(program))

"""Let a program happen to a real gateway over real sockets, and compare after every phase.

The clock is moved by hand. A phase has settled when every client holds what the oracle says; it
must do so within the seconds of `STEPS` on that clock, and then stay so.
"""

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from msgspec import UNSET

from d_back_core import User, WebSocketServer
from d_back_core.config import Config
from d_back_core.state import subscribers
from d_back_testing import ManualClock
from promise import program as acts
from promise.chain import Chain, newcomer, public_id
from promise.client import Client
from promise.node_client import Node, NodeClient
from promise.oracle import (
    DEFAULTS,
    WIRE,
    Disorder,
    State,
    World,
    is_recorded,
    settled,
    shown,
)
from promise.program import PASSWORDS, SERVERS, Act, Program, Setup
from promise.providers import Polled
from promise.proxy import Proxy, small_send_buffers

STEPS = [1] * 30 + [5] * 60
"""The steps in which a phase may settle: a provider that was away for long is tried seldom."""
LASTING = 7
"""Times five seconds for which it then has to stay so: longer than a provider is polled."""
SESSIONS_PER_TURN = 3
"""Small, so that a few clients need several turns of the event loop."""


@dataclass
class Report:
    differences: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Said(NamedTuple):
    """A chat message that a stream carries."""

    source: str
    server_id: str
    uid: str
    text: str


async def run(program: Program, node: Node | None = None) -> Report:
    """Run the program; the differences that it showed, and how much of what happened. With
    ``node``, the clients behind proxies are those of the JavaScript client.
    """
    report = Report()
    with _few_sessions_per_turn(), _logged_errors() as errors:
        async with contextlib.AsyncExitStack() as stack:
            one = Run(program, report, node)
            try:
                await one.begin(stack, program.setup)
                for number, phase in enumerate(program.phases, 1):
                    await one.phase(phase, f"phase {number}")
            except TimeoutError:
                report.differences.append("a client was not answered")
            finally:
                one.count()
    report.differences += [f"log: {line}" for line in errors]
    return report


@contextlib.contextmanager
def _few_sessions_per_turn() -> Iterator[None]:
    usual = subscribers.SESSIONS_PER_TURN
    subscribers.SESSIONS_PER_TURN = SESSIONS_PER_TURN
    try:
        yield
    finally:
        subscribers.SESSIONS_PER_TURN = usual


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextlib.contextmanager
def _logged_errors() -> Iterator[list[str]]:
    """What is logged as an error, of asyncio too: an exception that was never retrieved."""
    handler = _Errors()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.lines
    finally:
        logging.getLogger().removeHandler(handler)


class Run:
    def __init__(self, program: Program, report: Report, node: Node | None = None) -> None:
        self._report = report
        self._node = node
        self._clock = ManualClock()
        self._chain = Chain(program.setup, self._clock)
        self._server = WebSocketServer(
            0,
            "127.0.0.1",
            config=self._chain.config(),
            providers=self._chain.plugins(),
            clock=self._clock,
        )
        self._state = State()
        self._public_ids: dict[str, str] = {}
        self._clients: list[Client] = []
        self._watchers: dict[str, Client] = {}
        """Clients to which nothing happens, one for each server: it stays watched."""
        self._proxies: list[Proxy] = []
        self._reloads: list[asyncio.Task[Any]] = []
        self._said: list[Said] = []

    async def begin(self, stack: contextlib.AsyncExitStack, setup: Setup) -> None:
        """Start the gateway, and all clients at once."""
        starting = asyncio.create_task(stack.enter_async_context(self._server))
        while not starting.done():  # `startup_timeout` ends it
            await self._clock.advance(0.5)
        await starting
        small_send_buffers(self._server.port)
        for number, wanted in enumerate(setup.clients):
            proxy = await stack.enter_async_context(Proxy(self._server.port).running())
            self._proxies.append(proxy)
            client = self._client(number, proxy.url, wanted)
            self._clients.append(await stack.enter_async_context(client.running()))
        for key in SERVERS:
            client = Client(f"watcher of {key}", self._server.url, key, None)
            self._watchers[key] = await stack.enter_async_context(client.running())
        self._clients += self._watchers.values()
        self._assign_public_ids()
        simple = all(each.answers and not each.login for each in self._chain.providers.values())
        for act in setup.early:
            await self._happen(act)
        disorder = _disorder(setup.early)
        await self._settle("start", disorder if simple else replace(disorder, health=2))

    def _client(self, number: int, url: str, wanted: str) -> Client:
        password = PASSWORDS[number % len(PASSWORDS)]
        if self._node is not None:
            return NodeClient(f"client {number}", url, wanted, password, self._node)
        return Client(f"client {number}", url, wanted, password, compression=number % 2 == 1)

    def count(self) -> None:
        self._report.counts += Counter(
            programs=1,
            stalls=sum(each.stalls for each in self._proxies),
            cuts=sum(each.cuts for each in self._proxies),
            resumes=sum(each.resumes for each in self._clients),
            resyncs=sum(each.copy.resyncs for each in self._clients),
        )

    async def phase(self, phase: Sequence[Act], name: str) -> None:
        self._said.clear()
        for client in self._clients:
            client.copy.chat.clear()
            client.copy.kept_up = True
        for act in phase:
            await self._happen(act)
        before = self._state
        await self._settle(name, _disorder(phase))
        if all(isinstance(act, acts.CALM) for act in phase):
            touched = {
                (act.server, act.uid)
                for act in phase
                if isinstance(act, acts.Change | acts.Remove)
            }
            wrong = list(self._wrong_chat(before, touched))
            self._report.differences += [f"{name}: {each}" for each in wrong]

    # What happens

    async def _happen(self, act: Act) -> None:
        self._report.counts["events"] += 1
        if not isinstance(act, acts.AtSource):
            await self._elsewhere(act)
        else:
            names = list(self._chain.providers)
            name = names[act.source % len(names)]
            await self._at_source(act, name, self._chain.providers[name])

    async def _at_source(self, act: acts.AtSource, name: str, provider: Polled) -> None:
        match act:
            case acts.Change():
                provider.change(act.server, act.uid, act.user)
            case acts.Remove():
                provider.remove(act.server, act.uid)
            case acts.Burst():
                await _burst(act, provider)
            case acts.Chat():
                self._say(act, name, provider)
            case acts.Turn() | acts.Break() | acts.Recovered() | acts.End():
                _health(act, provider)
            case acts.Protect():
                provider.protect(act.server, on=act.on)
            case acts.List(present=False):
                provider.unlist(act.server)
            case acts.List() if act.server not in provider.listed:
                server, people = newcomer(name, act.server, ("1", "2"))
                provider.list(act.server, server, people)

    async def _elsewhere(self, act: Act) -> None:
        match act:
            case acts.Reload():
                self._report.counts["reloads"] += 1
                self._chain.reload(act)
                self._reloads.append(asyncio.create_task(self._reload(self._chain.config())))
            case acts.Pass():
                await self._clock.advance(act.seconds)
            case acts.Loops():
                for _ in range(act.times):
                    await asyncio.sleep(0)
            case acts.Switch():
                await self._clients[act.client % len(self._proxies)].join(act.server)
            case acts.Stall():
                self._proxies[act.client % len(self._proxies)].stall()
            case acts.GoOn():
                self._proxies[act.client % len(self._proxies)].go_on()
            case acts.Cut():
                self._proxies[act.client % len(self._proxies)].cut(act.after)

    async def _reload(self, config: Config) -> None:
        for key, watcher in self._watchers.items():
            watcher.password = self._chain.policies[key].password
        await self._server.reload(config)
        for client in self._clients:
            client.try_again()

    def _say(self, act: acts.Chat, name: str, provider: Polled) -> None:
        self._report.counts["chats"] += 1
        number = self._report.counts["chats"]
        if provider.say(act.server, act.uid, f"{name} {number}"):
            self._said.append(Said(name, act.server, act.uid, f"{name} {number}"))

    # What is right

    async def _settle(self, name: str, disorder: Disorder) -> None:
        """Let time pass until every client is right, and see that it stays so."""
        for proxy in self._proxies:
            proxy.go_on()
        for client in self._clients:
            client.try_again()
        before = self._state
        found: list[str] | None = None
        for seconds in STEPS:
            await self._clock.advance(seconds)
            found = await self._compare(before, disorder)
            if found == []:  # it may be right by chance, before a grace is over
                found = await self._stays(before, disorder)
            if found == []:
                break
        if self._state.default is None:
            shown_default = _default(self._watchers[SERVERS[0]])
            self._state = replace(self._state, default=shown_default)
        if found is None:
            found = [f"{self._waits_for()}: no answer"]
        for client in self._clients:
            found += [f"{client.name}: {fault}" for fault in client.copy.faults]
            client.copy.faults.clear()
        self._report.differences += [f"{name}: {each}" for each in found]

    async def _stays(self, before: State, disorder: Disorder) -> list[str] | None:
        """It may have been right only because a grace had not run out: then it gets its time."""
        found, times = None, 0
        for _ in STEPS:
            await self._clock.advance(5)  # comparing answers the pings of these seconds
            found = await self._compare(before, disorder)
            if found is not None:
                times = 0 if found else times + 1
            if times == LASTING:
                break
        return found

    async def _compare(self, before: State, disorder: Disorder) -> list[str] | None:
        """The differences between what the clients hold and what is right, or None while a
        connection, a join or a reload is under way.
        """
        idle = await asyncio.gather(*(client.idle() for client in self._clients))
        if not all(idle) or not all(task.done() for task in self._reloads):
            return None
        for task in self._reloads:
            task.result()
        self._report.counts["comparisons"] += 1
        self._state = settled(before, self._chain.layers(), self._chain.policies, disorder)
        wrong = [
            f"{client.name}: {each}"
            for client in self._clients
            for each in (*self._wrong_list(client), *self._wrong_users(client))
        ]
        return [*wrong, *self._wrong_record()]

    def _waits_for(self) -> list[str]:
        reloads = [f"reload {n}" for n, task in enumerate(self._reloads) if not task.done()]
        return reloads or [each.name for each in self._clients if not each.copy.subscribed]

    def _assign_public_ids(self) -> None:
        """R12: the id of the highest provider that knows a server, whichever starts first."""
        for key in SERVERS:
            for layer in self._chain.layers():
                enriches = layer.mode == "enrich" and key in layer.listed
                if enriches or self._chain.providers[layer.name].state == "none":
                    break  # the rules do not say whether it is waited for
                if layer.answers and key in layer.listed:
                    self._public_ids[key] = public_id(layer.name, key)
                    break

    def _wrong_list(self, client: Client) -> Iterator[str]:
        listed = client.copy.servers
        for key in SERVERS:
            there = self._state.there(key)
            if there not in (None, key in listed):
                yield f"server {key} is {'' if key in listed else 'not '}listed"
            if key in listed:
                right = self._public_ids.setdefault(key, listed[key]["id"])
                if listed[key]["id"] != right:
                    yield f"server {key} is '{listed[key]['id']}', not '{right}'"
                protected = self._state.protected[key]
                if protected not in (None, listed[key]["passworded"]):
                    yield f"server {key} is {'not ' if protected else ''}protected"
        default, right_default = _default(client), self._state.default
        if right_default is None:
            right_default = _default(self._watchers[SERVERS[0]])
        if default != right_default:
            yield f"the default is '{default}', not '{right_default}'"

    def _wrong_users(self, client: Client) -> Iterator[str]:
        copy, key = client.copy, client.wanted
        there, policy = self._state.there(key), self._chain.policies[key]
        admitted = self._state.admits(key, client.password, policy)
        if there is None or (there and admitted is None):
            return
        if copy.subscribed != (there and admitted):
            yield f"joined: {copy.subscribed}, server {key} is there: {there}, may: {admitted}"
        elif there and admitted:
            world = self._state.worlds[key]
            right = shown(self._watchers[key].copy.users if world is None else world, policy)
            seen = shown(copy.users, policy)
            wrong = [uid for uid in right | seen if right.get(uid) != seen.get(uid)]
            if wrong:
                example = f"{seen.get(wrong[0])}, not {right.get(wrong[0])}"
                yield f"{len(wrong)} users are wrong: {re.sub('x{9,}', 'x…', example)}"

    def _wrong_record(self) -> Iterator[str]:
        """R22: a recorder has all users, and no others once all sources answer."""
        recorder, layers = self._chain.recorder, self._chain.layers()
        if recorder is None:
            return
        for key, right in self._state.merged.items():
            if right is None or self._state.there(key) is None:
                continue
            stored = _as_world(recorder.people.get(key, {}))
            wrong = [
                uid for uid in right | stored if not is_recorded(uid, key, stored, right, layers)
            ]
            if wrong:
                uid = wrong[0]
                yield f"{len(wrong)} users of {key} are stored as {stored.get(uid)}, " + re.sub(
                    "x{9,}", "x…", f"not {right.get(uid)}"
                )

    def _wrong_chat(self, before: State, touched: set[tuple[str, str]]) -> Iterator[str]:
        """R11: chat arrives once and in order at the clients that kept up."""
        for client in self._clients:
            key, world = client.wanted, before.worlds.get(client.wanted)
            if not client.copy.kept_up or world is None or not client.copy.subscribed:
                continue
            for layer in self._chain.layers():
                said = [each for each in self._said if each[:2] == (layer.name, key)]
                used = layer.mode != "fallback" or before.in_use[key] == layer.name
                sure = {
                    each.text
                    for each in said
                    if used and each.uid in world and (key, each.uid) not in touched
                }
                got = [text for text in client.copy.chat if text.split()[0] == layer.name]
                in_order = [each.text for each in said if each.text in got]
                if got != in_order or not sure <= set(got):
                    yield f"{client.name}: chat {got}, not {sorted(sure)}"


def _as_world(people: Mapping[str, User]) -> World:
    """The users as a client sees them."""
    world: World = {}
    for uid, user in people.items():
        values = {key: getattr(user, name) for key, name in WIRE.items()}
        given = {k: v for k, v in values.items() if v is not UNSET and v is not None}
        world[uid] = {"uid": uid, "username": uid, **DEFAULTS, **given}
    return world


def _health(act: acts.Turn | acts.Break | acts.Recovered | acts.End, provider: Polled) -> None:
    match act:
        case acts.Turn():
            provider.login = act.login if provider.streams else 0
            provider.turn(act.state)
        case acts.Break() if provider.answers:
            provider.break_off()
        case acts.Recovered() if provider.answers:
            provider.recovered()
        case acts.End():
            provider.end()


def _default(client: Client) -> str | None:
    servers = client.copy.servers
    return next((key for key in servers if servers[key].get("default")), None)


async def _burst(act: acts.Burst, provider: Polled) -> None:
    uids = list(provider.people.get(act.server, ()))
    for number in range(act.count if uids else 0):
        name = f"{number} " + "x" * act.size
        user = User(username=name, status="online")
        provider.change(act.server, uids[number % len(uids)], user)
        if number % act.at_once == 0:
            await asyncio.sleep(0)


def _disorder(phase: Sequence[Act]) -> Disorder:
    health = [act for act in phase if isinstance(act, acts.Turn | acts.Break | acts.End)]
    return Disorder(
        health=len(health),
        reloads=sum(isinstance(act, acts.Reload) for act in phase),
        listings=frozenset(act.server for act in phase if isinstance(act, acts.List)),
        protections=frozenset(act.server for act in phase if isinstance(act, acts.Protect)),
    )

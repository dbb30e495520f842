"""What can happen, and how it is drawn: a setup, and phases of events that are each followed by
a comparison.
"""

from dataclasses import dataclass, fields
from typing import Literal

from hypothesis import strategies as st
from msgspec import UNSET

from d_back_core import User
from promise.oracle import Policy
from promise.providers import State

SERVERS = ("1", "2")
NAMES = ("a", "b", "c")
UIDS = tuple("123456")

PASSWORDS = ("alpha", "beta")
"""Those that clients have, in turn."""

Mode = Literal["fallback", "merge", "enrich"]


class _Shown:
    def __repr__(self) -> str:
        """As it is written in a test: what has its default is left out."""
        values = {
            each.name: getattr(self, each.name)
            for each in fields(self)  # type: ignore[arg-type] # a dataclass in each case
            if getattr(self, each.name) != each.default
        }
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in values.items())})"


@dataclass(frozen=True, repr=False)
class Source(_Shown):
    """A provider at the start."""

    mode: Mode = "fallback"
    streams: bool = True
    state: State = "well"
    login: float = 0
    in_slices: bool = False
    servers: tuple[str, ...] = SERVERS
    first: int = 1
    last: int = 4
    """Its users, where it has any servers: these and those between them."""


@dataclass(frozen=True, repr=False)
class Setup(_Shown):
    sources: tuple[Source, ...]
    clients: tuple[str, ...] = ("1", "1", "1", "2")
    """The server that each client behind a proxy joins; further ones have no proxy."""
    eager: bool = True
    """Whether servers are held before a client joins them."""
    records: bool = False
    """Whether a recorder stores what all sources say."""
    early: "tuple[Act, ...]" = ()
    """What happens while all clients join for the first time."""


@dataclass(frozen=True, repr=False)
class Change(_Shown):
    """A source sets a user."""

    source: int
    server: str
    uid: str
    user: User


@dataclass(frozen=True, repr=False)
class Remove(_Shown):
    source: int
    server: str
    uid: str


@dataclass(frozen=True, repr=False)
class Burst(_Shown):
    """A source changes all its users again and again; so many changes in each turn of the loop."""

    source: int
    server: str
    count: int
    size: int
    at_once: int


@dataclass(frozen=True, repr=False)
class Chat(_Shown):
    source: int
    server: str
    uid: str


@dataclass(frozen=True, repr=False)
class Turn(_Shown):
    source: int
    state: State
    login: float = 0


@dataclass(frozen=True, repr=False)
class Break(_Shown):
    """A stream raises; the source then connects again."""

    source: int


@dataclass(frozen=True, repr=False)
class Recovered(_Shown):
    """A source says that its data is current, whatever became of its stream."""

    source: int


@dataclass(frozen=True, repr=False)
class End(_Shown):
    """A stream returns."""

    source: int


@dataclass(frozen=True, repr=False)
class List(_Shown):
    """A source lists a server, or no longer does."""

    source: int
    server: str
    present: bool


@dataclass(frozen=True, repr=False)
class Protect(_Shown):
    """A source protects a server that it lists, or opens it."""

    source: int
    server: str
    on: bool


@dataclass(frozen=True, repr=False)
class Reload(_Shown):
    order: tuple[int, ...]
    """Sources by their position; those that this setup does not have are left out. One that is
    not among them is stopped; with none of them, the first one stays.
    """
    modes: tuple[Mode, ...]
    policies: tuple[Policy, Policy]


@dataclass(frozen=True, repr=False)
class Stall(_Shown):
    client: int


@dataclass(frozen=True, repr=False)
class GoOn(_Shown):
    client: int


@dataclass(frozen=True, repr=False)
class Cut(_Shown):
    client: int
    after: int
    """Bytes that still reach the client."""


@dataclass(frozen=True, repr=False)
class Switch(_Shown):
    client: int
    server: str


@dataclass(frozen=True, repr=False)
class Pass(_Shown):
    """Time passes, which may be too little for anything to settle."""

    seconds: float


@dataclass(frozen=True, repr=False)
class Loops(_Shown):
    """The event loop goes round."""

    times: int


AtSource = Change | Remove | Burst | Chat | Turn | Break | Recovered | End | List | Protect
Act = AtSource | Reload | Stall | GoOn | Cut | Switch | Pass | Loops
CALM = (Change, Remove, Burst, Chat, Stall, GoOn, Cut, Switch, Loops)
"""What leaves every provider in its place: chat has to arrive then."""


@dataclass(frozen=True, repr=False)
class Program(_Shown):
    setup: Setup
    phases: tuple[tuple[Act, ...], ...] = ()


source = st.integers(0, len(NAMES) - 1)
server = st.sampled_from(["1", "1", "2"])
uid = st.sampled_from(UIDS)
client = st.integers(0, 3)
mode: st.SearchStrategy[Mode] = st.sampled_from(["fallback", "fallback", "merge", "enrich"])
users = st.builds(
    User,
    username=st.sampled_from([UNSET, "Ada", "Bob", "Cy"]),
    status=st.sampled_from([UNSET, "online", "offline", "dnd"]),
    role_color=st.sampled_from([UNSET, "#ff0000", "#00ff00"]),
)
policy = st.builds(
    Policy,
    enabled=st.sampled_from([True, True, True, False]),
    hide_offline=st.booleans(),
    ignore_users=st.sampled_from([(), (), ("1",), ("2", "3")]),
    password=st.sampled_from([None, None, None, *PASSWORDS]),
)
orders = st.builds(
    lambda order, count: tuple(order[:count]),
    st.permutations(range(len(NAMES))),
    st.sampled_from([3, 3, 2, 1]),
)
cuts = st.one_of(st.integers(0, 300), st.integers(0, 20_000), st.integers(115_000, 130_000))
bursts = st.builds(
    Burst, source, server, st.integers(1, 400), st.integers(1, 400), st.integers(1, 50)
)

on_lines: list[st.SearchStrategy[Act]] = [
    bursts,
    bursts,
    st.builds(Change, source, server, uid, users),
    st.builds(Remove, source, server, uid),
    st.builds(Chat, source, server, uid),
    st.builds(Stall, client),
    st.builds(Stall, client),
    st.builds(GoOn, client),
    st.builds(Cut, client, cuts),
    st.builds(Cut, client, cuts),
    st.builds(Switch, client, server),
    st.builds(Loops, st.integers(1, 30)),
]
at_sources: list[st.SearchStrategy[Act]] = [
    st.builds(
        Turn,
        source,
        st.sampled_from(["well", "well", "fails", "hangs", "mute", "none"]),
        st.sampled_from([0, 0, 8]),
    ),
    st.builds(Break, source),
    st.builds(Recovered, source),
    st.builds(End, source),
    st.builds(List, source, server, st.booleans()),
    st.builds(Protect, source, server, st.booleans()),
    st.builds(
        Reload,
        orders,
        st.tuples(mode, mode, mode),
        st.tuples(policy, policy),
    ),
    st.builds(Pass, st.sampled_from([0.1, 0.5, 2, 5])),
]

crowds = st.builds(Source, mode=mode, last=st.sampled_from([4, 40, 40, 200, 1500]))
sources = st.builds(
    Source,
    mode=mode,
    streams=st.sampled_from([True, True, True, False]),
    state=st.sampled_from(["well", "well", "well", "well", "fails", "hangs", "none"]),
    login=st.sampled_from([0, 0, 0, 8]),
    in_slices=st.booleans(),
    servers=st.sampled_from([SERVERS, SERVERS, SERVERS, SERVERS, ("1",), ("2",)]),
    first=st.sampled_from([1, 3]),
    last=st.sampled_from([0, 4, 6, 40]),
)


def programs(
    each: st.SearchStrategy[Source], acts: list[st.SearchStrategy[Act]], most: int
) -> st.SearchStrategy[Program]:
    """Programs with one to three of these sources, in which these things happen."""
    some = st.lists(st.one_of(acts), min_size=2, max_size=most).map(tuple)
    setups = st.builds(
        Setup,
        st.lists(each, min_size=1, max_size=3).map(tuple),
        st.lists(server, min_size=3, max_size=6).map(tuple),
        st.booleans(),
        st.booleans(),
        st.one_of(st.just(()), some),
    )
    return st.builds(Program, setups, st.lists(some, min_size=2, max_size=5).map(tuple))


lines = programs(crowds, on_lines, 16)
"""Connections stall and are cut while sources that are well say much."""
chains = programs(sources, at_sources * 2 + on_lines[2:], 8)
"""Sources fail in every way, and the configuration changes."""

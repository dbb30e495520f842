"""Small programs, one for each way in which a client could keep a wrong value."""

from d_back_core import User
from promise.oracle import Policy
from promise.program import (
    Break,
    Burst,
    Change,
    Chat,
    Cut,
    End,
    GoOn,
    List,
    Loops,
    Mode,
    Pass,
    Program,
    Protect,
    Recovered,
    Reload,
    Remove,
    Setup,
    Source,
    Stall,
    Switch,
    Turn,
)

ADA = User(username="Ada", status="online")
TWO = (Source(), Source(first=3, last=6))
CROWD = Setup((Source(last=40),))
MUCH = Burst(source=0, server="1", count=400, size=400, at_once=10)
LITTLE = Burst(source=0, server="1", count=20, size=10, at_once=5)
FEW = Burst(source=0, server="1", count=15, size=100, at_once=5)
ADA_CHANGES = Change(source=0, server="1", uid="1", user=ADA)
ADA_SPEAKS = Chat(source=0, server="1", uid="1")
FAILS, WELL = Turn(source=0, state="fails"), Turn(source=0, state="well")

LIMITED = (Source(servers=("1",)), Source(servers=("2",)))
TURNED = Reload(
    order=(1, 0, 2),
    modes=("merge", "merge", "merge"),
    policies=(Policy(ignore_users=("1",)), Policy(hide_offline=True)),
)
FALLBACKS: tuple[Mode, ...] = ("fallback", "fallback", "fallback")
ALL = (0, 1, 2)


def password(value: str | None) -> Reload:
    return Reload(ALL, FALLBACKS, (Policy(password=value), Policy()))


PROTECTS = Protect(source=0, server="1", on=True)
OPENS = Protect(source=0, server="1", on=False)

SMALL = {
    "R7 a failover and a return": Program(Setup(TWO), ((FAILS,), (WELL,))),
    "R7 a failover while every call hangs": Program(
        Setup(TWO), ((Turn(source=0, state="hangs"),), (WELL,))
    ),
    "R7 no other provider answers": Program(Setup(TWO[:1]), ((FAILS,), (WELL,))),
    "R2 a provider that cannot say": Program(
        Setup(TWO), ((Turn(source=0, state="none"),), (WELL,))
    ),
    "R10 a log-in without an end": Program(Setup(TWO), ((Turn(source=0, state="mute"),),)),
    "R10 a slow log-in at the start": Program(Setup((Source(login=8), TWO[1]))),
    "R16 a slow log-in after a loss": Program(
        Setup((Source(login=8), TWO[1])), ((Break(source=0),),)
    ),
    "R16 a change while no stream is open": Program(Setup(TWO), ((Break(source=0), ADA_CHANGES),)),
    "R16 a provider that recovers without a stream": Program(
        Setup(TWO),
        ((Break(source=0), Pass(0.1), Recovered(source=0), Pass(0.1), ADA_CHANGES),),
    ),
    "R16 a stream that returns": Program(Setup(TWO), ((End(source=0), ADA_CHANGES),)),
    "R3 two networks": Program(Setup(LIMITED)),
    "R3 two networks, one of them starts slowly": Program(
        Setup((Source(servers=("1",), login=8), LIMITED[1]))
    ),
    "R3 a server that only a failed provider lists": Program(
        Setup((Source(), Source(servers=("2",)))), ((FAILS,), (WELL,))
    ),
    "R3 a server that one of two no longer lists": Program(
        Setup((Source(), Source())), ((List(source=0, server="1", present=False),),)
    ),
    "R3 a server that no provider lists any more": Program(
        Setup(TWO[:1]),
        (
            (List(source=0, server="1", present=False),),
            (List(source=0, server="1", present=True),),
        ),
    ),
    "R3 a server that is disabled and enabled again": Program(
        Setup(TWO),
        (
            (Reload((0, 1, 2), ("fallback",) * 3, (Policy(enabled=False), Policy())),),
            (Reload((0, 1, 2), ("fallback",) * 3, (Policy(), Policy())),),
        ),
    ),
    "R3 a merging provider takes back its part": Program(
        Setup((Source(mode="merge"), TWO[1])),
        ((List(source=0, server="1", present=False),),),
    ),
    "R3 an enriching provider takes back its part": Program(
        Setup((Source(mode="enrich"), Source())),
        ((List(source=0, server="1", present=False),),),
    ),
    "R12 the public id of a provider that starts slowly": Program(
        Setup((Source(login=8), Source(mode="merge")))
    ),
    "R15 a reload while clients join": Program(
        Setup((Source(last=200), Source(last=200)), eager=False, early=(Loops(3), TURNED))
    ),
    **{
        f"R15 a reload during the first fill, {turns} turns on": Program(
            Setup(
                (Source(mode="merge", last=6000), Source(mode="merge", last=6000)),
                clients=("1",),
                eager=False,
                early=(Loops(turns), TURNED),
            )
        )
        for turns in (24, 30, 36)
    },
    "R15 a reload during a failover": Program(Setup(TWO), ((FAILS, Pass(2), TURNED), (WELL,))),
    "R25 a password that is set, changed and removed": Program(
        Setup(TWO),
        ((password("alpha"),), (LITTLE, password("beta"), LITTLE), (password(None), LITTLE)),
    ),
    "R25 a password that is set while clients join": Program(
        Setup(TWO, early=(Loops(3), password("alpha"), Loops(3), password("beta")))
    ),
    "R25 a provider that protects a server": Program(
        Setup(TWO), ((PROTECTS, LITTLE), (password("alpha"),), (OPENS,), (password(None),))
    ),
    "R6 a failover does not open a server": Program(
        Setup(TWO), ((PROTECTS,), (FAILS,), (OPENS,), (WELL,))
    ),
    "R6 a provider that leaves the chain does not open a server": Program(
        Setup(TWO), ((PROTECTS,), (Reload((1,), FALLBACKS, (Policy(), Policy())),))
    ),
    "R17 a provider that a reload removes and adds again": Program(
        Setup(TWO),
        (
            (Reload((1,), FALLBACKS, (Policy(), Policy())),),
            (ADA_CHANGES, Reload((0, 1), FALLBACKS, (Policy(), Policy()))),
            (LITTLE, ADA_SPEAKS),
        ),
    ),
    "R22 a recorder during a failover and a return": Program(
        Setup(TWO, records=True),
        ((LITTLE, Remove(source=0, server="1", uid="2")), (FAILS,), (WELL,)),
    ),
    "R22 a recorder during an outage": Program(
        Setup(TWO[:1], records=True), ((ADA_CHANGES,), (FAILS,), (WELL, LITTLE))
    ),
    "R22 a recorder after another order": Program(
        Setup((Source(mode="merge"), Source(mode="merge")), records=True),
        ((Reload((1, 0), ("merge",) * 3, (Policy(), Policy())),),),
    ),
    "R11 chat in order": Program(
        Setup(TWO), ((ADA_SPEAKS, Chat(source=0, server="1", uid="2"), ADA_SPEAKS),)
    ),
    "R13 users who are offline": Program(
        Setup(TWO),
        (
            (Reload(order=(0, 1), modes=("fallback",) * 3, policies=(Policy(), Policy())),),
            (Remove(source=0, server="1", uid="2"), ADA_CHANGES),
        ),
    ),
    "R26 a client that changes servers": Program(
        Setup(TWO), ((LITTLE, Switch(client=0, server="2"), LITTLE),)
    ),
    "R29 a client that stalls": Program(CROWD, ((Stall(client=0), MUCH), (LITTLE,))),
    "R29 a client that recovers while changes go on": Program(
        CROWD, ((Stall(client=0), MUCH, GoOn(client=0), Loops(3), LITTLE, MUCH, LITTLE),)
    ),
    "R29 a change on its way while a client recovers": Program(
        Setup((Source(last=40),), clients=("1", "2", "1")),
        ((Burst(source=0, server="2", count=120, size=207, at_once=14),),),
    ),
    "R29 all clients stall": Program(
        CROWD,
        (
            (
                *(Stall(client=number) for number in range(4)),
                MUCH,
                *(GoOn(client=number) for number in range(4)),
                MUCH,
                LITTLE,
            ),
        ),
    ),
    "R29 a removal while a client stalls": Program(
        CROWD, ((Stall(client=0), MUCH, Remove(source=0, server="1", uid="7")),)
    ),
    "R48 a cut and a resume": Program(CROWD, ((Cut(client=0, after=0), LITTLE, ADA_SPEAKS),)),
    **{
        f"R48 a cut within a resync, {after} bytes on": Program(
            CROWD, ((Stall(client=0), MUCH, Cut(client=0, after=after)),)
        )
        for after in (12_000, 16_000, 20_000)
    },
    "R48 a cut after a join, before what changed since": Program(
        # More users than the gateway encodes in one go: their list is a little old.
        Setup((Source(last=2500),), clients=("2", "1", "1")),
        ((FEW, Loops(30), Cut(client=0, after=200_500), Switch(client=0, server="1")),),
    ),
}
"""By the rule and what happens."""

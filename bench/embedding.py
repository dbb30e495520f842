"""Awaited broadcasts of an embedding program: deliveries per second of the server's CPU.

    python -m bench.embedding

The same program for d-back 0.0.18 runs on 0.0.18 and on d-back-compat: it awaits 1,000
``broadcast_presence`` in a loop, for 200 clients. Servers take turns; only the ratio means
something.
"""

import sys
from statistics import median

from bench.contestants import OLD, Contestant, prepare
from bench.turn import started

COMPAT = Contestant("d-back-compat", [sys.executable, "-m", "bench.peers.d_back_0018"])
CLIENTS = 200
BROADCASTS = 1_000
ROUNDS = 3
CPU_SECONDS = 1.0
"""Of one turn, at least."""
TIMEOUT = 120.0


def measure(number: int, contestant: Contestant) -> float:
    """Return the deliveries per second of CPU of one turn."""
    with started("embedding", (number, contestant, True), users=BROADCASTS) as turn:
        turn.join(CLIENTS)
        deliveries = BROADCASTS * len(turn.crowd)
        turn.server.burst(BROADCASTS)  # a first one, to warm up
        turn.crowd.expect(deliveries, TIMEOUT)
        begin = cpu = turn.server.rested_cpu_ns()
        loops = 0
        while cpu - begin < CPU_SECONDS * 1e9:
            turn.server.burst(BROADCASTS)
            turn.crowd.expect(deliveries, TIMEOUT)
            cpu = turn.server.rested_cpu_ns()
            loops += 1
        return loops * deliveries / ((cpu - begin) / 1e9)


def main() -> None:
    """Print the rates of every round, and the median of their ratios."""
    contestants, notes = prepare([OLD])
    if notes:
        sys.exit("\n".join(notes))
    ratios = []
    for number in range(ROUNDS):
        old, new = (measure(number, each) for each in (*contestants, COMPAT))
        ratios.append(new / old)
        print(f"{OLD}: {old:,.0f}/s; {COMPAT.name}: {new:,.0f}/s; ratio {new / old:.0f}")  # noqa: T201
    print(f"ratio, median of {ROUNDS} rounds: {median(ratios):.0f}")  # noqa: T201


if __name__ == "__main__":
    main()

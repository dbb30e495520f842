"""Whether a delivery costs the same among many clients, and among many servers."""

from collections.abc import Iterator

from bench.contestants import FLOOR
from bench.plan import Run, Sample
from bench.turn import Turn, failing_alone, started

CLIENTS = "growth of clients"
SERVERS = "growth of servers"
LONE, BURSTS = "lone µs, {} clients", "burst µs, {} clients"
EACH = "µs, {} servers"
"""Microseconds of the server's CPU for a delivery."""
TIMEOUT = 120.0
JOIN_TIMEOUT = 400.0
"""Every client is sent the list of all servers first: 10,000 times 10,000 lines."""
BURST = 100
SPREAD = 10
"""Events at once, each for another server."""
FEW_USERS = 10


def measure_clients(run: Run) -> Iterator[Sample]:
    """One server with few and with many clients: lone events, and bursts. The floor shows what
    of it is the kernel's."""
    scale = run.scale
    floor = [each for each in run.contestants if each.name == FLOOR]
    for turn in run.turns([*run.ours(), *floor], scale.growth_rounds, scale.columns[:1]):
        for clients in scale.growth_clients:
            with failing_alone(run, CLIENTS, turn), started(CLIENTS, turn) as each:
                each.join(clients)
                per = _cost(each, 1, clients, scale.growth_deliveries)
                yield each.sample(LONE.format(clients), per)
                per = _cost(each, BURST, clients, scale.growth_deliveries * 10)
                yield each.sample(BURSTS.format(clients), per)


def measure_servers(run: Run) -> Iterator[Sample]:
    """Few and many servers with one client each: an event for each of ten servers at a time,
    after each has had one."""
    scale = run.scale
    for turn in run.turns(run.ours(), scale.growth_rounds, scale.columns[:1]):
        for servers in scale.growth_servers:
            with (
                failing_alone(run, SERVERS, turn),
                started(SERVERS, turn, users=FEW_USERS, servers=servers) as each,
            ):
                each.crowd.join([f"s{number}" for number in range(servers)], JOIN_TIMEOUT)
                each.crowd.settle()
                for _ in range(servers // SPREAD):  # the first change of each is a cold one
                    each.server.burst(SPREAD)
                    each.crowd.expect(SPREAD, TIMEOUT)
                per = _cost(each, SPREAD, 1, max(servers, scale.growth_deliveries // 10))
                yield each.sample(EACH.format(servers), per)


def _cost(turn: Turn, burst: int, audience: int, deliveries: int) -> float:
    """Microseconds of the server's CPU for a delivery: at least so many are made, in bursts that
    ``audience`` clients receive."""
    turn.server.burst(burst)  # to warm up
    turn.crowd.expect(burst * audience, TIMEOUT)
    bursts = max(3, deliveries // (burst * audience))
    begin = turn.server.rested_cpu_ns()
    for _ in range(bursts):
        turn.server.burst(burst)
        turn.crowd.expect(burst * audience, TIMEOUT)
    cpu = turn.server.rested_cpu_ns() - begin
    return cpu / (bursts * burst * audience) / 1000

"""One server's turn: from its start to its end, and what a failure of it means."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.contestants import Contestant
from bench.crowd import Crowd
from bench.errors import BenchError
from bench.plan import Run, Sample
from bench.process import ServerProcess

USERS = 1_000
"""Of the server that is watched, where nothing else is said."""
JOIN_TIMEOUT = 120.0


@dataclass(frozen=True)
class Turn:
    """A running server, and the clients that watch it."""

    scenario: str
    round: int
    contestant: Contestant
    deflate: bool
    server: ServerProcess
    crowd: Crowd

    def join(self, count: int) -> None:
        """Let so many clients join the first server, and wait until all is quiet."""
        self.crowd.join(["s0"] * count, JOIN_TIMEOUT)
        self.crowd.settle()

    def sample(self, metric: str, value: float) -> Sample:
        """A number of this turn."""
        return Sample(
            scenario=self.scenario,
            server=self.contestant.name,
            deflate=self.deflate,
            round=self.round,
            metric=metric,
            value=value,
        )


@contextmanager
def started(
    scenario: str,
    turn: tuple[int, Contestant, bool],
    *,
    users: int = USERS,
    servers: int = 1,
) -> Iterator[Turn]:
    """Start a server for its turn, and stop it afterwards."""
    number, contestant, deflate = turn
    with (
        ServerProcess(contestant.command, users=users, servers=servers) as server,
        Crowd(server.port, deflate=deflate) as crowd,
    ):
        try:
            yield Turn(scenario, number, contestant, deflate, server, crowd)
        except BenchError as error:
            raise BenchError(f"{error} (the server: {server.last_words()})") from error


@contextmanager
def failing_alone(run: Run, scenario: str, turn: tuple[int, Contestant, bool]) -> Iterator[None]:
    """Note what fails within, and go on with the others."""
    number, contestant, deflate = turn
    try:
        yield
    except (BenchError, OSError) as error:
        offered = "deflate" if deflate else "plain"
        run.notes.append(f"{scenario}: {contestant.name} ({offered}), round {number + 1}: {error}")

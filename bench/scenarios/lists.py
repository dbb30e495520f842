"""The users of a large server over HTTP: what an answer costs from the cached snapshot, and what
one costs that needs a new snapshot."""

import http.client
from collections.abc import Iterator

from bench.errors import BenchError
from bench.plan import Run, Sample, Scale
from bench.turn import Turn, failing_alone, started

NAME = "lists"
PATH = "/api/servers/s0"
CACHED, COMPRESSED = "CPU ms/list", "CPU ms/list, gzip"
KNOWN = "CPU ms/list, same ETag"
CHANGED = "CPU ms/list after a change"
"""All users are encoded and compressed again."""
TIMEOUT = 60.0


def measure(run: Run) -> Iterator[Sample]:
    """Our gateway in turn; clients that offer deflate are not part of it."""
    turns = run.turns(run.ours(), min(3, run.scale.rounds), run.scale.columns[:1])
    for turn in turns:
        users = run.scale.join_users
        with failing_alone(run, NAME, turn), started(NAME, turn, users=users) as each:
            yield from _one(run.scale, each)


def _one(scale: Scale, turn: Turn) -> Iterator[Sample]:
    turn.join(1)  # the server stays in memory as long as a client has joined it
    etag = _get(turn, 200)
    _get(turn, 200, {"Accept-Encoding": "gzip"})
    yield turn.sample(CACHED, _cost(turn, scale.lists, 200))
    yield turn.sample(COMPRESSED, _cost(turn, scale.lists, 200, {"Accept-Encoding": "gzip"}))
    yield turn.sample(KNOWN, _cost(turn, scale.lists, 304, {"If-None-Match": etag}))
    used = 0
    for _ in range(scale.changed_lists):
        turn.server.lone()
        turn.crowd.expect(1, TIMEOUT)
        before = turn.server.rested_cpu_ns()
        _get(turn, 200, {"If-None-Match": etag})
        used += turn.server.rested_cpu_ns() - before
    yield turn.sample(CHANGED, used / scale.changed_lists / 1e6)


def _cost(turn: Turn, requests: int, status: int, headers: dict[str, str] | None = None) -> float:
    """Return the milliseconds of the server's CPU for one request."""
    before = turn.server.rested_cpu_ns()
    for _ in range(requests):
        _get(turn, status, headers)
    return (turn.server.rested_cpu_ns() - before) / requests / 1e6


def _get(turn: Turn, status: int, headers: dict[str, str] | None = None) -> str:
    """Request the list on a new connection, read all of it, and return its entity tag."""
    connection = http.client.HTTPConnection("127.0.0.1", turn.server.port, timeout=TIMEOUT)
    try:
        connection.request("GET", PATH, headers=headers or {})
        response = connection.getresponse()
        response.read()
    except http.client.HTTPException as error:
        raise BenchError(f"{PATH}: {error!r}") from error
    finally:
        connection.close()
    if response.status != status:
        raise BenchError(f"{PATH}: status {response.status}, expected {status}")
    return response.headers["ETag"]

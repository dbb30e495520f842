import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from d_back_core import Server
from d_back_mock import MockProvider
from d_back_mock.community import SLICE

Begin = Callable[..., Awaitable[MockProvider]]

FIRST = "100000000000000000"


async def test_replaces_the_demo(begin: Begin) -> None:
    """With `users` there is one synthetic server of that many users, the default, and no demo."""
    provider = await begin(users=50)
    server = Server(name="Crowd 1", id="crowd-1", default=True, passworded=False)
    assert await provider.servers() == {FIRST: server}
    assert len(await provider.users(FIRST) or {}) == 50


async def test_server_count(begin: Begin) -> None:
    """`server_count` servers are there, with ids of their own, and only the first is default."""
    provider = await begin(users=1, server_count=10_000)
    servers = await provider.servers() or {}
    assert len(servers) == 10_000
    assert len({server.id for server in servers.values()}) == 10_000
    assert [server_id for server_id in servers if servers[server_id].default] == [FIRST]


async def test_nobody_is_shared(begin: Begin) -> None:
    """Full servers next to each other have no uid in common."""
    provider = await begin(users=100_000, server_count=2)
    first, second = [await provider.users(server_id) or {} for server_id in await ids(provider)]
    assert len(first.keys() | second.keys()) == 200_000


async def test_names_are_unique(begin: Begin) -> None:
    """No two users of a synthetic server have the same name."""
    provider = await begin(users=5000)
    users = await provider.users(FIRST) or {}
    assert len({user.username for user in users.values()}) == 5000


@pytest.mark.long
async def test_statuses_are_realistic(begin: Begin) -> None:
    """A crowd is in all four statuses, most of it online and few not to be disturbed."""
    provider = await begin(users=10_000, seed=1)
    statuses = [user.status for user in (await provider.users(FIRST) or {}).values()]
    counts = {status: statuses.count(status) for status in statuses}
    assert sorted(counts, key=counts.__getitem__) == ["dnd", "offline", "idle", "online"]
    assert 3000 < counts["online"] < 6000
    assert counts["dnd"] > 500


async def test_neighbours_are_unrelated(begin: Begin) -> None:
    """Already a small crowd has most colours, and no status comes in a pattern."""
    provider = await begin(users=100, seed=1)
    users = list((await provider.users(FIRST) or {}).values())
    assert len({user.role_color for user in users}) > 8
    assert len({(one.status, next_one.status) for one, next_one in pairwise(users)}) > 12


async def test_same_seed_same_users(begin: Begin) -> None:
    """Two providers with the same seed invent the same users in every server."""
    one, other = (
        await begin(users=100, server_count=3, seed=7),
        await begin(users=100, server_count=3, seed=7),
    )
    for server_id in await ids(one):
        assert await one.users(server_id) == await other.users(server_id)


async def test_other_seed_other_users(begin: Begin) -> None:
    """Another seed invents other users, also where it differs in its sign only."""
    one, other = await begin(users=100, seed=7), await begin(users=100, seed=-7)
    assert await one.users(FIRST) != await other.users(FIRST)


async def test_servers_differ(begin: Begin) -> None:
    """Two servers of one run are not copies of each other."""
    provider = await begin(users=100, server_count=2, seed=7)
    first, second = [await provider.users(server_id) or {} for server_id in await ids(provider)]
    assert list(first.values()) != list(second.values())


async def test_takes_turns(begin: Begin) -> None:
    """While a large server is made, the event loop gets its turn after each slice."""
    provider = await begin(users=20 * SLICE)
    asked = asyncio.create_task(provider.users(FIRST))
    turns = 0
    while not asked.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 20


async def ids(provider: MockProvider) -> list[str]:
    return list(await provider.servers() or {})

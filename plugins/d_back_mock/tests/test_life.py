"""What happens in a community."""

from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from msgspec import structs

from d_back_core import Message, User, UserChanged
from d_back_mock import MockProvider

Begin = Callable[..., Awaitable[MockProvider]]
Listen = Callable[[MockProvider, float], Awaitable[list[UserChanged | Message]]]

ALONE = ("482241773318701056", "123456789012345678")
REPOS = "987654321098765432"
HOUR = 3600.0


async def users_of(provider: MockProvider) -> dict[str, dict[str, User]]:
    servers = await provider.servers() or {}
    return {server_id: await provider.users(server_id) or {} for server_id in servers}


async def test_changes_are_real(begin: Begin, listen: Listen) -> None:
    """Every change of a user's status is to another status, and says nothing else."""
    provider = await begin(seed=1)
    statuses = {
        (server_id, uid): user.status
        for server_id, users in (await users_of(provider)).items()
        for uid, user in users.items()
    }
    for event in await listen(provider, HOUR):
        if isinstance(event, UserChanged):
            key = event.server_id, event.uid
            assert event.status != statuses[key]
            assert event == UserChanged(
                server_id=event.server_id, uid=event.uid, status=event.status
            )
            statuses[key] = event.status


async def test_everybody_changes(begin: Begin, listen: Listen) -> None:
    """All members of a server, and all statuses, have their turn."""
    provider = await begin(seed=1, message_interval=0.0)
    heard = await listen(provider, HOUR)
    changes = [
        event for event in heard if isinstance(event, UserChanged) and event.server_id == REPOS
    ]
    assert {change.uid for change in changes} == set(await provider.users(REPOS) or {})
    assert {change.status for change in changes} == {"online", "idle", "dnd", "offline"}


async def test_somebody_is_online(begin: Begin, listen: Listen) -> None:
    """With several members, one is online at every moment."""
    provider = await begin(seed=1, users=2, server_count=20, message_interval=0.0)
    for _ in range(500):
        await listen(provider, 1)
        for users in (await users_of(provider)).values():
            assert "online" in {user.status for user in users.values()}


@pytest.mark.parametrize("server_id", ALONE)
async def test_nobody_leaves_alone(begin: Begin, listen: Listen, server_id: str) -> None:
    """The only member of a server goes away from the keyboard, but never offline."""
    assert {
        event.status
        for event in await listen(await begin(seed=1), HOUR)
        if isinstance(event, UserChanged) and event.server_id == server_id
    } == {"online", "idle", "dnd"}


async def test_users_agree(begin: Begin, listen: Listen) -> None:
    """At any moment the users are those of the beginning with all events so far applied."""
    provider = await begin(seed=1)
    folded = await users_of(provider)
    for _ in range(100):
        for event in await listen(provider, 7):
            if isinstance(event, UserChanged):
                users = folded[event.server_id]
                users[event.uid] = structs.replace(users[event.uid], status=event.status)
        assert await users_of(provider) == folded


async def test_crowds_agree(begin: Begin, listen: Listen) -> None:
    """Users that are made only when they are asked for have their changes in them."""
    provider = await begin(seed=1, users=30, message_interval=0.0)
    (server_id,) = await provider.servers() or {}
    last: dict[str, object] = {}
    for event in await listen(provider, HOUR):
        assert isinstance(event, UserChanged)
        last[event.uid] = event.status
    users = await provider.users(server_id) or {}
    assert {uid: user.status for uid, user in users.items()} == last


async def test_answers_are_snapshots(begin: Begin, listen: Listen) -> None:
    """What was answered is the asker's: later changes do not reach into it."""
    provider = await begin(seed=1)
    before = await users_of(provider)
    copied = {server_id: dict(users) for server_id, users in before.items()}
    await listen(provider, 60)
    assert before == copied


async def test_channel(begin: Begin, listen: Listen) -> None:
    """All is said in the one channel that d-back 0.0.x had, under its id and a name."""
    heard = await listen(await begin(presence_interval=0.0), 60)
    assert {
        (event.channel, event.channel_name) for event in heard if isinstance(event, Message)
    } == {("527964146659229701", "general")}


async def test_authors_are_there(begin: Begin, listen: Listen) -> None:
    """No member speaks while offline."""
    provider = await begin(seed=1)
    statuses = {uid: user.status for uid, user in (await provider.users(REPOS) or {}).items()}
    for event in await listen(provider, HOUR):
        if event.server_id != REPOS:
            continue
        if isinstance(event, UserChanged):
            statuses[event.uid] = event.status
        else:
            assert statuses[event.uid] != "offline"


async def test_chat_varies(begin: Begin, listen: Listen) -> None:
    """Within an hour a server hears many lines, and none twice in a row."""
    lines = [
        event.message
        for event in await listen(await begin(seed=1), HOUR)
        if isinstance(event, Message) and event.server_id == REPOS
    ]
    assert len(set(lines)) > 50
    assert all(line != after for line, after in pairwise(lines))

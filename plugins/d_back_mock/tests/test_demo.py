import re
from collections.abc import Awaitable, Callable

import pytest
from msgspec import structs

from d_back_core import UNSET, Context, Server, User
from d_back_mock import MockConfig, MockProvider
from d_back_mock.chat import LINES

Begin = Callable[..., Awaitable[MockProvider]]

DWORLD = "232769614004748288"
DOCS = "482241773318701056"
OAUTH = "123456789012345678"
REPOS = "987654321098765432"


async def test_servers(begin: Begin) -> None:
    """The demo has the four servers of d-back 0.0.x, one default and one protected."""
    provider = await begin()
    assert await provider.servers() == {
        DWORLD: Server(name="D-World", id="dworld", default=True, passworded=False),
        DOCS: Server(name="Docs (WIP)", id="docs", default=False, passworded=False),
        OAUTH: Server(name="OAuth2 Protected Server", id="oauth", default=False, passworded=True),
        REPOS: Server(name="My Repos", id="repos", default=False, passworded=False),
    }


@pytest.mark.parametrize(
    ("server_id", "count", "first_uid", "last_uid"),
    [
        (DWORLD, 4, "123456789012345001", "123456789012345004"),
        (DOCS, 1, "223456789012345001", "223456789012345001"),
        (OAUTH, 1, "323456789012345001", "323456789012345001"),
        (REPOS, 21, "423456789012345001", "423456789012345021"),
    ],
)
async def test_uids(
    begin: Begin, server_id: str, count: int, first_uid: str, last_uid: str
) -> None:
    """Each demo server has the users of d-back 0.0.x, under the same uids."""
    provider = await begin()
    users = await provider.users(server_id) or {}
    assert list(users) == [str(uid) for uid in range(int(first_uid), int(last_uid) + 1)]
    assert len(users) == count


async def test_users(begin: Begin) -> None:
    """Users have the names, statuses and colours that they had in d-back 0.0.x; some have an
    activity."""
    provider = await begin()
    users = await provider.users(DWORLD) or {}
    extra = [user.extra for user in users.values()]
    assert extra == [
        {"activity": "watching the cubes"},
        {"activity": "oiling the cogs"},
        UNSET,
        {"activity": "coding d-back"},
    ]
    assert {uid: structs.replace(user, extra=UNSET) for uid, user in users.items()} == {
        "123456789012345001": User(username="vegeta897", status="online", role_color="#ff6b6b"),
        "123456789012345002": User(username="Cog-Creators", status="idle", role_color="#4ecdc4"),
        "123456789012345003": User(username="d-zone-org", status="dnd", role_color="#45b7d1"),
        "123456789012345004": User(username="NNTin", status="online", role_color="#96ceb4"),
    }


@pytest.mark.parametrize("server_id", [DWORLD, DOCS, OAUTH, REPOS])
async def test_records_are_complete(begin: Begin, server_id: str) -> None:
    """Every demo user has a name, a status and a colour that the core takes."""
    provider = await begin()
    for user in (await provider.users(server_id) or {}).values():
        assert isinstance(user.username, str)
        assert user.username.strip()
        assert user.status in {"online", "idle", "dnd", "offline"}
        assert re.fullmatch(r"#[0-9a-f]{6}", str(user.role_color))


async def test_unknown_server(begin: Begin) -> None:
    """A server of another provider is left to that provider."""
    provider = await begin()
    assert await provider.users("1") is None


async def test_not_started(context: Context) -> None:
    """A provider that is not started, or stopped again, cannot say anything."""
    provider = MockProvider(MockConfig())
    assert (await provider.servers(), await provider.users(DWORLD)) == (None, None)
    await provider.start(context)
    await provider.stop()
    assert (await provider.servers(), await provider.users(DWORLD)) == (None, None)


def test_lines_are_varied() -> None:
    """There is enough to say, no line twice, none blank, and some with an emoji."""
    assert len(LINES) >= 50
    assert len(set(LINES)) == len(LINES)
    assert all(line == line.strip() and line for line in LINES)
    assert any(not line.isascii() for line in LINES)

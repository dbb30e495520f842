"""Who may join a protected guild by an OAuth2 token."""

import asyncio
import logging
from typing import Any

import discord_payloads as say
import pytest
from discord_core import Begin, Core, until
from discord_loopback import Loopback, failing, limited, silent
from discord_worlds import ADA, BLUE, RED, club, update

from d_back_core import AccessRevoked, Credentials, Grant
from d_back_discord.oauth import MAX_REFUSED

TOKEN = "person.oauth.token"
ADDRESS = "192.0.2.1"


def credentials(number: int | None = 1, token: str = TOKEN) -> Credentials:
    claimed = None if number is None else {"id": say.uid(number), "username": "ada"}
    return Credentials(discord_token=token, discord_user=claimed)


@pytest.fixture
def served(begin: Begin, loopback: Loopback) -> Any:  # noqa: ANN401  a function
    """The club, whole; Ada has a token."""

    async def served(**options: Any) -> Core:  # noqa: ANN401
        loopback.guilds = [club()]
        loopback.people[TOKEN] = say.uid(1), say.APPLICATION_ID
        core = await begin(**options)
        await core.whole()
        return core

    return served


async def asked(core: Core, offered: Credentials | None = None) -> bool | None:
    answer = await core.provider.authorize(say.GUILD_ID, offered or credentials())
    if isinstance(answer, Grant):
        assert answer.person == say.uid(1)
        return True
    return answer


def questions(loopback: Loopback) -> list[str]:
    return [path for _, path, bearer in loopback.requests if bearer.startswith("Bearer")]


async def test_member(served: Any, loopback: Loopback) -> None:  # noqa: ANN401
    """A member with a token of our application comes in; both were asked of Discord."""
    assert await asked(await served()) is True
    assert questions(loopback) == ["/oauth2/@me", "/users/@me"]


async def test_other_application(served: Any, loopback: Loopback) -> None:  # noqa: ANN401
    """A token that was issued to another application is refused, whichever user it belongs to."""
    loopback.people["phished"] = say.uid(1), "990000000000000009"
    assert await asked(await served(), credentials(token="phished")) is False


@pytest.mark.parametrize("claimed", [2, 404])
async def test_another_person(served: Any, claimed: int) -> None:  # noqa: ANN401
    """The token must be of the user who is claimed."""
    assert await asked(await served(), credentials(claimed)) is False


async def test_an_empty_claim(served: Any) -> None:  # noqa: ANN401
    """A claim without an id is not that of the owner of the token."""
    empty = Credentials(discord_token=TOKEN, discord_user={})
    assert await asked(await served(), empty) is False


async def test_no_claim(served: Any) -> None:  # noqa: ANN401
    """A token alone, as over HTTP, speaks for its owner."""
    assert await asked(await served(), credentials(None)) is True


async def test_no_member(served: Any, loopback: Loopback) -> None:  # noqa: ANN401
    """Who is no member of that guild does not come in."""
    loopback.people["stranger"] = say.uid(404), say.APPLICATION_ID
    assert await asked(await served(), credentials(404, "stranger")) is False


@pytest.mark.parametrize("named", ["red", RED])
async def test_required_role(served: Any, loopback: Loopback, named: str) -> None:  # noqa: ANN401
    """With ``require_role`` a member must hold the role."""
    loopback.people["bob"] = say.uid(2), say.APPLICATION_ID
    core = await served(require_role=named)
    assert await asked(core) is True
    assert await asked(core, credentials(2, "bob")) is False


async def test_role_lost(served: Any) -> None:  # noqa: ANN401
    """Membership and role are those of the moment, also while the token's owner is kept."""
    core = await served(require_role="red")
    assert await asked(core) is True
    gone = {"guild_id": say.GUILD_ID, "role_id": RED}
    await core.happen("GUILD_ROLE_DELETE", gone)
    await core.heard()
    assert await asked(core) is False
    assert BLUE != RED


async def test_no_token(served: Any, loopback: Loopback) -> None:  # noqa: ANN401
    """Without a token, or for a server of another provider, another provider may decide."""
    core = await served()
    assert await asked(core, Credentials(password="x")) is None
    assert await core.provider.authorize("404", credentials()) is None
    assert questions(loopback) == []


async def test_kept(served: Any, loopback: Loopback) -> None:  # noqa: ANN401
    """An answer of Discord is good for minutes, then it is asked again."""
    core = await served()
    assert [await asked(core) for _ in range(3)] == [True, True, True]
    assert len(questions(loopback)) == 2
    await core.clock.advance(301)
    del loopback.people[TOKEN]
    assert await asked(core) is False
    assert len(questions(loopback)) == 3


async def test_refusal_is_kept(served: Any, loopback: Loopback) -> None:  # noqa: ANN401
    """So is a refusal: a wrong token is not asked about again and again."""
    core = await served()
    for _ in range(3):
        assert await asked(core, credentials(token="wrong")) is False
    assert len(questions(loopback)) == 1


async def test_many_refusals(served: Any, loopback: Loopback) -> None:  # noqa: ANN401
    """A client that tries tokens without end does not get the bot's address banned: Discord is
    left alone for a while."""
    core = await served()
    for number in range(MAX_REFUSED + 5):
        assert await asked(core, credentials(token=f"wrong-{number}")) is False
    assert len(questions(loopback)) == MAX_REFUSED
    assert await asked(core) is False
    await core.clock.advance(301)
    assert await asked(core) is True


async def test_timeout(
    served: Any,  # noqa: ANN401
    loopback: Loopback,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No answer in time is a refusal with a clear line, and is not kept."""
    core, waited_for = await served(), asyncio.Event()
    loopback.answers["/oauth2/@me"] = [silent(waited_for)]
    answer = asyncio.ensure_future(asked(core))
    await waited_for.wait()
    await core.clock.advance(4)
    assert await answer is False
    assert "a login is refused: Discord did not answer within 4 s" in caplog.text
    assert await asked(core) is True


async def test_rate_limit(
    served: Any,  # noqa: ANN401
    loopback: Loopback,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A rate limit is a refusal with a clear line, and Discord is left alone until it is over."""
    core = await served()
    loopback.answers["/oauth2/@me"] = [limited(20)]
    assert await asked(core) is False
    assert "a login is refused: Discord limits the requests" in caplog.text
    assert await asked(core) is False
    assert len(questions(loopback)) == 1
    await core.clock.advance(20)
    assert await asked(core) is True


@pytest.mark.parametrize("path", ["/oauth2/@me", "/users/@me"])
@pytest.mark.parametrize("status", [403, 500, 503])
async def test_failure(served: Any, loopback: Loopback, path: str, status: int) -> None:  # noqa: ANN401
    """Whatever is no clear yes is a no, for that moment."""
    core = await served()
    loopback.answers[path] = [failing(status)]
    assert await asked(core) is False
    assert await asked(core) is True


@pytest.mark.parametrize("token", ["", " ", "a b", "a\r\nX: y", "ä", "x" * 600])
async def test_impossible_token(served: Any, loopback: Loopback, token: str) -> None:  # noqa: ANN401
    """What cannot be a token is not even sent."""
    core = await served()
    assert await asked(core, credentials(token=token)) is False
    assert questions(loopback) == []


async def test_token_is_not_kept(
    served: Any,  # noqa: ANN401
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The token is in no log line and in nothing that the provider holds."""
    caplog.set_level(logging.DEBUG)
    core = await served()
    assert await asked(core, credentials(2)) is False
    assert TOKEN not in caplog.text
    held = core.provider._run._authorization  # noqa: SLF001
    assert TOKEN not in repr(held._kept)  # noqa: SLF001


async def test_unavailable_guild(served: Any) -> None:  # noqa: ANN401
    """A member stays one while Discord says that the guild is unavailable."""
    core = await served()
    await core.happen("GUILD_DELETE", {"id": say.GUILD_ID, "unavailable": True})
    assert await asked(core) is True


async def test_r25_leaves(served: Any) -> None:  # noqa: ANN401
    """R25 The access of a member who leaves ends, and only of one who was let in."""
    core = await served()
    assert await asked(core)
    for number in (2, 1, 1):
        user = say.user(say.uid(number), "x")
        await core.happen("GUILD_MEMBER_REMOVE", {"guild_id": say.GUILD_ID, "user": user})
    events = [each for each in await core.heard() if isinstance(each, AccessRevoked)]
    assert events == [AccessRevoked(server_id=say.GUILD_ID, person=say.uid(1))]
    assert await core.provider.reauthorize(say.GUILD_ID, say.uid(1)) is False
    assert await asked(core) is False


async def test_r25_banned(served: Any) -> None:  # noqa: ANN401
    """R25 A ban ends the access at once, if Discord tells of it."""
    core = await served()
    assert await asked(core)
    user = say.user(say.uid(1), "ada")
    await core.happen("GUILD_BAN_ADD", {"guild_id": say.GUILD_ID, "user": user})
    assert await core.heard() == [AccessRevoked(server_id=say.GUILD_ID, person=say.uid(1))]


@pytest.mark.parametrize("how", ["taken", "deleted", "renamed"])
async def test_r25_role_lost(served: Any, how: str) -> None:  # noqa: ANN401
    """R25 So does the loss of the role that is needed: taken, deleted or renamed."""
    core = await served(require_role="red")
    assert await asked(core)
    assert await core.provider.reauthorize(say.GUILD_ID, say.uid(1)) is True
    role = say.role(RED, "crimson", color=0xFF0000, position=3)
    of_guild = {"guild_id": say.GUILD_ID}
    match how:
        case "taken":
            await core.happen("GUILD_MEMBER_UPDATE", update(ADA, roles=[BLUE]))
        case "deleted":
            await core.happen("GUILD_ROLE_DELETE", of_guild | {"role_id": RED})
        case "renamed":
            await core.happen("GUILD_ROLE_UPDATE", of_guild | {"role": role})
    revoked = AccessRevoked(server_id=say.GUILD_ID, person=say.uid(1))
    assert revoked in await core.heard()
    assert await core.provider.reauthorize(say.GUILD_ID, say.uid(1)) is False


async def test_r25_members_unknown(served: Any) -> None:  # noqa: ANN401
    """R25 While the guild is unavailable, the access is neither confirmed nor ended."""
    core = await served()
    await core.happen("GUILD_DELETE", {"id": say.GUILD_ID, "unavailable": True})
    await until(lambda: core.events)
    assert await core.provider.reauthorize(say.GUILD_ID, say.uid(1)) is None

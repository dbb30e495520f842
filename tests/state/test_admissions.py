"""When the access of a person ends whom a provider has let in by a grant (R25)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession
from peers import until

from d_back_core import AccessRevoked, Grant, Message, Server, User, hookimpl
from d_back_core.client import Error
from d_back_core.errors import JoinError
from d_back_testing import ScriptedProvider, served
from d_back_testing.manual_client import ManualClient
from d_back_testing.running_gateway import RunningGateway, configured

VAULT = {"1": Server(name="Vault", passworded=True)}
USERS = {"1": {"7": User(username="Ada", status="online")}}
GRANT = Grant(person="5")
CHAT = Message(server_id="1", uid="7", message="hello", channel="c")
REVOKED = AccessRevoked(server_id="1", person="5")


def granting(grant: Grant = GRANT) -> ScriptedProvider:
    """A provider that lets everyone into its protected server, by that grant."""
    provider = ScriptedProvider(VAULT, USERS)
    provider.authorize_answer = grant
    return provider


@asynccontextmanager
async def joined(
    provider: object, tables: dict[str, Any] | None = None
) -> AsyncIterator[tuple[RunningGateway, ManualClient]]:
    """A gateway for that provider, and a client that it has let in."""
    async with served({"a": provider}, tables=tables) as gateway:
        yield gateway, await gateway.connect_and_join()


async def codes(client: ManualClient) -> list[str]:
    """The codes of the errors among the new frames."""
    return [each.data.code for each in await client.new_frames() if isinstance(each, Error)]


async def test_r25_a_revoked_person_hears_no_more_and_stays_connected() -> None:
    """The session gets one error and no later frame, and may join again when it is let in."""
    provider = granting()
    async with joined(provider) as (gateway, client):
        provider.emit(CHAT, REVOKED, CHAT)
        await gateway.settle()
        assert await codes(client) == ["unauthorized"]
        provider.emit(CHAT)
        await gateway.settle()
        assert await client.new_frames() == []
        await client.join("1")


@pytest.mark.parametrize(
    "event",
    [
        AccessRevoked(server_id="1", person="6"),
        AccessRevoked(server_id="2", person="5"),
        AccessRevoked(server_id="1", person=""),
        AccessRevoked(server_id="1", person=5),  # type: ignore[arg-type]
    ],
)
async def test_r25_a_revocation_ends_the_access_of_that_person_only(event: AccessRevoked) -> None:
    """Another person, another server and an invalid id end nothing."""
    provider = granting()
    async with joined(provider) as (gateway, client):
        provider.emit(event)
        await gateway.settle()
        assert await client.new_frames() == []


async def test_r25_a_revocation_concerns_the_grants_of_its_own_provider() -> None:
    """The same id is another person for another provider."""
    above, below = ScriptedProvider(VAULT, USERS), granting()
    below.servers_answer, below.users_answers = {}, {"1": {}}
    tables = {"b": {"mode": "merge"}}
    async with served({"a": above, "b": below}, tables=tables) as gateway:
        client = await gateway.connect_and_join()
        above.emit(REVOKED)
        await gateway.settle()
        assert await client.new_frames() == []
        below.emit(REVOKED)
        await gateway.settle()
        assert await codes(client) == ["unauthorized"]


@pytest.mark.parametrize("count", [1, 1001])
async def test_r25_a_join_under_way_is_refused(count: int) -> None:
    """A revocation while the provider decides counts, also if it is not the last one."""
    provider = granting()
    async with served({"a": provider}) as gateway:
        client = await gateway.connect()
        provider.hold("authorize")
        await client.ask("1")
        await until(lambda: provider.offered)
        provider.emit(REVOKED, *[AccessRevoked(server_id="1", person="6")] * (count - 1))
        await gateway.settle()
        provider.release("authorize")
        await until(lambda: "authorize 1" in provider.calls)
        assert await codes(client) == ["unauthorized"]
        assert not client.users
        await client.join("1")


async def test_r25_a_revocation_counts_for_http_requests() -> None:
    """A request is authorized as a join is, and refused if the person is revoked meanwhile."""
    provider = granting()
    async with served({"a": provider}) as gateway, ClientSession() as http:
        url = gateway.url.replace("ws:", "http:").rstrip("/") + "/api/servers/1"

        async def status() -> int:
            async with http.get(url, headers={"Authorization": "Bearer token"}) as response:
                return response.status

        assert await status() == 200
        provider.hold("authorize")
        asking = asyncio.create_task(status())
        await until(lambda: len(provider.offered) == 2)
        provider.emit(REVOKED)
        await gateway.settle()
        provider.release("authorize")
        assert await asking == 401
        provider.authorize_answer = False
        assert await status() == 401


async def test_r25_a_grant_is_renewed_by_what_the_provider_remembers() -> None:
    """From half of its time on the provider is asked about the person, and not about a token."""
    provider = granting()
    provider.reauthorize_answer = True
    async with joined(provider) as (gateway, client):
        await gateway.advance(299)
        assert "reauthorize 1 5" not in provider.calls
        await gateway.advance(1)
        assert provider.calls[-1] == "reauthorize 1 5"
        await gateway.advance(3000)
        assert provider.calls.count("reauthorize 1 5") == 11
        assert len(provider.offered) == 1
        assert await client.new_frames() == []
        provider.reauthorize_answer = False
        await gateway.advance(300)
        assert await codes(client) == ["unauthorized"]


@pytest.mark.parametrize("answer", [None, RuntimeError("down"), "hang", "stopped"])
async def test_r25_a_grant_that_is_not_renewed_expires_after_ten_minutes(answer: object) -> None:
    """A provider that cannot answer is asked again; its people stay until then, not longer."""
    provider = granting()
    async with joined(provider, tables={"a": {"grace": "1h"}}) as (gateway, client):
        if answer == "hang":
            provider.hang.add("reauthorize")
        elif answer == "stopped":
            provider.start_answer = RuntimeError("down")
            provider.break_stream()
        else:
            provider.reauthorize_answer = answer  # type: ignore[assignment]
        await gateway.advance(599.9)
        assert await codes(client) == []
        await gateway.advance(0.2)
        assert await codes(client) == ["unauthorized"]


async def test_r25_a_provider_that_recovers_renews_the_grant() -> None:
    """An outage that is shorter than half of the grant's time ends no access."""
    provider = granting()
    provider.reauthorize_answer = RuntimeError("down")
    async with joined(provider) as (gateway, client):
        await gateway.advance(580)
        provider.reauthorize_answer = True
        await gateway.advance(300)
        assert await client.new_frames() == []


class Forgetful:
    """A provider whose grants cannot be renewed."""

    @hookimpl
    async def servers(self) -> dict[str, Server]:
        return VAULT

    @hookimpl
    async def users(self) -> dict[str, User]:
        return USERS["1"]

    @hookimpl
    async def authorize(self) -> Grant:
        return Grant(person="5", expires_after=20)


async def test_r25_a_grant_without_reauthorize_ends_when_it_expires() -> None:
    """The provider sets the time; the client may then log in again."""
    async with joined(Forgetful()) as (gateway, client):
        await gateway.advance(19.9)
        assert await codes(client) == []
        await gateway.advance(0.2)
        assert await codes(client) == ["unauthorized"]
        await client.join("1")


@pytest.mark.parametrize(
    "grant",
    [
        Grant(person=""),
        Grant(person="a b"),
        Grant(person=5),  # type: ignore[arg-type]
        Grant(person="5", expires_after=0),
        Grant(person="5", expires_after=float("nan")),
        Grant(person="5", expires_after=None),  # type: ignore[arg-type]
    ],
)
async def test_r25_a_grant_that_is_not_valid_is_a_no(grant: Grant) -> None:
    """A person who cannot be named cannot be revoked, so the client is not let in."""
    async with served({"a": granting(grant)}) as gateway:
        with pytest.raises(JoinError):
            await gateway.join("1")


async def test_r25_a_longer_grant_lasts_ten_minutes() -> None:
    """No provider makes a grant that is never checked again."""
    grant = Grant(person="5", expires_after=float("inf"))
    async with joined(granting(grant)) as (gateway, client):
        await gateway.advance(600.1)
        assert await codes(client) == ["unauthorized"]


async def test_r25_a_plain_yes_holds_as_long_as_the_client_stays() -> None:
    """It names no person, so there is nothing to check."""
    provider = granting()
    provider.authorize_answer = True
    async with joined(provider) as (gateway, client):
        provider.emit(REVOKED)
        await gateway.advance(7200)
        assert await client.new_frames() == []


async def test_r25_a_reload_asks_about_people_whom_a_changed_provider_has_let_in() -> None:
    """It may decide by other rules now; a provider that is not configured any more lets no
    client stay."""
    other = ScriptedProvider(VAULT, USERS)
    given = {"a": granting(), "b": other}
    async with served(given, chain={"order": ["a", "b"]}) as gateway:
        client = await gateway.connect_and_join()
        given["a"].reauthorize_answer = True
        await gateway.server.reload(configured(["a", "b"], {"a": {"timeout": 4}}))
        await gateway.settle()
        assert await client.new_frames() == []
        await gateway.server.reload(configured(["b"]))
        await gateway.settle()
        assert "unauthorized" in await codes(client)


async def test_r25_a_session_that_has_left_is_not_checked() -> None:
    """A grant ends with its subscription: nothing is asked about it, and no timer is left."""
    provider = granting()
    provider.servers_answer = {**VAULT, "2": Server(name="Plaza")}
    provider.users_answers["2"] = {"7": User(username="Ada")}
    async with joined(provider) as (gateway, client):
        await client.join("2")
        provider.emit(REVOKED)
        await gateway.advance(1200)
        assert "reauthorize 1 5" not in provider.calls
        assert await client.new_frames() == []

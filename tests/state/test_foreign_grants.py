"""Access that other processes give to their clients, and when it ends (R25)."""

from collections.abc import Sequence

import pytest

from d_back_core import (
    AccessChanged,
    AccessRevoked,
    Change,
    Credentials,
    Grant,
    Server,
    User,
    hookimpl,
)
from d_back_testing import ScriptedProvider, served
from d_back_testing.running_gateway import configured

VAULT = {"1": Server(name="Vault", passworded=True), "2": Server(name="Plaza")}
USERS = {"1": {"7": User(username="Ada", status="online")}, "2": {}}
RIGHT = Credentials(password="open sesame")
NO_PASSWORD = Credentials(discord_token="x")
WORD = {"1": {"password": "open sesame"}}


class Recorder(ScriptedProvider):
    """Remembers the changes of access."""

    records = "public"

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Change] = []

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        self.got += [each for each in changes if isinstance(each, AccessChanged)]


class MergedRecorder(Recorder):
    """Stores the state before the operator's policy."""

    records = "merged"


def granting(person: str = "5") -> ScriptedProvider:
    """A provider that lets everyone into its protected server, by a grant."""
    provider = ScriptedProvider(VAULT, USERS)
    provider.authorize_answer = Grant(person=person, expires_after=90.0)
    return provider


async def test_r25_a_password_is_renewed_as_long_as_it_is_the_same() -> None:
    """Also after a restart; not for another server, nor by another password."""
    persons = []
    for _ in range(2):
        provider = granting()
        async with served({"a": provider}, policies=WORD) as gateway:
            assert provider.context is not None
            context = provider.context
            granted = await context.authorize("1", RIGHT, "192.0.2.1")
            assert isinstance(granted, Grant)
            persons.append(granted.person)
            assert await context.reauthorize("1", persons[0]) is True
            await gateway.server.reload(configured(["a"], policies={"1": {"password": "barley"}}))
            assert await context.reauthorize("1", persons[0]) is False
            await gateway.server.reload(configured(["a"]))
            assert await context.reauthorize("1", persons[0]) is False
    assert persons[0] == persons[1]
    assert "sesame" not in persons[0]


async def test_r25_two_servers_with_one_password_have_two_grants() -> None:
    """One that was given for a server does not hold for another one."""
    provider = granting()
    words = {each: {"password": "open sesame"} for each in ("1", "2")}
    async with served({"a": provider}, policies=words):
        assert provider.context is not None
        one = await provider.context.authorize("1", RIGHT, "")
        assert isinstance(one, Grant)
        assert await provider.context.reauthorize("2", one.person) is False


@pytest.mark.parametrize("answer", [True, False, None])
async def test_r25_the_provider_that_gave_a_grant_renews_it(*, answer: bool | None) -> None:
    """It is asked about the person by the id that it gave; its answer is the answer."""
    provider = granting()
    provider.reauthorize_answer = answer
    async with served({"a": provider}):
        assert provider.context is not None
        granted = await provider.context.authorize("1", NO_PASSWORD, "")
        assert granted == Grant(person="a:5", expires_after=90.0)
        assert await provider.context.reauthorize("1", "a:5") is answer
        assert "reauthorize 1 5" in provider.calls


async def test_r25_a_grant_of_a_provider_that_is_gone_does_not_hold() -> None:
    """The operator has taken it out of the chain."""
    one, other = granting(), ScriptedProvider(VAULT, USERS)
    async with served({"a": one, "b": other}) as gateway:
        assert other.context is not None
        await gateway.server.reload(configured(["b"]))
        assert await other.context.reauthorize("1", "a:5") is False


async def test_r25_a_grant_with_a_long_id_expires() -> None:
    """Its id for other processes is a digest, by which it can be revoked and not renewed."""
    provider, recorder = granting("x" * 64), Recorder()
    chain = {"recorders": ["r"]}
    async with served({"a": provider, "r": recorder}, chain=chain) as gateway:
        assert provider.context is not None
        granted = await provider.context.authorize("1", NO_PASSWORD, "")
        assert isinstance(granted, Grant)
        assert len(granted.person) == 64
        assert await provider.context.reauthorize("1", granted.person) is None
        provider.emit(AccessRevoked(server_id="1", person="x" * 64))
        await gateway.settle()
        assert recorder.got == [AccessChanged(server_id="1", person=granted.person)]


async def test_r25_a_server_that_is_not_known_yet_ends_no_access() -> None:
    """As after a start; an open server lets everyone stay."""
    provider = granting()
    async with served({"a": provider}):
        assert provider.context is not None
        assert await provider.context.reauthorize("9", ":0") is None
        assert await provider.context.reauthorize("2", ":0") is True


@pytest.mark.parametrize(("kind", "count"), [(Recorder, 1), (MergedRecorder, 0)])
async def test_r25_recorders_of_what_leaves_this_machine_learn_of_a_revocation(
    kind: type[Recorder], count: int
) -> None:
    """It names the grant as `Context.authorize` did."""
    provider, recorder = granting(), kind()
    chain = {"recorders": ["r"]}
    async with served({"a": provider, "r": recorder}, chain=chain) as gateway:
        provider.emit(AccessRevoked(server_id="1", person="5"))
        await gateway.settle()
        assert recorder.got == [AccessChanged(server_id="1", person="a:5")] * count


async def test_r25_after_a_reload_any_access_to_a_protected_server_may_have_ended() -> None:
    """Recorders learn it for each protected server, and for no open one."""
    provider, recorder = granting(), Recorder()
    chain = {"recorders": ["r"]}
    async with served({"a": provider, "r": recorder}, chain=chain) as gateway:
        await gateway.server.reload(configured(["a", "r"], chain=chain, policies=WORD))
        await gateway.settle()
        assert recorder.got == [AccessChanged(server_id="1")]


@pytest.mark.parametrize("answer", [True, None])
async def test_r25_a_revocation_counts_whatever_the_provider_answers_later(
    *, answer: bool | None
) -> None:
    """A process that has missed it gets a no, until the provider lets the person in again."""
    provider = granting()
    provider.reauthorize_answer = answer
    async with served({"a": provider}) as gateway:
        assert provider.context is not None
        context = provider.context
        assert isinstance(await context.authorize("1", NO_PASSWORD, ""), Grant)
        assert await context.reauthorize("1", "a:5") is answer
        provider.emit(AccessRevoked(server_id="1", person="5"))
        await gateway.settle()
        assert await context.reauthorize("1", "a:5") is False
        assert await context.reauthorize("1", "a:6") is answer
        assert isinstance(await context.authorize("1", NO_PASSWORD, ""), Grant)
        assert await context.reauthorize("1", "a:5") is answer

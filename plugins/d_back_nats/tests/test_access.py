"""The origin decides who may join at an edge; no program between the two learns a credential."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from nacl.public import PrivateKey
from nats.errors import Error as ClientError
from nats_nodes import ADA, flushed, provider_of

from d_back_core import Credentials, Grant, JoinError, Server
from d_back_nats import NatsConfig
from d_back_nats.failure import NatsError
from d_back_nats.sealing import Answer, Seal, answered, asked
from d_back_testing import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import Join, Nats, Origin, Serve, Until
    from nats.aio.msg import Msg

    from d_back_nats.connection import Line

    Lines = Callable[[NatsConfig], Awaitable[Line]]

MARK = Credentials(password="pw-MARK", discord_token="tok-MARK", discord_user={"id": "u-MARK"})


def vault() -> ScriptedProvider:
    source = ScriptedProvider(
        {"1": Server(name="Vault", id="vault", passworded=True)}, {"1": {"7": ADA}}
    )
    source.authorize_answer = False
    return source


async def test_the_operators_password_of_the_origin_lets_in(
    nats: Nats, origin: Origin, serve: Serve, join: Join
) -> None:
    """The edge knows no password, and lets in who gives the right one."""
    cluster = await nats()
    await origin(cluster, vault(), servers={"1": {"password": "open sesame"}})
    edge = await serve(cluster)
    assert set((await join(edge, "vault", password="open sesame")).users) == {"7"}
    with pytest.raises(JoinError, match="requires"):
        await join(edge, "vault", password="guess")


async def test_the_origins_providers_decide_and_learn_the_address(
    nats: Nats, origin: Origin, serve: Serve
) -> None:
    """All that a client offers, and its address, reach the provider behind the origin."""
    cluster, source = await nats(), vault()
    await origin(cluster, source)
    edge = provider_of(await serve(cluster))
    assert await edge.authorize("1", MARK, "192.0.2.7") is False
    source.authorize_answer = True
    assert await edge.authorize("1", MARK, "2001:db8::7") is True
    assert source.offered == [(MARK, "192.0.2.7"), (MARK, "2001:db8::7")]


async def test_guesses_through_edges_are_counted_together(
    nats: Nats, origin: Origin, serve: Serve
) -> None:
    """An address that guesses at one edge has to wait at the others; other addresses do not."""
    cluster = await nats()
    server = await origin(cluster, vault(), servers={"1": {"password": "open sesame"}})
    one, other = provider_of(await serve(cluster)), provider_of(await serve(cluster))
    right, wrong = Credentials(password="open sesame"), Credentials(password="guess")
    for _ in range(server.live.config.limits.failed_joins):
        assert await one.authorize("1", wrong, "192.0.2.7") is False
    assert await other.authorize("1", right, "192.0.2.7") is False
    assert isinstance(await other.authorize("1", right, "192.0.2.8"), Grant)


async def test_who_listens_to_everything_reads_no_credential(
    nats: Nats, origin: Origin, serve: Serve, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    """Another user of NATS who may read every subject learns nothing; nor does a log."""
    caplog.set_level(0)
    cluster, source = await nats(), vault()
    await origin(cluster, source)
    line = await lines(NatsConfig(urls=cluster.urls))
    carried: list[bytes] = []

    async def note(message: Msg) -> None:
        carried.append(message.data)

    await line.client.subscribe(">", cb=note)
    await flushed(line)
    edge = provider_of(await serve(cluster))
    assert await edge.authorize("1", MARK, "192.0.2.7") is False
    assert source.offered
    await flushed(line)
    assert carried
    assert not [each for each in carried if b"MARK" in each or b"192.0.2.7" in each]
    assert "MARK" not in caplog.text


async def test_a_forged_answer_is_a_no(
    nats: Nats, origin: Origin, serve: Serve, lines: Lines
) -> None:
    """An answer in the origin's name, without having read the question, lets no client in."""
    cluster = await nats()
    server = await origin(cluster, vault())
    edge = provider_of(await serve(cluster))
    await provider_of(server).stop()  # its key is still what questions are sealed to
    line = await lines(NatsConfig(urls=cluster.urls))
    asked_times = 0

    async def forge(message: Msg) -> None:
        nonlocal asked_times
        asked_times += 1
        await message.respond(b"yes")

    await line.client.subscribe("d-back.d-back.authorize", cb=forge)
    await flushed(line)
    assert await edge.authorize("1", MARK, "192.0.2.7") is False
    assert asked_times == 1


async def test_without_an_origin_the_answer_is_no(
    nats: Nats, origin: Origin, serve: Serve, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Without an origin no client joins a protected server, and the log says why."""
    cluster = await nats()
    server = await origin(cluster, vault(), servers={"1": {"password": "open sesame"}})
    edge = provider_of(await serve(cluster))
    await server.stop()
    right = Credentials(password="open sesame")

    async def is_known() -> bool:
        """True once NATS has noticed that the origin's connection is closed."""
        assert await edge.authorize("1", right, "192.0.2.7") is False
        return "the origin does not answer who may join (none is connected)" in caplog.text

    await until(is_known)
    assert "sesame" not in caplog.text


async def test_what_is_no_question_is_not_answered(
    nats: Nats, origin: Origin, lines: Lines
) -> None:
    """What another program sends to the origin is dropped, and the next question answered."""
    cluster = await nats()
    await origin(cluster, vault(), servers={"1": {"password": "open sesame"}})
    line = await lines(NatsConfig(urls=cluster.urls))
    subject = "d-back.d-back.authorize"
    other = base64.b64encode(bytes(PrivateKey.generate().public_key)).decode()
    for rubbish in (b"", b"x" * 1000, asked(other, "1", MARK, "").sealed):
        with pytest.raises(ClientError):
            await line.client.request(subject, rubbish, timeout=0.2)
    found = await line.js.get_last_msg("KV_d-back", "$KV.d-back.origin")
    assert found.data is not None
    from d_back_nats.records import OriginValue, decoded  # noqa: PLC0415

    value = decoded(found.data, OriginValue)
    assert value is not None
    question = asked(value.seal, "1", Credentials(password="open sesame"), "192.0.2.9")
    answer = await line.client.request(subject, question.sealed, timeout=10)
    assert question.opened(answer.data).verdict is True


async def test_protection_comes_with_the_list(
    nats: Nats, origin: Origin, serve: Serve, join: Join
) -> None:
    """What is protected at the origin, by whatever, is protected at an edge from the first."""
    cluster, source = (
        await nats(),
        ScriptedProvider({"1": Server(name="Plaza")}, {"1": {"7": ADA}}),
    )
    await origin(cluster, source, servers={"1": {"passworded": True}})
    with pytest.raises(JoinError):
        await join(await serve(cluster), "1")


# The seal


def test_an_answer_belongs_to_its_question() -> None:
    """A yes to one question is without a verdict for another; all are of one length."""
    seal = Seal()
    one, other = (asked(seal.public, "1", MARK, "192.0.2.7") for _ in range(2))
    question = seal.opened(one.sealed)
    assert question is not None
    assert (question.server_id, question.credentials, question.address) == ("1", MARK, "192.0.2.7")
    grant = Answer.of(Grant(person="x" * 64, expires_after=600.0))
    answers = [answered(question, each) for each in (grant, Answer.of(False), Answer())]  # noqa: FBT003
    assert [one.opened(each).verdict for each in answers] == [True, False, None]
    assert one.opened(answers[0]) == grant
    assert other.opened(answers[0]) == Answer()
    assert len({len(each) for each in answers}) == 1
    assert Seal().opened(one.sealed) is None


def test_a_question_is_not_printed() -> None:
    """Neither what is asked nor what is on its way shows a credential."""
    seal = Seal()
    sent = asked(seal.public, "1", MARK, "192.0.2.7")
    assert "MARK" not in f"{sent!r} {seal.opened(sent.sealed)!r} {sent.sealed!r}"
    assert repr(sent.key) not in f"{sent!r} {seal.opened(sent.sealed)!r}"


@pytest.mark.parametrize("key", ["", "AAAA", "not base64", "é"])
def test_what_is_no_key_cannot_be_sealed_to(key: str) -> None:
    """An origin that publishes something else is not asked."""
    with pytest.raises(NatsError, match="no key"):
        asked(key, "1", MARK, "")

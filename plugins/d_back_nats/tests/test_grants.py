"""Access at an edge ends when its grounds end at the origin (R25)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from nats_nodes import ADA, PATIENCE, flushed, provider_of
from peers import Peer
from websockets.asyncio.client import connect

from d_back_core import AccessRevoked, Credentials, Grant, Server
from d_back_core.config import parse
from d_back_nats import grants
from d_back_testing import ManualClock, ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from conftest import Nats, Origin, Serve, Until

    from d_back_core import WebSocketServer
    from d_back_nats.grants import Grants

    Enter = Callable[..., Awaitable[Peer]]

RIGHT = Credentials(password="open sesame")
WORD = {"1": {"password": "open sesame"}}
OTHER_WORD = {"1": {"password": "barley"}}


def vault(answer: bool | Grant = False) -> ScriptedProvider:  # noqa: FBT001, FBT002  as the hook
    """A protected server."""
    source = ScriptedProvider(
        {"1": Server(name="Vault", id="vault", passworded=True)}, {"1": {"7": ADA}}
    )
    source.authorize_answer = answer
    return source


@pytest.fixture
async def enter() -> AsyncIterator[Enter]:
    """Joins the vault over a real socket; the client stays until the test ends."""
    async with AsyncExitStack() as stack:

        async def entered(server: WebSocketServer, **credentials: object) -> Peer:
            peer = Peer(await stack.enter_async_context(connect(server.url, proxy=None)))
            await peer.expect("server-list")
            await peer.join("vault", **credentials)
            return peer

        yield entered


async def reload(server: WebSocketServer, servers: dict[str, Any]) -> None:
    """Give the origin these tables of servers."""
    options = server.config.providers["nats"].options
    table = {
        "gateway": {"host": "127.0.0.1", "port": 0},
        "chain": {"order": ["source"], "recorders": ["nats"], "failback_after": "100ms"},
        "providers": {"nats": {"timeout": "30s", **options}},
        "servers": servers,
    }
    await server.reload(parse(table))


async def turned_out(peer: Peer) -> bool:
    """Return True when the client has received that it may not stay."""
    async with asyncio.timeout(PATIENCE):
        while (frame := await peer.receive())["type"] != "error":
            pass
    return bool(frame["data"]["code"] == "unauthorized")


def grants_of(server: WebSocketServer) -> Grants:
    """What an edge has been given."""
    edge = provider_of(server)._edge  # noqa: SLF001  no public name
    assert edge is not None
    return edge.grants


def calm(server: WebSocketServer) -> bool:
    """True if an edge knows which origin it has asked, and has no question left."""
    given = grants_of(server)
    return bool(given._run) and not given._is_doubted.is_set()  # noqa: SLF001  no public name


def errors(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in frames if each["type"] == "error"]


@pytest.mark.parametrize("then", [OTHER_WORD, {"1": {"passworded": True}}])
async def test_r25_a_changed_password_ends_the_access_at_an_edge(  # noqa: PLR0917  fixtures
    nats: Nats,
    origin: Origin,
    serve: Serve,
    enter: Enter,
    until: Until,
    then: dict[str, Any],
) -> None:
    """Changed or removed: who joined by it receives `unauthorized`; a person whom a provider
    admitted stays."""
    cluster, source = await nats(), vault(Grant(person="ada"))
    source.reauthorize_answer = True
    server = await origin(cluster, source, servers=WORD)
    edge = await serve(cluster)
    by_password = await enter(edge, password="open sesame")
    by_provider = await enter(edge)
    await until(lambda: calm(edge))
    await reload(server, then)
    assert await turned_out(by_password)
    assert not errors(await by_provider.pending())


async def test_r25_a_reload_with_the_same_password_ends_nothing_at_an_edge(
    nats: Nats, origin: Origin, serve: Serve, enter: Enter, until: Until
) -> None:
    """The edge asks again, and the answer is yes."""
    cluster = await nats()
    server = await origin(cluster, vault(), servers=WORD)
    edge = await serve(cluster)
    peer = await enter(edge, password="open sesame")
    await until(lambda: calm(edge))
    doubts = grants_of(edge)._doubts  # noqa: SLF001  what is waited for
    await reload(server, {"1": {"password": "open sesame", "ignore_channels": ["x"]}})
    await until(lambda: grants_of(edge)._doubts > doubts and calm(edge))  # noqa: SLF001
    assert not errors(await peer.pending())


async def test_r25_a_revoked_person_leaves_every_edge(
    nats: Nats, origin: Origin, serve: Serve, enter: Enter, until: Until
) -> None:
    """What the provider of the origin revokes ends at once; other people stay."""
    cluster, source = await nats(), vault(Grant(person="ada"))
    source.reauthorize_answer = True
    await origin(cluster, source)
    one, other = await serve(cluster), await serve(cluster)
    adas = [await enter(edge) for edge in (one, other)]
    source.authorize_answer = Grant(person="bob")
    bob = await enter(one)
    await until(lambda: calm(one) and calm(other))
    source.emit(AccessRevoked(server_id="1", person="ada"))
    for ada in adas:
        assert await turned_out(ada)
    assert not errors(await bob.pending())


@pytest.mark.parametrize("later", [False, None])
async def test_r25_a_revocation_during_an_outage_of_nats_is_made_up_for(  # noqa: PLR0917  fixtures
    nats: Nats,
    origin: Origin,
    serve: Serve,
    enter: Enter,
    until: Until,
    later: bool | None,  # noqa: FBT001  a parameter of the test
) -> None:
    """The edge asks again once it is connected. The origin remembers what its provider has
    revoked, also if that cannot say more."""
    cluster, source = await nats(), vault(Grant(person="ada"))
    source.reauthorize_answer = True
    await origin(cluster, source)
    edge = await serve(cluster)
    peer = await enter(edge)
    await until(lambda: calm(edge))
    cluster.kill()
    source.reauthorize_answer = later
    source.emit(AccessRevoked(server_id="1", person="ada"))
    cluster.start()
    assert await turned_out(peer)


@pytest.mark.parametrize(("word", "stays"), [(WORD, True), (OTHER_WORD, False)])
async def test_r25_an_edge_asks_an_origin_that_was_restarted(  # noqa: PLR0917  fixtures
    nats: Nats,
    origin: Origin,
    serve: Serve,
    enter: Enter,
    until: Until,
    word: dict[str, Any],
    stays: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    """The same password lets its people stay; another one ends their access."""
    cluster = await nats()
    server = await origin(cluster, vault(), servers=WORD)
    edge = await serve(cluster)
    peer = await enter(edge, password="open sesame")
    await until(lambda: calm(edge))
    run = grants_of(edge)._run  # noqa: SLF001  what is waited for
    await server.stop()
    await origin(cluster, vault(), servers=word)
    if not stays:
        assert await turned_out(peer)
        return
    await until(lambda: grants_of(edge)._run != run and calm(edge))  # noqa: SLF001
    assert not errors(await peer.pending())


async def test_r25_a_join_that_was_decided_before_a_change_is_checked_again(
    nats: Nats, origin: Origin, serve: Serve, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A yes that arrives after the announcement of the change is asked for again."""
    cluster = await nats()
    server = await origin(cluster, vault(), servers=WORD)
    edge = await serve(cluster)
    asked = grants_of(edge)
    await until(lambda: calm(edge))
    monkeypatch.setattr(grants, "RETRY", 0.01)
    ended: list[tuple[str, str]] = []
    monkeypatch.setattr(asked, "_revoked", lambda *key: ended.append(key))
    answer = asked._answer  # noqa: SLF001  the last moment before the answer counts

    async def overtaken(question: Any) -> Any:  # noqa: ANN401
        found = await answer(question)
        if not ended and found.person is not None:
            await reload(server, OTHER_WORD)
            asked.changed("1")
        return found

    monkeypatch.setattr(asked, "_answer", overtaken)
    granted = await asked.authorize("1", RIGHT, "192.0.2.7")
    assert isinstance(granted, Grant)
    await until(lambda: ended == [("1", granted.person)])


async def test_r25_without_an_origin_a_grant_at_an_edge_expires(
    nats: Nats, origin: Origin, serve: Serve, enter: Enter
) -> None:
    """An outage of the origin ends no access for ten minutes, and every access after them."""
    cluster, clock = await nats(), ManualClock()
    server = await origin(cluster, vault(), servers=WORD)
    edge = await serve(cluster, clock=clock)
    peer = await enter(edge, password="open sesame")
    await server.stop()
    for _ in range(9):
        await clock.advance(60)
    assert not errors(await peer.pending())
    await clock.advance(grants.LASTS - 9 * 60)
    assert await turned_out(peer)


async def test_r25_a_grant_that_is_renewed_at_an_edge_can_still_end(
    nats: Nats, origin: Origin, serve: Serve, enter: Enter, until: Until
) -> None:
    """After more than ten minutes, too: the edge does not forget it."""
    cluster, clock = await nats(), ManualClock()
    server = await origin(cluster, vault(), servers=WORD)
    edge = await serve(cluster, clock=clock)
    peer = await enter(edge, password="open sesame")
    given = grants_of(edge)._given  # noqa: SLF001  no public name
    for _ in range(30):
        await clock.advance(60)
        await until(lambda: min(given.values()) > clock.time() - 360)
    await reload(server, OTHER_WORD)
    assert await turned_out(peer)


async def test_r25_a_yes_that_cannot_end_is_a_plain_yes_at_an_edge(
    nats: Nats, origin: Origin, serve: Serve
) -> None:
    """A provider's `True` is valid until the client leaves, as at the origin."""
    cluster = await nats()
    await origin(cluster, vault(answer=True))
    edge = provider_of(await serve(cluster))
    assert await edge.authorize("1", RIGHT, "192.0.2.7") is True


async def test_a_password_cannot_be_guessed_from_what_nats_carries(
    nats: Nats, origin: Origin, serve: Serve, enter: Enter
) -> None:
    """The id of its grants is always sealed; the announcement of a change does not name it."""
    cluster = await nats()
    server = await origin(cluster, vault(), servers=WORD)
    edge = await serve(cluster)
    line = await provider_of(edge)._connection.line()  # type: ignore[union-attr]  # noqa: SLF001
    carried: list[bytes] = []

    async def note(message: Any) -> None:  # noqa: ANN401
        carried.append(message.data)

    await line.client.subscribe(">", cb=note)
    await flushed(line)
    peer = await enter(edge, password="open sesame")
    ((_, person),) = grants_of(edge)._given  # noqa: SLF001  no other place knows it
    await reload(server, OTHER_WORD)
    assert await turned_out(peer)
    await flushed(line)
    assert carried
    assert not [each for each in carried if person.encode() in each]

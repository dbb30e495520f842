"""Who may join a protected server, and with whose OAuth2 application clients log in."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import UNSET, UnsetType
from peers import Dial, news, until

from d_back_core import Credentials, Grant, Server, ServerChanged, User, hookimpl
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.secret import Secret, hash_password
from d_back_core.state import access
from d_back_core.wire import protocol
from d_back_testing import ManualClock, ScriptedProvider

UNAUTHORIZED = (
    "unauthorized",
    "This server requires Discord authentication. Please login with Discord.",
)
EITHER = (
    "unauthorized",
    "This server requires a password, or a login with Discord.",
)
FAILED = (
    "authentication_failed",
    "Discord authentication failed. Please try logging in again.",
)
LOGIN = {"discordToken": "tok-MARK", "discordUser": {"id": "5", "username": "Bo"}}


def town(client_id: str | UnsetType = UNSET) -> ScriptedProvider:
    """A protected server and two open ones; ``client_id`` is that of the plaza."""
    return ScriptedProvider(
        {
            "333": Server(name="Vault", id="vault", passworded=True),
            "111": Server(name="Plaza", id="plaza", client_id=client_id),
            "222": Server(name="Garden", id="garden"),
        },
        {"333": {"6": User(username="Di")}, "111": {}, "222": {}},
    )


def serving(
    *providers: ScriptedProvider,
    clock: ManualClock | None = None,
    policy: dict[str, Any] | None = None,
    settings: dict[str, dict[str, Any]] | None = None,
) -> WebSocketServer:
    """A gateway for providers named a, b, … in this order; ``policy`` is that of the vault."""
    named = dict(zip("abcd", providers, strict=False))
    table = {
        "gateway": {"port": 0},
        "chain": {"order": [*named]},
        "providers": settings or {},
        "servers": {"333": policy or {}},
    }
    return WebSocketServer(config=parse(table), providers=named, clock=clock)


# The operator's password


@pytest.mark.parametrize("password", ["open sesame", "ü\u200b", "scrypt"])
async def test_r24_the_right_password_lets_in(dial: Dial, password: str) -> None:
    """Who gives the operator's password joins, whatever the provider says."""
    provider = town()
    provider.authorize_answer = False
    async with serving(provider, policy={"password": password}) as server:
        joined = await (await dial(server)).join("vault", password=password)
        assert [*joined["users"]] == ["6"]
        assert provider.offered == []


async def test_r24_the_password_may_be_kept_as_a_hash(dial: Dial) -> None:
    """The password that was hashed lets in; the hash itself does not."""
    hashed = hash_password("open sesame")
    async with serving(town(), policy={"password": hashed}) as server:
        peer = await dial(server)
        await peer.ask("vault", password=hashed)
        assert await peer.refusal() == EITHER
        await peer.join("vault", password="open sesame")


@pytest.mark.parametrize("guess", ["Open sesame", "open sesame ", "", "None", "***", "x" * 10000])
@pytest.mark.parametrize("kept", [str, hash_password])
async def test_r24_any_other_password_is_refused(
    dial: Dial, guess: str, kept: Callable[[str], str]
) -> None:
    """Nothing but the very password counts, plain or hashed."""
    async with serving(town(), policy={"password": kept("open sesame")}) as server:
        peer = await dial(server)
        await peer.ask("vault", password=guess)
        assert await peer.refusal() == EITHER


async def test_r24_joins_that_supersede_each_other_verify_one_password_at_a_time(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of guesses occupies one thread, not all of them: everyone else can still join."""
    matches, running, most = Secret.matches, 0, 0

    def counted(secret: Secret, password: str) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return matches(secret, password)
        finally:
            running -= 1

    monkeypatch.setattr(Secret, "matches", counted)
    async with serving(town(), policy={"password": hash_password("open sesame")}) as server:
        peer = await dial(server)
        for _ in range(8):
            await peer.ask("vault", password="guess")
            await until(lambda: running)
        await peer.ask("vault", password="open sesame")
        await peer.expect("server-join")
        assert most == 1


async def test_r24_guesses_have_threads_of_their_own(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many clients guess, they occupy a few threads, and none of those of others."""
    matches, threads = Secret.matches, set()
    running, most = 0, 0

    def counted(secret: Secret, password: str) -> bool:
        nonlocal running, most
        threads.add(threading.current_thread().name)
        running += 1
        most = max(most, running)
        try:
            return matches(secret, password)
        finally:
            running -= 1

    monkeypatch.setattr(Secret, "matches", counted)
    async with serving(town(), policy={"password": hash_password("open sesame")}) as server:
        peers = [await dial(server) for _ in range(20)]
        for peer in peers:
            await peer.ask("vault", password="guess")
        for peer in peers:
            assert await peer.refusal() == EITHER
    assert 1 <= most <= access.THREADS
    assert all(name.startswith("d-back-passwords") for name in threads)


async def test_r24_passwords_that_wait_to_be_verified_are_bounded(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further clients get `unavailable`, and the first ones are answered."""
    monkeypatch.setattr(access, "MAX_VERIFYING", 3)
    async with serving(town(), policy={"password": hash_password("open sesame")}) as server:
        peers = [await dial(server) for _ in range(8)]
        for peer in peers:
            await peer.ask("vault", password="guess")
        codes = [(await peer.refusal())[0] for peer in peers]
        assert 3 <= codes.count("unauthorized") < 8
        assert set(codes) == {"unauthorized", "rate_limited"}
        await peers[0].ask("vault", password="open sesame")
        await peers[0].expect("server-join")


async def test_a_password_protects_a_server_that_the_provider_leaves_open(dial: Dial) -> None:
    """Protection is the operator's to add."""
    table = {
        "gateway": {"port": 0},
        "chain": {"order": ["a"]},
        "servers": {"111": {"password": "pw"}},
    }
    async with WebSocketServer(config=parse(table), providers={"a": town()}) as server:
        peer = await dial(server)
        await peer.ask("plaza")
        assert await peer.refusal() == EITHER
        await peer.join("plaza", password="pw")


# The providers' verdict


async def test_r24_a_provider_that_says_true_lets_in(dial: Dial) -> None:
    """It is given all that the client offered, and the client's address."""
    provider = town()
    provider.authorize_answer = True
    async with serving(provider) as server:
        await (await dial(server)).join("vault", password="pw", **LOGIN)
        user = {"id": "5", "username": "Bo"}
        credentials = Credentials(password="pw", discord_token="tok-MARK", discord_user=user)
        assert provider.offered == [(credentials, "127.0.0.1")]


async def test_r24_a_provider_is_asked_without_credentials_too(dial: Dial) -> None:
    """Whether a client may come in without any is the provider's to say."""
    provider = town()
    provider.authorize_answer = True
    async with serving(provider) as server:
        await (await dial(server)).join("vault")
        assert provider.offered == [(Credentials(), "127.0.0.1")]


async def test_an_open_server_asks_nobody(dial: Dial) -> None:
    """Only protected servers are."""
    provider = town()
    async with serving(provider) as server:
        await (await dial(server)).join("plaza", **LOGIN)
        assert provider.offered == []


yes_like: list[Any] = [1, "yes", {"ok": True}, object()]


@pytest.mark.parametrize("answer", [False, None, RuntimeError("tok-MARK"), *yes_like])
async def test_r24_everything_but_a_true_is_a_no(dial: Dial, answer: Any) -> None:  # noqa: ANN401  it is wrong
    """False, no answer, an exception and what only looks like a yes refuse."""
    provider = town()
    provider.authorize_answer = answer
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.ask("vault")
        assert await peer.refusal() == UNAUTHORIZED


async def test_r24_a_provider_that_does_not_answer_is_a_no(dial: Dial) -> None:
    """After the provider's timeout the join is refused, and no other provider is asked."""
    clock = ManualClock()
    above, below = town(), town()
    above.hang = {"authorize"}
    below.authorize_answer = True
    async with serving(above, below, clock=clock, settings={"b": {"mode": "merge"}}) as server:
        peer = await dial(server)
        await peer.ask("vault")
        await until(lambda: above.offered)
        await clock.advance(4.9)
        assert await peer.pending() == []
        await clock.advance(0.2)
        assert await peer.refusal() == UNAUTHORIZED
        assert below.offered == []


@pytest.mark.parametrize(
    ("first", "second", "joins"),
    [
        (True, False, True),
        (False, True, False),
        (None, True, True),
        (None, False, False),
        (None, None, False),
        (RuntimeError("down"), True, False),
    ],
)
async def test_r24_the_first_provider_that_decides_counts(
    dial: Dial, *, first: bool | Exception | None, second: bool | None, joins: bool
) -> None:
    """Providers are asked in order; None leaves it to the next, an exception does not."""
    above, below = town(), town()
    above.authorize_answer, below.authorize_answer = first, second
    async with serving(above, below, settings={"b": {"mode": "merge"}}) as server:
        peer = await dial(server)
        await peer.ask("vault")
        assert (await peer.receive())["type"] == ("server-join" if joins else "error")


async def test_r24_a_provider_that_says_nothing_of_the_server_is_not_asked(dial: Dial) -> None:
    """Only those that contribute to a server decide about it."""
    provider, stranger = town(), ScriptedProvider({}, {})
    stranger.authorize_answer = True
    stranger.users_answers = {"333": None}
    settings = {"a": {"mode": "merge"}}
    async with serving(stranger, provider, settings=settings) as server:
        peer = await dial(server)
        await peer.ask("vault")
        assert await peer.refusal() == UNAUTHORIZED
        assert (stranger.offered, len(provider.offered)) == ([], 1)


async def test_r24_a_fallback_that_is_not_in_use_is_not_asked(dial: Dial) -> None:
    """Who would answer only if another failed does not decide while that one answers."""
    above, below = town(), town()
    below.authorize_answer = True
    async with serving(above, below) as server:
        peer = await dial(server)
        await peer.ask("vault")
        assert await peer.refusal() == UNAUTHORIZED
        assert below.offered == []


@pytest.mark.parametrize("answer", [False, None, RuntimeError("down")])
@pytest.mark.parametrize(
    ("offered", "refusal"),
    [
        ({}, UNAUTHORIZED),
        ({"password": "guess"}, UNAUTHORIZED),
        ({"discordToken": "t"}, UNAUTHORIZED),
        ({"discordToken": "t", "discordUser": {}}, UNAUTHORIZED),
        ({"discordToken": "", "discordUser": {"id": "5"}}, UNAUTHORIZED),
        ({"discordUser": {"id": "5"}}, UNAUTHORIZED),
        ({"discordToken": "t", "discordUser": {"id": "5"}}, FAILED),
        (LOGIN, FAILED),
        ({"password": "guess", **LOGIN}, FAILED),
    ],
)
async def test_a_refusal_speaks_as_0_0_18_did(
    dial: Dial,
    offered: dict[str, object],
    refusal: tuple[str, str],
    answer: bool | Exception | None,  # noqa: FBT001  pytest passes it by name
) -> None:
    """After a refused Discord login the error says so; without one, that it is needed."""
    provider = town()
    provider.authorize_answer = answer
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.ask("vault", **offered)
        assert await peer.refusal() == refusal


async def test_r6_a_server_that_was_protected_stays_so(dial: Dial) -> None:
    """It is open only when the provider that protected it says so."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        provider.emit(ServerChanged(server_id="333", name="Safe"))
        await news(server, peer)
        await peer.ask("vault")
        assert await peer.refusal() == UNAUTHORIZED
        provider.emit(ServerChanged(server_id="333", passworded=False))
        await news(server, peer)
        await peer.join("vault")


async def test_no_credential_is_logged(dial: Dial, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a refusal nor a provider that fails brings what was offered into the log."""
    provider = town()
    provider.authorize_answer = RuntimeError("down")
    with caplog.at_level(logging.DEBUG):
        async with serving(provider, policy={"password": "pw-MARK"}) as server:
            peer = await dial(server)
            await peer.ask("vault", password="guess-MARK", **LOGIN)
            assert await peer.refusal() == FAILED
            await peer.join("vault", password="pw-MARK")
    ours = [record for record in caplog.records if record.name.startswith("d_back")]
    assert "down" in "".join(record.getMessage() for record in ours)
    assert not [record for record in ours if "MARK" in caplog.handler.format(record)]


# OAuth2 client ids


async def test_a_join_names_the_client_id(dial: Dial) -> None:
    """server-join has the client id that the provider gave for the server."""
    provider = town("99")
    async with serving(provider) as server:
        assert (await (await dial(server)).join("plaza"))["clientId"] == "99"


async def test_without_a_client_id_there_is_no_field(dial: Dial) -> None:
    """A server of which no provider gives one has no clientId."""
    async with serving(town()) as server:
        assert "clientId" not in await (await dial(server)).join("plaza")


async def test_a_new_client_id_reaches_who_joined_that_server(dial: Dial) -> None:
    """update-clientid goes to the sessions of that server, and into later joins."""
    provider = town("99")
    async with serving(provider) as server:
        peer, other = await dial(server), await dial(server)
        await peer.join("plaza")
        await other.join("garden")
        provider.emit(
            ServerChanged(server_id="111", client_id="99"),
            ServerChanged(server_id="111", client_id="98"),
        )
        assert await news(server, peer) == [
            {"type": "update-clientid", "server": "111", "data": {"clientId": "98"}}
        ]
        assert await news(server, other) == []
        assert (await other.join("plaza"))["clientId"] == "98"


async def test_a_client_id_can_be_taken_back(dial: Dial) -> None:
    """Then it is null, and not in later joins."""
    provider = town("99")
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join("plaza")
        provider.emit(ServerChanged(server_id="111", client_id=None))
        (frame,) = await news(server, peer)
        assert frame["data"] == {"clientId": None}
        assert "clientId" not in await peer.join("plaza")


async def test_the_first_provider_with_a_client_id_wins(dial: Dial) -> None:
    """A provider that has none leaves it to the next; one above is not overridden."""
    above, below = town(), town("99")
    async with serving(above, below, settings={"b": {"mode": "merge"}}) as server:
        peer = await dial(server)
        assert (await peer.join("plaza"))["clientId"] == "99"
        above.emit(ServerChanged(server_id="111", client_id="1"))
        (frame,) = await news(server, peer)
        assert frame["data"] == {"clientId": "1"}
        below.emit(ServerChanged(server_id="111", client_id="2"))
        assert await news(server, peer) == []


async def test_a_client_id_below_shows_through_when_the_one_above_is_withdrawn(dial: Dial) -> None:
    """The sessions of the server receive the client id of the provider below."""
    above, below = town("1"), town("99")
    async with serving(above, below, settings={"b": {"mode": "merge"}}) as server:
        peer = await dial(server)
        assert (await peer.join("plaza"))["clientId"] == "1"
        above.emit(ServerChanged(server_id="111", client_id=None))
        (frame,) = await news(server, peer)
        assert frame["data"] == {"clientId": "99"}


# What a provider may ask on behalf of clients that are elsewhere


async def test_r35_a_provider_asks_for_clients_of_another_machine() -> None:
    """The answer is that of a join here: the password, then the providers, with the address."""
    provider = town()
    provider.authorize_answer = False
    async with serving(provider, policy={"password": "open sesame"}):
        assert provider.context is not None
        ask = provider.context.authorize
        by_password = await ask("333", Credentials(password="open sesame"), "192.0.2.1")
        assert isinstance(by_password, Grant)
        assert "sesame" not in by_password.person
        assert provider.offered == []
        assert await ask("333", Credentials(discord_token="tok"), "192.0.2.2") is False
        assert provider.offered == [(Credentials(discord_token="tok"), "192.0.2.2")]
        provider.authorize_answer = True
        assert await ask("333", Credentials(discord_token="tok"), "192.0.2.3") is True
        assert await ask("111", Credentials(), "192.0.2.4") is True
        assert await ask("999", Credentials(password="open sesame"), "192.0.2.5") is False


class Doorman:
    """A provider without a list of servers; it contributes to a server by its users."""

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User]:  # noqa: ARG002
        return {"7": User(username="Ada")}

    @hookimpl
    async def authorize(self, credentials: Credentials) -> bool:
        return credentials.discord_token == "tok"


async def test_r35_a_provider_without_a_list_decides_about_clients_of_another_machine() -> None:
    """It is asked as for a join here, also about a server that no client watches."""
    listing = town()
    providers = {"doorman": Doorman(), "a": listing}
    config = parse({"gateway": {"port": 0}, "chain": {"order": [*providers]}})
    async with WebSocketServer(config=config, providers=providers):
        assert listing.context is not None
        ask = listing.context.authorize
        assert await ask("333", Credentials(discord_token="tok"), "192.0.2.1") is True
        assert await ask("333", Credentials(discord_token="no"), "192.0.2.2") is False


async def test_r35_guesses_from_elsewhere_are_limited_by_the_clients_address() -> None:
    """After some refusals of one address it is refused the right password too, others are not."""
    clock = ManualClock()
    async with serving(town(), policy={"password": "open sesame"}, clock=clock) as server:
        context = server.live.providers.supervisors["a"].plugin.instance.context  # type: ignore[attr-defined]
        right, wrong = Credentials(password="open sesame"), Credentials(password="guess")
        for _ in range(server.live.config.limits.failed_joins):
            assert not await context.authorize("333", wrong, "192.0.2.1")
        assert not await context.authorize("333", right, "192.0.2.1")
        assert await context.authorize("333", right, "192.0.2.2")
        await clock.advance(60)
        assert await context.authorize("333", right, "192.0.2.1")


async def test_r35_a_provider_knows_which_servers_are_held(dial: Dial) -> None:
    """A server is held while a client watches it, and for a while after that."""
    provider, clock = town(), ManualClock()
    async with serving(provider, clock=clock) as server:
        assert provider.context is not None
        assert not provider.context.holds("111")
        peer = await dial(server)
        await peer.join("plaza")
        assert provider.context.holds("111")
        assert not provider.context.holds("222")
        await peer.join("garden")
        await clock.advance(server.live.config.chain.idle)
        assert not provider.context.holds("111")
        assert provider.context.holds("222")


# What a refused client receives


class Listed:
    """Lists a protected server, and authorizes no client."""

    @hookimpl
    async def servers(self) -> dict[str, Server]:
        return {"333": Server(name="Vault", passworded=True)}

    @hookimpl
    async def users(self) -> dict[str, User]:
        return {}


class ByPassword(Listed):
    """Knows passwords."""

    credentials = ("password",)

    @hookimpl
    async def authorize(self) -> Any:  # noqa: ANN401  what a plugin may return by mistake
        return 1


class ByLogin(ByPassword):
    """Knows people."""

    credentials = ("login",)


@pytest.mark.parametrize(
    ("provider", "password", "text"),
    [
        (Listed, None, protocol.CLOSED),
        (Listed, "hush", protocol.PASSWORD_REQUIRED),
        (ByPassword, None, protocol.PASSWORD_REQUIRED),
        (ByLogin, None, protocol.UNAUTHORIZED),
        (ByLogin, "hush", protocol.PASSWORD_OR_LOGIN),
    ],
)
async def test_r34_the_error_fits_the_kind_of_protection(
    dial: Dial, provider: type[Listed], password: str | None, text: str
) -> None:
    """A server with a password speaks of a password, one with a login of a login."""
    policy = {} if password is None else {"password": password}
    table = {"chain": {"order": ["a"]}, "servers": {"333": policy}}
    async with WebSocketServer(0, config=parse(table), providers={"a": provider()}) as server:
        peer = await dial(server)
        await peer.ask("vault", password="wrong")
        assert await peer.refusal() == ("unauthorized", text)


async def test_r34_a_password_of_a_callback_is_asked_for(dial: Dial) -> None:
    """Without a function that validates people, no client is sent to Discord."""
    server = WebSocketServer(0)
    server.on_get_server_data(
        lambda _: {"333": {"name": "Vault", "id": "vault", "passworded": True, "password": "x"}}
    )
    async with server:
        peer = await dial(server)
        await peer.ask("vault")
        assert await peer.refusal() == ("unauthorized", protocol.PASSWORD_REQUIRED)


async def test_r24_what_is_almost_true_is_a_no_and_is_logged_once(
    dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the provider and the values that it may return."""
    table = {"chain": {"order": ["a"]}}
    async with WebSocketServer(0, config=parse(table), providers={"a": ByLogin()}) as server:
        peer = await dial(server)
        for _ in range(3):
            await peer.ask("vault", password="x")
            await peer.refusal()
    assert [each.getMessage() for each in caplog.records if each.name == "d_back.access"] == [
        "provider a: authorize: returned int, expected True, False or None; it is a no"
    ]

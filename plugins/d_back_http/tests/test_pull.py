"""What is pulled from a JSON API, how often it is asked, and what happens when it fails."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from http_api import ADA, BO, SECRET, pulling

from d_back_core import UNSET, ConfigError, Reload, Server, User
from d_back_core.models import EffectiveUser
from d_back_http import HttpConfig, HttpProvider, UsersFields
from d_back_http.failure import HttpError
from d_back_testing import ManualClock, ScriptedProvider

if TYPE_CHECKING:
    from conftest import Begin, Health, Join, Serve, Until
    from http_api import Api

USERS = {
    "7": User(username="Ada", status="online", role_color="#ff6b6b"),
    "8": User(username="Bo", status="idle", role_color="#4ecdc4"),
}


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ({"7": ADA, "8": BO}, {}),
        ([{"uid": "7", **ADA}, {"uid": 8, **BO}], {}),
        (
            {"data": {"members": [{"uid": 7, **ADA}, {"uid": 8, **BO}]}},
            {"users_at": "data.members"},
        ),
        (
            [
                {"id": 7, "profile": {"name": "Ada", "color": "#ff6b6b"}, "state": "here"},
                {"id": 8, "profile": {"name": "Bo", "color": "#4ecdc4"}, "state": "away"},
            ],
            {
                "users_fields": UsersFields(
                    uid="id",
                    username="profile.name",
                    status="state",
                    role_color="profile.color",
                ),
                "statuses": {"here": "online", "away": "idle"},
            },
        ),
    ],
)
async def test_shapes(api: Api, begin: Begin, rows: Any, options: dict[str, Any]) -> None:  # noqa: ANN401
    """Lists and objects, in the shape of the guide or of another API, become the same users."""
    api.users["1"] = rows
    provider = await begin(api, **options)
    assert await provider.users("1") == USERS
    assert await provider.servers() == {
        "1": Server(name="Plaza", id="plaza", default=True, passworded=UNSET, enabled=UNSET)
    }


async def test_extra_texts(api: Api, begin: Begin) -> None:
    """Further texts are named one by one; what is not a text is left out."""
    api.users["1"] = {"7": {"username": "Ada", "profile": {"avatar": "7.png"}, "mood": 5}}
    fields = UsersFields(extra={"avatar": "profile.avatar", "activity": "mood"})
    users = await (await begin(api, users_fields=fields)).users("1")
    assert users is not None
    assert users["7"].extra == {"avatar": "7.png"}


@pytest.mark.parametrize("kind", ["etags", "dates"])
async def test_an_answer_that_has_not_changed_is_not_sent(
    api: Api, begin: Begin, until: Until, kind: str
) -> None:
    """The source is asked with what it has sent, and answers 304; nothing is fetched."""
    api.etags = kind == "etags"
    api.dates = kind == "dates"
    clock = ManualClock()
    provider = await begin(api, clock=clock)
    assert await provider.users("1") == USERS
    following = asyncio.ensure_future(anext(provider.events()))
    await until(lambda: api.statuses.count(304) >= 4, turn=lambda: clock.advance(10))
    assert api.statuses.count(200) == 2
    assert not following.done()
    if kind == "etags":
        api.users["1"] = {"7": ADA}
        await until(following.done, turn=lambda: clock.advance(10))
        assert following.result() == Reload(server_id="1")
        assert set(await provider.users("1") or {}) == {"7"}
    following.cancel()


async def test_an_equal_answer_is_no_change(api: Api, begin: Begin, until: Until) -> None:
    """A source without ETag sends everything again; nothing is fetched."""
    api.etags = False
    clock = ManualClock()
    provider = await begin(api, clock=clock)
    await provider.users("1")
    following = asyncio.ensure_future(anext(provider.events()))
    await until(lambda: api.statuses.count(200) >= 6, turn=lambda: clock.advance(10))
    assert not following.done()
    following.cancel()


async def test_it_asks_as_often_as_every_says(api: Api, begin: Begin, until: Until) -> None:
    """Between two requests for one URL lies that time."""
    clock = ManualClock()
    provider = await begin(api, clock=clock, every=60.0)
    for _ in range(3):
        await provider.users("1")
        await provider.servers()
    assert api.paths() == ["/servers", "/servers/1/users"]
    await clock.advance(50)
    await asyncio.sleep(0)
    assert len(api.requests) == 2
    await until(lambda: len(api.requests) == 4, turn=lambda: clock.advance(5))
    assert clock.time() >= 1060


async def test_servers_that_are_not_watched_are_not_asked_for(
    api: Api, begin: Begin, health: Health, until: Until
) -> None:
    """Only the list is polled for them."""
    health.holds = lambda _: False
    clock = ManualClock()
    provider = await begin(api, clock=clock)
    await provider.users("1")
    await until(lambda: api.paths().count("/servers") == 5, turn=lambda: clock.advance(10))
    assert api.paths().count("/servers/1/users") == 1


async def test_waits_grow_while_it_fails(api: Api, begin: Begin, until: Until) -> None:
    """After each failure the next attempt comes later; calls in between fail without a request."""
    clock = ManualClock()
    provider = await begin(api, clock=clock, every=10.0)
    api.status = 500
    times: list[float] = []
    while len(times) < 4:
        before = len(api.requests)
        await until(lambda: len(api.requests) > before, turn=lambda: clock.advance(1))  # noqa: B023
        times.append(clock.time())
        with pytest.raises(HttpError, match=r"/servers: the answer is 500 Internal Server Error$"):
            await provider.servers()
    waits = [after - before for before, after in pairwise(times)]
    assert 10 <= waits[0] <= 15
    assert 20 <= waits[1] <= 28
    assert 40 <= waits[2] <= 54


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(api: Api, begin: Begin, until: Until, status: int) -> None:
    """A source that asks to wait is not asked before."""
    clock = ManualClock()
    await begin(api, clock=clock, every=10.0)
    api.status, api.headers = status, {"Retry-After": "500"}
    await until(lambda: len(api.requests) == 2, turn=lambda: clock.advance(1))
    failed_at = clock.time()
    api.status, api.headers = 200, {}
    await until(lambda: len(api.requests) == 3, turn=lambda: clock.advance(5))
    assert 490 <= clock.time() - failed_at <= 515


async def test_a_source_that_is_lost_and_returns(
    api: Api, begin: Begin, health: Health, until: Until
) -> None:
    """It is reported once, with the reason, and so is its return."""
    clock = ManualClock()
    await begin(api, clock=clock)
    await api.end()
    await until(lambda: health.said, turn=lambda: clock.advance(10))
    assert health.said == [f"{api.url}/servers: Connect call failed ('127.0.0.1', {api.port})"]
    await api.begin()
    await until(lambda: len(health.said) == 2, turn=lambda: clock.advance(60))
    assert health.said[1] == "recovered"


async def test_a_failure_of_one_server(
    api: Api, begin: Begin, health: Health, until: Until
) -> None:
    """It concerns the users of that server only."""
    api.servers = {"1": {"name": "Plaza"}, "2": {"name": "Garden"}}
    api.users["2"] = {"9": ADA}
    clock = ManualClock()
    provider = await begin(api, clock=clock)
    assert set(await provider.users("2") or {}) == {"9"}
    api.users["1"] = "no users at all"
    with pytest.raises(HttpError, match=r"users: expected a list or an object in the answer"):
        await provider.users("1")
    api.users["2"] = {"9": BO}
    events = provider.events()
    following = asyncio.ensure_future(anext(events))
    await until(following.done, turn=lambda: clock.advance(10))
    assert following.result() == Reload(server_id="2")
    assert health.said == []


async def test_a_server_without_users_at_the_source(api: Api, begin: Begin) -> None:
    """404 means that the source does not know it: the next provider is asked."""
    api.servers = {"1": {"name": "Plaza"}, "2": {"name": "Garden"}}
    provider = await begin(api)
    assert await provider.users("2") is None
    assert await provider.users("3") is None
    assert api.paths() == ["/servers"]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"<html>", r"/servers: the answer is not JSON: .*"),
        (b'"text"', r"/servers: expected a list or an object in the answer \(see servers_at\)"),
        (b"[1]", r"/servers: expected an object for each record, got int"),
        (b'[{"name": "x"}]', r"/servers: record 0 has no id at 'server_id'"),
        (b'{"1": []}', r"/servers: expected an object for each record, got list"),
        (b"x" * 2000, r"/servers: the answer is larger than max_size \(1024\)"),
    ],
)
async def test_answers_that_cannot_be_used(api: Api, begin: Begin, raw: bytes, text: str) -> None:
    """Each is named, with the URL."""
    api.raw = raw
    with pytest.raises(HttpError, match=f"^http://127.0.0.1:{api.port}{text}$"):
        await begin(api, max_size=1024)


async def test_secrets_are_sent_and_not_shown(api: Api, begin: Begin) -> None:
    """The token is a header; neither it nor the query of a URL is in an error."""
    api.status = 403
    url = f"http://me:hunter2@127.0.0.1:{api.port}/servers?key=swordfish"
    with pytest.raises(HttpError) as raised:
        await begin(api, servers_url=url, token=None)
    assert str(raised.value) == f"{api.url}/servers: the answer is 403 Forbidden"
    api.status = 200
    await begin(api)
    assert api.requests[-1].headers["Authorization"] == f"Bearer {SECRET}"


async def test_a_fixed_list_of_servers(api: Api, begin: Begin) -> None:
    """An API for one server needs no list."""
    provider = await begin(
        api,
        servers_url=None,
        users_url=f"{api.url}/servers/1/users",
        server_names={"club": "The club"},
    )
    assert await provider.servers() == {"club": Server(name="The club")}
    assert await provider.users("club") == USERS
    assert await provider.users("1") is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"users_url": "ftp://x/{server_id}"}, "users_url: expected http://… or https://…"),
        ({"users_url": "http://x/1"}, "users_url: expected servers_url or server_names as well"),
        (
            {"users_url": "http://x/1", "servers_url": "http://x"},
            "users_url: expected {server_id} in it, for more than one server",
        ),
        (
            {"users_url": "http://x/{server_id}", "servers_url": "http://x", "every": 0.5},
            "every: expected a duration of 1 s at least",
        ),
        (
            {
                "users_url": "http://x/{server_id}",
                "servers_url": "http://x",
                "statuses": {"away": "afk"},
            },
            "statuses.away: 'afk' is not a status (online, idle, dnd, offline)",
        ),
    ],
)
def test_wrong_configurations(options: dict[str, Any], text: str) -> None:
    """Each is refused by name."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011  compared as a whole
        HttpConfig(**options)
    assert str(raised.value) == text


async def test_nothing_to_do(health: Health) -> None:
    """Without any option it says what is missing, and is not tried again."""
    provider = HttpProvider(HttpConfig())
    with pytest.raises(ConfigError, match=r"^expected users_url \(to pull\), or push.NAME.secret"):
        await provider.start(health.context())
    await provider.stop()


@pytest.mark.long
async def test_live(api: Api, serve: Serve, join: Join) -> None:
    """A change at the source reaches a client; while the source fails the chain goes on, and
    corrects itself when it is back."""
    below = ScriptedProvider({"1": Server(name="Plaza")}, {"1": {"9": User(username="Cy")}})
    server = await serve(
        {"below": below},
        order=("http", "below"),
        users_url=f"{api.url}/servers/{{server_id}}/users",
        servers_url=f"{api.url}/servers",
        every="1s",
        grace="100ms",
    )
    world = await join(server)
    assert world.users["7"] == EffectiveUser("7", "Ada", "online", "#ff6b6b")
    api.users["1"] = {"7": {**ADA, "status": "dnd"}}
    await world.until(lambda w: set(w.users) == {"7"} and w.users["7"].status == "dnd")
    await api.end()
    await world.until(lambda w: set(w.users) == {"9"})
    await api.begin()
    await world.until(lambda w: set(w.users) == {"7"})


async def test_a_probe_asks_once(api: Api, health: Health) -> None:
    """``d-back explain`` does not poll."""
    clock = ManualClock()
    provider = HttpProvider(pulling(api))
    await provider.start(health.context(probe=True, clock=clock))
    assert set(await provider.servers() or {}) == {"1"}
    assert clock.pending == 0
    await provider.stop()

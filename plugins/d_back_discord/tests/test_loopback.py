"""The Discord of the tests speaks the protocol of the gateway as Discord documents it."""

import json
from typing import Any

import aiohttp
import pytest
from discord_core import until
from discord_loopback import INTENTS, MAX_GUILDS, MAX_SENT, Loopback

IDENTITY = {"intents": 513, "properties": {}, "shard": [0, 1]}
HEARTBEAT = {"op": 1, "d": None}


def identify(loopback: Loopback, **fields: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
    return {"op": 2, "d": IDENTITY | {"token": loopback.token} | fields}


async def closed_after(loopback: Loopback, *sent: object, version: int = 10) -> int | None:
    """Send that, and return the code with which the gateway closes the connection."""
    url = f"{loopback.gateway_url}?v={version}&encoding=json&compress=zlib-stream"
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
        for each in sent:
            await socket.send_str(each if isinstance(each, str) else json.dumps(each))
        while not socket.closed:
            await socket.receive()
        code = socket.close_code
    await until(lambda: not loopback.wires)
    return code


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        (4001, [{"op": 99, "d": {}}]),
        (4002, ["{"]),
        (4002, [{"d": {}}]),
        (4003, [{"op": 8, "d": {"guild_id": "1"}}]),
        (4003, [{"op": 43, "d": {"guild_id": "1"}}]),
        (4008, [HEARTBEAT] * (MAX_SENT + 1)),
    ],
)
async def test_close_codes(loopback: Loopback, code: int, sent: list[object]) -> None:
    """What a client must not send ends its connection with the documented code."""
    assert await closed_after(loopback, *sent) == code


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        (4004, {"token": "another"}),
        (4010, {"shard": [1, 1]}),
        (4013, {"intents": INTENTS + 1}),
        (4014, {"intents": 513 | 1 << 15}),
    ],
)
async def test_close_codes_of_identify(
    loopback: Loopback, code: int, fields: dict[str, Any]
) -> None:
    """An IDENTIFY that is wrong ends the connection with the documented code."""
    loopback.allowed = 0
    assert await closed_after(loopback, identify(loopback, **fields)) == code


async def test_other_close_codes(loopback: Loopback) -> None:
    """So does a second IDENTIFY, too many guilds, another version, and a RESUME with a number that
    never was or of a session that is too old."""
    twice = [identify(loopback)] * 2
    assert await closed_after(loopback, *twice) == 4005
    (session,) = loopback.sessions.values()
    resume = {"token": loopback.token, "session_id": session.id, "seq": 1000}
    assert await closed_after(loopback, {"op": 6, "d": resume}) == 4007
    loopback.timed_out = True
    assert await closed_after(loopback, {"op": 6, "d": resume}) == 4009
    loopback.guilds = [{"id": str(number)} for number in range(MAX_GUILDS + 1)]
    assert await closed_after(loopback, identify(loopback)) == 4011
    assert await closed_after(loopback, version=9) == 4012


async def test_operations(loopback: Loopback) -> None:
    """Every other operation that a bot may send is taken."""
    others: list[object] = [{"op": operation, "d": {}} for operation in (1, 3, 4, 31, 43)]
    members = {"op": 8, "d": {"guild_id": "1", "presences": False, "nonce": "n"}}
    last = {"op": 0, "d": {}}
    assert await closed_after(loopback, identify(loopback), *others, members, last) == 4001
    assert [asked["nonce"] for asked in loopback.member_requests] == ["n"]
    assert loopback.heartbeats == 1

"""Dead clients are ended (R32), by one timer for all of them."""

import asyncio
import logging

import pytest
from peers import until
from raw import raw
from sample_users import ADA, ONE

from d_back_core import UserChanged
from d_back_core.gateway.keepalive import INTERVAL, SLOTS, Keepalive
from d_back_testing import ManualClock, ScriptedProvider, served

PATIENCE = 60.0
PING, CLOSE = b"\x89\x00", b"\x88"
KEEPALIVE_PING_TIMEOUT = (1011).to_bytes(2) + b"keepalive ping timeout"


async def test_r32_a_client_that_does_not_answer_its_ping_is_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is pinged within the interval, and closed with 1011 when another one is over."""
    caplog.set_level(logging.INFO, "d_back.session")
    async with (
        asyncio.timeout(PATIENCE),
        served({"town": ScriptedProvider(ONE, {"1": {"7": ADA}})}) as gateway,
        raw(gateway.server) as client,
    ):
        await client.frame()
        await gateway.clock.advance(INTERVAL)
        assert await client.frame() == PING
        await gateway.clock.advance(INTERVAL / 2)
        assert len(gateway.server.connections) == 1
        await gateway.clock.advance(INTERVAL / 2)
        closing = await client.frame()
        assert closing[:1] == CLOSE
        assert closing[2:] == KEEPALIVE_PING_TIMEOUT
        await until(lambda: not gateway.server.connections)
    assert "does not answer pings, closing" in caplog.text


@pytest.mark.parametrize(("opcode", "payload"), [(10, b""), (1, b'{"type":"connect"}')])
async def test_r32_a_sign_of_life_keeps_a_client(opcode: int, payload: bytes) -> None:
    """A client that answers, or says anything else, stays, however long nothing happens."""
    async with (
        asyncio.timeout(PATIENCE),
        served({"town": ScriptedProvider(ONE, {"1": {"7": ADA}})}) as gateway,
        raw(gateway.server) as client,
    ):
        await client.frame()
        [connection] = gateway.server.connections
        for _ in range(5):
            await gateway.clock.advance(INTERVAL)
            while await client.frame() != PING:
                pass
            client.say(opcode, payload)
            await until(lambda: connection.is_alive)
        assert connection.close_code is None


async def test_r32_a_client_that_only_reads_is_alive() -> None:
    """It sends nothing, but what waited for it has arrived since the ping."""
    source = ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with (
        asyncio.timeout(PATIENCE),
        served({"town": source}) as gateway,
        raw(gateway.server) as client,
    ):
        client.say(1, b'{"type":"connect"}')
        while b"server-join" not in await client.frame():
            pass
        await gateway.clock.advance(INTERVAL)
        while await client.frame() != PING:
            pass
        [connection] = gateway.server.connections
        assert not connection.is_alive
        names = [f"{number} " + "x" * 60_000 for number in range(300)]  # more than a socket holds
        source.emit(*(UserChanged(server_id="1", uid="7", username=name) for name in names))
        while names[-1].encode() not in await client.frame():
            pass
        await until(lambda: connection.is_alive)
        await gateway.clock.advance(INTERVAL)
        assert await client.frame() == PING


async def test_the_clients_are_spread_over_the_interval() -> None:
    """Each is pinged once in it, and never all at the same moment; without clients the timer
    ends."""
    clock = ManualClock()
    keepalive = Keepalive(clock)
    pinged: list[int] = []

    class Client:
        def __init__(self, number: int) -> None:
            self.number = number

        def ping(self) -> None:
            pinged.append(self.number)

    clients = [Client(number) for number in range(5 * SLOTS)]
    for client in clients:
        keepalive.add(client)
    for tick in range(1, SLOTS + 1):
        await clock.advance(INTERVAL / SLOTS)
        assert len(pinged) == 5 * tick
    assert sorted(pinged) == list(range(5 * SLOTS))
    for client in clients:
        keepalive.discard(client)
    await clock.advance(2 * INTERVAL)
    assert len(pinged) == 5 * SLOTS

"""A client that lost its connection goes on where it was (R24, R31)."""

import asyncio
from typing import Any

import msgspec
import pytest
from sample_users import ADA, BOB, ONE

from d_back_core import Message, UserChanged, UserRemoved
from d_back_core.chain.world import World
from d_back_core.client import connect
from d_back_core.wire.protocol import (
    Connect,
    ConnectRequest,
    Error,
    MessageFrame,
    PresenceFrame,
    Resume,
    Resumed,
    ServerJoin,
)
from d_back_testing import ManualClient, RunningGateway, ScriptedProvider, served
from d_back_testing.manual_client import RECEIVE_TIMEOUT


def town() -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}})


async def resume(
    gateway: RunningGateway, epoch: str, seq: int, password: str | None = None
) -> ManualClient:
    """A new connection that says what it knows."""
    client = await gateway.connect()
    client.world.epoch, client.world.seq = epoch, seq
    known = Resume(epoch=epoch, seq=seq)
    await client.send(Connect(data=ConnectRequest(server="1", resume=known, password=password)))
    return client


async def test_what_was_missed_is_sent_and_no_snapshot() -> None:
    """The deltas after the given number come, in order, and then the live ones."""
    source = town()
    async with served({"town": source}) as gateway:
        client = await gateway.connect_and_join()
        epoch, users = client.world.epoch, dict(client.users)
        await client.connection.close()
        source.emit(
            UserChanged(server_id="1", uid="7", status="dnd"),
            Message(server_id="1", uid="7", message="hello", channel="c"),
            UserRemoved(server_id="1", uid="8"),
        )
        await gateway.settle()
        back = await resume(gateway, epoch, 0)
        back.world.users = users
        frames = await back.new_frames()
        assert [type(frame) for frame in frames] == [
            Resumed,
            PresenceFrame,
            MessageFrame,
            PresenceFrame,
        ]
        assert back.users.keys() == {"7"}
        source.emit(UserChanged(server_id="1", uid="7", status="idle"))
        assert len(await back.new_frames()) == 1
        assert back.users["7"].status == "idle"


async def test_nothing_missed_is_a_resume_too() -> None:
    """A client that is up to date gets the answer and nothing else."""
    async with served({"town": town()}) as gateway:
        client = await gateway.connect_and_join()
        back = await resume(gateway, client.world.epoch, 0)
        assert [type(frame) for frame in await back.new_frames()] == [Resumed]


@pytest.mark.parametrize(("epoch", "seq"), [("another", 0), (None, 5), (None, 10**30), (None, -1)])
async def test_r31_what_is_not_ours_gets_a_snapshot(epoch: str | None, seq: int) -> None:
    """Another epoch, or a number that is ahead of the world, or none of it."""
    async with served({"town": town()}) as gateway:
        client = await gateway.connect_and_join()
        back = await resume(gateway, epoch or client.world.epoch, seq)
        [frame] = await back.new_frames()
        assert isinstance(frame, ServerJoin)


async def test_a_history_that_does_not_reach_back_gives_a_snapshot() -> None:
    """More was missed than is kept."""
    source = town()
    async with served({"town": source}) as gateway:
        client = await gateway.connect_and_join()
        for number in range(1100):
            source.emit(UserChanged(server_id="1", uid="7", username=str(number)))
        await client.new_frames()
        back = await resume(gateway, client.world.epoch, 10)
        [frame] = await back.new_frames()
        assert isinstance(frame, ServerJoin)
        last = await resume(gateway, client.world.epoch, 1000)
        last.world.users = dict(back.users)
        assert isinstance((await last.new_frames())[0], Resumed)


async def test_r24_resuming_authorizes_again() -> None:
    """Who has been in a protected server is not let in for knowing its epoch."""
    policies = {"1": {"password": "open sesame"}}
    async with served({"town": town()}, policies=policies) as gateway:
        client = await gateway.connect_and_join(password="open sesame")
        thief = await resume(gateway, client.world.epoch, 0)
        frame = await thief.receive()
        assert isinstance(frame, Error)
        assert frame.data.code == "unauthorized"
        owner = await resume(gateway, client.world.epoch, 0, password="open sesame")
        assert isinstance(await owner.receive(), Resumed)


@pytest.mark.parametrize("known", [{}, [], "x", {"epoch": 3, "seq": 1}, {"epoch": "a"}])
async def test_a_resume_that_is_none_is_an_error(known: Any) -> None:  # noqa: ANN401  anything
    """The connection stays."""
    async with served({"town": town()}) as gateway:
        client = await gateway.connect()
        message = {"type": "connect", "data": {"server": "1", "resume": known}}
        await client.connection.send(msgspec.json.encode(message), text=True)
        frame = await client.receive()
        assert isinstance(frame, Error)
        assert frame.data.code == "invalid_message"
        await client.join()


def test_the_epoch_is_random() -> None:
    """Two incarnations of a world are distinguished."""
    assert World("1", {}).epoch != World("1", {}).epoch


async def test_the_client_reconnects_and_resumes_by_itself() -> None:
    """Nothing is lost over a connection that breaks, and no snapshot is sent again."""
    source = town()
    async with (
        asyncio.timeout(RECEIVE_TIMEOUT),
        served({"town": source}) as gateway,
        connect(gateway.server.url) as world,
    ):
        [connection] = gateway.server.connections
        connection.transport.abort()
        await world.until(lambda world: world.resumes == 1)
        source.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await world.until(lambda world: world.users["7"].status == "dnd")
        assert world.joins == 1
        assert world.close_code is None

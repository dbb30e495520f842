"""Broadcasts while the server stops, or while its providers are exchanged."""

import asyncio
from typing import Any

import pytest

from d_back_core import WebSocketServer

LIMIT = 20.0


async def test_a_refresh_that_a_stop_overtakes_returns() -> None:
    """``refresh_data`` does not wait for a callback that is not called any more."""
    server = WebSocketServer(0)
    up, waiting = asyncio.Event(), asyncio.Event()

    @server.on_get_server_data
    async def servers() -> dict[str, Any]:
        if up.is_set():
            waiting.set()
            await asyncio.Event().wait()
        return {"1": {"name": "One"}}

    async with server:
        up.set()
        refreshing = asyncio.create_task(server.broadcast_message({"type": "refresh_data"}))
        await waiting.wait()
        assert not refreshing.done()
    async with asyncio.timeout(LIMIT):
        await refreshing


async def test_a_first_broadcast_that_a_stop_overtakes_is_dropped() -> None:
    """It puts the callbacks into the chain; the stop ends that."""
    server = WebSocketServer(0)
    async with server:
        sending = asyncio.create_task(server.broadcast_presence("1", "7", "online"))
        await asyncio.sleep(0)
    async with asyncio.timeout(LIMIT):
        await sending


@pytest.mark.parametrize("turns", range(12))
async def test_a_broadcast_that_a_stop_overtakes_returns(turns: int) -> None:
    """At whatever moment the stop comes."""
    server = WebSocketServer(0)

    @server.on_get_server_data
    async def servers() -> dict[str, Any]:
        return {"1": {"name": "One"}}

    async with server:
        many = [
            asyncio.create_task(server.broadcast_presence("1", str(uid), "online"))
            for uid in range(600)
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*many)

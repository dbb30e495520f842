"""Measure a guild of 100,000 members, with the real discord.py: run this file.

Prints our own longest step, the longest of all steps of the event loop (discord.py's, too), the
longest run of the garbage collector, and the memory of a member. Steps are in CPU time, so other
processes do not count. A discord.py without d-back, with the same intents, has its turn after each
of ours: only the ratios mean something. Each runs in a process of its own, and so does the
loopback.
"""

import asyncio
import gc
import logging
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import discord
import discord_payloads as say
from discord.gateway import DiscordWebSocket
from discord.http import Route
from discord_loopback import TOKEN, serving
from yarl import URL

from d_back_core import Clock, Context, Event, Reload, Secret
from d_back_discord import DiscordConfig, DiscordProvider, intents
from d_back_discord.layer import Layer

SIZE = 100_000
ONLINE = 1000
PAGE = 4096
ROUNDS = 3
FORK = multiprocessing.get_context("fork")
ROLE = say.snowflake(1)
WHOLE = Reload(server_id=say.GUILD_ID)


class Figures(NamedTuple):
    """What one run took until the guild was whole."""

    cpu: float
    """Seconds."""
    memory: float
    """Bytes of a member."""


class Steps:
    """How long steps took, in milliseconds of CPU."""

    def __init__(self) -> None:
        self.own: list[float] = []
        self.all: list[float] = []
        """Without the garbage collector."""
        self.collections: list[float] = []
        self._collecting = 0.0
        self._cpu = time.process_time()

    def measure(self) -> None:
        """Time our own tasks, and every call of the event loop."""
        work, run = Layer._work, asyncio.Handle._run  # noqa: SLF001

        async def timed(layer: Layer, begun: Callable[[], Awaitable[None]]) -> None:
            await _Timed(work(layer, begun), self.own)

        def timed_run(handle: asyncio.Handle) -> None:
            began, collections = time.thread_time(), len(self.collections)
            run(handle)
            took = 1000 * (time.thread_time() - began)
            self.all.append(took - sum(self.collections[collections:]))

        for place, method in ((Layer, timed), (asyncio.Handle, timed_run)):
            setattr(place, "_work" if place is Layer else "_run", method)
        gc.callbacks.append(self._collected)

    def clear(self) -> None:
        """Begin again."""
        for took in (self.own, self.all, self.collections):
            took.clear()
        self._cpu = time.process_time()

    def _collected(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self.collections.append(1000 * (time.thread_time() - self._collecting))

    def show(self, what: str, seconds: float) -> float:
        """Print them; returns the seconds of CPU of the whole process."""
        own, cpu = sorted(self.own), time.process_time() - self._cpu
        collector = max(self.collections, default=0.0)
        ours = ""
        if own:
            middle = own[len(own) // 2]
            ours = f" our longest step {own[-1]:.1f} ms (median {middle:.1f} ms of {len(own)}),"
        _print(
            f"{what}: {seconds:.2f} s, {cpu:.2f} s of CPU;{ours} the loop's longest"
            f" {max(self.all):.0f} ms, the garbage collector's {collector:.0f} ms"
        )
        return cpu


class _Timed:
    def __init__(self, work: Awaitable[None], took: list[float]) -> None:
        self._work = work
        self._took = took

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        while True:
            began = time.thread_time()
            try:
                waited_for = next(steps)
            except StopIteration:
                return
            finally:
                self._took.append(1000 * (time.thread_time() - began))
            yield waited_for


def serve(pipe: Connection) -> None:
    """Discord, in a process of its own."""

    async def run() -> None:
        async with serving() as loopback:
            members = [
                say.member(number, f"user{number}", roles=(ROLE,)) for number in range(SIZE)
            ]
            online = [say.presence(number, "online") for number in range(ONLINE)]
            role = say.role(ROLE, "red", color=0xFF0000)
            loopback.guilds = [
                say.guild(
                    members=members[:ONLINE], presences=online, roles=[role], member_count=SIZE
                )
            ]
            loopback.members[say.GUILD_ID] = members
            pipe.send((loopback.api_url, loopback.gateway_url))
            while (event := await asyncio.to_thread(pipe.recv)) is not None:
                await loopback.dispatch(*event)

    asyncio.run(run())


async def with_d_back(pipe: Connection) -> Figures:
    """Measure the provider."""
    api_url, gateway_url = pipe.recv()
    config = DiscordConfig(token=Secret(TOKEN), api_url=api_url, gateway_url=gateway_url)
    provider, steps, heard = DiscordProvider(config), Steps(), asyncio.Queue[Event]()
    context = Context(
        name="discord",
        log=logging.getLogger("measure"),
        clock=Clock(),
        stats=lambda: None,  # type: ignore[arg-type,return-value]
        degraded=_print,
        recovered=lambda: None,
    )
    gc.freeze()  # as `d-back` does
    steps.measure()
    before, began = _resident(), time.perf_counter()
    await provider.start(context)
    _print(f"start: {time.perf_counter() - began:.2f} s")
    draining = asyncio.create_task(_drain(provider, heard))
    await _whole(heard)
    cpu = steps.show("whole", time.perf_counter() - began)
    memory = (_resident() - before) / SIZE
    _print(f"memory: {memory:.0f} bytes for each member")
    await asyncio.sleep(0)
    steps.clear()
    began = time.perf_counter()
    recoloured = {"guild_id": say.GUILD_ID, "role": say.role(ROLE, "red", color=0x00AA00)}
    pipe.send(("GUILD_ROLE_UPDATE", recoloured))
    await _whole(heard)
    steps.show("all recoloured", time.perf_counter() - began)
    await provider.stop()
    await draining
    return Figures(cpu, memory)


async def alone(pipe: Connection) -> Figures:
    """Measure a client of discord.py that only holds the guild."""
    Route.BASE, gateway_url = pipe.recv()
    DiscordWebSocket.DEFAULT_GATEWAY = URL(gateway_url)
    whole, steps = asyncio.Event(), Steps()

    class Client(discord.Client):
        async def on_ready(self) -> None:
            whole.set()

    wanted = intents.wanted(DiscordConfig(token=Secret(TOKEN)))
    client = Client(intents=wanted, max_messages=None)
    gc.freeze()
    steps.measure()
    before, began = _resident(), time.perf_counter()
    running = asyncio.create_task(client.start(TOKEN))
    await whole.wait()
    cpu = steps.show("discord.py alone, whole", time.perf_counter() - began)
    memory = (_resident() - before) / SIZE
    _print(f"memory: {memory:.0f} bytes for each member")
    await client.close()
    await running
    return Figures(cpu, memory)


async def _drain(provider: DiscordProvider, heard: asyncio.Queue[Event]) -> None:
    async for event in provider.events():
        heard.put_nowait(event)


async def _whole(heard: asyncio.Queue[Event]) -> None:
    while await heard.get() != WHOLE:
        pass


def _resident() -> int:
    gc.collect()
    return PAGE * int(Path("/proc/self/statm").read_text().split()[1])


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def measure(client: Callable[[Connection], Coroutine[Any, Any, Figures]]) -> Figures:
    """Run a client in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=FORK) as process:
        return process.submit(_measure, client).result()


def _measure(client: Callable[[Connection], Coroutine[Any, Any, Figures]]) -> Figures:
    ours, theirs = multiprocessing.Pipe()
    loopback = FORK.Process(target=serve, args=(theirs,))
    loopback.start()
    figures = asyncio.run(client(ours))
    ours.send(None)
    loopback.join()
    return figures


def main() -> None:
    """Measure both in turns, and print how they compare."""
    rounds = [(measure(with_d_back), measure(alone)) for _ in range(ROUNDS)]
    for what in Figures._fields:
        ratios = [getattr(ours, what) / getattr(theirs, what) for ours, theirs in rounds]
        _print(
            f"{what}: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) of what"
            " discord.py alone takes"
        )


if __name__ == "__main__":
    main()

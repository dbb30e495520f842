"""What a provider raises or blocks stays its own failure (R19, R46)."""

import logging
import re
from collections.abc import AsyncIterator, Sequence
from time import perf_counter
from typing import TypeAlias

import pytest
from packages import Packages
from sample_users import ADA, BOB, ONE

from d_back_core import Change, Event, ProviderError, UserChanged, WebSocketServer, hookimpl
from d_back_core.config import parse
from d_back_core.wire.protocol import Error
from d_back_testing import ManualClock, ScriptedProvider, served

Exit: TypeAlias = type[SystemExit] | type[KeyboardInterrupt]


class Exiting(ScriptedProvider):
    """A provider that ends the process in one hook, as far as it can."""

    def __init__(self, hook: str, error: Exit) -> None:
        super().__init__(ONE, {"1": {"7": ADA}})
        self.exiting = hook
        self.error = error

    async def _called(self, hook: str, server_id: str = "") -> None:
        await super()._called(hook, server_id)
        if hook == self.exiting:
            raise self.error("now")

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        await self._called("events")
        yield UserChanged(server_id="1", uid="7", status="idle")

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:  # noqa: ARG002  fails before
        await self._called("record")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize(
    "hook", ["start", "servers", "users", "events", "stop", "authorize", "record"]
)
async def test_r46_an_exit_is_the_provider_s_failure(
    hook: str, error: Exit, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway continues to serve what other providers return, and names the failure."""
    exiting, other = Exiting(hook, error), ScriptedProvider(ONE, {"1": {"8": BOB}})
    providers = {"x": exiting, "other": other}
    chain = {"order": ["other"], "recorders": ["x"]} if hook == "record" else {}
    policies = {"1": {"passworded": True, "password": "right"}} if hook == "authorize" else {}
    tables = {"other": {"mode": "merge"}}
    async with served(providers, chain=chain, policies=policies, tables=tables) as gateway:
        if hook == "authorize":
            client = await gateway.connect()
            await client.ask("1", "wrong")
            assert isinstance(await client.receive(), Error)
        client = await gateway.connect_and_join("1", "right")
        assert "8" in client.users
        other.emit(UserChanged(server_id="1", uid="8", status="dnd"))
        await client.new_frames()
        assert client.users["8"].status == "dnd"
        await gateway.stop(advancing=6)  # a recorder's queue is waited for as long as a call
    assert f"provider x: {hook}: {error.__name__}: now" in caplog.text


class Blocking(ScriptedProvider):
    """A provider that blocks the event loop before each event."""

    blocked = 0.0
    """Seconds in all."""

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        for _ in range(4):
            began = perf_counter()
            while perf_counter() - began < 0.15:
                pass
            self.blocked += perf_counter() - began
            yield UserChanged(server_id="1", uid="7", username=f"after {self.blocked}")


async def test_r19_after_a_step_that_blocks_the_loop_has_as_much_time() -> None:
    """Other tasks run for at least as long as the stream has blocked them."""
    provider = Blocking(ONE, {"1": {"7": ADA}})
    began = perf_counter()
    async with served({"a": provider}) as gateway:
        client = await gateway.connect_and_join()
        while provider.blocked < 0.6 or client.users["7"].username == ADA.username:
            await client.receive()
    # Twice as long, less what a busy machine adds to the measured steps.
    assert perf_counter() - began > 1.4 * provider.blocked


DOWN_WITH_SECRET = """class Options(Struct):
    dsn: Secret
    tokens: list[Secret] = []


class Provider:
    Config = Options

    def __init__(self, config):
        self.config = config

    @hookimpl
    async def users(self, server_id):
        raise RuntimeError(f"cannot connect to {self.config.dsn.reveal()}")

    @hookimpl
    async def servers(self):
        raise RuntimeError(f"refused {self.config.tokens[0].reveal()}")
"""


async def test_r46_the_traceback_of_a_failure_has_no_secret(
    packages: Packages, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged at debug level; the warning has no secret either."""
    packages.install("club", DOWN_WITH_SECRET)
    options = {"dsn": "postgres://me:hunter2@db", "tokens": ["swordfish"]}
    tables = {"chain": {"order": ["club"]}, "providers": {"club": options}}
    caplog.set_level(logging.DEBUG)
    clock = ManualClock()
    async with WebSocketServer(0, config=parse(tables), clock=clock) as server:
        supervisor = server.live.providers.supervisors["club"]
        with pytest.raises(ProviderError, match=r"cannot connect to \*\*\*$"):
            await supervisor.call("users", server_id="1")
        with pytest.raises(ProviderError, match=r"refused \*\*\*$"):
            await supervisor.call("servers")
    assert re.search(r"in users\n +raise RuntimeError\(", caplog.text)
    assert "RuntimeError: cannot connect to ***" in caplog.text
    assert "hunter2" not in caplog.text
    assert "swordfish" not in caplog.text

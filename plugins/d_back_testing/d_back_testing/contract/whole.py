"""A whole life: what it blocks, what it shows, and what a client sees of it."""

import asyncio
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from msgspec import Struct

from d_back_core.client import connect
from d_back_core.models import Credentials, Server, User
from d_back_core.secret import Secret
from d_back_testing.contract.checks import Suite, check, check_unavailable, needs
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.promises import AUTHORIZE, BLOCKING, CALLS, SECRETS, USERS
from d_back_testing.contract.stream import Drained
from d_back_testing.contract.trial import NAME, Trial
from d_back_testing.scene import Scene, served
from d_back_testing.script import Script

PASSWORD = "contract"  # noqa: S105  opens nothing outside the check
SHORTEST_SECRET = 4
"""Characters; anything shorter may be part of any text."""


class Whole(Suite):
    """Checks of a whole life."""

    @check
    async def test_nothing_blocks_the_event_loop(self, trial: Trial) -> None:
        """None of its code waits for a file, a socket, a lock or the time without an await.

        Skipped without blockbuster: ``pip install d-back-testing[blocking]``.
        """
        try:
            from blockbuster import BlockingError, blockbuster_ctx  # noqa: PLC0415  optional
        except ModuleNotFoundError:
            pytest.skip("needs blockbuster: pip install d-back-testing[blocking]")
        try:
            with blockbuster_ctx(_code_of(trial.provider)) as watch:
                for watched in watch.functions.values():  # where its log goes is not its business
                    watched.can_block_in("logging/__init__.py", "callHandlers")
                for name in self.may_block:
                    watch.functions[name].deactivate()
                await self._live(trial)
        except ContractError as error:
            if not isinstance(error.__cause__, BlockingError):
                raise
            blocked = f"{trial.kind}: {error.__cause__}, on the event loop."
            raise ContractError(blocked, BLOCKING) from error.__cause__
        for line in (*trial.log.lines, *trial.unheard):
            if BlockingError.__name__ in line:
                raise ContractError(f"{trial.kind} blocked the event loop: {line}", BLOCKING)

    @check
    async def test_secrets_stay_hidden(self, trial: Trial) -> None:
        """Neither its repr nor its log shows a secret that it holds."""
        await self._live(trial)
        self._check_hidden(trial, trial.log.lines)

    @check_unavailable
    async def test_secrets_stay_hidden_when_it_fails(self, trial: Trial) -> None:
        """What it raises and logs without its source shows no secret."""
        raised = ""
        try:
            await trial.call("start", CALLS, context=trial.context())
        except ContractError:
            raise
        except Exception as error:  # noqa: BLE001  other people's code: it may raise anything
            raised = repr(error) + str(error)
        await trial.stop()
        self._check_hidden(trial, [raised, *trial.log.lines, *trial.degraded])

    @check
    async def test_a_client_sees_its_users(self, trial: Trial) -> None:
        """Behind a real gateway, a client is shown all its users."""
        needs(trial, "users")
        known = await trial.ready()
        listed = await trial.servers() or {}
        expected = {each: set(await trial.users(each) or {}) for each in known}
        await trial.stop()
        closed = {each for each, server in listed.items() if server.enabled is False}
        others = [each for each in known if each not in listed]
        below = Script(  # lists what it only adds to
            {each: Server(name=each) for each in others},
            {each: {uid: User(username=uid) for uid in expected[each]} for each in others},
        )
        providers = {NAME: trial.provider, "below": below}
        async with served(
            providers,
            trial.clock,
            tables={NAME: {"mode": "merge"}, "below": {"mode": "merge"}},
            policies={each: {"password": PASSWORD} for each in known},
        ) as scene:
            for each in known:
                if each not in closed:
                    await _check_seen(trial, scene, each, expected[each])

    async def _live(self, trial: Trial) -> None:
        """Ask it whatever it can be asked, from start to stop."""
        known = await trial.ready()
        for each in known:
            offer = Credentials(password=PASSWORD)
            asked = {"server_id": each, "credentials": offer, "address": ""}
            await trial.ask("authorize", AUTHORIZE, **asked)
        if trial.implements("events"):
            async with Drained(trial) as drained:
                await trial.pass_time(1)
                if self.can_happen:
                    await self.happen()
                    await trial.until(lambda: drained.events)
                drained.check_running()
        await trial.stop()

    def _check_hidden(self, trial: Trial, lines: list[str]) -> None:
        secrets = {*self.secrets, *_secrets_in(trial.provider)}
        shown = [repr(trial.provider), str(trial.provider), *lines]
        for text in shown:
            if any(secret in text for secret in secrets if len(secret) >= SHORTEST_SECRET):
                hidden = text
                for secret in secrets:
                    hidden = hidden.replace(secret, "[the secret]")
                raise ContractError(f"{trial.kind} shows a secret: {hidden:.300}", SECRETS)


async def _check_seen(trial: Trial, scene: Scene, server_id: str, expected: set[str]) -> None:
    async with (
        asyncio.timeout(2 * trial.patience),
        connect(scene.url, server_id, password=PASSWORD) as world,
    ):
        for _ in range(2):  # they stay, too
            if not await trial.until(lambda: set(world.users) >= expected):
                now = await trial.users(server_id) or {}
                missing = sorted(expected & set(now) - set(world.users))
                if missing:
                    raise ContractError(
                        f"a client in '{server_id}' is not shown {missing[:3]}; the log says:"
                        f" {trial.log.warnings[-3:]}.",
                        USERS,
                    )
            await trial.pass_time(1)


def _code_of(provider: object) -> ModuleType:
    """The package, or the module, that the provider's class is in."""
    name = type(provider).__module__
    return sys.modules.get(name.split(".", maxsplit=1)[0]) or sys.modules[name]


def _secrets_in(thing: object, depth: int = 3) -> Iterator[str]:
    """The secrets in its attributes, and in the structs among these."""
    if isinstance(thing, Secret):
        yield thing.reveal()
    elif depth:
        names = thing.__struct_fields__ if isinstance(thing, Struct) else ()
        values: list[Any] = [getattr(thing, name) for name in names]
        if depth == 3:  # noqa: PLR2004  the provider itself
            values += getattr(thing, "__dict__", {}).values()
        for value in values:
            if isinstance(value, Secret | Struct):
                yield from _secrets_in(value, depth - 1)

"""Checks of a whole run: blocking calls, secrets, and the view of a client."""

import asyncio
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from msgspec import Struct

from d_back_core import Credentials, Secret, Server, User
from d_back_core.client import connect
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.event_checks import StreamReader
from d_back_testing.contract.harness import NAME, Harness
from d_back_testing.contract.rules import AUTHORIZE, BLOCKING, CALLS, SECRETS, USERS
from d_back_testing.contract.suite import Suite, check, check_unavailable, needs
from d_back_testing.running_gateway import RunningGateway, served
from d_back_testing.scripted_provider import ScriptedProvider

PASSWORD = "contract"  # noqa: S105  a password of the check only
SHORTEST_SECRET = 4
"""Characters. A shorter secret may be part of any text."""


class EndToEndChecks(Suite):
    """Checks of a whole run."""

    @check
    async def test_nothing_blocks_the_event_loop(self, harness: Harness) -> None:
        """The provider's code makes no blocking call: no file, socket, lock or sleep.

        Skipped without blockbuster: ``pip install 'd-back-testing[blocking]'``.
        """
        try:
            from blockbuster import BlockingError, blockbuster_ctx  # noqa: PLC0415  optional
        except ModuleNotFoundError:
            pytest.skip("needs blockbuster: pip install 'd-back-testing[blocking]'")
        try:
            with blockbuster_ctx(_code_of(harness.provider)) as watch:
                for watched in watch.functions.values():  # the log handlers are not the provider's
                    watched.can_block_in("logging/__init__.py", "callHandlers")
                for name in self.may_block:
                    watch.functions[name].deactivate()
                await self._run(harness)
        except ContractError as error:
            if not isinstance(error.__cause__, BlockingError):
                raise
            blocked = f"{harness.kind}: {error.__cause__}, on the event loop."
            raise ContractError(blocked, BLOCKING) from error.__cause__
        for line in (*harness.log.lines, *harness.unhandled):
            if BlockingError.__name__ in line:
                raise ContractError(f"{harness.kind} blocked the event loop: {line}", BLOCKING)

    @check
    async def test_secrets_stay_hidden(self, harness: Harness) -> None:
        """Neither the repr nor the log of the provider shows a secret that it holds."""
        await self._run(harness)
        self._check_hidden(harness, harness.log.lines)

    @check_unavailable
    async def test_secrets_stay_hidden_on_failure(self, harness: Harness) -> None:
        """Without its source, neither exceptions nor the log show a secret."""
        raised = ""
        try:
            await harness.call("start", CALLS, context=harness.context())
        except ContractError:
            raise
        except Exception as error:  # noqa: BLE001  the provider's code may raise anything
            raised = repr(error) + str(error)
        await harness.stop()
        self._check_hidden(harness, [raised, *harness.log.lines, *harness.degraded])

    @check
    async def test_client_sees_all_users(self, harness: Harness) -> None:
        """A client of a real gateway sees all users of the provider, and they stay."""
        needs(harness, "users")
        known = await harness.ready()
        listed = await harness.servers() or {}
        expected = {each: set(await harness.users(each) or {}) for each in known}
        await harness.stop()
        closed = {each for each, server in listed.items() if server.enabled is False}
        others = [each for each in known if each not in listed]
        below = ScriptedProvider(  # lists the servers that the provider only adds to
            {each: Server(name=each) for each in others},
            {each: {uid: User(username=uid) for uid in expected[each]} for each in others},
        )
        providers = {NAME: harness.provider, "below": below}
        async with served(
            providers,
            harness.clock,
            tables={NAME: {"mode": "merge"}, "below": {"mode": "merge"}},
            policies={each: {"password": PASSWORD} for each in known},
        ) as gateway:
            for each in known:
                if each not in closed:
                    await _check_seen(harness, gateway, each, expected[each])

    async def _run(self, harness: Harness) -> None:
        """Call every hook once, from ``start`` to ``stop``."""
        known = await harness.ready()
        for each in known:
            offer = Credentials(password=PASSWORD)
            asked = {"server_id": each, "credentials": offer, "address": ""}
            await harness.ask("authorize", AUTHORIZE, **asked)
        if harness.implements("events"):
            async with StreamReader(harness) as reader:
                await harness.advance(1)
                if self.can_trigger_event:
                    await self.trigger_event()
                    await harness.until(lambda: reader.events)
                reader.check_running()
        await harness.stop()

    def _check_hidden(self, harness: Harness, lines: list[str]) -> None:
        secrets = {*self.secrets, *_secrets_in(harness.provider)}
        shown = [repr(harness.provider), str(harness.provider), *lines]
        for text in shown:
            if any(secret in text for secret in secrets if len(secret) >= SHORTEST_SECRET):
                hidden = text
                for secret in secrets:
                    hidden = hidden.replace(secret, "[the secret]")
                raise ContractError(f"{harness.kind} shows a secret: {hidden:.300}", SECRETS)


async def _check_seen(
    harness: Harness, gateway: RunningGateway, server_id: str, expected: set[str]
) -> None:
    async with (
        asyncio.timeout(2 * harness.timeout),
        connect(gateway.url, server_id, password=PASSWORD) as world,
    ):
        for _ in range(2):  # the second time: they stay
            if not await harness.until(lambda: set(world.users) >= expected):
                now = await harness.users(server_id) or {}
                missing = sorted(expected & set(now) - set(world.users))
                if missing:
                    raise ContractError(
                        f"a client in '{server_id}' does not see {missing[:3]}; the log:"
                        f" {harness.log.warnings[-3:]}.",
                        USERS,
                    )
            await harness.advance(1)


def _code_of(provider: object) -> ModuleType:
    """Return the package, or the module, of the provider's class."""
    name = type(provider).__module__
    return sys.modules.get(name.split(".", maxsplit=1)[0]) or sys.modules[name]


def _secrets_in(holder: object, depth: int = 3) -> Iterator[str]:
    """Yield the secrets in the attributes of an object, and in the structs among these."""
    if isinstance(holder, Secret):
        yield holder.reveal()
    elif depth:
        names = holder.__struct_fields__ if isinstance(holder, Struct) else ()
        values: list[Any] = [getattr(holder, name) for name in names]
        if depth == 3:  # noqa: PLR2004  the provider itself
            values += getattr(holder, "__dict__", {}).values()
        for value in values:
            if isinstance(value, Secret | Struct):
                yield from _secrets_in(value, depth - 1)

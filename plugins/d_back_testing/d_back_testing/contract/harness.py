"""Runs one provider for a check, and calls its hooks as the core does."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from starlette.routing import BaseRoute

from d_back_core import ConfigError, Context, PluginError, Server, User
from d_back_core.errors import described
from d_back_core.providers.loader import Plugin, load
from d_back_core.providers.routes import check_routes
from d_back_testing.clock import ManualClock
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.rules import (
    CALLS,
    HOOKS,
    NOT_MINE,
    ROUTES,
    SERVERS,
    STOP,
    USERS,
    Rule,
)
from d_back_testing.leaks import Leaks
from d_back_testing.log import Log
from d_back_testing.running_gateway import configured

T = TypeVar("T")

NAME = "contract"
"""The name of the provider during a check."""
TURN = 0.01
"""Seconds between two evaluations of a condition."""
MAX_SERVERS = 3
"""The number of servers that a check looks at."""


class Harness:
    """One instance of a provider, with the context and the clock that the core would give it.

    The clock follows the real time while the harness waits. `advance` moves it at once.
    """

    def __init__(self, provider: object, log: Log, timeout: float, server_id: str | None) -> None:
        self.provider = provider
        self.kind = type(provider).__name__
        self.clock = ManualClock()
        self.log = log
        self.timeout = timeout
        self.degraded: list[str] = []
        """The reasons that the provider has given to ``context.degraded``."""
        self.is_degraded = False
        """True if the provider of this run has called ``degraded`` and not yet ``recovered``."""
        self.unhandled: list[str] = []
        """Errors of tasks that no code has awaited, as the event loop reported them."""
        self.server_id = server_id
        self._plugin: Plugin | None = None
        self._started = 0
        self._contexts = 0
        self._present_context = 0
        """The number of this run's context; 0 if no run has begun: as in the core, ``degraded``
        and ``recovered`` of another one do nothing."""
        self._leaks = Leaks(self.clock)
        asyncio.get_running_loop().set_exception_handler(self._on_unhandled)

    @property
    def plugin(self) -> Plugin:
        """The provider as the core loads it. Raises `ContractError` if it does not load."""
        if self._plugin is None:
            try:
                (self._plugin,) = load(configured([NAME]), {NAME: self.provider})
            except PluginError as error:
                raise ContractError(f"{self.kind} does not load: {error}", HOOKS) from None
        return self._plugin

    def implements(self, hook: str) -> bool:
        return self.plugin.implements(hook)

    # Life cycle

    def context(self, *, probe: bool = False) -> Context:
        """Return a context for `start`."""
        self._contexts += 1
        return Context(
            name=NAME,
            log=logging.getLogger(f"d_back.providers.{NAME}"),
            clock=self.clock,
            probe=probe,
            degraded=partial(self._on_degraded, self._contexts),
            recovered=partial(self._on_recovered, self._contexts),
            holds=lambda _: True,
        )

    async def start(self, *, probe: bool = False) -> None:
        """Call ``start``, if the provider implements it."""
        self._started += 1
        await self.ask("start", CALLS, context=self.context(probe=probe))
        self._present_context = self._contexts

    async def attempt_start(self) -> Exception | None:
        """Call ``start``, and return what it raised. ``stop`` is due in both cases."""
        self._started += 1
        try:
            await self.call("start", CALLS, context=self.context())
        except ContractError:
            raise
        except Exception as error:  # noqa: BLE001  the provider's code may raise anything
            return error
        self._present_context = self._contexts
        return None

    async def stop(self) -> None:
        """Call ``stop``, if the provider implements it."""
        self._started -= 1
        self._present_context, self.is_degraded = 0, False
        await self.ask("stop", STOP)

    async def end(self) -> None:
        """Stop the provider if the check has not; errors are ignored."""
        if self._started > 0 and self.implements("stop"):
            await asyncio.wait([asyncio.ensure_future(self.plugin.call("stop"))], timeout=5)

    def _on_degraded(self, context: int, reason: str) -> None:
        self.degraded.append(reason)
        if context == self._present_context:
            self.is_degraded = True

    def _on_recovered(self, context: int) -> None:
        if context == self._present_context:
            self.is_degraded = False

    # Waiting

    async def pause(self) -> None:
        """Give the provider's tasks time to reach their next wait."""
        await asyncio.sleep(TURN)
        await self.clock.advance(TURN)

    async def until(
        self,
        condition: Callable[[], object],
        turn: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(TURN),
        *,
        clock_stands: bool = False,
    ) -> bool:
        """Wait for the condition; False if it does not hold in time. With ``clock_stands``, the
        clock does not follow the real time meanwhile."""
        loop = asyncio.get_running_loop()
        began = last = loop.time()
        while not condition():
            await turn()
            now = loop.time()
            await self.clock.advance(0 if clock_stands else now - last)
            last = now
            if now - began > self.timeout:
                return bool(condition())
        return True

    async def within(self, awaitable: Awaitable[T], what: str, rule: Rule) -> T:
        """Return what the awaitable returns. Raises `ContractError` if it takes too long."""
        task = asyncio.ensure_future(awaitable)
        try:
            if not await self.until(task.done, lambda: asyncio.wait([task], timeout=TURN)):
                raise ContractError(f"{what} has not returned within {self.timeout:g} s.", rule)
        finally:
            task.cancel()
        return await task

    def routes(self) -> Sequence[BaseRoute]:
        """Return the provider's routes. Raises `ContractError` if the core refuses them."""
        try:
            check_routes([self.plugin], f"{self.kind}.routes")
        except ConfigError as error:
            raise ContractError(str(error), ROUTES) from None
        return self.plugin.routes

    async def advance(self, seconds: float) -> None:
        """Move the provider's clock."""
        await self.clock.advance(seconds)

    # Calling hooks

    async def call(self, hook: str, rule: Rule, **arguments: object) -> Any:  # noqa: ANN401
        """Call a hook; None if the provider does not implement it. Its exceptions pass."""
        if not self.implements(hook):
            return None
        what = f"{self.kind}.{hook}"
        return await self.within(self.plugin.call(hook, **arguments), what, rule)

    async def ask(self, hook: str, rule: Rule, **arguments: object) -> Any:  # noqa: ANN401
        """Call a hook that must not raise; an exception becomes a `ContractError`."""
        try:
            return await self.call(hook, rule, **arguments)
        except ContractError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            shown = ", ".join(repr(v) for k, v in arguments.items() if k != "context")
            raised = f"{self.kind}.{hook}({shown}) raised {described(error)}"
            raise ContractError(raised, rule) from error

    async def servers(self) -> Mapping[str, Server] | None:
        """Call ``servers``."""
        answer = await self.ask("servers", SERVERS)
        return None if answer is None else mapping(answer, f"{self.kind}.servers()", SERVERS)

    async def users(self, server_id: str) -> Mapping[str, User] | None:
        """Call ``users``."""
        answer = await self.ask("users", USERS, server_id=server_id)
        what = f"{self.kind}.users({server_id!r})"
        return None if answer is None else mapping(answer, what, USERS)

    async def ready(self) -> list[str]:
        """Start the provider, wait until it answers, and return `known`."""
        await self.start()
        return await self.known()

    async def known(self) -> list[str]:
        """Wait until the provider answers for its servers, and return the server_ids, at most
        ``MAX_SERVERS``."""
        wanted = [] if self.server_id is None else [self.server_id]
        if self.implements("servers"):
            listed = await self._listed()
            wanted += [each for each in listed if each not in wanted]
        elif not wanted and self.implements("users"):
            raise ContractError(
                f"{self.kind} has users but lists no servers: name one that it knows, as"
                " `server_id = ...` in the test's class.",
                NOT_MINE,
            )
        if self.implements("users"):
            for each in wanted[:MAX_SERVERS]:
                await self._users_of(each)
        return wanted[:MAX_SERVERS]

    async def _listed(self) -> Mapping[str, Server]:
        if self.implements("record"):  # a recorder answers None while it has recorded nothing
            return await self.servers() or {}
        return await self.first_answer(self.servers, f"{self.kind}.servers()", SERVERS)

    async def _users_of(self, server_id: str) -> Mapping[str, User]:
        what = f"{self.kind}.users({server_id!r})"
        return await self.first_answer(lambda: self.users(server_id), what, NOT_MINE)

    async def first_answer(
        self, ask: Callable[[], Awaitable[T | None]], what: str, rule: Rule
    ) -> T:
        """Ask until the answer is not None. Raises `ContractError` if that takes too long."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (answer := await ask()) is None:
            if loop.time() - began > self.timeout:
                raise ContractError(f"{what} still returns None after {self.timeout:g} s.", rule)
            await self.pause()
        return answer

    # After stop

    async def leaks(self) -> list[str]:
        """Wait until nothing is left, and return what is left when the time is over. The clock
        stands still, so that a timer that was not cancelled does not expire."""
        await self.until(lambda: not self._leaks.found(), clock_stands=True)
        return self._leaks.found()

    async def check_no_leaks(self, after: str) -> None:
        """Raise `ContractError` if something is left."""
        if leaks := await self.leaks():
            raise ContractError(f"{self.kind} has not released {after}: {', '.join(leaks)}.", STOP)

    def check_no_unhandled(self) -> None:
        """Raise `ContractError` if a task has failed and no code has awaited it."""
        gc.collect()  # the event loop reports such a task when it is collected
        if self.unhandled:
            raise ContractError(
                f"{self.kind}, in the background: {'; '.join(self.unhandled)}.", STOP
            )

    def _on_unhandled(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        message = str(context.get("message"))
        self.unhandled.append(f"{message}: {described(error)}" if error else message)


def mapping(answer: object, what: str, rule: Rule) -> Mapping[str, Any]:
    """Return the answer. Raises `ContractError` if it is not a mapping."""
    if not isinstance(answer, Mapping):
        raise ContractError(
            f"{what} returned {type(answer).__name__}, expected a mapping or None.", rule
        )
    return answer

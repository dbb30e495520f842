"""A provider in the hands of the contract, which calls it as the core does."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from d_back_core.errors import PluginError, described
from d_back_core.hookspecs import Context
from d_back_core.models import Server, User
from d_back_core.providers.loader import Plugin, load
from d_back_testing.clock import ManualClock
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.promises import (
    CALLS,
    HOOKS,
    NOT_MINE,
    SERVERS,
    STOP,
    USERS,
    Promise,
)
from d_back_testing.leftovers import Leftovers
from d_back_testing.log import Log
from d_back_testing.scene import configured

T = TypeVar("T")

NAME = "contract"
"""What the provider is called while it is tried."""
TURN = 0.01
"""Seconds after which a condition is looked at again."""


class Trial:
    """One instance of a provider, and what the core would give it.

    Its clock follows the real time while something is waited for, and is moved on by
    `pass_time`.
    """

    def __init__(self, provider: object, log: Log, patience: float, server_id: str | None) -> None:
        self.provider = provider
        self.kind = type(provider).__name__
        self.clock = ManualClock()
        self.log = log
        self.patience = patience
        self.degraded: list[str] = []
        """What it said about data that may be out of date."""
        self.unheard: list[str] = []
        """What the event loop was told of failures that nobody took."""
        self.server_id = server_id
        self._plugin: Plugin | None = None
        self._started = 0
        self._leftovers = Leftovers(self.clock)
        asyncio.get_running_loop().set_exception_handler(self._unheard)

    @property
    def plugin(self) -> Plugin:
        """The provider as the core has it, once its hooks are known to be right."""
        if self._plugin is None:
            try:
                (self._plugin,) = load(configured([NAME]), {NAME: self.provider})
            except PluginError as error:
                raise ContractError(f"{self.kind} does not load: {error}", HOOKS) from None
        return self._plugin

    def implements(self, hook: str) -> bool:
        return self.plugin.implements(hook)

    # Its life

    def context(self, *, probe: bool = False) -> Context:
        """What `start` is given."""
        return Context(
            name=NAME,
            log=logging.getLogger(f"d_back.providers.{NAME}"),
            clock=self.clock,
            probe=probe,
            degraded=self.degraded.append,
            recovered=lambda: None,
            holds=lambda _: True,
        )

    async def start(self, *, probe: bool = False) -> None:
        """Start it, where it has something to start."""
        self._started += 1
        await self.ask("start", CALLS, context=self.context(probe=probe))

    async def stop(self) -> None:
        """Stop it, where it has something to stop."""
        self._started -= 1
        await self.ask("stop", STOP)

    async def end(self) -> None:
        """Stop whatever a check has left running, however that goes."""
        if self._started > 0 and self.implements("stop"):
            await asyncio.wait([asyncio.ensure_future(self.plugin.call("stop"))], timeout=5)

    # Waiting

    async def until(
        self,
        condition: Callable[[], object],
        turn: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(TURN),
        *,
        standing: bool = False,
    ) -> bool:
        """Whether the condition held in time. ``standing``: its clock stands still meanwhile."""
        loop = asyncio.get_running_loop()
        began = last = loop.time()
        while not condition():
            await turn()
            now = loop.time()
            await self.clock.advance(0 if standing else now - last)
            last = now
            if now - began > self.patience:
                return bool(condition())
        return True

    async def within(self, awaitable: Awaitable[T], what: str, promise: Promise) -> T:
        """What it returns or raises, in time."""
        task = asyncio.ensure_future(awaitable)
        try:
            if not await self.until(task.done, lambda: asyncio.wait([task], timeout=TURN)):
                raise ContractError(
                    f"{what} has not returned within {self.patience:g} s.", promise
                )
        finally:
            task.cancel()
        return await task

    async def pass_time(self, seconds: float) -> None:
        """Let so much of the provider's time pass at once."""
        await self.clock.advance(seconds)

    # Asking

    async def call(self, hook: str, promise: Promise, **arguments: object) -> Any:  # noqa: ANN401
        """What the hook returns or raises; None where it is not implemented."""
        if not self.implements(hook):
            return None
        what = f"{self.kind}.{hook}"
        return await self.within(self.plugin.call(hook, **arguments), what, promise)

    async def ask(self, hook: str, promise: Promise, **arguments: object) -> Any:  # noqa: ANN401
        """As `call`; whatever is raised breaks the contract."""
        try:
            return await self.call(hook, promise, **arguments)
        except ContractError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            shown = ", ".join(repr(v) for k, v in arguments.items() if k != "context")
            raised = f"{self.kind}.{hook}({shown}) raised {described(error)}"
            raise ContractError(raised, promise) from error

    async def servers(self) -> Mapping[str, Server] | None:
        """What it says of servers."""
        answer = await self.ask("servers", SERVERS)
        return None if answer is None else mapping(answer, f"{self.kind}.servers()", SERVERS)

    async def users(self, server_id: str) -> Mapping[str, User] | None:
        """What it says of that server's users."""
        answer = await self.ask("users", USERS, server_id=server_id)
        what = f"{self.kind}.users({server_id!r})"
        return None if answer is None else mapping(answer, what, USERS)

    async def ready(self) -> list[str]:
        """Start it and wait until it knows the users of its servers; returns which these are,
        three at most."""
        await self.start()
        return await self.known()

    async def known(self) -> list[str]:
        """The servers whose users it knows, once it does; three at most."""
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
            for each in wanted[:3]:
                await self._users_of(each)
        return wanted[:3]

    async def _listed(self) -> Mapping[str, Server]:
        if self.implements("record"):  # one that has nothing to remember yet cannot say
            return await self.servers() or {}
        return await self.eventually(self.servers, f"{self.kind}.servers()", SERVERS)

    async def _users_of(self, server_id: str) -> Mapping[str, User]:
        what = f"{self.kind}.users({server_id!r})"
        return await self.eventually(lambda: self.users(server_id), what, NOT_MINE)

    async def eventually(
        self, ask: Callable[[], Awaitable[T | None]], what: str, promise: Promise
    ) -> T:
        """The first answer that is not None."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (answer := await ask()) is None:
            if loop.time() - began > self.patience:
                raise ContractError(
                    f"{what} still answers None after {self.patience:g} s.", promise
                )
            await asyncio.sleep(TURN)
            await self.clock.advance(TURN)
        return answer

    # Afterwards

    async def left(self) -> list[str]:
        """What it has not given back, after some patience; a timer is not let run out."""
        await self.until(lambda: not self._leftovers.found(), standing=True)
        return self._leftovers.found()

    async def check_nothing_left(self, after: str) -> None:
        """Break the contract where something is left."""
        if left := await self.left():
            raise ContractError(f"{self.kind} left behind {after}: {', '.join(left)}.", STOP)

    def check_heard(self) -> None:
        """Break the contract where a task has failed and nobody has looked."""
        gc.collect()
        if self.unheard:
            raise ContractError(
                f"{self.kind}, in the background: {'; '.join(self.unheard)}.", STOP
            )

    def _unheard(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        said = str(context.get("message"))
        self.unheard.append(f"{said}: {described(error)}" if error else said)


def mapping(answer: object, what: str, promise: Promise) -> Mapping[str, Any]:
    """The answer, which must be a mapping."""
    if not isinstance(answer, Mapping):
        raise ContractError(
            f"{what} answered with {type(answer).__name__}, neither a mapping nor None.", promise
        )
    return answer

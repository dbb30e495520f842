"""How a check is run: on an event loop of its own, whatever runs the tests around it."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, ClassVar, TypeAlias

import pytest

from d_back_core.testing.contract.error import ContractError
from d_back_core.testing.contract.trial import Trial
from d_back_core.testing.log import logged

Test: TypeAlias = Callable[[Any, pytest.FixtureRequest], None]


class Suite:
    """What an author says of the provider that is tried."""

    provider: Callable[..., Any]
    """Makes a provider, not started: a method that returns it or yields it, async or not. Its
    arguments are pytest fixtures. Called once for every check, on the event loop on which the
    provider then runs; what it needs meanwhile (a server that answers it) lives there around a
    ``yield``."""
    server_id: ClassVar[str | None] = None
    """A server whose users it knows, beside those that `servers` lists."""
    every_server: ClassVar[bool] = False
    """Whether it says the same of any server, known or not: colours for whoever is there."""
    patience: ClassVar[float] = 30.0
    """Seconds after which what a check waits for is taken for lost."""


def check(body: Callable[[Any, Trial], Awaitable[None]]) -> Test:
    """Make a test of a check: a plain function, that every configuration of pytest runs."""

    def test(self: Suite, request: pytest.FixtureRequest) -> None:
        __tracebackhide__ = True
        arguments = inspect.signature(self.provider).parameters
        fixtures = {name: request.getfixturevalue(name) for name in arguments}
        try:
            with asyncio.Runner() as runner:
                runner.run(_tried(self, fixtures, body))
        except ContractError as broken:
            pytest.fail(broken.told(), pytrace=False)

    test.__name__, test.__qualname__ = body.__name__, body.__qualname__
    test.__doc__, test.__module__ = body.__doc__, body.__module__
    return test


async def _tried(
    suite: Suite, fixtures: dict[str, Any], body: Callable[[Any, Trial], Awaitable[None]]
) -> None:
    with logged("", level=0) as log:
        async with made(suite.provider, fixtures) as provider:
            trial = Trial(provider, log, suite.patience, suite.server_id)
            try:
                await body(suite, trial)
            finally:
                await trial.end()


@asynccontextmanager
async def made(factory: Callable[..., Any], fixtures: dict[str, Any]) -> AsyncIterator[object]:
    """What the factory makes, whichever way it is written."""
    product = factory(**fixtures)
    async with AsyncExitStack() as stack:
        if inspect.isasyncgen(product):
            product = await stack.enter_async_context(asynccontextmanager(lambda: product)())
        elif inspect.isgenerator(product):
            product = stack.enter_context(contextmanager(lambda: product)())
        elif inspect.isawaitable(product):
            product = await product
        yield product


def needs(trial: Trial, *hooks: str) -> None:
    """Skip the check where the provider has none of these hooks."""
    if not any(trial.implements(hook) for hook in hooks):
        pytest.skip(f"{trial.kind} has no hook {' or '.join(hooks)}")

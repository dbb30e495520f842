"""How a check is run: on an event loop of its own, whatever runs the tests around it."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, ClassVar, TypeAlias

import pytest

from d_back_testing.contract.error import ContractError
from d_back_testing.contract.trial import Trial
from d_back_testing.log import logged

Body: TypeAlias = Callable[[Any, Trial], Awaitable[None]]
Test: TypeAlias = Callable[[Any, pytest.FixtureRequest], None]

FAREWELL = 2.0
"""Seconds that tasks get to end when the check is over."""


class Suite:
    """What an author says of the provider that is tried."""

    provider: Callable[..., Any]
    """Makes a provider, not started: a method that returns it or yields it, async or not. Its
    arguments are pytest fixtures. Called once for every check, on the event loop on which the
    provider then runs; what it needs meanwhile (a server that answers it) lives there around a
    ``yield``."""
    unavailable: Callable[..., Any]
    """The same, for a provider whose source is not there: nobody listens on the port, the file
    is missing. Not needed."""
    server_id: ClassVar[str | None] = None
    """A server whose users it knows, beside those that `servers` lists."""
    every_server: ClassVar[bool] = False
    """Whether it says the same of any server, known or not: colours for whoever is there."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Its table of d-back.toml, where ``Config`` needs one."""
    secrets: ClassVar[Sequence[str]] = ()
    """What must not be seen, beside each `Secret` that it holds."""
    http_paths: ClassVar[Sequence[str]] = ()
    """Paths that it serves."""
    may_block: ClassVar[Sequence[str]] = ()
    """Blocking calls that a library makes for it and that it cannot help, by the names in which
    the check tells them: ``os.stat``."""
    patience: ClassVar[float] = 30.0
    """Seconds after which what a check waits for is taken for lost."""

    async def happen(self) -> None:
        """Let something happen in the source that the provider tells as an event: a user of
        `server_id` changes, or says something. Not needed."""
        raise NotImplementedError

    @property
    def can_happen(self) -> bool:
        return type(self).happen is not Suite.happen


def check(body: Body) -> Test:
    """Make a test of a check: a plain function, that every configuration of pytest runs."""
    return _test(body, "provider")


def check_unavailable(body: Body) -> Test:
    """The same, of a provider whose source is not there."""
    return _test(body, "unavailable")


def _test(body: Body, factory: str) -> Test:
    def test(self: Suite, request: pytest.FixtureRequest) -> None:
        __tracebackhide__ = True
        make = getattr(self, factory, None)
        if make is None and factory == "provider":
            raise TypeError(f"{type(self).__name__}: say how it is made: def provider(self)")
        if make is None:
            pytest.skip(f"{type(self).__name__} does not say: def {factory}(self)")
        arguments = inspect.signature(make).parameters
        fixtures = {name: request.getfixturevalue(name) for name in arguments}
        broken = None
        try:
            _run(_tried(self, make(**fixtures), body))
        except ContractError as error:
            broken = error
        if broken is not None:  # told here, lest pytest show where it was found as well
            pytest.fail(broken.told(), pytrace=False)

    test.__name__, test.__qualname__ = body.__name__, body.__qualname__
    test.__doc__, test.__module__ = body.__doc__, body.__module__
    return test


def _run(tried: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, but for tasks that sit out their cancellation: they would hold up for
    ever what is to be told about them."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(tried)
    finally:
        loop.set_exception_handler(lambda *_: None)  # it is known by now
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=FAREWELL))
        if all(task.done() for task in tasks):
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _tried(suite: Suite, product: object, body: Body) -> None:
    with logged(level=logging.DEBUG), logged("", level=logging.INFO) as log:
        async with made(product) as provider:
            trial = Trial(provider, log, suite.patience, suite.server_id)
            try:
                await body(suite, trial)
            finally:
                await trial.end()


@asynccontextmanager
async def made(product: Any) -> AsyncIterator[object]:  # noqa: ANN401  of any type
    """The provider that a factory has made, whichever way it is written."""
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

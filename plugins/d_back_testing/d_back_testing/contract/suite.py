"""The base of all checks: the attributes of a contract class, and how a check is run.

Each check is a plain test function that runs its coroutine on an event loop of its own. So it
works with every async plugin of pytest, and without one.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, ClassVar, TypeAlias

import pytest

from d_back_testing.contract.error import ContractError
from d_back_testing.contract.harness import Harness
from d_back_testing.log import logged

Body: TypeAlias = Callable[[Any, Harness], Awaitable[None]]
Test: TypeAlias = Callable[[Any, pytest.FixtureRequest], None]

CLEANUP_TIMEOUT = 2.0
"""Seconds that tasks get to end after a check."""


class Suite:
    """What the author of a provider declares for its checks."""

    provider: Callable[..., Any]
    """Makes the provider, not started: a method that returns it or yields it, async or not. Its
    parameters are pytest fixtures. It is called once per check, on the event loop on which the
    provider then runs. A server that the provider needs runs in it, around the ``yield``."""
    unavailable: Callable[..., Any]
    """Makes a provider whose source cannot be reached: no server listens on the port, the file is
    missing. Optional."""
    server_id: ClassVar[str | None] = None
    """A server whose users the provider knows, if `servers` does not list one."""
    every_server: ClassVar[bool] = False
    """True if the provider answers the same for any server, known or not: it supplies colors for
    all users."""
    options: ClassVar[Mapping[str, Any]] = {}
    """The provider's table of d-back.toml, if ``Config`` requires keys."""
    secrets: ClassVar[Sequence[str]] = ()
    """Texts that must not be shown, in addition to each `Secret` that the provider holds."""
    http_paths: ClassVar[Sequence[str]] = ()
    """Paths that the provider serves."""
    may_block: ClassVar[Sequence[str]] = ()
    """Blocking calls of a library that the provider cannot avoid, by the names that the check
    reports, such as ``os.stat``."""
    timeout: ClassVar[float] = 30.0
    """Seconds after which a check stops waiting."""

    async def trigger_event(self) -> None:
        """Change the source so that the provider yields an event of `server_id`: a user changes
        or writes a message. Optional."""
        raise NotImplementedError

    async def lose_source(self) -> None:
        """Cut the provider off from its source: end its connections, and accept no other until
        `restore_source`. Optional."""
        raise NotImplementedError

    async def restore_source(self) -> None:
        """Change a user of the source, in another way than `trigger_event` does, and then let the
        provider connect again. Needed with `lose_source`; a check may call both repeatedly."""
        raise NotImplementedError

    @property
    def can_trigger_event(self) -> bool:
        return type(self).trigger_event is not Suite.trigger_event

    @property
    def can_lose_source(self) -> bool:
        """True if both methods are defined."""
        cls = type(self)
        return (
            cls.lose_source is not Suite.lose_source
            and cls.restore_source is not Suite.restore_source
        )


def check(body: Body) -> Test:
    """Make a test of a check, with the provider of `Suite.provider`."""
    return _test(body, "provider")


def check_unavailable(body: Body) -> Test:
    """Make a test of a check, with the provider of `Suite.unavailable`."""
    return _test(body, "unavailable")


def _test(body: Body, factory: str) -> Test:
    def test(self: Suite, request: pytest.FixtureRequest) -> None:
        __tracebackhide__ = True
        make = getattr(self, factory, None)
        if make is None and factory == "provider":
            raise TypeError(f"{type(self).__name__}: define `def provider(self)`")
        if make is None:
            pytest.skip(f"{type(self).__name__} does not define `def {factory}(self)`")
        arguments = inspect.signature(make).parameters
        fixtures = {name: request.getfixturevalue(name) for name in arguments}
        violation = None
        try:
            _run(_run_check(self, make(**fixtures), body))
        except ContractError as error:
            violation = error
        if violation is not None:  # outside the except block: pytest would show both errors
            pytest.fail(violation.report(), pytrace=False)

    test.__name__, test.__qualname__ = body.__name__, body.__qualname__
    test.__doc__, test.__module__ = body.__doc__, body.__module__
    return test


def _run(check: Coroutine[Any, Any, None]) -> None:
    """Run the check as `asyncio.run` does, but do not wait for ever for tasks that ignore
    cancellation: the check has to report them."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(check)
    finally:
        loop.set_exception_handler(lambda *_: None)  # the check has reported what it found
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=CLEANUP_TIMEOUT))
        if all(task.done() for task in tasks):
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _run_check(suite: Suite, made: object, body: Body) -> None:
    with logged(level=logging.DEBUG), logged("", level=logging.INFO) as log:
        async with provider_from(made) as provider:
            harness = Harness(provider, log, suite.timeout, suite.server_id)
            try:
                await body(suite, harness)
            finally:
                await harness.end()


@asynccontextmanager
async def provider_from(made: Any) -> AsyncIterator[object]:  # noqa: ANN401  of any type
    """Yield the provider that a factory has returned or yields, async or not."""
    async with AsyncExitStack() as stack:
        if inspect.isasyncgen(made):
            made = await stack.enter_async_context(asynccontextmanager(lambda: made)())
        elif inspect.isgenerator(made):
            made = stack.enter_context(contextmanager(lambda: made)())
        elif inspect.isawaitable(made):
            made = await made
        yield made


def needs(harness: Harness, *hooks: str) -> None:
    """Skip the check if the provider implements none of these hooks."""
    if not any(harness.implements(hook) for hook in hooks):
        pytest.skip(f"{harness.kind} has no hook {' or '.join(hooks)}")

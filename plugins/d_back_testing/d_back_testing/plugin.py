"""The pytest plugin: fixtures for the tests of a provider.

pytest loads it by its entry point. With ``PYTEST_DISABLE_PLUGIN_AUTOLOAD``, load it by
``-p d_back_testing.plugin``. A fixture imports what it returns when a test requests it, so that
other test runs in the same environment do not pay for it. The fixtures are synchronous; async
tests need a plugin such as pytest-asyncio.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import pytest

if TYPE_CHECKING:
    from d_back_testing import Log, ManualClock, RunningGateway, ScriptedProvider

    Gateway: TypeAlias = Callable[..., AbstractAsyncContextManager[RunningGateway]]


@pytest.fixture
def d_back_clock() -> "ManualClock":
    """The clock of `d_back_gateway`. Move it by ``await d_back_clock.advance(5)``."""
    from d_back_testing import ManualClock  # noqa: PLC0415  see above

    return ManualClock()


@pytest.fixture
def d_back_scripted_provider() -> "type[ScriptedProvider]":
    """A provider class whose answers the test decides:
    ``d_back_scripted_provider(servers, users)``."""
    from d_back_testing import ScriptedProvider  # noqa: PLC0415  see above

    return ScriptedProvider


@pytest.fixture
def d_back_log() -> "Iterator[Log]":
    """The log of d-back and its providers during the test: ``.lines``, ``.warnings``,
    ``.records``."""
    from d_back_testing import logged  # noqa: PLC0415  see above

    with logged() as log:
        yield log


@pytest.fixture
def d_back_gateway(d_back_clock: "ManualClock") -> "Gateway":
    """Run a gateway on a free port and on `d_back_clock`:
    ``async with d_back_gateway({"club": ClubProvider(config)}) as gateway``, highest priority
    first. Then ``await gateway.join("club")`` connects a client. See `d_back_testing.served`.
    """
    from d_back_testing import served  # noqa: PLC0415  see above

    return partial(served, clock=d_back_clock)

"""The pytest plugin, found by its entry point: fixtures for tests of a provider.

It imports what it gives only when a test asks for it, so that test runs that have nothing to do
with d-back pay for nothing. Without the entry point (``PYTEST_DISABLE_PLUGIN_AUTOLOAD``), say
``-p d_back_testing.plugin``. The fixtures need no plugin for async tests of their own; the
tests that use them are run by the one that the project has.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import pytest

if TYPE_CHECKING:
    from d_back_testing import Log, ManualClock, Scene, Script

    Gateway: TypeAlias = Callable[..., AbstractAsyncContextManager[Scene]]


@pytest.fixture
def d_back_clock() -> "ManualClock":
    """The clock of `d_back_gateway`: it stands still until ``await d_back_clock.advance(5)``."""
    from d_back_testing import ManualClock  # noqa: PLC0415  see above

    return ManualClock()


@pytest.fixture
def d_back_script() -> "type[Script]":
    """A provider that says what it is told: ``d_back_script(servers, users)``."""
    from d_back_testing import Script  # noqa: PLC0415  see above

    return Script


@pytest.fixture
def d_back_log() -> "Iterator[Log]":
    """What d-back and its providers log during the test: ``.lines``, ``.warnings``,
    ``.records``."""
    from d_back_testing import logged  # noqa: PLC0415  see above

    with logged() as log:
        yield log


@pytest.fixture
def d_back_gateway(d_back_clock: "ManualClock") -> "Gateway":
    """A gateway on a free port and on `d_back_clock`:
    ``async with d_back_gateway({"club": ClubProvider(config)}) as scene``, highest priority
    first; then ``await scene.join("club")`` is a client in it. See `d_back_testing.served`.
    """
    from d_back_testing import served  # noqa: PLC0415  see above

    return partial(served, clock=d_back_clock)

"""What the provider needs of the program that runs it."""

import logging
from collections.abc import Callable
from typing import Protocol

from d_back_core import Clock


class Host(Protocol):
    """The core's `Context` is one; a command has its own."""

    @property
    def log(self) -> logging.Logger: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def degraded(self) -> Callable[[str], None]: ...

    @property
    def recovered(self) -> Callable[[], None]: ...

    @property
    def gauge(self) -> Callable[[str, float], None]: ...

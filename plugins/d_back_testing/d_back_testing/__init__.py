"""What tests of a provider need: the contract that it has to keep, a gateway that runs for a test,
a clock to move by hand, a provider to script.
"""

from typing import TYPE_CHECKING

from d_back_testing.clock import ManualClock
from d_back_testing.guest import Guest
from d_back_testing.leftovers import Leftovers, open_sockets
from d_back_testing.log import Log, logged
from d_back_testing.scene import Scene, configured, prepared, served
from d_back_testing.script import Script

if TYPE_CHECKING:
    from d_back_testing.contract import ProviderContract

__all__ = [
    "Guest",
    "Leftovers",
    "Log",
    "ManualClock",
    "ProviderContract",
    "Scene",
    "Script",
    "configured",
    "logged",
    "open_sockets",
    "prepared",
    "served",
]


def __getattr__(name: str) -> object:
    if name != "ProviderContract":  # imported when it is asked for: it imports pytest
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from d_back_testing.contract import ProviderContract  # noqa: PLC0415

    return ProviderContract

"""Tools for the tests of a provider: the contract as tests, a gateway that runs for one test, a
clock that the test moves, and a provider whose answers the test decides.
"""

from typing import TYPE_CHECKING

from d_back_testing.clock import ManualClock
from d_back_testing.leaks import Leaks, open_sockets
from d_back_testing.log import Log, logged
from d_back_testing.manual_client import ManualClient
from d_back_testing.running_gateway import RunningGateway, configured, prepared, served
from d_back_testing.scripted_provider import ScriptedProvider

if TYPE_CHECKING:
    from d_back_testing.contract import ProviderContract

__all__ = [
    "Leaks",
    "Log",
    "ManualClient",
    "ManualClock",
    "ProviderContract",
    "RunningGateway",
    "ScriptedProvider",
    "configured",
    "logged",
    "open_sockets",
    "prepared",
    "served",
]


def __getattr__(name: str) -> object:
    if name != "ProviderContract":  # imported on first use, because it imports pytest
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from d_back_testing.contract import ProviderContract  # noqa: PLC0415

    return ProviderContract

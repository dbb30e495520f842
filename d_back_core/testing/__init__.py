"""What tests of a provider need: the contract that it has to keep, a gateway that runs for a test,
a clock to move by hand, a provider to script.

`ProviderContract` needs what ``d-back-core[testing]`` installs; the rest needs no test framework.
"""

from typing import TYPE_CHECKING

from d_back_core.testing.clock import ManualClock
from d_back_core.testing.guest import Guest
from d_back_core.testing.leftovers import Leftovers, open_sockets
from d_back_core.testing.log import Log, logged
from d_back_core.testing.scene import Scene, configured, prepared, served
from d_back_core.testing.script import Script

if TYPE_CHECKING:
    from d_back_core.testing.contract import ProviderContract

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
    if name != "ProviderContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from d_back_core.testing.contract import ProviderContract  # noqa: PLC0415  imports pytest
    except ModuleNotFoundError as error:
        if error.name not in {"pytest", "blockbuster"}:
            raise
        needed = f"ProviderContract needs {error.name}: pip install d-back-core[testing]"
        raise ImportError(needed) from error
    return ProviderContract

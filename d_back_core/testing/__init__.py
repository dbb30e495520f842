"""What tests of a provider need: a clock to move by hand, and a provider to script."""

from d_back_core.testing.clock import ManualClock
from d_back_core.testing.script import Script

__all__ = ["ManualClock", "Script"]

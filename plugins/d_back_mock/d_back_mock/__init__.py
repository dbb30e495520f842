"""A provider that needs nothing: four small living communities, large ones for load, or recorded
ones.

`community` is how people come, go and talk; `demo` and `crowd` are who they are; `run` is when
it happens. `recording` is what was written down, and `replay` plays it. `provider` is what d-back
sees of it, and `still` what programs for d-back 0.0.x do.
"""

from d_back_mock.provider import MockConfig, MockProvider
from d_back_mock.still import MockDataProvider

__all__ = ["MockConfig", "MockDataProvider", "MockProvider"]

"""A provider that needs nothing: four small living communities, or large ones for load.

`community` is how people come, go and talk; `demo` and `crowd` are who they are; `run` is when
it happens; `provider` is what d-back sees of it.
"""

from d_back_mock.provider import MockConfig, MockProvider

__all__ = ["MockConfig", "MockProvider"]

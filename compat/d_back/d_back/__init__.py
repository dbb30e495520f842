"""The names of d-back 0.0.x; all of them live elsewhere now."""

from importlib_metadata import version

from d_back.mock import MockDataProvider
from d_back.server import WebSocketServer

__version__ = version("d-back-compat")

__all__ = ["MockDataProvider", "WebSocketServer", "__version__"]

"""`WebSocketServer` is `d_back_core.WebSocketServer`."""

from d_back_core import WebSocketServer

__all__ = ["WebSocketServer"]

"""d-back serves the live state of chat communities over one WebSocket, from any source that a
plugin brings.

Plugin authors: `d_back_core.hookspecs` is the reference. These are the public names; nothing
else may be imported by a plugin.
"""

from d_back_core.clock import Clock
from d_back_core.config import Duration, File
from d_back_core.errors import ConfigError, DBackError, JoinError, PluginError, ProviderError
from d_back_core.hookspecs import HOOK_VERSION, Context, hookimpl
from d_back_core.models import (
    ClientIdChanged,
    Credentials,
    Event,
    Message,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    Status,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_core.secret import Secret

__all__ = [
    "HOOK_VERSION",
    "ClientIdChanged",
    "Clock",
    "ConfigError",
    "Context",
    "Credentials",
    "DBackError",
    "Duration",
    "Event",
    "File",
    "JoinError",
    "Message",
    "PluginError",
    "ProviderError",
    "Reload",
    "Secret",
    "Server",
    "ServerChanged",
    "ServerRemoved",
    "Status",
    "User",
    "UserChanged",
    "UserRemoved",
    "hookimpl",
]

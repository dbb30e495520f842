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
    Complete,
    Credentials,
    Event,
    Message,
    Recorded,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerSet,
    Status,
    User,
    UserChanged,
    UserRemoved,
    UserSet,
)
from d_back_core.plugins import command_config
from d_back_core.secret import Secret

__all__ = [
    "HOOK_VERSION",
    "ClientIdChanged",
    "Clock",
    "Complete",
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
    "Recorded",
    "Reload",
    "Secret",
    "Server",
    "ServerChanged",
    "ServerRemoved",
    "ServerSet",
    "Status",
    "User",
    "UserChanged",
    "UserRemoved",
    "UserSet",
    "command_config",
    "hookimpl",
]

"""d-back serves the live state of chat communities over one WebSocket, from any source that a
plugin brings.

Plugin authors: `d_back_core.hookspecs` is the reference. Embedding programs: `WebSocketServer`.
These are the public names; nothing else may be imported by a plugin. Programs may also import
`Config`, `load` and `parse` from `d_back_core.config`, and all names of `d_back_core.client`.
"""

from d_back_core.clock import Clock, Timer
from d_back_core.config.decoding import Duration, File, WatchedFile
from d_back_core.embedding.server import WebSocketServer
from d_back_core.errors import ConfigError, DBackError, JoinError, PluginError, ProviderError
from d_back_core.hookspecs import HOOK_VERSION, Context, hookimpl
from d_back_core.models import (
    UNSET,
    AccessChanged,
    AccessRevoked,
    Change,
    Credentials,
    Event,
    Grant,
    Message,
    MessageDeleted,
    MessageEdited,
    Overlay,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerSet,
    Snapshot,
    Status,
    User,
    UserChanged,
    UserRemoved,
    UserSet,
    is_extra_key,
    is_id,
    is_public_id,
)
from d_back_core.providers.loader import command_config
from d_back_core.secret import Secret
from d_back_core.stats import Counters, Exchange, ProviderStats, ServerStats, Stats
from d_back_core.tasks import Tasks

__all__ = [
    "HOOK_VERSION",
    "UNSET",
    "AccessChanged",
    "AccessRevoked",
    "Change",
    "Clock",
    "ConfigError",
    "Context",
    "Counters",
    "Credentials",
    "DBackError",
    "Duration",
    "Event",
    "Exchange",
    "File",
    "Grant",
    "JoinError",
    "Message",
    "MessageDeleted",
    "MessageEdited",
    "Overlay",
    "PluginError",
    "ProviderError",
    "ProviderStats",
    "Reload",
    "Secret",
    "Server",
    "ServerChanged",
    "ServerRemoved",
    "ServerSet",
    "ServerStats",
    "Snapshot",
    "Stats",
    "Status",
    "Tasks",
    "Timer",
    "User",
    "UserChanged",
    "UserRemoved",
    "UserSet",
    "WatchedFile",
    "WebSocketServer",
    "command_config",
    "hookimpl",
    "is_extra_key",
    "is_id",
    "is_public_id",
]

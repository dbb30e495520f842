"""The parts of the live state that joins, reports and warnings use."""

from msgspec import Struct

from d_back_core.chain.server_list import ServerList
from d_back_core.clock import Clock
from d_back_core.models import Server
from d_back_core.state.changes import Changes
from d_back_core.state.layer_source import Spawn
from d_back_core.state.provider_set import ProviderSet
from d_back_core.state.resolver import Resolver
from d_back_core.state.server_registry import ServerRegistry
from d_back_core.stats import Counters


class Parts(Struct, frozen=True, kw_only=True):
    """What `Live` owns, for the objects that it creates."""

    clock: Clock
    counters: Counters
    providers: ProviderSet
    server_list: ServerList
    list_resolver: Resolver[Server, Server]
    registry: ServerRegistry
    changes: Changes
    spawn: Spawn

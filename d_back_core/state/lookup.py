"""Finds the server that a client means: in the list, or by waiting for a newer one."""

import asyncio

from d_back_core.chain.policy import means_default
from d_back_core.errors import ErrorCode, JoinError
from d_back_core.models import EffectiveServer, is_id
from d_back_core.state.parts import Parts
from d_back_core.wire import protocol


class Lookup:
    """Finds servers by the names that clients send. A reload sets ``patience``."""

    def __init__(self, parts: Parts, startup_timeout: float) -> None:
        self.patience = startup_timeout
        """Seconds for which `find` waits for a server that is not known yet (R8)."""
        self._parts = parts
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def is_waiting(self) -> bool:
        """True if `find` waits for the list of servers."""
        return bool(self._waiters)

    def on_list_refreshed(self) -> None:
        """Look again, also if nothing has changed: a provider that answered without the server
        ends the wait."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def has_old_list(self) -> bool:
        """Return True if `renewed_list` would wait."""
        return self._parts.list_resolver.old

    async def renewed_list(self) -> None:
        """Return when the list of servers is as new as a join needs it."""
        if self.has_old_list():
            await self._parts.list_resolver.fresh()
            self._parts.changes.flush()

    async def find(self, wanted: str | None) -> EffectiveServer:
        """Return the server that a client means. While a provider may still list it, wait for it
        (R8). Raises `JoinError`."""
        await self.renewed_list()
        found = self._parts.server_list.find(wanted)
        if found is None:
            try:
                # For the list, not for a provider: any of those that are late may have the server.
                async with self._parts.clock.timeout(self.patience):
                    while found is None and self._is_list_incomplete():
                        await self._list_refreshed()
                        found = self._parts.server_list.find(wanted)
            except TimeoutError:
                pass  # the provider is late; `resolved` answers as if it did not know the server
        return found or self.resolved(wanted)

    def resolved(self, wanted: str | None) -> EffectiveServer:
        """Return the server of the present list that a client means. Raises `JoinError`."""
        found = self._parts.server_list.find(wanted)
        if found is None:
            code: ErrorCode = "no_server" if means_default(wanted) else "unknown_server"
            raise JoinError(code, protocol.UNKNOWN_SERVER)
        return found

    def is_unlisted(self, wanted: str) -> bool:
        """Return True if it may be a server that is on no list, rather than one that is hidden
        from clients."""
        if not self._parts.providers.answers_unlisted or not is_id(wanted):
            return False
        # Not one that is listed under another id, or that the operator has closed.
        server_list = self._parts.server_list
        if server_list.find(wanted) is not None or server_list.is_known(wanted):
            return False
        policy = self._parts.registry.policy(wanted)
        return policy.enabled and not policy.protects

    def _is_list_incomplete(self) -> bool:
        awaited = self._parts.list_resolver.awaited(self.patience)
        return bool(awaited) or self._parts.server_list.deferred

    async def _list_refreshed(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

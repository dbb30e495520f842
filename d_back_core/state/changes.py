"""What has changed in this turn of the event loop; one flush delivers all of it (R27)."""

import asyncio
from collections.abc import Callable, Collection

from d_back_core.state.server_state import ServerState


class Changes:
    """Collects changes, and calls ``deliver(list_changed, servers)`` once per turn of the loop."""

    def __init__(self, deliver: Callable[[bool, Collection[ServerState]], None]) -> None:
        self.count = 0
        """Grows with everything that happens; `Live.settle` watches it."""
        self._deliver = deliver
        self._servers: dict[ServerState, None] = {}
        self._list_changed = False
        self._handle: asyncio.Handle | None = None

    @property
    def pending(self) -> bool:
        """True if a flush is due."""
        return self._handle is not None

    def touch(self) -> None:
        """Something has happened that may lead to changes."""
        self.count += 1

    def add_server(self, server: ServerState) -> None:
        """The server has something to deliver."""
        self._servers[server] = None
        self._flush_soon()

    def add_list(self) -> None:
        """The list of servers may have changed."""
        self._list_changed = True
        self._flush_soon()

    def flush(self) -> None:
        """Deliver now, rather than at the end of this turn of the loop."""
        # Taken before the delivery: what that causes is for the next flush.
        self.close()
        list_changed, self._list_changed = self._list_changed, False
        servers, self._servers = self._servers, {}
        self._deliver(list_changed, servers)

    def close(self) -> None:
        """Cancel the flush that is due."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _flush_soon(self) -> None:
        self.count += 1
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self.flush)

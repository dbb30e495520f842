"""Warnings about broadcasts that reach no client because their server is not known."""

import logging
from collections.abc import Iterable

from d_back_core.chain.server_list import ServerList
from d_back_core.errors import nearest
from d_back_core.models import Event, Message, Reload, UserChanged, UserRemoved

MAX_LOGGED = 100
"""Servers that are remembered, in order not to log them again."""

log = logging.getLogger("d_back.callbacks")


class UnknownServers:
    """Logs each server that no provider lists once."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def report(self, events: Iterable[Event], server_list: ServerList) -> None:
        """Log the servers of these events that are not listed."""
        for event in events:
            server_id = event.server_id
            if not isinstance(event, UserChanged | UserRemoved | Message | Reload):
                continue  # these change the list itself
            if not isinstance(server_id, str) or server_list.is_known(server_id):
                continue
            if server_id in self._logged or len(self._logged) >= MAX_LOGGED:
                continue
            self._logged.add(server_id)
            log.warning(
                "broadcast for server %.80r: dropped, no provider lists it%s",
                server_id,
                _hint(server_id, server_list),
            )


def _hint(server_id: str, server_list: ServerList) -> str:
    for server in server_list.servers.values():
        if server.public_id == server_id:
            return f" (this is a public id; broadcasts need the server_id '{server.server_id}')"
    return nearest(server_id, server_list.servers)

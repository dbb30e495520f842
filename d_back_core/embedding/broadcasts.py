"""How an embedding program publishes what has happened."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, overload

from d_back_core.embedding import dict_codec
from d_back_core.models import Event, Message, Reload
from d_back_core.state.live import Live
from d_back_core.wire import protocol


class Broadcasts(ABC):
    """Broadcasts are events of the callbacks' layer.

    They change the world, so that clients that join later see them, too, and they are visible
    only where that layer is. All broadcasts of one turn of the event loop are applied in order and
    leave in one write after it; `settled` returns when that has happened. A broadcast is dropped
    while the server does not run, and if no client watches the server: that server is fetched
    whole when a client joins it.
    """

    async def broadcast_presence(  # noqa: PLR0913, PLR0917  as in d-back 0.0.x
        self,
        server: str,
        uid: str,
        status: str,
        username: str | None = None,
        role_color: str | None = None,
        delete: bool = False,  # noqa: FBT001, FBT002
        *,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """A user of that server_id has changed, has come, or (``delete``) has gone. A name or
        colour that is left out stays as it is. ``extra`` are all extra texts of the user ({}:
        there are none); left out, they stay as they are."""
        entry = {"uid": uid, "status": status, "delete": delete}
        named = {"username": username, "roleColor": role_color}
        entry |= {key: value for key, value in named.items() if value}
        if extra is not None:
            entry["extra"] = extra
        await self._publish([dict_codec.presence(server, entry)])

    @overload
    async def broadcast_message(
        self,
        server: str,
        uid: str,
        message: str,
        channel: str,
        *,
        message_id: str | None = None,
        at: datetime | None = None,
    ) -> None: ...
    @overload
    async def broadcast_message(self, server: Mapping[str, Any]) -> None: ...
    async def broadcast_message(  # noqa: PLR0913
        self,
        server: Any,
        uid: Any = None,
        message: Any = None,
        channel: Any = None,
        *,
        message_id: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """Chat of a user of that server_id; or any frame of the protocol as a dictionary, for the
        server that it names, or for all servers.

        With ``message_id`` a message can be edited and deleted later; ``at`` is when it was
        written. The type of a frame is ``presence``, ``message``, ``message-edit``,
        ``message-delete``, ``update-clientid``, ``server-list-update``, ``refresh_data`` (the
        callbacks are called again, earlier broadcasts are dropped, and then the clients get the
        frame), or ``error`` (a sentence that clients show). Raises ``ValueError`` for another
        type, and for a frame that is incomplete.
        """
        if isinstance(server, Mapping):
            await self._broadcast(server)
            return
        said = Message(
            server_id=dict_codec.text_id(server),
            uid=dict_codec.text_id(uid),
            message=message,
            channel=channel,
            id=message_id,
            at=at,
        )
        await self._publish([said])

    async def broadcast_message_edit(
        self, server: str, uid: str, message: str, channel: str, message_id: str
    ) -> None:
        """A user has changed the text of a message that was broadcast with that id."""
        entry = {"uid": uid, "message": message, "channel": channel, "id": message_id}
        await self.broadcast_message({"type": "message-edit", "server": server, "data": entry})

    async def broadcast_message_delete(self, server: str, channel: str, message_id: str) -> None:
        """A message that was broadcast with that id is gone."""
        entry = {"channel": channel, "id": message_id}
        await self.broadcast_message({"type": "message-delete", "server": server, "data": entry})

    async def broadcast_client_id_update(self, server: str, client_id: str | None) -> None:
        """The OAuth2 client id of that server_id has changed; None: it has none any more."""
        server_id, client_id = map(dict_codec.text_id, (server, client_id))
        await self._publish_client_id(server_id, client_id)

    @abstractmethod
    async def settled(self) -> None:
        """Return when everything that was broadcast so far is applied and written to the clients.

        A client that reads too slowly receives it later. While the server does not run, it
        returns at once.
        """

    async def _broadcast(self, frame: Mapping[str, Any]) -> None:
        server_id = dict_codec.server_of(frame)
        if frame.get("type") == "error":
            payload = protocol.error("notice", dict_codec.sentence(frame))
        elif frame.get("type") == "refresh_data":
            payload = protocol.refresh_data(server_id)
            await self._publish([Reload(server_id=server_id)])
            await self.settled()
            if self._is_up:
                await self.live.settled(server_id)
        elif frame.get("type") == "update-clientid":
            for each in self._servers_of(server_id):
                await self._publish_client_id(each, dict_codec.client_id(frame))
            return
        else:
            await self._publish(dict_codec.events(frame, self._servers_of(server_id)))
            return
        await self.settled()  # clients receive it after what was broadcast before
        if self._is_up:
            self.live.joins.announce(payload, server_id)

    def _servers_of(self, server_id: str | None) -> list[str]:
        """Return the servers that a frame is for, which may be all."""
        return list(self.live.server_list.servers) if server_id is None else [server_id]

    @property
    @abstractmethod
    def live(self) -> Live:
        """The live state."""

    @property
    @abstractmethod
    def _is_up(self) -> bool:
        """True if the server runs."""

    @abstractmethod
    async def _publish(self, events: Iterable[Event]) -> None:
        """Apply events of the callbacks' layer; see `settled`."""

    @abstractmethod
    async def _publish_client_id(self, server_id: str, client_id: str | None) -> None:
        """Apply a client id; see `settled`."""

"""How an embedding program tells what has happened."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, overload

from d_back_core.embedding import dict_codec
from d_back_core.models import ClientIdChanged, Event, Message, Reload
from d_back_core.state.live import Live
from d_back_core.wire import protocol


class Broadcasts(ABC):
    """Broadcasts are events of the callbacks' layer.

    They change the world, so that who joins later sees them too, and show only where that layer
    does. Clients have been written to when the call returns. While the server does not run they
    are dropped, as they are for a server that nobody watches: that one is asked for whole when
    somebody joins it.
    """

    async def broadcast_presence(  # noqa: PLR0913, PLR0917  as in d-back 0.0.x
        self,
        server: str,
        uid: str,
        status: str,
        username: str | None = None,
        role_color: str | None = None,
        delete: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """A user of that server_id has changed, has come, or (``delete``) has gone. Without a
        name or colour these stay as they are."""
        entry = {"uid": uid, "status": status, "delete": delete}
        named = {"username": username, "roleColor": role_color}
        entry |= {key: value for key, value in named.items() if value}
        await self._tell([dict_codec.presence(server, entry)])

    @overload
    async def broadcast_message(
        self, server: str, uid: str, message: str, channel: str
    ) -> None: ...
    @overload
    async def broadcast_message(self, server: Mapping[str, Any]) -> None: ...
    async def broadcast_message(
        self, server: Any, uid: Any = None, message: Any = None, channel: Any = None
    ) -> None:
        """Chat of a user of that server_id; or any news as a dictionary of the protocol, for the
        server that it names, or for all.

        Its type is ``presence``, ``message``, ``update-clientid``, ``server-list-update``,
        ``refresh_data`` (the callbacks are asked again, broadcasts before are forgotten, and
        then the clients are told), or ``error`` (a sentence that clients show). ``ValueError``
        is raised for others, and for one that lacks what it needs.
        """
        if isinstance(server, Mapping):
            await self._broadcast(server)
            return
        said = Message(
            server_id=dict_codec.text_id(server),
            uid=dict_codec.text_id(uid),
            message=message,
            channel=channel,
        )
        await self._tell([said])

    async def broadcast_client_id_update(self, server: str, client_id: str | None) -> None:
        """The OAuth2 client id of that server_id is another one now; None: there is none."""
        server_id, client_id = map(dict_codec.text_id, (server, client_id))
        await self._tell([ClientIdChanged(server_id=server_id, client_id=client_id)])

    async def _broadcast(self, frame: Mapping[str, Any]) -> None:
        server_id = dict_codec.server_of(frame)
        if frame.get("type") == "error":
            payload = protocol.error("notice", dict_codec.sentence(frame))
        elif frame.get("type") == "refresh_data":
            payload = protocol.refresh_data(server_id)
            await self._tell([Reload(server_id=server_id)])
            if self._is_up:
                await self.live.settled(server_id)
        else:
            listed = () if server_id is not None else self.live.server_list.servers
            await self._tell(dict_codec.events(frame, listed))
            return
        if self._is_up:
            self.live.announce(payload, server_id)

    @property
    @abstractmethod
    def live(self) -> Live:
        """The live state."""

    @property
    @abstractmethod
    def _is_up(self) -> bool:
        """Whether there is anybody to tell."""

    @abstractmethod
    async def _tell(self, events: Iterable[Event]) -> None:
        """Let these happen, and return when the clients are told."""

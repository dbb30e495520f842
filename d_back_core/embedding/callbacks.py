"""The functions of an embedding program as two ordinary providers.

`Callbacks` answers with what the functions return. `ClientIds` supplies the OAuth2 client ids of
servers, whichever provider lists them, so it is a provider of its own in mode ``enrich``. Both
use the public hooks only. A broadcast is an event of their streams.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from d_back_core.embedding import dict_codec
from d_back_core.embedding.callback import Callback
from d_back_core.hookspecs import hookimpl
from d_back_core.models import Credentials, Event, Overlay, Server, ServerChanged, User
from d_back_core.secret import Secret
from d_back_core.state.access import verified

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

COUNTS: Mapping[str, tuple[int, ...]] = {
    "servers": (0, 1),
    "users": (1, 0),
    "authorize": (3, 2),
    "client_id": (1, 0),
    "routes": (1,),
}
"""Callback → the numbers of arguments that it may take, the preferred one first."""

MAX_AHEAD = 256
"""Events that a program may publish before it waits for the core."""

log = logging.getLogger("d_back.callbacks")


class EventQueue:
    """Events that a program publishes, as the stream of a provider.

    Publishing returns at once, so that all events of one turn of the event loop are applied
    together and leave in one write. Only a program that is ahead of the core by `MAX_AHEAD` events
    waits, which bounds the queue and lets the rest of the program run.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue()

    async def publish(self, events: Iterable[Event]) -> None:
        """Hand the events to the core, in order."""
        for event in events:
            self._queue.put_nowait(event)
            if self._queue.qsize() >= MAX_AHEAD:
                await self._queue.join()

    async def join(self) -> None:
        """Return when the core has applied all events that were published."""
        await self._queue.join()

    async def stream(self) -> AsyncIterator[Event]:
        """Yield the events; an event is applied when the next one is asked for."""
        while True:
            event = await self._queue.get()
            try:
                yield event
            finally:
                self._queue.task_done()

    def clear(self) -> None:
        """Drop what the core has not applied: it does not run."""
        while not self._queue.empty():
            self._queue.get_nowait()
            self._queue.task_done()


class Callbacks:
    """A provider whose answers are those of the registered functions.

    An empty answer for users lets the next fallback answer as well, and so does the lack of a
    function for them. The empty layer is held: broadcasts apply to it (R1).
    """

    def __init__(self) -> None:
        self.max_age: dict[str, float] = {}
        self.events_queue = EventQueue()
        self._registered: dict[str, Callback] = {}
        self._passwords: dict[str, Secret] = {}
        """By server_id, as in the last list of servers."""

    def register(self, name: str, callback: Callback) -> None:
        """Use this function from now on, instead of an earlier one."""
        self._registered[name] = callback
        if name in {"servers", "users"}:
            self.max_age[name] = callback.ttl

    def has(self, name: str) -> bool:
        """Return True if a function is registered."""
        return name in self._registered

    @property
    def unused(self) -> Collection[str]:
        """The hooks that no registered function answers."""
        unused = {hook for hook in ("servers", "routes") if hook not in self._registered}
        if not self._registered.keys() & {"servers", "authorize"}:
            unused.add("authorize")
        return unused

    @property
    def credentials(self) -> set[str]:
        """What `authorize` decides by."""
        by_login = {"login"} if "authorize" in self._registered else set[str]()
        return by_login | ({"password"} if self._passwords else set[str]())

    @hookimpl
    async def servers(self) -> Mapping[str, Server] | None:
        """Return what ``on_get_server_data`` returned."""
        answer = await self._registered["servers"](None)
        servers = dict_codec.servers(answer)
        if servers is not None:
            self._keep_passwords(answer)
        return servers

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        """Return what ``on_get_user_data`` returned."""
        callback = self._registered.get("users")
        users = {} if callback is None else dict_codec.users(await callback(server_id))
        return Overlay() if users == {} else users

    @hookimpl
    def events(self) -> AsyncIterator[Event]:
        """Yield what the program broadcasts."""
        # The generator itself: the core closes it, and would not reach one inside of another.
        return self.events_queue.stream()

    @hookimpl
    async def authorize(self, server_id: str, credentials: Credentials) -> bool | None:
        """Compare the password of the list of servers; then ask ``on_validate_discord_user`` about
        a client that has logged in with Discord. Only ``True`` is a yes."""
        if await self._is_password(server_id, credentials.password):
            return True
        callback = self._registered.get("authorize")
        token, user = credentials.discord_token, credentials.discord_user
        if callback is None or not token or not user:
            return None
        answer: bool | None = await callback(token, dict(user), server_id)
        return False if answer is None else answer  # what is not a bool, the core reports

    @hookimpl
    def routes(self) -> "Sequence[BaseRoute]":
        """Serve what ``on_static_request`` returns, for every path."""
        from starlette.routing import Mount  # noqa: PLC0415  most programs serve nothing

        return [Mount("/", self._serve_page)]

    async def _serve_page(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from d_back_core.embedding.static_page import static_page  # noqa: PLC0415  as above

        requested = scope["path"].removeprefix(scope.get("root_path", ""))
        answer = None
        if scope["method"] in {"GET", "HEAD"}:
            answer = await self._registered["routes"](requested)
        await (await static_page(answer, requested))(scope, receive, send)

    async def _is_password(self, server_id: str, offered: str | None) -> bool:
        password = self._passwords.get(server_id)
        if password is None or offered is None:
            return False
        return await verified(password, offered)

    def _keep_passwords(self, answer: Mapping[object, object]) -> None:
        self._passwords.clear()
        for key, entry in answer.items():
            password = dict_codec.password(entry) if isinstance(entry, Mapping) else None
            if password is None:
                continue
            secret = Secret(password)
            try:
                secret.check_hash()
            except ValueError as error:  # the server stays protected, and no password opens it
                log.warning("the password of server %s %s", key, error)
            else:
                self._passwords[dict_codec.text_id(key)] = secret


class ClientIds:
    """A provider that supplies the client ids of servers that others list.

    The core asks it for users when a client joins; that is when ``on_get_client_id`` is called.
    """

    mode = "enrich"

    def __init__(self) -> None:
        self.max_age: dict[str, float] = {}
        self.events_queue = EventQueue()
        self._callback: Callback | None = None
        self._returned: dict[str, str | None] = {}
        """The last result of the function, by server_id."""
        self._published: dict[str, str | None] = {}

    def register(self, callback: Callback) -> None:
        """Use this function from now on."""
        self._callback = callback
        self.max_age = {"users": callback.ttl}

    async def publish(self, server_id: str, client_id: str | None) -> None:
        """Hand the client id to the core."""
        self._published[server_id] = client_id
        event = ServerChanged(server_id=server_id, client_id=client_id)
        await self.events_queue.publish([event])

    @hookimpl
    async def servers(self) -> Mapping[str, Server]:
        """Return the client ids that are known."""
        return {
            server_id: Server(client_id=client_id)
            for server_id, client_id in self._published.items()
        }

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User]:
        """Call ``on_get_client_id``, and publish the result if it is another one than before."""
        if self._callback is not None:
            client_id = dict_codec.text_id(await self._callback(server_id)) or None
            news = client_id != self._returned.get(server_id)
            self._returned[server_id] = client_id
            if news:
                await self.publish(server_id, client_id)
                await self.events_queue.join()  # the client that joins receives it
        return {}

    @hookimpl
    def events(self) -> AsyncIterator[Event]:
        """Yield the client ids that the program publishes."""
        # The generator itself: the core closes it, and would not reach one inside of another.
        return self.events_queue.stream()

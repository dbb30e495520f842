"""The functions of an embedding program as one provider of the chain.

What they return is checked where the answers of every provider are checked, an exception or a
time-out is this provider's failure, and what they say not is asked of the next one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

from d_back_core.embedding import dict_codec
from d_back_core.embedding.callback import Callback
from d_back_core.embedding.static_page import own_page
from d_back_core.hookspecs import Context, hookimpl
from d_back_core.models import Credentials, Event, Server, User
from d_back_core.providers.loader import Capabilities
from d_back_core.secret import Secret
from d_back_core.web import HttpRequest, HttpResponse

COUNTS: Mapping[str, tuple[int, ...]] = {
    "servers": (0, 1),
    "users": (1, 0),
    "authorize": (3, 2),
    "client_id": (1, 0),
    "http": (1,),
}
"""Hook → the numbers of arguments that its callback may take, the preferred one first."""

AGING = frozenset({"servers", "users", "client_id"})
"""The hooks whose answers are kept, each for its callback's ``ttl``."""

log = logging.getLogger("d_back.callbacks")


class Callbacks:
    """A provider whose hooks are what was registered last; one that was not says nothing.

    As long as nothing is registered for users, it answers that it has none and lies over the
    next provider's: what is broadcast then changes these.
    """

    def __init__(self) -> None:
        self.capabilities = Capabilities(overlays={"users"}, everywhere=True)
        self.passwords: dict[str, Secret] = {}
        """By server_id, as the last list of servers gave them."""
        self._registered: dict[str, Callback] = {}
        self._stopped = asyncio.Event()

    def register(self, hook: str, callback: Callback) -> None:
        """Let this function answer the hook, in place of a former one."""
        self._registered[hook] = callback
        self.capabilities.overlays.discard(hook)
        if hook in AGING:
            self.capabilities.max_ages[hook] = callback.ttl

    def answers(self, hook: str) -> bool:
        """Whether something is registered for it."""
        return hook in self._registered

    @hookimpl
    async def start(self, context: Context) -> None:  # noqa: ARG002  the hook's
        """Begin anew."""
        self._stopped = asyncio.Event()

    @hookimpl
    async def stop(self) -> None:
        """End the stream."""
        self._stopped.set()

    @hookimpl
    async def servers(self) -> Mapping[str, Server] | None:
        """What ``on_get_server_data`` returns."""
        callback = self._registered.get("servers")
        if callback is None:
            return None
        answer = await callback(None)
        servers = dict_codec.servers(answer)
        if servers is not None:
            self._keep_passwords(answer)
        return servers

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        """What ``on_get_user_data`` returns."""
        callback = self._registered.get("users")
        return {} if callback is None else dict_codec.users(await callback(server_id))

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        """No news: a broadcast reaches the layer at once. It is open lest the core polls."""
        await self._stopped.wait()
        nothing: tuple[Event, ...] = ()
        for event in nothing:
            yield event

    @hookimpl
    async def authorize(self, server_id: str, credentials: Credentials) -> bool | None:
        """What ``on_validate_discord_user`` says to who logged in with Discord: only ``True``
        is a yes."""
        callback = self._registered.get("authorize")
        token, user = credentials.discord_token, credentials.discord_user
        if callback is None or not token or not user:
            return None
        return await callback(token, dict(user), server_id) is True

    @hookimpl
    async def client_id(self, server_id: str) -> str | None:
        """What ``on_get_client_id`` returns."""
        callback = self._registered.get("client_id")
        if callback is None:
            return None
        client_id: str | None = dict_codec.text_id(await callback(server_id)) or None
        return client_id

    @hookimpl
    async def http(self, request: HttpRequest) -> HttpResponse | None:
        """What ``on_static_request`` returns."""
        callback = self._registered.get("http")
        if callback is None:
            return None
        return await own_page(await callback(request.path), request.path)

    def _keep_passwords(self, answer: Mapping[object, object]) -> None:
        self.passwords.clear()
        for key, entry in answer.items():
            password = dict_codec.password(entry) if isinstance(entry, Mapping) else None
            if password is None:
                continue
            secret = Secret(password)
            try:
                secret.check_hash()
            except ValueError as error:  # it stays protected, and nothing opens it
                log.warning("the password of server %s %s", key, error)
            else:
                self.passwords[dict_codec.text_id(key)] = secret

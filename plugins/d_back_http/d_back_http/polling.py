"""Pull: a JSON API is asked every few seconds, and what has changed is fetched.

    the list fails, or all URLs fail      the provider is degraded, until one answer comes
    the users of one server fail          that server is fetched again: its layer alone is stale
    an answer has changed                 the list, or the users of that server, are fetched

Only servers that the core holds are asked for.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

import aiohttp

from d_back_core import Context, Reload, Server, User
from d_back_http import mapping
from d_back_http.config import SERVER_ID, HttpConfig
from d_back_http.failure import HttpError
from d_back_http.pending import Pending
from d_back_http.resource import Resource

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30.0, sock_connect=5.0)
MAX_REQUESTS = 4
"""Requests to the source at the same time."""
MAX_RESTING = 1.0
"""Seconds between two looks at what is due."""

T = TypeVar("T")


class Polling:
    """The API of one run, from `open` to `close`."""

    def __init__(self, config: HttpConfig, context: Context, pending: Pending) -> None:
        self._config = config
        self._context = context
        self._pending = pending
        self._session: aiohttp.ClientSession | None = None
        self._list: Resource[dict[str, Server]] | None = None
        self._users: dict[str, Resource[dict[str, User]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._degraded = False

    async def open(self) -> None:
        """Ask for the list, and begin to poll. Raises `HttpError`."""
        headers = {"Accept": "application/json", "User-Agent": "d-back-http"}
        if self._config.token is not None:
            headers["Authorization"] = f"Bearer {self._config.token.reveal()}"
        # aiohttp, not httpx: discord.py brings it already, it is maintained by a team and years
        # of use, and it streams a body, whose size is bounded here, without a further package.
        connector = aiohttp.TCPConnector(limit=MAX_REQUESTS)
        self._session = aiohttp.ClientSession(
            headers=headers, timeout=REQUEST_TIMEOUT, connector=connector
        )
        if self._config.servers_url is not None:
            self._list = self._resource(
                self._config.servers_url, lambda body: mapping.servers(body, self._config)
            )
            await self._list.get()
        if not self._context.probe:
            self._task = asyncio.create_task(self._poll(), name=f"polling {self._context.name}")

    async def close(self) -> None:
        """Stop polling; may be called twice."""
        task, self._task = self._task, None
        session, self._session = self._session, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if session is not None:
            await session.close()

    async def servers(self) -> dict[str, Server]:
        """Return the servers of the source."""
        if self._list is not None:
            return dict(await self._list.get() or {})
        return {
            server_id: Server(name=name) for server_id, name in self._config.server_names.items()
        }

    async def users(self, server_id: str) -> dict[str, User] | None:
        """Return the users of a server; None if the source does not know it."""
        if self._config.users_url is None or not self.knows(server_id):
            return None
        resource = self._users.get(server_id)
        if resource is None:
            url = self._config.users_url.replace(SERVER_ID, quote(server_id, safe=""))
            resource = self._resource(url, lambda body: mapping.users(body, self._config))
            self._users[server_id] = resource
        users = await resource.get()
        return None if users is None else dict(users)

    def knows(self, server_id: str) -> bool:
        """True if the source has that server."""
        if self._list is None:
            return server_id in self._config.server_names
        return server_id in (self._list.answer or {})

    def _resource(self, url: str, decode: Callable[[bytes], T]) -> Resource[T]:
        if self._session is None:
            raise HttpError("is stopped")
        return Resource(
            url,
            self._session,
            self._context.clock,
            decode,
            every=self._config.every,
            max_size=self._config.max_size,
        )

    async def _poll(self) -> None:
        while True:
            await self._context.clock.sleep(MAX_RESTING)
            await self._refresh()
            self._judge()

    async def _refresh(self) -> None:
        """Ask for what is due, and report what has changed."""
        if self._list is not None and await self._list.refresh() and self._list.error is None:
            self._pending.put(Reload())
        now = self._context.clock.time()
        for server_id, resource in list(self._users.items()):
            if not self._context.holds(server_id) and now > resource.due + self._config.every:
                del self._users[server_id]
        await asyncio.gather(
            *(
                self._refresh_users(*each)
                for each in self._users.items()
                if self._context.holds(each[0])
            )
        )

    async def _refresh_users(self, server_id: str, resource: Resource[dict[str, User]]) -> None:
        if await resource.refresh():
            self._pending.put(Reload(server_id=server_id))

    def _judge(self) -> None:
        """Report whether the source as a whole is lost, or there again."""
        error = self._list.error if self._list is not None else None
        if self._list is None and self._users:
            errors = [each.error for each in self._users.values()]
            error = errors[0] if None not in errors else None
        if error is not None and not self._degraded:
            self._context.degraded(str(error))
        elif error is None and self._degraded:
            self._context.recovered()
        self._degraded = error is not None

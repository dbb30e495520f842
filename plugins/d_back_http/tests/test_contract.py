"""The provider keeps the contract, for what it pulls and for what is pushed."""

from collections.abc import AsyncIterator
from typing import ClassVar

from http_api import ADA, SECRET, Api, pulling

from d_back_core import Secret, Server, User
from d_back_http import HttpConfig, HttpProvider, PushSource
from d_back_testing import ProviderContract


class TestPull(ProviderContract):
    """An API that ends and is there again, on the same port."""

    options: ClassVar = {
        "users_url": "http://127.0.0.1:1/{server_id}",
        "servers_url": "http://127.0.0.1:1/",
    }
    secrets: ClassVar = (SECRET,)

    async def provider(self) -> AsyncIterator[HttpProvider]:
        self.api = api = Api()
        await api.begin()  # on the event loop of the check
        yield HttpProvider(pulling(api, every=1.0))
        await api.end()

    def unavailable(self) -> HttpProvider:
        return HttpProvider(pulling(Api(), servers_url="http://127.0.0.1:1/servers"))

    async def trigger_event(self) -> None:
        self.api.users["1"] = self.api.users["1"] | {"7": {**ADA, "status": "dnd"}}

    async def lose_source(self) -> None:
        await self.api.end()

    async def restore_source(self) -> None:
        self.api.users["1"] = self.api.users["1"] | {"8": {**ADA, "username": "Bo II"}}
        await self.api.begin()


class TestPush(ProviderContract):
    """A server that was pushed."""

    options: ClassVar = {"push": {"bot": {"secret": SECRET}}}
    secrets: ClassVar = (SECRET,)
    http_paths: ClassVar = ("/http/openapi.json", "/http/1/users")

    def provider(self) -> HttpProvider:
        source = PushSource(secret=Secret(SECRET))
        self.made = HttpProvider(HttpConfig(push={"bot": source}))
        self.made.pushed.put_server("1", Server(name="Plaza"))
        self.made.pushed.put_users("1", {"7": User(username="Ada", status="online")})
        return self.made

    async def trigger_event(self) -> None:
        self.made.push(self.made.pushed.patch_user("1", "7", User(status="dnd")))

"""The provider against a real IRC server, which is killed, stopped, and cut in two."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the module beside this one

from irc_network import CHANNELS, PASSWORD, PATIENCE, Ircd, needs_ngircd, running

from d_back_core import ConfigError, Secret
from d_back_core.client import ClientWorld, MessageFrame
from d_back_irc import Options, Provider
from d_back_irc.connection import QUIET
from d_back_testing import ProviderContract, RunningGateway, logged, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


def options(ircd: Ircd, **more: Any) -> Options:  # noqa: ANN401  those of the struct
    """What an operator writes."""
    given: dict[str, Any] = {"host": "127.0.0.1", "port": ircd.port, "tls": False}
    return Options(channels=CHANNELS, **given | more)


@needs_ngircd
class TestContract(ProviderContract):
    """Ada is in the channels; the server is killed, and begins again on the same port."""

    options: ClassVar = {"host": "irc.example.net", "channels": ["#plaza"]}

    async def provider(self, tmp_path: Path) -> AsyncIterator[Provider]:
        async with running(Ircd(tmp_path)) as self.ircd:
            self.number = 0
            self.members = [await self.ircd.join("Ada")]
            yield Provider(options(self.ircd))

    def unavailable(self, tmp_path: Path) -> Provider:
        return Provider(options(Ircd(tmp_path)))

    async def trigger_event(self) -> None:
        self.number += 1
        self.members[0].send(f"NICK Ada{self.number}")

    async def lose_source(self) -> None:
        self.ircd.kill()

    async def restore_source(self) -> None:
        self.number += 1
        await self.ircd.begin()
        self.members = [await self.ircd.join(f"Bob{self.number}")]


@pytest.fixture
async def ircd(tmp_path: Path) -> AsyncIterator[Ircd]:
    async with running(Ircd(tmp_path)) as ircd:
        yield ircd


@pytest.fixture
async def gateway(ircd: Ircd) -> AsyncIterator[RunningGateway]:
    """A gateway with the provider, whose clock stands still."""
    async with served({"irc": Provider(options(ircd))}) as gateway:
        yield gateway
        ircd.disconnect_members()


async def until(world: ClientWorld, condition: Callable[[ClientWorld], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        await world.until(condition)


def nicks(world: ClientWorld) -> set[str]:
    return {user.username for user in world.users.values()}


async def lost(gateway: RunningGateway) -> None:
    """Wait until the core knows that the source is lost."""
    async with asyncio.timeout(PATIENCE):
        while gateway.health("irc") == "ready":
            await gateway.settle()
            await asyncio.sleep(0.01)


async def restarted(gateway: RunningGateway) -> None:
    """Move the clock until the core has started the provider again."""
    async with asyncio.timeout(PATIENCE):
        while gateway.health("irc") != "ready":
            await gateway.advance(0.1)
            await asyncio.sleep(0.01)


@needs_ngircd
async def test_clients_see_who_comes_and_goes(ircd: Ircd, gateway: RunningGateway) -> None:
    """A person who joins a channel appears, and disappears with the last channel they leave."""
    world = await gateway.join()
    assert nicks(world) == set()  # the provider itself is not shown
    ada = await ircd.join("Ada")
    bob = await ircd.join("Bob", "#bar")
    await until(world, lambda world: nicks(world) == {"Ada", "Bob"})
    ada.send("PART #bar")
    bob.send("PART #bar")
    await until(world, lambda world: nicks(world) == {"Ada"})
    ada.send("QUIT :good night")
    await until(world, lambda world: not nicks(world))


@needs_ngircd
async def test_another_nick_is_another_user(ircd: Ircd, gateway: RunningGateway) -> None:
    """The old nick is removed, and the new one appears. In another case it is the same user."""
    world = await gateway.join()
    ada = await ircd.join("Ada")
    await until(world, lambda world: world.users.keys() == {"ada"})
    ada.send("NICK ADA")
    await until(world, lambda world: nicks(world) == {"ADA"})
    assert world.users.keys() == {"ada"}
    ada.send("NICK Countess")
    await until(world, lambda world: nicks(world) == {"Countess"})
    assert world.users.keys() == {"countess"}


@needs_ngircd
async def test_messages_become_chat(ircd: Ircd, gateway: RunningGateway) -> None:
    """Clients receive the messages of the channels, without formatting, and no requests to
    programs."""
    world = await gateway.join()
    ada = await ircd.join("Ada")
    await until(world, lambda world: "ada" in world.users)
    events = world.events()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)  # it listens from its first step on
    ada.send("PRIVMSG #plaza :\x01VERSION\x01", "PRIVMSG #plaza :\x02Hello\x02 \x0304,12all")
    ada.send("PRIVMSG #BAR :\x01ACTION waves\x01")
    async with asyncio.timeout(PATIENCE):
        heard = [await first, await anext(events)]
    said = [each.data for each in heard if isinstance(each, MessageFrame)]
    assert [(each.uid, each.message, each.channel) for each in said] == [
        ("ada", "Hello all", "#plaza"),
        ("ada", "waves", "#bar"),
    ]


@needs_ngircd
async def test_a_server_that_is_killed_and_begins_again(
    ircd: Ircd, gateway: RunningGateway
) -> None:
    """Clients keep the last members, and receive the difference when the provider is back."""
    for nick in ("Ada", "Bob"):
        await ircd.join(nick)
    world = await gateway.join()
    await until(world, lambda world: nicks(world) == {"Ada", "Bob"})
    with logged() as log:
        ircd.kill()
        await lost(gateway)
        assert nicks(world) == {"Ada", "Bob"}
        await ircd.begin()
        for nick in ("Ada", "Cy"):
            await ircd.join(nick)
        await restarted(gateway)
        await until(world, lambda world: nicks(world) == {"Ada", "Cy"})
    assert any("the server has closed the connection" in line for line in log.warnings)
    assert world.joins == 1  # on one connection


@needs_ngircd
async def test_a_server_that_is_silent_is_lost(ircd: Ircd, gateway: RunningGateway) -> None:
    """A server that answers no PING any more counts as lost, although its connection is open."""
    world = await gateway.join()
    with logged() as log:
        for nick in ("Ada", "Bob", "Cy"):  # longer than a silent server would be waited for
            await gateway.advance(QUIET)
            await ircd.join(nick)
            await until(world, lambda world: nick in nicks(world))  # noqa: B023  it is awaited
        assert gateway.health("irc") == "ready"
        ircd.freeze()
        async with asyncio.timeout(PATIENCE):
            while gateway.health("irc") == "ready":
                await gateway.advance(QUIET)
    assert any("the server has been silent for 120 s" in line for line in log.warnings)


@needs_ngircd
async def test_a_network_that_is_cut_in_two(tmp_path: Path) -> None:
    """Members on the other side of a netsplit disappear, and appear again when it is over."""
    near, far = Ircd(tmp_path), Ircd(tmp_path, "two.example.net")
    near.link(far, connects=False)
    far.link(near, connects=True)
    async with running(near), running(far), served({"irc": Provider(options(near))}) as gateway:
        world = await gateway.join()
        await near.join("Ada")
        await far.join("Bob")
        await until(world, lambda world: nicks(world) == {"Ada", "Bob"})
        far.kill()
        await until(world, lambda world: nicks(world) == {"Ada"})
        await far.begin()
        await far.join("Bob")
        await until(world, lambda world: nicks(world) == {"Ada", "Bob"})
        assert gateway.health("irc") == "ready"
        for each in (near, far):
            each.disconnect_members()


@needs_ngircd
async def test_a_kick_ends_the_run(ircd: Ircd) -> None:
    """The provider does not know any more who is there: it joins again after a wait."""
    ada = await ircd.join("Ada")  # the first one is the operator of the channels
    async with served({"irc": Provider(options(ircd))}) as gateway:
        world = await gateway.join()
        with logged() as log:
            ada.send("KICK #plaza d-back")
            await lost(gateway)
            await restarted(gateway)
        assert any("we were removed from #plaza" in line for line in log.warnings)
        assert nicks(world) == {"Ada"}


@needs_ngircd
async def test_a_nick_that_is_in_use(ircd: Ircd) -> None:
    """The provider takes the next free one, and shows the member who has it."""
    await ircd.join("d-back")
    async with served({"irc": Provider(options(ircd))}) as gateway:
        world = await gateway.join()
        assert nicks(world) == {"d-back"}


@needs_ngircd
async def test_a_nick_that_the_server_refuses(ircd: Ircd) -> None:
    """The operator has to change it: it is not tried again."""
    provider = Provider(options(ircd, nick="x" * 100))
    async with served({"irc": provider}) as gateway:
        with logged() as log:
            await gateway.advance(3600)
        assert gateway.health("irc") == "failed"
        assert log.warnings == []


@needs_ngircd
async def test_a_password(tmp_path: Path) -> None:
    """The right one is accepted; a wrong one is an error that does not show it."""
    async with running(Ircd(tmp_path, password=PASSWORD)) as ircd:
        async with served({"irc": Provider(options(ircd, password=Secret(PASSWORD)))}) as gateway:
            assert gateway.health("irc") == "ready"
        provider = Provider(options(ircd, password=Secret("wrong-sesame")))
        with logged() as log:
            async with served({"irc": provider}) as gateway:
                assert gateway.health("irc") == "failed"
        assert "wrong-sesame" not in str(log.lines)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"channels": ()}, "channels: must not be empty"),
        ({"channels": ("plaza",)}, "channels: 'plaza' is not a channel such as #plaza"),
        ({"channels": ("#a,#b",)}, "channels: '#a,#b' is not a channel such as #plaza"),
        ({"channels": ("#" + "a" * 64,)}, "is not a channel such as #plaza"),
        ({"nick": "a b"}, "nick 'a b': is not a nick"),
        ({"nick": "x\r\nQUIT"}, "is not a nick"),
        ({"port": 0}, "port '0': expected 1 to 65535"),
        ({"server_id": "a b"}, "server_id 'a b': is not an id"),
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any], problem: str) -> None:
    """The error names the key."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  its text is compared
        Options(**{"host": "irc.example.net", "channels": ("#plaza",)} | given)
    assert problem in str(caught.value)
    assert not isinstance(caught.value, ConfigError)

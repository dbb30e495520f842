"""A day in the life of a chain of three: one dies, one hangs, both come back, the operator changes
the order. One client is connected all the time."""

from sample_users import ADA, BOB, CID, ONE

from d_back_core import User, UserChanged
from d_back_core.config import Config
from d_back_core.wire.protocol import MessageFrame, PresenceFrame
from d_back_testing import ManualClient, RunningGateway, ScriptedProvider, configured, served
from d_back_testing.scripted_provider import DOWN

GRACE, TIMEOUT, FAILBACK = 3.0, 1.0, 2.0
LONGEST_RETRY = 61.0
STEP = 0.5
DAN = User(username="Dan", status="online")
MEMBERS = {"a": {"7", "8"}, "b": {"7", "9"}, "c": {"7", "10"}}
TIMES = {"grace": GRACE, "timeout": TIMEOUT}


def chain_of_three() -> dict[str, ScriptedProvider]:
    return {
        "a": ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}}),
        "b": ScriptedProvider(ONE, {"1": {"7": ADA, "9": CID}}),
        "c": ScriptedProvider(ONE, {"1": {"7": ADA, "10": DAN}}),
    }


def ordered(*order: str) -> Config:
    return configured(order, dict.fromkeys("abc", TIMES), {"failback_after": FAILBACK})


class WriteObserver:
    """Looks at what the client sees, step by step."""

    def __init__(self, gateway: RunningGateway, client: ManualClient) -> None:
        self._scene = gateway
        self._guest = client

    async def sees(self, name: str, within: float) -> None:
        """The client comes to see the members of that provider within the time, through nothing
        but presence frames, and sees a whole set of some provider all the while."""
        waited = 0.0
        while True:
            for frame in await self._guest.new_frames():
                assert isinstance(frame, PresenceFrame | MessageFrame)
            seen = self._guest.users.keys()
            assert seen in MEMBERS.values(), f"{seen} are the members of no provider"
            if seen == MEMBERS[name]:
                return
            assert waited < within, f"{seen} after {waited} s"
            await self._scene.advance(STEP)
            waited += STEP

    async def goes_on_to_see(self, name: str, seconds: float) -> None:
        """Nothing changes for so long."""
        waited = 0.0
        while waited < seconds:
            await self._scene.advance(STEP)
            waited += STEP
            assert await self._guest.new_frames() == []
        assert self._guest.users.keys() == MEMBERS[name]


def kill(provider: ScriptedProvider) -> None:
    """Its stream breaks, and it answers nothing any more."""
    provider.servers_answer = provider.users_answers["1"] = DOWN
    provider.break_stream()


def revive(provider: ScriptedProvider, users: dict[str, User]) -> None:
    """It answers as before."""
    provider.broken = False
    provider.servers_answer, provider.users_answers["1"] = ONE, users


async def test_a_client_sees_the_right_members_whatever_happens() -> None:
    """Never a wrong set for longer than grace and timeout, never a disconnect."""
    given = chain_of_three()
    times = dict.fromkeys("abc", TIMES)
    async with served(given, tables=times, chain={"failback_after": FAILBACK}) as gateway:
        client = await gateway.connect_and_join()
        watcher = WriteObserver(gateway, client)
        await watcher.sees("a", 0)

        kill(given["a"])  # mid-flight: half a burst has come
        given["a"].emit(UserChanged(server_id="1", uid="7", status="idle"))
        given["b"].hang.add("users")  # and the next one does not answer when it is asked
        await watcher.sees("c", GRACE + 2 * TIMEOUT)
        await watcher.goes_on_to_see("c", 10)

        given["b"].hang.clear()
        await watcher.sees("b", LONGEST_RETRY + FAILBACK)

        revive(given["a"], {"7": ADA, "8": BOB})
        await watcher.sees("a", LONGEST_RETRY + 2 * FAILBACK + TIMEOUT)
        await watcher.goes_on_to_see("a", 10)

        await gateway.server.reload(ordered("c", "b", "a"))
        await watcher.sees("c", FAILBACK + TIMEOUT)
        await gateway.server.reload(ordered("a", "b", "c"))
        await watcher.sees("a", FAILBACK + TIMEOUT)

        assert client.world.joins == 1
        assert client.connection.close_code is None

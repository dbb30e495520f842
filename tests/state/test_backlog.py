"""What waits for a session that does not keep up (R13, R29)."""

from msgspec import structs

from d_back_core.chain.world import World
from d_back_core.client import ClientWorld, decoded
from d_back_core.models import EffectiveUser
from d_back_core.state.backlog import Backlog
from d_back_core.wire import protocol

ADA = EffectiveUser("7", "Ada", "online", "#aaaaaa")
GONE = structs.replace(ADA, status="offline")
RESUMED = 0
"""Where a session that resumed counts as joined: nobody knows where it did."""


def told(world: World, client: ClientWorld, joined_at: int) -> None:
    """Let the client catch up with what the world has pending."""
    outbox = Backlog(joined_at)
    outbox.hold(world.take())
    for number, change in enumerate(outbox.release(world)):
        resync = number == 0
        frame = decoded(protocol.delta("1", world.seq, change, resync=resync))
        assert frame is not None
        client.fold(frame)


def test_r29_who_was_never_introduced_to_a_resumed_client_is_sent_in_full() -> None:
    """A user who was hidden when it joined, and came and went while it did not read."""
    world = World("1", {"7": ADA}, hide_offline=True)
    world.put("7", GONE)
    world.take()
    client = ClientWorld()  # it joined now, and then resumed
    world.put("7", ADA)
    world.put("7", GONE)
    told(world, client, RESUMED)
    assert client.users == {"7": GONE}


def test_r13_who_came_and_went_unseen_is_not_told_to_a_client_that_did_not_know() -> None:
    """Nothing is sent of a user that was hidden when it joined and is hidden now."""
    world = World("1", {"7": ADA}, hide_offline=True)
    world.put("7", GONE)
    world.take()
    client = ClientWorld()
    joined_at = world.position
    world.put("7", ADA)
    world.put("7", GONE)
    told(world, client, joined_at)
    assert client.users == {}

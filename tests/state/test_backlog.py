"""What waits for a session that does not keep up (R13, R29)."""

from msgspec import structs

from d_back_core.chain.world import Removal, World
from d_back_core.client import ClientWorld, decoded
from d_back_core.models import EffectiveUser
from d_back_core.state.backlog import Backlog
from d_back_core.wire import protocol

ADA = EffectiveUser("7", "Ada", "online", "#aaaaaa")
GONE = structs.replace(ADA, status="offline")
RESUMED = 0
"""The position at which a session that resumed counts as joined: the real one is not known."""


def catch_up(world: World, client: ClientWorld, joined_at: int) -> None:
    """Let the client catch up with what the world has pending."""
    first, *others = world.take()
    backlog = Backlog(joined_at, first)
    for delta in others:
        backlog.hold(delta)
    changes = backlog.release(world)
    for number, change in enumerate(changes, 1):
        seq = world.seq if number == len(changes) else backlog.seq
        frame = decoded(protocol.delta("1", seq, change, resync=True))
        assert frame is not None
        client.apply(frame)


def test_r29_who_was_never_introduced_to_a_resumed_client_is_sent_in_full() -> None:
    """A user who was hidden when it joined, and came and went while it did not read."""
    world = World("1", {"7": ADA}, hide_offline=True)
    world.put("7", GONE)
    world.take()
    client = ClientWorld()  # it joined now, and then resumed
    world.put("7", ADA)
    world.put("7", GONE)
    catch_up(world, client, RESUMED)
    assert client.users == {"7": GONE}


def test_r48_a_user_who_came_and_went_unseen_is_known_afterwards() -> None:
    """A user that was hidden when the client joined, and is hidden again, counts as known to it
    from then on: its removal will be sent, so it is introduced."""
    world = World("1", {"7": ADA}, hide_offline=True)
    world.put("7", GONE)
    world.take()
    client = ClientWorld()
    joined_at = world.position
    world.put("7", ADA)
    world.put("7", GONE)
    catch_up(world, client, joined_at)
    assert client.users == {"7": GONE}
    world.put("7", None)
    [removal] = world.take()
    assert isinstance(removal.change, Removal)
    assert removal.change.known_before is not None
    assert joined_at < removal.change.known_before


def test_r48_a_user_who_went_and_is_back_hidden_is_removed() -> None:
    """The client knows the user; a session that had read everything would have lost it."""
    world = World("1", {"7": ADA}, hide_offline=True)
    client = ClientWorld()
    client.users = {"7": ADA}
    joined_at = world.position
    world.put("7", None)
    world.put("7", GONE)
    catch_up(world, client, joined_at)
    assert client.users == {}


def test_r48_a_client_resumes_from_the_number_before_the_first_held_delta() -> None:
    """Also if that delta has not raised the number."""
    world = World("1", {"7": ADA, "8": ADA}, hide_offline=True)
    world.put("7", GONE)
    before = world.take()[-1].seq
    world.put("7", None)
    [unnumbered] = world.take()
    assert Backlog(0, unnumbered).seq == before
    world.put("8", GONE)
    [numbered] = world.take()
    assert Backlog(0, numbered).seq == before

"""An origin writes, edges serve: what reaches the clients of an edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats_nodes import ADA, BOB, chat_of

from d_back_core import Message, Server, UserChanged, UserRemoved
from d_back_core.testing import Script

if TYPE_CHECKING:
    from conftest import Join, Listening, Nats, Origin, Serve, Until


def town() -> Script:
    return Script({"1": Server(name="Plaza", id="plaza")}, {"1": {"7": ADA, "8": BOB}})


async def test_changes_reach_the_clients_of_an_edge(
    nats: Nats, origin: Origin, serve: Serve, join: Join, until: Until, listening: Listening
) -> None:
    """The snapshot, a change, a newcomer, a removal and what is said."""
    cluster, source = await nats(), town()
    await origin(cluster, source)
    world = await join(await serve(cluster))
    assert world.users == (await join(await serve(cluster))).users
    assert {user.username for user in world.users.values()} == {"Ada", "Bob"}
    heard = await listening(world)
    source.emit(
        UserChanged(server_id="1", uid="7", status="dnd"),
        UserChanged(server_id="1", uid="9", username="Cid"),
        UserRemoved(server_id="1", uid="8"),
        Message(server_id="1", uid="9", message="hi", channel="2"),
    )
    await world.until(lambda w: set(w.users) == {"7", "9"} and w.users["7"].status == "dnd")
    await until(lambda: chat_of(heard) == ["hi"])

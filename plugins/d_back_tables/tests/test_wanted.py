"""R49: what a recorder was given leads to the state that its tables should have."""

from d_back_core import (
    Change,
    Server,
    ServerSet,
    Snapshot,
    User,
    UserRemoved,
    UserSet,
)
from d_back_tables import Wanted


def test_r49_what_is_wanted_follows_the_changes() -> None:
    """It leads to the same state as the changes themselves, and removes no key of which only the
    name is known."""
    ada, bo = User(username="Ada"), User(username="Bo")
    wanted = Wanted()
    assert not wanted
    wanted.apply(
        [
            ServerSet(server_id="1", server=Server(name="Plaza")),
            ServerSet(server_id="2", server=Server(name="Garden")),
            UserSet(server_id="1", uid="7", user=ada),
            UserSet(server_id="1", uid="8", user=bo),
            UserSet(server_id="2", uid="7", user=ada),
            Snapshot(server_id="1", keys=frozenset({"7", "known before"})),
            Snapshot(server_id=None, keys=frozenset({"1"})),
            UserSet(server_id="1", uid="9", user=bo),
            UserSet(server_id="1", uid="10", user=bo),
            UserRemoved(server_id="1", uid="9"),
        ]
    )
    expected: list[Change] = [
        ServerSet(server_id="1", server=Server(name="Plaza")),
        UserSet(server_id="1", uid="7", user=ada),
        UserSet(server_id="1", uid="10", user=bo),
        Snapshot(server_id="1", keys=frozenset({"7", "10", "known before"})),
        Snapshot(server_id=None, keys=frozenset({"1"})),
    ]
    assert list(wanted.changes()) == expected

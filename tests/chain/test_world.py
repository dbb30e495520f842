"""A world's deltas: what they say, their numbers, and whom they are for (R13)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from d_back_core import Message, Status
from d_back_core.chain.world import Delta, Presence, Removal, World, WorldChange
from d_back_core.models import EffectiveUser

ADA = EffectiveUser("1", "Ada", "online", "#112233")
BOB = EffectiveUser("2", "Bob", "offline", "#445566")
HELLO = Message(server_id="s", uid="1", message="hello", channel="c")


def world(*users: EffectiveUser, hide_offline: bool = False) -> World:
    return World("s", {user.uid: user for user in users}, hide_offline=hide_offline)


def change(user: EffectiveUser, **fields: str) -> EffectiveUser:
    return structs.replace(user, **fields)


def taken(there: World) -> list[tuple[int, WorldChange]]:
    """The new deltas: the number that clients see, and the change."""
    return [(delta.seq, delta.change) for delta in there.take()]


def test_a_new_user_is_introduced_with_everything() -> None:
    """A client needs all four fields to draw a user."""
    there = world()
    there.put("1", ADA)
    introduced = Presence(
        uid="1", status="online", username="Ada", role_color="#112233", known_before=0
    )
    assert taken(there) == [(1, introduced)]


@pytest.mark.parametrize(
    ("fields", "presence"),
    [
        ({"status": "dnd"}, Presence(uid="1", status="dnd")),
        ({"username": "A"}, Presence(uid="1", status="online", username="A")),
        ({"role_color": "#000000"}, Presence(uid="1", status="online", role_color="#000000")),
    ],
)
def test_a_change_tells_the_status_and_what_is_new(
    fields: dict[str, str], presence: Presence
) -> None:
    """The status is always there, as d-zone reads it; the rest only where it differs."""
    there = world(ADA)
    there.put("1", change(ADA, **fields))
    assert taken(there) == [(1, presence)]


def test_a_user_who_is_gone_is_removed() -> None:
    """Once, for all sessions."""
    there = world(ADA)
    there.put("1", None)
    there.put("1", None)
    assert taken(there) == [(1, Removal(uid="1"))]
    assert there.users == {}


def test_what_changes_nothing_makes_no_delta() -> None:
    """The same user again, no user again, and the same world again."""
    there = world(ADA)
    there.put("1", change(ADA))
    there.put("9", None)
    there.swap({"1": change(ADA)})
    assert there.take() == []
    assert there.seq == 0


def test_taken_deltas_are_not_given_again() -> None:
    """Each delta goes out once; the numbers go on."""
    there = world()
    there.put("1", ADA)
    assert [delta.seq for delta in there.take()] == [1]
    assert there.take() == []
    there.put("2", BOB)
    assert [delta.seq for delta in there.take()] == [2]


def test_r7_a_swap_is_the_difference() -> None:
    """Who is in both states is neither removed nor added."""
    there = world(ADA, BOB)
    cleo = EffectiveUser("3", "Cleo", "idle", "#ffffff")
    there.swap({"1": change(ADA, status="idle"), "3": cleo})
    assert taken(there) == [
        (1, Removal(uid="2")),
        (2, Presence(uid="1", status="idle")),
        (3, Presence.introducing(cleo)),
    ]
    assert list(there.users) == ["1", "3"]


def test_chat_takes_a_number_too() -> None:
    """Order between chat and presence is part of the stream."""
    there = world(ADA)
    assert there.say(HELLO)
    there.put("1", None)
    assert taken(there) == [(1, HELLO), (2, Removal(uid="1"))]


@pytest.mark.parametrize(
    "there", [world(), world(change(ADA, status="offline"), hide_offline=True)]
)
def test_chat_of_somebody_who_is_not_shown_is_not_sent(there: World) -> None:
    """d-zone would drop it: its author is unknown."""
    assert not there.say(HELLO)
    assert there.take() == []
    assert there.seq == 0


def test_the_world_keeps_a_copy_of_the_users() -> None:
    """What its maker does with the mapping afterwards is no change of the world."""
    users = {"1": ADA}
    there = World("s", users)
    users.clear()
    assert there.shown() == [ADA]


def test_r31_every_incarnation_has_an_epoch_of_its_own() -> None:
    """A client cannot resume into a world that only looks like the one it knew."""
    assert world(ADA).epoch != world(ADA).epoch


def test_r13_a_snapshot_leaves_offline_users_out() -> None:
    """With the policy only; without it they are shown."""
    assert world(ADA, BOB, hide_offline=True).shown() == [ADA]
    assert world(ADA, BOB).shown() == [ADA, BOB]


def test_r13_going_offline_is_a_status_and_no_removal() -> None:
    """d-zone lets the figure sleep, it does not vanish."""
    there = world(ADA, hide_offline=True)
    there.put("1", change(ADA, status="offline"))
    assert taken(there) == [(1, Presence(uid="1", status="offline"))]
    assert there.shown() == []


def test_r13_coming_online_sends_all_four_fields() -> None:
    """Who joined meanwhile was never told of the user."""
    there = world(BOB, hide_offline=True)
    there.put("2", change(BOB, status="idle"))
    assert taken(there) == [(1, Presence.introducing(change(BOB, status="idle")))]


def test_r13_what_happens_to_a_hidden_user_is_not_told() -> None:
    """A new name of a user who is not shown, or a new user who is offline."""
    there = world(BOB, hide_offline=True)
    there.put("2", change(BOB, username="Robert"))
    there.put("3", EffectiveUser("3", "Cleo", "offline", "#ffffff"))
    assert there.take() == []
    there.put("2", change(BOB, username="Robert", status="online"))
    [delta] = there.take()
    assert isinstance(delta.change, Presence)
    assert delta.change.username == "Robert"


def test_r13_the_removal_of_a_user_of_whom_nobody_was_told_sends_nothing() -> None:
    """Offline from the beginning to the end."""
    there = world(BOB, hide_offline=True)
    there.put("2", None)
    assert there.take() == []
    assert there.seq == 0


def test_r13_a_hidden_user_s_removal_is_for_those_who_were_told() -> None:
    """Only sessions that joined before the user went offline know of it; no number is used up,
    as the others would see a gap, but a place is."""
    there = world(ADA, hide_offline=True)
    there.put("1", change(ADA, status="offline"))
    there.put("2", change(BOB, status="online"))
    there.put("1", None)
    assert there.take()[-1] == Delta(2, 3, Removal(uid="1", known_before=1))
    assert (there.seq, there.position) == (2, 3)


def test_r13_who_was_shown_again_is_removed_for_all() -> None:
    """Coming back says who knew; after that having been hidden is forgotten."""
    there = world(ADA, hide_offline=True)
    there.put("1", change(ADA, status="offline"))
    there.put("1", ADA)
    there.put("1", None)
    assert taken(there)[1:] == [
        (2, Presence.introducing(ADA, known_before=1)),
        (3, Removal(uid="1")),
    ]


def test_r13_a_hidden_user_who_went_and_came_is_not_removed_twice() -> None:
    """The second time no client knew the user."""
    there = world(ADA, hide_offline=True)
    there.put("1", change(ADA, status="offline"))
    there.put("1", None)
    there.take()
    there.put("1", change(ADA, status="offline"))
    there.put("1", None)
    assert there.take() == []


def test_r13_having_been_hidden_is_forgotten_with_the_user() -> None:
    """Hidden, shown again, removed: when the same user comes back offline, and goes, no client
    hears of it."""
    there = world(ADA, hide_offline=True)
    for user in (change(ADA, status="offline"), ADA, None):
        there.put("1", user)
    there.take()
    there.put("1", change(ADA, status="offline"))
    there.put("1", None)
    assert there.take() == []


@dataclass
class Client:
    """A session that folds what it receives, as a browser does."""

    view: dict[str, EffectiveUser]
    seq: int
    joined_at: int
    """The place in the world."""
    told_twice: bool = False
    """Whether it may be told what it knows already."""

    def hears(self, delta: Delta) -> None:
        """As `ServerState` passes it on."""
        known_before = None
        if isinstance(delta.change, Removal):
            known_before = delta.change.known_before
        if known_before is None or self.joined_at < known_before:
            self.fold(delta, numbered=known_before is None)

    def fold(self, delta: Delta, *, numbered: bool) -> None:
        assert delta.seq == self.seq + numbered, "a gap"
        self.seq = delta.seq
        before = dict(self.view)
        match delta.change:
            case Message(uid=uid):
                assert uid in self.view, "chat of an unknown user"
                return
            case Removal(uid=uid):
                self.view.pop(uid, None)
            case Presence() as presence:
                self.view[presence.uid] = folded(self.view.get(presence.uid), presence)
        assert self.told_twice or self.view != before, "an empty delta"

    def resumes(self, there: World) -> bool:
        """Whether the world can tell it what it missed."""
        missed = there.since(self.seq)
        if missed is None:
            return False
        self.told_twice, self.joined_at = True, 0
        for delta in missed:
            self.fold(delta, numbered=delta.seq > self.seq)
        return True


def folded(known: EffectiveUser | None, presence: Presence) -> EffectiveUser:
    """The user whom the client has after a presence."""
    name, color = presence.username, presence.role_color
    if known is None:
        assert name is not UNSET, "a user who was never introduced"
        assert color is not UNSET, "a user who was never introduced"
        return EffectiveUser(presence.uid, name, presence.status, color)
    return EffectiveUser(
        presence.uid,
        known.username if name is UNSET else name,
        presence.status,
        known.role_color if color is UNSET else color,
    )


UIDS = st.sampled_from(["1", "2", "3"])
STATUSES: st.SearchStrategy[Status] = st.sampled_from(["online", "dnd", "offline"])
NAMES = st.sampled_from(["x", "y"])
COLORS = st.sampled_from(["#000000", "#ffffff"])
USERS = st.builds(EffectiveUser, UIDS, NAMES, STATUSES, COLORS)
WORLDS = st.lists(USERS, unique_by=lambda user: user.uid).map(
    lambda users: {user.uid: user for user in users}
)
Act = Callable[[World], object]
ACTS: st.SearchStrategy[Act | None] = st.one_of(
    USERS.map(lambda user: lambda world: world.put(user.uid, user)),
    UIDS.map(lambda uid: lambda world: world.put(uid, None)),
    WORLDS.map(lambda users: lambda world: world.swap(users)),
    UIDS.map(
        lambda uid: (
            lambda world: world.say(Message(server_id="s", uid=uid, message="hi", channel="c"))
        )
    ),
    st.none(),
)
"""Changes of a world; None: a client joins."""


def played(there: World, acts: list[Act | None], *, told_twice: bool = False) -> list[Client]:
    """The clients of the world after all of it, with what they were told."""

    def joined() -> Client:
        view = {user.uid: user for user in there.shown()}
        return Client(view, there.seq, there.position, told_twice)

    clients = [joined()]
    for act in [*acts, None]:
        if act is not None:
            act(there)
            continue
        for delta in there.take():
            for client in clients:
                client.hears(delta)
        clients.append(joined())
    return clients


@given(WORLDS, st.lists(ACTS, max_size=12))
def test_replayed_deltas_make_the_world(
    users: Mapping[str, EffectiveUser], acts: list[Act | None]
) -> None:
    """Whenever a client joined: its snapshot and the deltas since are the world; there is no gap
    and no delta that changes nothing."""
    there = World("s", users)
    for client in played(there, acts):
        assert client.view == there.users
        assert client.seq == there.seq


@given(WORLDS, st.lists(ACTS, max_size=12))
def test_r13_replayed_deltas_make_the_world_that_is_shown(
    users: Mapping[str, EffectiveUser], acts: list[Act | None]
) -> None:
    """With hidden users too: a client sees everyone who is online, and beside them only some
    who are still there and whom it saw go offline."""
    there = World("s", users, hide_offline=True)
    for client in played(there, acts):
        online = {uid: user for uid, user in client.view.items() if user.status != "offline"}
        assert online == {user.uid: user for user in there.shown()}
        asleep = client.view.keys() - online.keys()
        assert all(there.users[uid].status == "offline" for uid in asleep)
        assert client.seq == there.seq


HIDE: st.SearchStrategy[Act | None] = st.booleans().map(
    lambda offline: lambda world: world.hide(offline=offline)
)


@given(WORLDS, st.lists(ACTS | HIDE, max_size=12))
def test_r13_hiding_may_begin_and_end_while_clients_are_there(
    users: Mapping[str, EffectiveUser], acts: list[Act | None]
) -> None:
    """Users who are online, or not hidden any more, are seen as they are; users who are gone are
    not seen."""
    there = World("s", users)
    for client in played(there, acts, told_twice=True):
        assert_sees(client, there)


def assert_sees(client: Client, there: World) -> None:
    """The client sees all who are shown, and beside them only users who are there, offline."""
    shown = {user.uid: user for user in there.shown()}
    assert {uid: user for uid, user in client.view.items() if uid in shown} == shown
    asleep = client.view.keys() - shown.keys()
    assert all(uid in there.users and there.users[uid].status == "offline" for uid in asleep)
    assert client.seq == there.seq


@given(
    WORLDS,
    st.lists(ACTS | HIDE, max_size=8),
    st.lists(ACTS | HIDE, max_size=8),
    st.booleans(),
    st.integers(0, 4),
)
def test_r31_who_resumes_is_told_what_it_missed(
    users: Mapping[str, EffectiveUser],
    heard: list[Act | None],
    missed: list[Act | None],
    hide_offline: bool,  # noqa: FBT001  hypothesis gives it
    history: int,
) -> None:
    """All of it, or that the history does not reach so far back; never a part."""
    there = World("s", users, hide_offline=hide_offline, history=history)
    clients = played(there, heard, told_twice=True)
    played(there, missed, told_twice=True)
    for client in clients:
        if client.resumes(there):
            assert_sees(client, there)


def test_r48_what_a_resuming_client_missed_has_all_fields() -> None:
    """It may have lost its connection in a resync, after the removal of the user and before the
    number of that removal."""
    there = world(ADA)
    there.put("1", change(ADA, status="idle"))
    there.put("1", None)
    assert there.since(0) == [
        Delta(1, 1, Presence.introducing(change(ADA, status="idle"), None)),
        Delta(2, 2, Removal(uid="1")),
    ]
    assert there.take()[0].change == Presence(uid="1", status="idle")


def test_r31_the_history_reaches_as_far_back_as_it_is_long() -> None:
    """One delta more, and a client has to join again; a number of the future never was ours."""
    there = World("s", {}, history=2)
    for name in ("a", "b", "c"):
        there.put("1", change(ADA, username=name))
    assert there.since(0) is None
    assert there.since(3) == []
    assert there.since(4) is None
    missed = there.since(2)
    assert missed is not None
    assert [delta.seq for delta in missed] == [3]


def test_r31_a_lost_removal_of_a_hidden_user_is_not_passed_over() -> None:
    """It has no number of its own that would be missing."""
    there = World("s", {"1": ADA}, hide_offline=True, history=1)
    there.put("1", change(ADA, status="offline"))
    there.put("1", None)
    missed = there.since(1)
    assert missed is not None
    assert [delta.change for delta in missed] == [Removal(uid="1", known_before=1)]
    there.put("2", change(BOB, status="idle"))
    assert there.since(1) is None


def test_what_was_touched_since_a_mark() -> None:
    """Each user once, with whether a snapshot of that moment has them."""
    there = world(ADA)
    there.put("2", BOB)
    tracker = there.track()
    assert there.shown() == [ADA, BOB]
    there.put("1", None)
    there.put("2", change(BOB, username="Robert"))
    there.put("3", EffectiveUser("3", "Cleo", "idle", "#ffffff"))
    there.put("3", None)
    assert tracker.touched == {"1": True, "2": True, "3": False}
    assert list(tracker.lately()) == ["1", "2", "3"]
    there.put("1", ADA)
    assert list(tracker.lately()) == ["1"]
    there.untrack(tracker)
    there.put("2", None)
    assert list(tracker.lately()) == []

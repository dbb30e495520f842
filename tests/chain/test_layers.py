"""How layers merge: modes, precedence field by field, filters (R2, R3, R4)."""

from collections import ChainMap
from collections.abc import Mapping
from itertools import product
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from d_back_core import Server, ServerChanged, User, UserChanged
from d_back_core.chain.layers import FIELDS, Layers, Link, patched, rebased

Records = Mapping[str, Mapping[str, User]]

ADA = User(username="Ada", status="online", role_color="#112233")
BOB = User(username="Bob", status="idle", role_color="#445566")


def users(*links: Link, **layers: Mapping[str, User]) -> Layers[User]:
    return Layers(User, links, layers)


def servers(*links: Link, **layers: Mapping[str, Server]) -> Layers[Server]:
    return Layers(Server, links, layers)


def fallback(name: str, *only: str) -> Link:
    """A fallback, for these servers only if there are any."""
    return Link(name=name, servers=frozenset(only) or None)


def merging(name: str, *fields: str) -> Link:
    return Link(name=name, mode="merge", fields=frozenset(fields) or None)


def enriching(name: str, *fields: str) -> Link:
    return Link(name=name, mode="enrich", fields=frozenset(fields) or None)


def test_r2_only_the_highest_fallback_counts() -> None:
    """A fallback supplies neither users nor fields below another one that answers."""
    layers = users(fallback("a"), fallback("b"), a={"1": User(username="Ada")}, b={"1": BOB})
    assert layers.merge("1") == User(username="Ada")


def test_r2_a_fallback_speaks_for_users_whom_it_does_not_know() -> None:
    """Whom the highest one does not list is not there, whatever the next one says."""
    layers = users(fallback("a"), fallback("b"), a={}, b={"1": BOB})
    assert layers.merge("1") is None


def test_r2_a_fallback_that_is_not_in_use_does_not_count() -> None:
    """Without its layer the next one speaks."""
    layers = users(fallback("a"), fallback("b"), b={"1": BOB})
    assert layers.merge("1") == BOB


@pytest.mark.parametrize("mode", ["merge", "enrich"])
def test_r2_merge_and_enrich_above_never_keep_a_fallback_out(
    mode: Literal["merge", "enrich"],
) -> None:
    """Only fallbacks take each other's place."""
    layers = users(Link(name="a", mode=mode), fallback("b"), a={}, b={"1": BOB})
    assert layers.merge("1") == BOB


def test_merge_adds_users_and_fields_below_a_fallback() -> None:
    """It is asked always."""
    layers = users(
        fallback("a"),
        merging("b"),
        a={"1": User(username="Ada")},
        b={"1": BOB, "2": BOB},
    )
    assert layers.merge("1") == User(username="Ada", status="idle", role_color="#445566")
    assert layers.merge("2") == BOB


def test_enrich_supplies_fields_but_adds_nobody() -> None:
    """A user whom only it knows is not there."""
    layers = users(
        fallback("a"),
        enriching("b"),
        a={"1": User(username="Ada")},
        b={"1": User(role_color="#445566"), "2": BOB},
    )
    assert layers.merge("1") == User(username="Ada", role_color="#445566")
    assert layers.merge("2") is None
    assert layers.keys() == ["1"]


def test_an_overlay_above_overrides_field_by_field() -> None:
    """What stands higher wins; what it does not say shows through."""
    layers = users(
        enriching("colours"),
        fallback("a"),
        colours={"1": User(role_color="#ff0000")},
        a={"1": ADA, "2": BOB},
    )
    assert layers.merge("1") == User(username="Ada", status="online", role_color="#ff0000")
    assert layers.merge("2") == BOB


def test_the_order_is_that_of_the_links_and_not_of_the_mapping() -> None:
    """The operator's order wins."""
    links = (merging("a"), merging("b"))
    assert Layers(User, links, {"b": {"1": BOB}, "a": {"1": ADA}}).merge("1") == ADA


def test_r4_a_field_taken_back_shows_the_layer_below() -> None:
    """None is no value: it hides nothing."""
    layers = users(
        merging("a"), merging("b"), a={"1": User(username=None, status="dnd")}, b={"1": BOB}
    )
    assert layers.merge("1") == User(username="Bob", status="dnd", role_color="#445566")


def test_what_nobody_supplies_stays_unset() -> None:
    """Defaults are not the chain's business."""
    layers = users(merging("a"), a={"1": User(username=None)})
    assert layers.merge("1") == User()


def test_a_fields_filter_narrows_what_is_supplied() -> None:
    """The provider's other fields count as not said."""
    layers = users(merging("a", "role_color"), merging("b"), a={"1": ADA}, b={"1": BOB})
    assert layers.merge("1") == User(username="Bob", status="idle", role_color="#112233")


def test_r6_a_fields_filter_never_opens_a_server() -> None:
    """``passworded`` and ``enabled`` pass through every filter."""
    layers = servers(
        merging("a", "name"),
        a={"1": Server(name="A", id="a", passworded=True, enabled=False)},
    )
    assert layers.merge("1") == Server(name="A", passworded=True, enabled=False)


def test_r3_a_filtered_fallback_touches_only_its_own_servers() -> None:
    """Its records of ids that it does not admit do not count."""
    layers = servers(
        fallback("a", "1"),
        fallback("b"),
        a={"1": Server(name="A1"), "3": Server(name="A3")},
        b={"1": Server(name="B1", id="b1"), "2": Server(name="B2")},
    )
    merged = {key: layers.merge(key) for key in ("1", "2", "3")}
    assert merged == {"1": Server(name="A1"), "2": Server(name="B2"), "3": None}


def test_r3_a_fallback_hides_no_server_by_leaving_it_out() -> None:
    """A server that only a lower fallback lists exists, also if the higher one has a filter."""
    for higher in (fallback("a", "1"), fallback("a")):
        layers = servers(higher, fallback("b"), a={}, b={"1": Server(name="B1")})
        assert layers.merge("1") == Server(name="B1")


def test_r3_each_server_comes_from_the_highest_fallback_that_lists_it() -> None:
    """The lower fallback fills no gap of a server that a higher one lists."""
    layers = servers(
        fallback("a"),
        fallback("b"),
        a={"1": Server(name="A1")},
        b={"1": Server(name="B1", id="b1"), "2": Server(name="B2")},
    )
    assert [layers.merge(key) for key in ("1", "2")] == [Server(name="A1"), Server(name="B2")]


@pytest.mark.parametrize("mode", ["fallback", "merge"])
def test_r3_a_stale_layer_shows_only_what_no_other_provider_lists(
    mode: Literal["fallback", "merge"],
) -> None:
    """It supplies no field of a server that a fresh layer lists, not even from above."""
    layers = Layers(
        Server,
        (Link(name="a", mode=mode), Link(name="x", mode="enrich"), Link(name="b", mode="merge")),
        {
            "a": {"1": Server(name="A1", id="a1"), "2": Server(name="A2")},
            "x": {"2": Server(client_id="9")},
            "b": {"1": Server(name="B1")},
        },
        stale=frozenset({"a"}),
    )
    assert layers.merge("1") == Server(name="B1")
    assert layers.merge("2") == Server(name="A2", client_id="9")


def test_r3_two_filtered_fallbacks_share_the_list() -> None:
    """Each has its own ids; a common one is the higher one's."""
    layers = servers(
        fallback("a", "1", "2"),
        fallback("b", "2", "3"),
        a={"1": Server(name="A1"), "2": Server(name="A2")},
        b={"2": Server(name="B2"), "3": Server(name="B3")},
    )
    names = [record.name if (record := layers.merge(key)) else None for key in ("1", "2", "3")]
    assert names == ["A1", "A2", "B3"]


def test_a_servers_filter_holds_for_merge_too() -> None:
    """What it says of other servers is not heard."""
    link = Link(name="a", mode="merge", servers=frozenset({"1"}))
    layers = servers(link, a={"1": Server(name="A1"), "2": Server(name="A2")})
    assert layers.merge("1") == Server(name="A1")
    assert layers.merge("2") is None
    assert link.admits("1")
    assert not link.admits("2")


def test_keys_come_in_the_order_of_the_chain() -> None:
    """The first open server is the default: the order means something."""
    layers = servers(
        merging("a"),
        enriching("x"),
        merging("b"),
        a={"2": Server(), "1": Server()},
        x={"9": Server()},
        b={"3": Server(), "2": Server()},
    )
    assert layers.keys() == ["2", "1", "3"]


def test_explain_names_all_suppliers_of_a_field() -> None:
    """The winner comes first, then those that it hides."""
    layers = users(
        enriching("colours"),
        fallback("a"),
        fallback("b"),
        merging("m"),
        colours={"1": User(role_color="#ff0000")},
        a={"1": User(username="Ada", role_color="#112233", status=None)},
        b={"1": BOB},
        m={"1": User(status="dnd", username="M")},
    )
    assert layers.explain("1") == {
        "username": [("a", "Ada"), ("m", "M")],
        "status": [("m", "dnd")],
        "role_color": [("colours", "#ff0000"), ("a", "#112233")],
    }
    assert layers.explain("2") == {"username": [], "status": [], "role_color": []}


def test_rank_is_the_winner_s_place() -> None:
    """A user that no layer supplies comes last."""
    layers = servers(
        merging("a"),
        merging("b"),
        a={"1": Server(name="A")},
        b={"1": Server(name="B", default=True)},
    )
    assert layers.rank("1", "name") == 0
    assert layers.rank("1", "default") == 1
    assert layers.rank("1", "id") == 2


def test_r4_a_patch_changes_what_it_says() -> None:
    """UNSET is unchanged, None takes back, anything else replaces."""
    event = UserChanged(server_id="1", uid="1", username=None, status="dnd")
    assert patched(ADA, event) == User(username=None, status="dnd", role_color="#112233")
    changed = ServerChanged(server_id="1", passworded=False)
    before = Server(name="A", passworded=True)
    assert patched(before, changed) == Server(name="A", passworded=False)


def test_a_changed_layer_shows_in_the_next_merge() -> None:
    """The mappings are shared with their owner, not copied."""
    layer = {"1": ADA}
    layers = users(merging("a"), a=layer)
    layer["2"] = BOB
    del layer["1"]
    assert [layers.merge("1"), layers.merge("2")] == [None, BOB]


NAMES = ("p", "q", "r", "s")
KEYS = ("1", "2", "3")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "username": st.sampled_from(["u", "v"]),
    "status": st.sampled_from(["online", "dnd"]),
    "role_color": st.sampled_from(["#000000", "#111111"]),
    "extra": st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), min_size=1),
    "name": st.sampled_from(["n", "m"]),
    "id": st.sampled_from(["i", "j"]),
    "default": st.booleans(),
    "passworded": st.booleans(),
    "enabled": st.booleans(),
    "client_id": st.sampled_from(["8", "9"]),
}


def records(kind: type) -> st.SearchStrategy[Any]:
    fields = {name: st.one_of(st.just(UNSET), st.none(), VALUES[name]) for name in FIELDS[kind]}
    return st.builds(kind, **fields)


@st.composite
def chains(draw: st.DrawFn, kind: type) -> tuple[list[Link], dict[str, dict[str, Any]]]:
    names = draw(st.permutations(NAMES))
    links = [
        Link(
            name=name,
            mode=draw(st.sampled_from(["fallback", "merge", "enrich"])),
            servers=draw(st.none() | st.frozensets(st.sampled_from(KEYS))),
            fields=draw(st.none() | st.frozensets(st.sampled_from(FIELDS[kind]))),
        )
        for name in names
    ]
    layer = st.dictionaries(st.sampled_from(KEYS), records(kind))
    return links, draw(st.dictionaries(st.sampled_from(NAMES), layer))


def expected(kind: type, links: list[Link], layers: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401
    """The rules of design.md once more, one field at a time."""
    heard = [link for link in links if link.name in layers]
    if kind is Server:
        heard = [link for link in heard if link.servers is None or key in link.servers]
    fallbacks = [link for link in heard if link.mode == "fallback"]
    if kind is Server:  # each server is decided on its own
        fallbacks = [link for link in fallbacks if key in layers[link.name]]
    heard = [link for link in heard if link.mode != "fallback" or link in fallbacks[:1]]
    if not any(link.mode != "enrich" and key in layers[link.name] for link in heard):
        return None
    fields = {}
    for field in FIELDS[kind]:
        said = [
            getattr(layers[link.name][key], field)
            for link in heard
            if key in layers[link.name]
            and (link.fields is None or field in {*link.fields, "passworded", "enabled"})
        ]
        supplied = [value for value in said if value is not None and value is not UNSET]
        fields[field] = supplied[0] if supplied else UNSET
        if field == "extra" and supplied:
            fields[field] = dict(ChainMap(*supplied))
    return kind(**fields)


@pytest.mark.parametrize("kind", [User, Server])
@given(data=st.data())
def test_the_merge_equals_the_naive_model(kind: type, data: st.DataObject) -> None:
    """Whatever the order, the modes, the filters and the layers."""
    links, layers = data.draw(chains(kind))
    merged: Layers[Any] = Layers(kind, tuple(links), layers)
    for key in KEYS:
        assert merged.merge(key) == expected(kind, links, layers, key)
    there = [key for key in KEYS if merged.merge(key) is not None]
    assert set(there) <= set(merged.keys())


@given(chains(User))
def test_explain_tells_where_the_merge_has_it_from(
    chain: tuple[list[Link], dict[str, dict[str, User]]],
) -> None:
    """For every effective field the first of the explanation is the value."""
    links, layers = chain
    merged: Layers[User] = Layers(User, tuple(links), layers)
    for key in KEYS:
        record = merged.merge(key)
        if record is None:
            continue
        told = {field: found[0][1] for field, found in merged.explain(key).items() if found}
        extra = {field[6:]: told.pop(field) for field in [*told] if field.startswith("extra.")}
        assert User(**told, extra=extra or UNSET) == record  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [User, Server])
@given(data=st.data(), place=st.integers(0, len(NAMES) - 1))
def test_r21_what_is_above_a_recorder_is_the_chain_without_the_rest(
    kind: type, data: st.DataObject, place: int
) -> None:
    """A merge limited to those above one provider is the merge of a chain that ends there."""
    links, layers = data.draw(chains(kind))
    whole: Layers[Any] = Layers(kind, tuple(links), layers)
    above: Layers[Any] = Layers(kind, tuple(links[:place]), layers)
    limit = links[place].name
    assert whole.keys(limit) == above.keys()
    for key in KEYS:
        assert whole.merge(key, limit) == above.merge(key)


def test_r21_above_a_recorder_that_answers_alone_there_is_nothing() -> None:
    """What it answers is not recorded by itself."""
    layers = users(fallback("discord"), fallback("memory"), memory={"1": ADA})
    assert layers.merge("1") == ADA
    assert layers.merge("1", "memory") is None


VERSIONS = [
    None,
    User(username="Ada", status="idle"),
    User(username="Ada", status="dnd"),
    User(username="Eve", status="idle"),
]


def of(user: User | None) -> dict[str, User]:
    return {} if user is None else {"7": user}


def expected_record(old: User | None, now: User | None, new: User | None) -> User | None:
    """What an answer and the events since the former one make of a user."""
    if old is None or now is None or new is None:
        return now if new == old else new
    return User(
        username=now.username if new.username == old.username else new.username,
        status=now.status if new.status == old.status else new.status,
    )


@pytest.mark.parametrize(("old", "now", "new"), [*product(VERSIONS, repeat=3)])
def test_r14_what_an_answer_repeats_may_be_older_than_the_events(
    old: User | None, now: User | None, new: User | None
) -> None:
    """What it changes is newer; field by field if the user was there all the time."""
    assert rebased(of(old), of(now), of(new)) == of(expected_record(old, now, new))

"""The operator's rules: public ids (R12), the default server (R3), protection (R6), and what is
not shown."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_back_core import Message, Secret, Server, User
from d_back_core.chain.layers import Layers, Link
from d_back_core.chain.policy import (
    NO_POLICY,
    Policy,
    PublicIds,
    effective_servers,
    means_default,
    resolve,
    slug,
)
from d_back_core.chain.server_list import ServerList
from d_back_core.models import PROTOTYPE_WORDS, EffectiveServer, EffectiveUser, is_public_id

Servers = dict[str, Server]


def public_ids(
    servers: Mapping[str, Server], policies: Mapping[str, Policy] | None = None
) -> dict[str, str]:
    """What a new process calls these servers."""
    ids = PublicIds()
    ids.assign(servers, policies or {})
    return {server_id: ids[server_id] for server_id in servers}


def effective(
    servers: Mapping[str, Server],
    policies: Mapping[str, Policy] | None = None,
    *,
    protected: tuple[str, ...] = (),
    preferred: tuple[str, ...] = (),
) -> dict[str, EffectiveServer]:
    """What clients may know of these servers."""
    return effective_servers(
        servers, policies or {}, PublicIds(), protected=protected, preferred=preferred
    )


def default_of(servers: Mapping[str, EffectiveServer]) -> str | None:
    chosen = [server.server_id for server in servers.values() if server.default]
    assert len(chosen) <= 1
    return chosen[0] if chosen else None


def said_in(channel: str, name: str | None = None) -> Message:
    return Message(server_id="1", uid="1", message="hi", channel=channel, channel_name=name)


TWO = {"1": Server(name="One"), "2": Server(name="Two")}

# Public ids


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("D World", "d-world"),
        ("Café  Zoë!", "cafe-zoe"),
        ("a_b", "a-b"),
        ("--x--", "x"),
        ("Straße", "strasse"),
        ("Кафе Москва", "kafe-moskva"),
        ("日本", "ri-ben"),
        ("東京タワー", "dong-jing-tawa"),
        ("R&amp;D", "r-amp-d"),
        ("&#99999999999999999999;", "99999999999999999999"),
        ("🎉", ""),
        ("", ""),
        ("valueOf", "valueof"),
        ("constructor", ""),
        ("x" * 63 + " y", "x" * 63),
        ("y" * 70, "y" * 64),
    ],
)
def test_r12_a_slug_is_made_of_the_name(name: str, expected: str) -> None:
    """Lower-case words in ASCII joined by hyphens, at most 64 characters, or an empty text."""
    assert slug(name) == expected


@given(st.one_of(st.text(), st.sampled_from(sorted(PROTOTYPE_WORDS))))
def test_r12_a_slug_is_fit_for_urls_or_empty(name: str) -> None:
    """Whatever a server is called; never a member of Object.prototype."""
    made = slug(name)
    assert made == "" or is_public_id(made)
    assert made not in PROTOTYPE_WORDS


def test_r12_two_names_with_the_same_slug_get_different_ids() -> None:
    """The second server is called by its server_id."""
    servers = {"1": Server(name="Straße"), "2": Server(name="Strasse")}
    assert public_ids(servers) == {"1": "strasse", "2": "2"}


def test_r12_the_alias_wins_over_the_provider_s_id_and_the_name() -> None:
    """The operator has the last word."""
    servers = {"1": Server(name="One", id="one-id"), "2": Server(name="Two", id="two-id")}
    assert public_ids(servers, {"1": Policy(alias="dworld")}) == {"1": "dworld", "2": "two-id"}


def test_r12_without_a_fit_name_it_is_the_server_id() -> None:
    """No name, or a name of which nothing can be in a URL."""
    servers = {"1": Server(), "2": Server(name="🎉"), "3": Server(name="constructor")}
    assert public_ids(servers) == {"1": "1", "2": "2", "3": "3"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Straße!", "strasse"),
        ("a b", "a-b"),
        ("constructor", "one"),
        ("🎉", "one"),
        ("a_B", "a_B"),
    ],
)
def test_r12_an_id_with_other_characters_becomes_a_slug(given: str, expected: str) -> None:
    """If nothing of it can be in a URL, the name decides."""
    assert public_ids({"1": Server(name="One", id=given)}) == {"1": expected}


def test_r12_an_id_that_another_server_has_becomes_no_slug() -> None:
    """The loser is called by its name, as ever."""
    servers = {"1": Server(name="One", id="Same"), "2": Server(name="Two", id="Same")}
    assert public_ids(servers) == {"1": "Same", "2": "two"}


@pytest.mark.parametrize("name", ["Default", "null", "NULL!"])
def test_r12_a_reserved_word_is_no_public_id(name: str) -> None:
    """Clients mean something else by it."""
    assert public_ids({"1": Server(name=name)}) == {"1": "1"}
    assert public_ids({"1": Server(id=name.lower().strip("!"))}) == {"1": "1"}


def test_r12_of_two_equal_names_the_first_in_order_gets_it() -> None:
    """The loser gets its server_id."""
    servers = {"2": Server(name="Same"), "1": Server(name="same")}
    assert public_ids(servers) == {"2": "same", "1": "1"}


def test_r12_a_provider_s_id_wins_over_another_server_s_name() -> None:
    """Also where it comes later in the order."""
    servers = {"1": Server(name="Zone"), "2": Server(name="Two", id="zone")}
    assert public_ids(servers) == {"1": "1", "2": "zone"}


def test_r12_an_alias_wins_over_another_server_s_id() -> None:
    """Also where it comes later in the order."""
    servers = {"1": Server(name="One", id="zone"), "2": Server(name="Two")}
    assert public_ids(servers, {"2": Policy(alias="zone")}) == {"1": "one", "2": "zone"}


def test_r12_an_alias_is_kept_free_for_a_server_that_is_not_there_yet() -> None:
    """The operator promised it."""
    ids = PublicIds()
    policies = {"9": Policy(alias="one")}
    ids.assign({"1": Server(name="One")}, policies)
    assert ids["1"] == "1"
    ids.assign({"9": Server(name="Nine")}, policies)
    assert ids["9"] == "one"


def test_r12_no_server_is_called_by_another_one_s_server_id() -> None:
    """Clients may ask for either: the answer must not depend on which one they meant."""
    servers = {"1": Server(name="2"), "2": Server(name="Two"), "3": Server(id="1")}
    assert public_ids(servers) == {"1": "1", "2": "two", "3": "3"}


def test_r12_an_alias_that_is_an_unlisted_server_s_id_loses() -> None:
    """The configuration cannot know of servers that only providers bring."""
    servers = {"1": Server(name="One"), "5": Server()}
    assert public_ids(servers, {"1": Policy(alias="5")}) == {"1": "one", "5": "5"}


def test_r12_a_server_whose_id_is_taken_already_gets_a_number() -> None:
    """The first one's id stays the same for the life of the process."""
    ids = PublicIds()
    ids.assign({"1": Server(name="5")}, {})
    ids.assign({"1": Server(name="5"), "5": Server(name="5", id="5")}, {})
    assert [ids["1"], ids["5"]] == ["5", "5-2"]


def test_r12_ids_stay_the_same_for_the_life_of_the_process() -> None:
    """Whatever changes: names, provider's ids, aliases, the order, and being gone meanwhile."""
    ids = PublicIds()
    ids.assign({"1": Server(name="One"), "2": Server(id="zone")}, {})
    changed = {"3": Server(name="One"), "1": Server(name="Uno", id="uno"), "2": Server(id="dos")}
    ids.assign({"3": Server(name="One")}, {})
    ids.assign(changed, {"1": Policy(alias="eins")})
    assert [ids[server_id] for server_id in ("1", "2", "3")] == ["one", "zone", "3"]


IDS = st.sampled_from(["1", "2", "3", "one", "default", "null", "a"])
WISHES = st.none() | IDS | st.sampled_from(["b", "B", "constructor"])
SERVERS = st.builds(Server, name=WISHES, id=WISHES.filter(lambda wish: wish != "constructor"))


@given(
    st.lists(st.dictionaries(IDS, SERVERS, max_size=4), max_size=4),
    st.dictionaries(IDS, st.sampled_from(["x", "1", "3", "one", "b"]), max_size=3),
)
def test_r12_every_server_has_a_public_id_of_its_own_for_ever(
    lists: list[Servers], aliases: dict[str, str]
) -> None:
    """Whatever providers list one after the other, and whatever the operator wrote: none is
    without, no two share one, none changes, and none is reserved."""
    owners: dict[str, str] = {}
    policies: dict[str, Policy] = {}
    for server_id, alias in aliases.items():
        owners.setdefault(alias, server_id)  # the configuration refuses two equal ones
        if owners[alias] == server_id:
            policies[server_id] = Policy(alias=alias)
    ids = PublicIds()
    known: dict[str, str] = {}
    for servers in lists:
        ids.assign(servers, policies)
        known |= {server_id: known.get(server_id, ids[server_id]) for server_id in servers}
        assert known == {server_id: ids[server_id] for server_id in known}
        assert len(set(known.values())) == len(known)
        assert not PublicIds.RESERVED & set(known.values())


# The list


def test_a_server_without_a_name_is_called_by_its_id() -> None:
    """A button needs a label."""
    assert effective({"1": Server()})["1"].name == "1"


def test_r6_a_server_that_the_operator_disables_is_not_there() -> None:
    """Whatever providers say."""
    servers = {"1": Server(enabled=True), "2": Server()}
    assert effective(servers, {"1": Policy(enabled=False)}).keys() == {"2"}


@pytest.mark.parametrize("policy", [Policy(passworded=True), Policy(password=Secret("x"))])
def test_r6_policy_protects(policy: Policy) -> None:
    """By the flag, or by a password."""
    servers = effective(TWO, {"1": policy})
    assert [server.passworded for server in servers.values()] == [True, False]


def test_r6_what_a_provider_protected_stays_protected() -> None:
    """The policy's silence does not open it."""
    assert effective(TWO, protected=("2",))["2"].passworded


def test_r3_the_operator_s_default_comes_first() -> None:
    """Before any provider's flag and before the order."""
    servers = effective(TWO, {"2": Policy(default=True)}, preferred=("1",))
    assert default_of(servers) == "2"


def test_r3_the_highest_provider_s_flag_comes_next() -> None:
    """``preferred`` is in the order of the chain."""
    assert default_of(effective(TWO, preferred=("2", "1"))) == "2"


@pytest.mark.parametrize("order", [("9", "10"), ("10", "9")])
def test_r3_without_a_preference_it_is_the_smallest_server_id(order: tuple[str, str]) -> None:
    """The order of the servers does not matter, and ids compare like numbers."""
    assert default_of(effective({server_id: Server() for server_id in order})) == "9"


@pytest.mark.parametrize(
    "policies",
    [
        {"1": Policy(default=True, passworded=True)},
        {"1": Policy(default=True, enabled=False)},
    ],
)
def test_r3_a_closed_server_is_not_the_default(policies: dict[str, Policy]) -> None:
    """Not even where the operator and every provider say so."""
    assert default_of(effective(TWO, policies, preferred=("1",))) == "2"


def test_r3_with_no_open_server_there_is_no_default() -> None:
    """Everything is protected, or nothing is there."""
    assert default_of(effective(TWO, protected=("1", "2"))) is None
    assert default_of(effective({})) is None


# The list, from layers: which provider's flags count


class Changes:
    """Counts how often a listing says that it changed."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def listed(
    listing: ServerList, links: tuple[Link, ...], layers: dict[str, Servers]
) -> dict[str, EffectiveServer]:
    """What the listing makes of these layers."""
    merged = Layers(Server, links, layers)
    keys = {key: record for key in merged.keys() if (record := merged.merge(key))}  # noqa: SIM118
    listing.swap(keys)
    listing.refresh(merged, ())
    return listing.servers


LINKS = (Link(name="a", mode="merge"), Link(name="b", mode="merge"))


def test_r3_the_flag_of_the_highest_provider_that_gives_one_counts() -> None:
    """Not the order of the servers: b lists its default first, a is above b."""
    listing = ServerList({}, Changes())
    layers = {
        "a": {"2": Server(default=True)},
        "b": {"1": Server(default=True), "2": Server()},
    }
    assert default_of(listed(listing, LINKS, layers)) == "2"


def test_r3_the_present_default_stays_as_long_as_it_is_open() -> None:
    """Neither a smaller server_id nor its own return moves the clients of the default server."""
    listing = ServerList({}, Changes())
    opened, closed = Server(passworded=False), Server(passworded=True)
    for records, expected in (
        ({"5": opened}, "5"),
        ({"1": opened, "5": opened}, "5"),
        ({"1": opened, "5": closed}, "1"),
        ({"1": opened, "5": opened}, "1"),
        ({"1": opened, "5": Server(passworded=False, default=True)}, "5"),
    ):
        assert default_of(listed(listing, LINKS, {"a": records})) == expected


def test_r6_protection_outlasts_the_layer_that_asked_for_it() -> None:
    """A provider that is gone has not opened anything; only its own no does."""
    listing = ServerList({}, Changes())
    closed = {"a": {"1": Server(passworded=True)}, "b": {"1": Server()}}
    assert listed(listing, LINKS, closed)["1"].passworded
    assert listed(listing, LINKS, {"b": {"1": Server(passworded=False)}})["1"].passworded
    assert listed(listing, LINKS, {"a": {"1": Server()}, "b": {}})["1"].passworded
    opened = {"a": {"1": Server(passworded=False)}, "b": {}}
    assert not listed(listing, LINKS, opened)["1"].passworded


def test_r6_one_provider_s_no_does_not_open_what_another_one_closed() -> None:
    """Protection is the OR of all who said it."""
    listing = ServerList({}, Changes())
    layers = {"a": {"1": Server(passworded=False)}, "b": {"1": Server(passworded=True)}}
    assert listed(listing, LINKS, layers)["1"].passworded


@pytest.mark.parametrize("disabling", ["a", "b"])
def test_r6_a_server_that_a_provider_disables_is_not_there(disabling: str) -> None:
    """Whichever of them says so, for as long as its layer is in use; the other's yes does not
    matter."""
    listing = ServerList({}, Changes())
    layers = {name: {"1": Server(enabled=name != disabling), "2": Server()} for name in "ab"}
    assert listed(listing, LINKS, layers).keys() == {"2"}
    del layers[disabling]
    assert listed(listing, LINKS, layers).keys() == {"1", "2"}


def test_r3_a_filtered_provider_neither_protects_nor_disables_others_servers() -> None:
    """Its records of ids that it does not admit do not count."""
    listing = ServerList({}, Changes())
    links = (Link(name="a", servers=frozenset({"1"})), Link(name="b"))
    layers = {"a": {"2": Server(passworded=True, enabled=False)}, "b": {"2": Server()}}
    servers = listed(listing, links, layers)
    assert [server.passworded for server in servers.values()] == [False]


# What is not shown


def test_a_user_gets_defaults() -> None:
    """The uid as a name, offline, white."""
    assert NO_POLICY.user("7", User()) == EffectiveUser("7", "7", "offline", "#ffffff")
    ada = User(username="Ada", status="dnd", role_color="#112233")
    assert NO_POLICY.user("7", ada) == EffectiveUser("7", "Ada", "dnd", "#112233")
    assert NO_POLICY.user("7", None) is None


def test_an_ignored_user_is_never_shown() -> None:
    """Whatever the providers say."""
    policy = Policy(ignore_users=frozenset({"7"}))
    assert policy.user("7", User(username="Ada", status="online")) is None
    assert policy.user("8", User()) is not None


@pytest.mark.parametrize(
    ("message", "heard"),
    [
        (said_in("10", "general"), True),
        (said_in("11", "members-only"), False),
        (said_in("12", "staff"), False),
        (said_in("members-only"), False),
        (said_in("10"), True),
    ],
)
def test_ignored_channels_are_not_heard(message: Message, *, heard: bool) -> None:
    """Named by id or by name."""
    policy = Policy(ignore_channels=frozenset({"members-only", "12"}))
    assert policy.hears(message) is heard


@pytest.mark.parametrize(
    ("message", "heard"),
    [
        (said_in("10", "general"), True),
        (said_in("11", "other"), True),
        (said_in("12", "staff"), False),
        (said_in("12"), False),
    ],
)
def test_only_listened_channels_are_heard(message: Message, *, heard: bool) -> None:
    """Where there is a list, by id or by name."""
    policy = Policy(listen_channels=frozenset({"general", "11"}))
    assert policy.hears(message) is heard


def test_to_ignore_wins_over_to_listen() -> None:
    """A channel that is on both lists stays silent."""
    both = frozenset({"general"})
    policy = Policy(listen_channels=both, ignore_channels=both)
    assert not policy.hears(said_in("10", "general"))


def test_to_listen_to_nothing_is_silence() -> None:
    """An empty list is not the same as none."""
    assert not Policy(listen_channels=frozenset()).hears(said_in("10"))
    assert NO_POLICY.hears(said_in("10"))


# Whom a client means


@pytest.mark.parametrize("wanted", [None, "", " ", "default", " default ", "null", "\t"])
def test_a_client_that_names_nothing_means_the_default(wanted: str | None) -> None:
    """All that d-zone sends on a first visit."""
    servers = effective(TWO, preferred=("2",))
    assert means_default(wanted)
    found = resolve(servers, wanted)
    assert found is not None
    assert found.server_id == "2"


@pytest.mark.parametrize("wanted", ["2", "dworld", " dworld "])
def test_a_server_is_found_by_either_id(wanted: str) -> None:
    """Its snowflake or its public id, with blanks around it."""
    servers = effective(TWO, {"2": Policy(alias="dworld")})
    found = resolve(servers, wanted)
    assert found is servers["2"]


@pytest.mark.parametrize("given", ["Straße!", "a b", " old ", "constructor", "1-2/3"])
def test_r12_a_server_is_found_by_the_id_that_a_provider_gave(given: str) -> None:
    """Whatever its public id is, also after the provider has failed."""
    ids = PublicIds()
    policies = {"2": Policy(alias="dworld")}
    servers = effective_servers({**TWO, "2": Server(name="Two", id=given)}, policies, ids)
    assert resolve(servers, given) is servers["2"]
    servers = effective_servers({**TWO, "2": Server(name="Two", id="dworld")}, policies, ids)
    assert resolve(servers, given) is servers["2"]


def test_r12_a_public_id_is_found_before_the_id_that_a_provider_gave() -> None:
    """A provider cannot take the clients of another server."""
    servers = {"1": Server(id="one"), "2": Server(id="one"), "3": Server(id="1")}
    shown = effective(servers)
    assert resolve(shown, "one") is shown["1"]
    assert resolve(shown, "1") is shown["1"]


@pytest.mark.parametrize("wanted", ["9", "DWORLD", "Two", "constructor", "__proto__"])
def test_an_unknown_server_is_not_found(wanted: str) -> None:
    """Names and other spellings do not count, and it is never the default instead."""
    assert resolve(effective(TWO, {"2": Policy(alias="dworld")}), wanted) is None
    assert not means_default(wanted)


def test_r3_the_default_of_nothing_is_not_found() -> None:
    """With everything closed there is no server to come to."""
    assert resolve(effective(TWO, protected=("1", "2")), None) is None


def test_a_closed_server_is_found_by_its_name() -> None:
    """It is protected, not hidden."""
    found = resolve(effective(TWO, protected=("1",)), "1")
    assert found is not None
    assert found.passworded

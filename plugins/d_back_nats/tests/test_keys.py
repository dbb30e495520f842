"""What ids become in a bucket whose keys allow little."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_back_core.models import is_id
from d_back_nats.keys import Place, key_of, name_of, place_of, token, users_of

KEY = re.compile(r"[-/_=.a-zA-Z0-9]+")
ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64).filter(
    is_id
)


@given(ids, ids)
def test_every_id_fits_a_key_and_comes_back(server_id: str, uid: str) -> None:
    """Whatever an id is made of, its key is one of the key-value store, and says who it is."""
    for place in (
        Place(users_of(server_id), uid),
        Place("servers", server_id),
    ):
        key = key_of(place)
        assert KEY.fullmatch(key)
        assert ".." not in key
        assert key.strip(".") == key
        assert place_of(key) == place


@given(ids, ids)
def test_no_two_ids_have_one_key(one: str, other: str) -> None:
    """Different ids have different keys."""
    assert (token(one) == token(other)) == (one == other)


@pytest.mark.parametrize("uid", ["*", ">", ".", "..", "a.b", "=2A", "$KV", "=", "client_id"])
def test_hostile_ids(uid: str) -> None:
    """Wildcards, dots and what looks like an escape are names like any other."""
    key = key_of(Place(users_of("1"), uid))
    assert len(key.split(".")) == 3
    assert not {"*", ">"} & {*key.split(".")}
    assert place_of(key) == Place(users_of("1"), uid)


def test_snowflakes_stay_readable() -> None:
    """The keys of Discord's ids are what they look like."""
    assert key_of(Place(users_of("232769614004748288"), "7_-")) == "users.232769614004748288.7_-"


@pytest.mark.parametrize(
    "key",
    ["", "origin", "users", "users.1", "users..7", "users.1.7.8", "users.1.=2a", "users.=.7"],
)
def test_keys_of_others_are_nothing_of_ours(key: str) -> None:
    """What another program has put into the bucket is left alone."""
    assert place_of(key) is None


def test_an_escape_of_what_needs_none_is_no_id() -> None:
    """There is one way to write each id."""
    assert name_of("=41") is None
    assert name_of("A") == "A"

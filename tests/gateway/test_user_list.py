"""The users of a server over HTTP: the cached snapshot, conditional and compressed."""

from http import HTTPStatus

import pytest

from d_back_core.gateway.user_list import user_list
from d_back_core.wire.frames import Body, piece

BODY = Body.of(b"[", piece(b"1," * 1000), b"1]", "tag")


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip ; q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("gzipped", False),
    ],
)
def test_gzip_is_used_only_if_it_is_accepted(accept_encoding: str, *, compressed: bool) -> None:
    """A weight of 0 means that it is not accepted (RFC 9110, section 12.5.3)."""
    status, headers, parts = user_list(
        BODY, public=True, if_none_match="", accept_encoding=accept_encoding
    )
    assert status is HTTPStatus.OK
    assert ("Content-Encoding" in headers) is compressed
    assert parts == (BODY.gzip if compressed else BODY.plain)


@pytest.mark.parametrize(
    ("if_none_match", "known"),
    [
        ('"tag"', True),
        ('"other", W/"tag"', True),
        ("*", True),
        ('"tag-gzip"', False),
        ("tag", False),
    ],
)
def test_a_conditional_request_names_the_tag(if_none_match: str, *, known: bool) -> None:
    """It may name several tags, and marks those that a proxy has weakened."""
    status, _, parts = user_list(
        BODY, public=True, if_none_match=if_none_match, accept_encoding=""
    )
    assert (status is HTTPStatus.NOT_MODIFIED) is known
    assert (parts == ()) is known

"""What was compressed once is what any client decodes."""

import gzip
import zlib

import pytest

from d_back_core.wire.frames import WORTH_DEFLATING, Body, Framed, Piece, message, piece, stored

TRAILER = b"\0\0\xff\xff"
"""What a client puts behind a message before it decodes it (RFC 7692, section 7.2.2)."""


def inflated(message: bytes) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(message + TRAILER)


@pytest.mark.parametrize("size", [0, 1, 300, 65_535, 65_536, 200_000])
def test_a_stored_part_stands_before_any_other(size: int) -> None:
    """As it is, where that is possible."""
    head, tail = b"h" * size, b'{"users":{}}' * 200
    parts = stored(head), piece(tail)
    assert parts[0].plain == head
    frame = b"".join(message(parts, deflate=True)[1:])
    assert inflated(frame) == head + tail


def test_a_short_message_is_not_compressed() -> None:
    """It is the same frame for everyone."""
    framed = Framed.of(b"x" * (WORTH_DEFLATING - 1))
    assert framed.fit(deflate=True) == framed.fit(deflate=False)


def test_a_long_message_is_compressed_for_who_takes_that() -> None:
    """And marked as compressed."""
    payload = b"x" * WORTH_DEFLATING
    framed = Framed.of(payload)
    plain, deflated = framed.fit(deflate=False), framed.fit(deflate=True)
    assert (plain[0], deflated[0]) == (0x81, 0xC1)
    assert plain.endswith(payload)
    assert inflated(deflated[2:]) == payload


@pytest.mark.parametrize("size", [1, 200_000])
def test_r42_an_http_body_is_made_of_the_pieces_of_a_message(size: int) -> None:
    """Its compressed form is one gzip member with the same text, and copies no piece."""
    middle = piece(b'{"7":{}}' * size)
    body = Body.of(b"head", middle, b"end", "tag")
    assert gzip.decompress(b"".join(body.gzip)) == b"".join(body.plain)
    assert body.plain[1] is middle.plain
    assert body.gzip[1] is middle.deflated


def test_a_small_http_body_is_not_compressed() -> None:
    """The server then sends it as it is to every client."""
    assert Body.of(b"head", Piece(b"{}", b""), b"end", "tag").gzip == ()

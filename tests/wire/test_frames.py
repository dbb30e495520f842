"""What was compressed once is what any client decodes."""

import zlib

import pytest

from d_back_core.wire.frames import WORTH_DEFLATING, Framed, piece, stored

TRAILER = b"\0\0\xff\xff"
"""What a client puts behind a message before it decodes it (RFC 7692, section 7.2.2)."""


def inflated(message: bytes) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(message + TRAILER)


@pytest.mark.parametrize("size", [0, 1, 300, 65_535, 65_536, 200_000])
def test_a_stored_part_stands_before_any_other(size: int) -> None:
    """As it is, where that is possible."""
    head, tail = b"h" * size, b'{"users":{}}' * 200
    parts = stored(head), piece(tail, last=True)
    assert parts[0].plain == head
    assert inflated(b"".join(part.deflated for part in parts)) == head + tail


def test_a_short_message_is_not_compressed() -> None:
    """It is the same frame for everybody."""
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

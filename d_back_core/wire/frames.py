"""WebSocket frames as bytes, built once and sent to all clients (RFC 6455, section 5.2).

Two properties make the same bytes valid on every connection: a server does not mask its frames,
and without context takeover a compressed message does not refer to earlier messages (RFC 7692,
section 7.2).

A snapshot is compressed in pieces, so that a changed head or end costs no compression of the
rest. DEFLATE allows this (RFC 1951): a piece has a compressor of its own, so it refers to nothing
before it, and it ends at a byte boundary (`zlib.Z_FULL_FLUSH`), so that another piece can follow.
The same pieces are the body of an HTTP answer: gzip (RFC 1952) is DEFLATE with a header and a
checksum.

Large messages are sequences of bytes that are never joined, so that all clients share them.
"""

import zlib
from collections.abc import Sequence

from msgspec import Struct

WORTH_DEFLATING = 1024
"""Bytes; smaller payloads are not compressed."""
LEVEL = 3
"""zlib's level. A snapshot is 8 % larger than with the default 6, in 40 % of the time."""
GZIP_HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
"""DEFLATE, no name, no time, an unknown system (RFC 1952, section 2.3)."""
TEXT = 0x81
"""FIN and the opcode of a text message."""
COMPRESSED = 0x40
"""RSV1: the message is compressed by permessage-deflate."""
MAX_SHORT, MAX_MEDIUM = 125, 0xFFFF


class Piece(Struct, frozen=True):
    """A part of a payload, plain and compressed independently of other parts."""

    plain: bytes
    deflated: bytes


def text_frame(*parts: bytes, compressed: bool = False) -> bytes:
    """Return a whole text message in one frame; the parts are its payload."""
    return b"".join((_header(sum(map(len, parts)), compressed=compressed), *parts))


def _header(length: int, *, compressed: bool) -> bytes:
    first = TEXT | COMPRESSED if compressed else TEXT
    if length <= MAX_SHORT:
        return bytes((first, length))
    if length <= MAX_MEDIUM:
        return bytes((first, 126)) + length.to_bytes(2)
    return bytes((first, 127)) + length.to_bytes(8)


def piece(plain: bytes) -> Piece:
    """Compress a part so that it can follow any other piece, and any other can follow it. Takes
    about 20 ns per byte."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return Piece(plain, compressor.compress(plain) + compressor.flush(zlib.Z_FULL_FLUSH))


def stored(plain: bytes) -> Piece:
    """Return a part as a stored block, which other pieces can follow.

    For parts so small that creating a compressor costs more than it saves.
    """
    return piece(plain) if len(plain) > MAX_MEDIUM else Piece(plain, _block(plain, final=False))


def _block(plain: bytes, *, final: bool) -> bytes:
    """Return a stored block (RFC 1951, section 3.2.4)."""
    size = len(plain)
    lengths = size.to_bytes(2, "little") + (size ^ MAX_MEDIUM).to_bytes(2, "little")
    return bytes((final,)) + lengths + plain


class Framed(Struct, frozen=True):
    """A whole message as a frame, plain and for clients that negotiated compression."""

    plain: bytes
    deflated: bytes

    @classmethod
    def of(cls, payload: bytes) -> "Framed":
        """Frame the payload; compress it if it has ``WORTH_DEFLATING`` bytes or more."""
        plain = text_frame(payload)
        if len(payload) < WORTH_DEFLATING:
            return cls(plain, plain)
        return cls(plain, b"".join(message([piece(payload)], deflate=True)))

    def fit(self, *, deflate: bool) -> bytes:
        """Return the frame for a client that does or does not take compressed messages."""
        return self.deflated if deflate else self.plain


def message(pieces: Sequence[Piece], *, deflate: bool) -> tuple[bytes, ...]:
    """Return one text message made of pieces, for a client that does or does not take compressed
    messages."""
    if not deflate:
        plain = [each.plain for each in pieces]
        return _header(sum(map(len, plain)), compressed=False), *plain
    # The receiver puts 00 00 FF FF behind the message (RFC 7692, section 7.2.2). With the last
    # byte here that is an empty stored block.
    deflated = [*(each.deflated for each in pieces), b"\0"]
    return _header(sum(map(len, deflated)), compressed=True), *deflated


class Body(Struct, frozen=True):
    """The body of an HTTP answer, in pieces, and its entity tag."""

    plain: tuple[bytes, ...]
    gzip: tuple[bytes, ...]
    """The same, compressed; empty if it is too small for that."""
    etag: str
    """The strong entity tag of ``plain``, in quotes."""

    @classmethod
    def of(cls, head: bytes, middle: Piece, end: bytes, tag: str) -> "Body":
        """Make a body of these parts; ``tag`` identifies it. Takes about 1 ns per byte."""
        plain = (head, middle.plain, end)
        if not middle.deflated:
            return cls(plain, (), f'"{tag}"')
        checksum = 0
        for part in plain:
            checksum = zlib.crc32(part, checksum)
        size = sum(map(len, plain)) % 2**32
        trailer = checksum.to_bytes(4, "little") + size.to_bytes(4, "little")
        opening = GZIP_HEADER + stored(head).deflated
        return cls(
            plain,
            (opening, middle.deflated, _block(end, final=True) + trailer),
            f'"{tag}"',
        )

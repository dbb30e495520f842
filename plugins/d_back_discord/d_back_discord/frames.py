"""The messages of Discord's gateway: JSON, compressed as one zlib stream per connection."""

import zlib
from typing import Any

from msgspec import Struct, json

FLUSH = b"\x00\x00\xff\xff"
"""The end of a whole message in a zlib stream."""


class Frame(Struct):
    """A message of the gateway."""

    op: int
    d: Any = None
    s: int | None = None
    t: str | None = None


class FrameReader:
    """Decodes the messages of one connection; raises ``ValueError`` or `zlib.error`."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj()
        self._buffer = bytearray()

    def read(self, sent: bytes | str) -> Frame | None:
        """Return the message that this ends, if it ends one. Text is not compressed."""
        if isinstance(sent, str):
            return json.decode(sent, type=Frame)
        self._buffer += self._inflate.decompress(sent)
        if not sent.endswith(FLUSH):
            return None
        whole, self._buffer = self._buffer, bytearray()
        return json.decode(whole, type=Frame)


def encoded(operation: int, fields: object) -> str:
    """Return a message to the gateway."""
    return json.encode({"op": operation, "d": fields}).decode()

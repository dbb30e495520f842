"""Counts the WebSocket messages in what a server sends (RFC 6455, section 5.2); nothing is
decoded, so that the clients cost less than any server."""

PLAIN, COMPRESSED = 0x81, 0xC1
"""First bytes of a whole text message. No server of the comparison sends fragments."""
MESSAGES = frozenset({PLAIN, COMPRESSED})
PING, CLOSE = 0x89, 0x88
FEW = 4
"""Frames that are faster looked at one by one."""
SHORT, MEDIUM = 126, 127
"""What stands instead of the length where two or eight bytes of it follow."""


class FrameCounter:
    """Fed with what one connection brings, in pieces of any size."""

    __slots__ = ("_counted", "_left", "_partial", "closed", "pings")

    def __init__(self) -> None:
        self._left = 0
        """Bytes of the frame under way that are still to come."""
        self._counted = False
        """Whether that frame is a message."""
        self._partial = b""
        """A header, or a ping, of which a part is here."""
        self.pings: list[bytes] = []
        """The payloads of pings that are still to be answered."""
        self.closed = False

    def feed(self, chunk: bytes) -> int:
        """How many messages have become complete by this chunk."""
        if self._partial:
            chunk = self._partial + chunk
            self._partial = b""
        size = len(chunk)
        end = self._left
        if end > size:
            self._left = end - size
            return 0
        complete = 1 if end and self._counted else 0
        self._left = 0
        start = end
        while size - start >= 2:  # noqa: PLR2004  the shortest header
            length = chunk[start + 1]
            if length < SHORT:
                end = start + 2 + length
            else:
                header = 4 if length < MEDIUM else 10
                if size - start < header:
                    break
                end = start + header + int.from_bytes(chunk[start + 2 : start + header])
            counted = chunk[start] in MESSAGES
            if chunk[start] == PLAIN and (alike := _alike(chunk, start, end - start)):
                complete += alike
                start += alike * (end - start)
                continue
            if end > size:
                if not counted:
                    break
                self._left, self._counted = end - size, True
                return complete
            if counted:
                complete += 1
            else:
                self._control(chunk[start], chunk[start + 2 : end])
            start = end
        self._partial = chunk[start:]
        return complete

    def _control(self, first: int, payload: bytes) -> None:
        if first == PING:
            self.pings.append(payload)
        elif first == CLOSE:
            self.closed = True


def _alike(chunk: bytes, start: int, length: int) -> int:
    """How many frames in a row look like the one at ``start``, where these are all that is left
    (no byte of the comparison's plain messages is like a frame's first); otherwise 0."""
    count, rest = divmod(len(chunk) - start, length)
    if rest or count < FEW:
        return 0
    first, second = chunk[start : start + 1], chunk[start + 1 : start + 2]
    same = chunk[start::length] == first * count and chunk[start + 1 :: length] == second * count
    return count if same else 0


def client_frame(first: int, payload: bytes) -> bytes:
    """A whole frame as a client sends it: masked, with zeros, so that nothing changes by it.

    ``payload``: up to 65,535 bytes.
    """
    length = len(payload)
    if length < SHORT:
        header = bytes((first, 0x80 | length))
    else:
        header = bytes((first, 0x80 | SHORT)) + length.to_bytes(2)
    return header + bytes(4) + payload

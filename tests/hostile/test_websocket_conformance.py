"""Clients that break RFC 6455, or use all that it allows. The cases are those of the Autobahn
test suite: reserved bits (3), opcodes (4), fragmentation (5), UTF-8 (6), and close frames (7).

Autobahn expects that a message comes back. Here a valid message is a question, and its answer
comes back.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from peers import until
from raw import OFFER, Raw, raw
from sample_users import ADA, ONE

from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.stats import Counters
from d_back_testing import ScriptedProvider
from d_back_testing.manual_client import RECEIVE_TIMEOUT

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN = 0x80
QUESTION = b'{"type":"get_server_data"}'
PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1002, 1007, 1009


def frame(first: int, payload: bytes = b"") -> bytes:
    """A client's frame with this first byte, masked with zeros."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes((first,)) + length + bytes(4) + payload


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(FIN | CLOSE, code.to_bytes(2) + reason)


def asking(text: bytes) -> bytes:
    """A question with this text in it, which is not looked at."""
    return b'{"type":"get_server_data","text":"' + text + b'"}'


class Conversation:
    """One connection."""

    def __init__(self, server: WebSocketServer, client: Raw) -> None:
        self.server = server
        self._client = client

    def send(self, *frames: bytes) -> None:
        """Send these, each in a segment of its own, if the network wants it so."""
        for each in frames:
            self._client.writer.write(each)

    def hang_up(self) -> None:
        """Close the connection without a close frame."""
        self._client.writer.close()

    async def next(self) -> tuple[int, bytes]:
        """The first byte and the payload of the next frame."""
        found = await self._client.frame()
        return found[0], found[2 if found[1] < 126 else 4 :]

    async def is_answered(self) -> None:
        """The next frame is the answer to a question."""
        first, payload = await self.next()
        assert (first, payload[:22]) == (FIN | TEXT, b'{"type":"server_data",')

    async def is_closed(self, code: int | None) -> None:
        """The next frame closes with this code, and nothing follows."""
        first, payload = await self.next()
        assert first == FIN | CLOSE
        assert payload[:2] == (b"" if code is None else code.to_bytes(2))
        assert await self._client.rest() == []


@asynccontextmanager
async def conversation(offer: bytes = b"") -> AsyncIterator[Conversation]:
    """A connection that has received the list of servers."""
    config = parse({"chain": {"order": ["town"]}, "gateway": {"host": "127.0.0.1"}})
    providers = {"town": ScriptedProvider(ONE, {"1": {"7": ADA}})}
    async with (
        asyncio.timeout(RECEIVE_TIMEOUT),
        WebSocketServer(0, config=config, providers=providers) as server,
        raw(server, offer=offer) as client,
    ):
        await client.frame()
        yield Conversation(server, client)


# Pings, section 2 of the suite


@pytest.mark.parametrize("payload", [b"", b"Hello", bytes(range(125))], ids=len)
async def test_a_ping_is_answered_with_its_payload(payload: bytes) -> None:
    """Also if the payload is not text."""
    async with conversation() as talk:
        talk.send(frame(FIN | PING, payload))
        assert await talk.next() == (FIN | PONG, payload)


async def test_an_unasked_pong_is_ignored() -> None:
    """The connection stays as it is."""
    async with conversation() as talk:
        talk.send(frame(FIN | PONG, b"unasked"), frame(FIN | TEXT, QUESTION))
        await talk.is_answered()


# Reserved bits and opcodes, sections 3 and 4


@pytest.mark.parametrize("bits", [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
async def test_a_reserved_bit_closes_with_1002(bits: int, opcode: int) -> None:
    """What came before it is answered."""
    async with conversation() as talk:
        talk.send(frame(FIN | TEXT, QUESTION))
        await talk.is_answered()
        talk.send(frame(FIN | bits | opcode, b"\x03\xe8"), frame(FIN | TEXT, QUESTION))
        await talk.is_closed(PROTOCOL_ERROR)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"x"])
async def test_a_reserved_opcode_closes_with_1002(opcode: int, payload: bytes) -> None:
    """With or without a payload."""
    async with conversation() as talk:
        talk.send(frame(FIN | opcode, payload))
        await talk.is_closed(PROTOCOL_ERROR)


async def test_a_frame_that_is_not_masked_closes_with_1002() -> None:
    """Every frame of a client is masked (section 5.1)."""
    async with conversation() as talk:
        talk.send(bytes((FIN | TEXT, len(QUESTION))) + QUESTION)
        await talk.is_closed(PROTOCOL_ERROR)


# Fragmentation, section 5


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
async def test_a_control_frame_in_fragments_closes_with_1002(opcode: int) -> None:
    """Control frames are whole (section 5.4)."""
    async with conversation() as talk:
        talk.send(frame(opcode, b"\x03\xe8"), frame(FIN | CONT, b"x"))
        await talk.is_closed(PROTOCOL_ERROR)


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_a_long_control_frame_closes_with_1002(opcode: int) -> None:
    """Its payload has at most 125 bytes."""
    async with conversation() as talk:
        talk.send(frame(FIN | opcode, bytes(126)))
        await talk.is_closed(PROTOCOL_ERROR)


@pytest.mark.parametrize("size", [1, 7, len(QUESTION)])
async def test_a_message_in_fragments_is_answered_once(size: int) -> None:
    """Pings between the fragments are answered at once."""
    parts = [QUESTION[start : start + size] for start in range(0, len(QUESTION), size)]
    async with conversation() as talk:
        for number, part in enumerate(parts):
            talk.send(frame(CONT if number else TEXT, part), frame(FIN | PING, b"%d" % number))
        for number in range(len(parts)):
            assert await talk.next() == (FIN | PONG, b"%d" % number)
        talk.send(frame(FIN | CONT))
        await talk.is_answered()


@pytest.mark.parametrize("first", [CONT, FIN | CONT])
async def test_a_continuation_of_nothing_closes_with_1002(first: int) -> None:
    """Also behind a message that is complete."""
    async with conversation() as talk:
        talk.send(frame(FIN | TEXT, QUESTION))
        await talk.is_answered()
        talk.send(frame(first, QUESTION))
        await talk.is_closed(PROTOCOL_ERROR)


@pytest.mark.parametrize("second", [TEXT, FIN | TEXT, BINARY])
async def test_a_message_within_another_one_closes_with_1002(second: int) -> None:
    """The fragments of two messages are not mixed."""
    async with conversation() as talk:
        talk.send(frame(TEXT, QUESTION), frame(second, QUESTION))
        await talk.is_closed(PROTOCOL_ERROR)


# UTF-8, section 6

VALID = [
    "Hello-µ@ßöäüàá-UTF-8!!".encode(),
    "κόσμε".encode(),
    *(chr(point).encode() for point in (0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF)),
    *(chr(point).encode() for point in (0xD7FF, 0xE000, 0xFFFD, 0xFFFE, 0xFDD0, 0x1FFFF)),
]

INVALID = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    *(bytes((byte,)) for byte in (0x80, 0xBF, 0xC0, 0xDF, 0xE0, 0xEF, 0xF0, 0xF7, 0xFE, 0xFF)),
    b"\x80\xbf\x80\xbf",
    b"\xc0\xaf",  # overlong
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xf8\x88\x80\x80\x80",  # five and six bytes
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xf4\x90\x80\x80",  # above U+10FFFF
    b"\xed\xa0\x80",  # surrogates
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xe1\xbd",  # cut off
    b"\xf0\x90\x80",
]


@pytest.mark.parametrize("text", VALID)
async def test_valid_text_is_read(text: bytes) -> None:
    """Whole, and with a fragment for each byte: a character may be in two fragments."""
    message = asking(text)
    async with conversation() as talk:
        talk.send(frame(FIN | TEXT, message))
        await talk.is_answered()
        talk.send(frame(TEXT), *(frame(CONT, message[n : n + 1]) for n in range(len(message))))
        talk.send(frame(FIN | CONT))
        await talk.is_answered()


@pytest.mark.parametrize("text", INVALID)
@pytest.mark.parametrize("wrapped", [True, False], ids=["in JSON", "alone"])
async def test_r28_text_that_is_not_utf_8_closes_with_1007(text: bytes, *, wrapped: bool) -> None:
    """Within JSON as well as alone (section 8.1)."""
    async with conversation() as talk:
        talk.send(frame(FIN | TEXT, asking(text) if wrapped else text))
        talk.send(frame(FIN | TEXT, QUESTION))
        await talk.is_closed(INVALID_DATA)


async def test_r28_fragments_that_are_not_utf_8_together_close_with_1007() -> None:
    """The second half of a character is missing."""
    async with conversation() as talk:
        talk.send(frame(TEXT, asking(b"\xce\xba")[:-3]), frame(FIN | CONT, b'"}'))
        await talk.is_closed(INVALID_DATA)


async def test_a_binary_message_that_is_not_utf_8_is_refused() -> None:
    """It is not a violation of the WebSocket protocol: the connection stays."""
    async with conversation() as talk:
        talk.send(frame(FIN | BINARY, b"\xff"), frame(FIN | BINARY, QUESTION))
        assert b'"code":"invalid_encoding"' in (await talk.next())[1]
        await talk.is_answered()


# Close frames, section 7


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
)
async def test_a_close_frame_is_answered_with_its_code(code: int) -> None:
    """Frames behind it are not answered."""
    async with conversation() as talk:
        talk.send(closing(code, b"reason"), frame(FIN | TEXT, QUESTION), frame(FIN | PING))
        await talk.is_closed(code)


async def test_an_empty_close_frame_is_answered() -> None:
    """It has no code, and neither has the answer."""
    async with conversation() as talk:
        talk.send(frame(FIN | CLOSE))
        await talk.is_closed(None)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535])
async def test_a_close_code_that_must_not_be_sent_closes_with_1002(code: int) -> None:
    """It is not repeated."""
    async with conversation() as talk:
        talk.send(closing(code))
        await talk.is_closed(PROTOCOL_ERROR)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", PROTOCOL_ERROR),
        (b"\x03\xe8" + bytes(124), PROTOCOL_ERROR),
        (b"\x03\xe8\xce\xba\xe1\xbd\xb9\xed\xa0\x80", INVALID_DATA),
    ],
    ids=["one byte", "too long", "not UTF-8"],
)
async def test_a_broken_close_frame_closes(payload: bytes, code: int) -> None:
    """With the code for what is wrong with it."""
    async with conversation() as talk:
        talk.send(frame(FIN | CLOSE, payload))
        await talk.is_closed(code)


async def test_the_number_of_close_codes_that_are_counted_is_bounded() -> None:
    """Clients choose among thousands, and each one that is counted is a series of the metrics."""
    counters = Counters()
    for code in [None, *range(5000)]:
        counters.count_close(code)
    assert len(counters.closes) <= 12
    assert sum(counters.closes.values()) == 5001
    assert counters.closes[1001] == counters.closes[1013] == 1


async def test_the_code_of_a_client_is_counted() -> None:
    """An ordinary one as it is."""
    async with conversation() as talk:
        talk.send(closing(1001))
        await talk.is_closed(1001)
        talk.hang_up()
        await until(lambda: talk.server.live.counters.closes)
        assert talk.server.live.counters.closes == {1001: 1}


# Compression, sections 12 and 13


async def test_a_compressed_question_is_answered() -> None:
    """A client may compress what it sends."""
    compressor = zlib.compressobj(wbits=-15)
    text = compressor.compress(QUESTION) + compressor.flush(zlib.Z_SYNC_FLUSH)
    async with conversation(OFFER) as talk:
        talk.send(frame(FIN | 0x40 | TEXT, text.removesuffix(b"\0\0\xff\xff")))
        await talk.is_answered()


async def test_compressed_nonsense_closes_with_1002() -> None:
    """It cannot be decompressed."""
    async with conversation(OFFER) as talk:
        talk.send(frame(FIN | 0x40 | TEXT, b"\xff\xff\xff"))
        await talk.is_closed(PROTOCOL_ERROR)


async def test_a_small_frame_with_a_large_message_closes_with_1009() -> None:
    """The size of a message counts when it is decompressed."""
    compressor = zlib.compressobj(wbits=-15)
    text = compressor.compress(bytes(10**7)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    async with conversation(OFFER) as talk:
        talk.send(frame(FIN | 0x40 | TEXT, text.removesuffix(b"\0\0\xff\xff")))
        await talk.is_closed(TOO_BIG)

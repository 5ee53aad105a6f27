"""What holds for every framing: for any bytes, cut anywhere, messages or one error, and always the same ones."""

from __future__ import annotations

import pickle
import tracemalloc
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemons.framings import (
    Blocked,
    Blocks,
    Compressed,
    Fixed,
    Framing,
    FramingError,
    LengthPrefixed,
    Lines,
    Stream,
    Until,
    Whole,
)
from daemons.framings.compressed import STREAM
from daemons.framings.http import HTTP, Request
from daemons.framings.websocket import WebSocket
from tests.framings.websocket.frames import MASK, frame
from tests.serving.services import Commented

#: Limits so low that random octets often reach them.
FRAMINGS: dict[str, Framing] = {
    "whole": Whole(limit=24),
    "fixed": Fixed(5),
    "until": Until(b"\r\n", limit=12, skip=b" "),
    "lines": Lines(limit=12),
    "quoted lines": Lines(limit=12, quoted=True),
    "length-prefixed": LengthPrefixed(limit=12),
    "length-prefixed, one octet": LengthPrefixed(limit=12, prefix="<B"),
    "blocks": Blocks(limit=24, prefix="!H"),
    "blocks, one octet": Blocks(limit=12, prefix="!B"),
    "compressed": Compressed(limit=12),
    "compressed, longer": Compressed(limit=600, level=9),
    "stream": Stream(),
    "http": HTTP(head=90, headers=3, body=12),
    "websocket": WebSocket(limit=12),
    # Always the same mask, since the close for an error is compared.
    "websocket, client": WebSocket(limit=12, client=True, new_mask=lambda: MASK),
}

every_framing = pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)

#: Those that put a reply into the framing in which they read.
TO_AND_FRO = [
    name
    for name in FRAMINGS
    if name not in ("whole", "fixed", "until", "stream", "http", "websocket", "websocket, client")
]


def zlib_with_flushes(octets: bytes) -> bytes:
    packer = zlib.compressobj()
    pieces = [packer.compress(bytes([octet])) + packer.flush(zlib.Z_SYNC_FLUSH) for octet in octets]
    return b"".join(pieces) + packer.flush()


def frames(opcodes: list[int], final: list[bool], payloads: list[bytes], mask: bytes | None) -> bytes:
    return b"".join(
        frame(opcode, payload, final=last, mask=mask)
        for opcode, last, payload in zip(opcodes, final, payloads, strict=False)
    )


OCTETS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        frames,
        st.lists(st.sampled_from([0, 0, 1, 1, 2, 8, 9, 10]), max_size=4),
        st.lists(st.booleans(), max_size=4),
        st.lists(st.binary(max_size=8) | st.text(max_size=4).map(str.encode) | st.just(b"\x03\xe8"), max_size=4),
        st.sampled_from([MASK, None]),
    ),
    st.text("a\\n \r\n", max_size=40).map(str.encode),
    st.lists(st.sampled_from([0, 1, 2, 5, 12, 13, 24, 97]), max_size=40).map(bytes),
    # Valid or almost valid input of one of the framings, with lengths around the limits.
    st.binary(max_size=14).map(LengthPrefixed(limit=99).encode),
    st.lists(st.binary(max_size=14), max_size=3).map(Blocked).map(Blocks(limit=999, prefix="!H").encode),
    st.sampled_from([0, 1, 11, 12, 13, 599, 600, 601, 5000])
    .map(lambda length: zlib.compress(b"a" * length))
    .flatmap(lambda stream: st.sampled_from([stream, stream[:-1], stream[:-1] + b"?", stream[:-5] + b"?"])),
    st.tuples(st.binary(max_size=14), st.sampled_from([0, 1, 9])).map(lambda made: zlib.compress(*made)),
    st.binary(max_size=14).map(zlib_with_flushes),
    st.just(b"\x78\x9c" + b"\0\0\0\xff\xff" * 20),  # a beginning, and empty blocks
    st.tuples(
        st.sampled_from([b"", b"\r\n"]),
        st.sampled_from([b"GET / HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.0\r\n", b"GET / HTTP/2.0\r\n", b"GET"]),
        st.sampled_from([b"", b"", b"Expect: 100-continue\r\n", b"A: b\r\n", b"A: b\r\n" * 3, b"A: b\r\n" * 20]),
        st.sampled_from([b"", b"Content-Length: 12\r\n", b"Content-Length: 13\r\n", b"Transfer-Encoding: chunked\r\n"]),
        st.sampled_from([b"", b"\n", b"\r\n", b"\r\n"]),
        st.sampled_from([b"", b"twelve octets"[:12], b"5\r\nabcde\r\n", b"D\r\n", b"2;a=b\r\nab\r\n0\r\nA: b\r\n\r\n"]),
        st.sampled_from([b"", b"\r\n", b"0\r\n\r\n"]),
    ).map(b"".join),
)
PIECES = st.lists(OCTETS, max_size=5)


def decoded(framing: Framing, pieces: Sequence[bytes]) -> tuple[list[bytes], tuple[type[FramingError], bytes] | None]:
    """Decode `pieces`; return the messages, and the type and the apology of the error."""
    decoder = framing.decoder()
    messages: list[bytes] = []
    for piece in pieces:
        messages += decoder.decode(piece)
        if decoder.error is not None:
            assert not decoder.pending, "something is held after an error"
    messages += decoder.finish()
    kind = None if decoder.error is None else (type(decoder.error), decoder.error.apology)
    assert [*decoder.decode(b"a\r\n"), *decoder.finish()] == [] or kind is None
    # Whether leave is asked to send a body depends on whether some of it is there already.  As octets, a request is
    # its head.
    requests = [message for message in messages if isinstance(message, Request) and not message.expects]
    if isinstance(framing, HTTP):
        messages = [request + request.body for request in requests]
    # Of a stream it is not said where it is cut.
    return ([b"".join(messages)] if isinstance(framing, Stream) else messages), kind


@every_framing
@settings(max_examples=50)  # of each framing
@given(pieces=PIECES, noise=st.tuples(st.integers(0, 200), st.integers(0, 255)))
def test_any_bytes_cut_anywhere(framing: Framing, pieces: list[bytes], noise: tuple[int, int]) -> None:
    data = bytearray(b"".join(pieces))
    if noise[0] < len(data):
        data[noise[0]] = noise[1]
    cuts = sorted({0, *(sum(map(len, pieces[:count])) for count in range(len(pieces))), len(data)})
    expected = decoded(framing, [bytes(data)])
    assert decoded(framing, [bytes(data[start:end]) for start, end in pairwise(cuts)]) == expected
    assert decoded(framing, [bytes(data[at : at + 1]) for at in range(len(data))]) == expected


@pytest.mark.parametrize("name", TO_AND_FRO)
@settings(max_examples=30)
@given(messages=st.lists(st.binary(max_size=8), max_size=4))
@example(messages=[b"", b"\\n", b"\n", b"\\", b"\r"])
def test_what_encode_made_decode_returns(name: str, messages: list[bytes]) -> None:
    if name == "lines":
        messages = [message.replace(b"\n", b" ").rstrip(b"\r") for message in messages]
    if name == "quoted lines":
        messages = [message[:5] for message in messages]  # as sent, they may be twice as long
    framing = FRAMINGS[name]
    data = b"".join(map(framing.encode, messages))
    assert decoded(framing, [data]) == (messages, None)


LIMIT = 40_000

#: A framing, what begins a long message in it, and a piece of it that may come again and again.
ENDLESS: dict[str, tuple[Framing, bytes, bytes]] = {
    "whole": (Whole(limit=LIMIT), b"", b"ab"),
    "fixed": (Fixed(LIMIT), b"", b"ab"),
    "until": (Until(b"\r\n", limit=LIMIT), b"", b"\r"),
    "lines": (Lines(limit=LIMIT), b"", b"ab"),
    "quoted lines": (Lines(limit=LIMIT, quoted=True), b"", b"\\\\"),
    "length-prefixed": (LengthPrefixed(limit=LIMIT), LIMIT.to_bytes(4, "big"), b"ab"),
    "one block": (Blocks(limit=LIMIT + 4), LIMIT.to_bytes(4, "big"), b"ab"),
    "blocks of two octets": (Blocks(limit=LIMIT, prefix="!B"), b"", b"\x02ab"),
    "compressed": (Compressed(limit=LIMIT), b"\x78\x01\x00\xff\xff\0\0", b"ab"),
    "a bomb": (Compressed(limit=LIMIT), zlib.compress(bytes(50 * LIMIT), 9)[:30], b""),
    "a bomb in its first octets": (Compressed(limit=LIMIT), zlib.compress(bytes(50 * LIMIT), 9), b""),
    "a head": (HTTP(head=LIMIT), b"GET / HTTP/1.0\r\nA: ", b"ab"),
    "a body": (HTTP(body=LIMIT), b"PUT / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % LIMIT, b"ab"),
    "chunks": (
        HTTP(body=LIMIT),
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"64\r\n%b\r\n" % bytes(100),
    ),
    "extensions": (
        HTTP(head=LIMIT, body=LIMIT),
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1;abcdefgh\r\n-\r\n",
    ),
    "a frame": (WebSocket(limit=LIMIT), frame(2, length=LIMIT), b"ab"),
    "a frame of text": (WebSocket(limit=LIMIT, client=True), frame(1, length=LIMIT, mask=None), "é".encode()),
    "fragments": (WebSocket(limit=LIMIT), frame(2, final=False), frame(0, bytes(8), final=False)),
    "empty fragments": (WebSocket(limit=LIMIT), frame(2, final=False), frame(0, final=False)),
    "a trailer": (
        HTTP(head=LIMIT),
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ",
        b"ab",
    ),
}


@pytest.mark.parametrize(("framing", "start", "piece"), ENDLESS.values(), ids=ENDLESS)
def test_memory_of_a_message_is_a_small_multiple_of_its_limit(framing: Framing, start: bytes, piece: bytes) -> None:
    decoder = framing.decoder()
    tracemalloc.start()
    try:
        decoder.decode(start)
        for _ in range(LIMIT // len(piece) if piece else 0):
            decoder.decode(piece)
        decoder.finish()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 64 KiB are zlib's window and its first output buffer.
    assert most < 3.5 * LIMIT + (64 * 1024 if isinstance(framing, Compressed) else 1024)


@pytest.mark.parametrize(("framing", "start", "piece"), ENDLESS.values(), ids=ENDLESS)
def test_the_bytes_held_for_an_incomplete_message_are_counted(framing: Framing, start: bytes, piece: bytes) -> None:
    decoder = framing.decoder()
    assert decoder.buffered == 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        decoder.decode(start)
        for _ in range(LIMIT // 2 // len(piece) if piece else 0):
            decoder.decode(piece)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    if decoder.pending:
        # An object or two, and the head of a request, are not counted; zlib's own memory may be used later.
        assert kept - 4096 <= decoder.buffered <= kept + (STREAM if isinstance(framing, Compressed) else 0)


def test_the_bytes_of_a_decoder_that_counts_none_are_those_of_its_attributes() -> None:
    decoder = Commented().decoder()
    decoder.decode(b"a line\n" + b"x" * 1000)
    assert decoder.buffered == 1000


class Creates:
    """What pickle would make a file of."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@every_framing
def test_a_pickle_is_octets_like_others(framing: Framing, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    octets = pickle.dumps(Creates(trap))
    for data in (octets, framing.encode(octets[:5]) + octets, zlib.compress(octets), octets + b"\r\n", *[octets] * 3):
        decoded(framing, [data])
        decoded(framing, [data[:9], data[9:]])
    assert not trap.exists()
    pickle.loads(octets).close()  # it is a trap
    assert trap.exists()

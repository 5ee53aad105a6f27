"""Compressed: a message is a zlib stream, and a bomb costs no more than the limit."""

from __future__ import annotations

import math
import random
import re
import time
import zlib

import pytest

from daemons.framings import Compressed, FramingError, Incomplete, Malformed, Oversize

WHAT = zlib.compress(b"what?")
EMPTY_BLOCK = b"\0\0\0\xff\xff"

#: (limit, the pieces that come, the messages they make, whether something is held after them)
CASES: dict[str, tuple[int, list[bytes], list[bytes], bool]] = {
    "one": (9, [WHAT], [b"what?"], False),
    "octet by octet": (9, [WHAT[at : at + 1] for at in range(len(WHAT))], [b"what?"], False),
    "two, and the beginning of a third": (9, [WHAT + WHAT + b"\x78"], [b"what?", b"what?"], True),
    "an empty one": (9, [zlib.compress(b"")], [b""], False),
    "nothing": (9, [b""], [], False),
    "unpacked, but without its checksum": (9, [WHAT[:-1]], [], True),
    "as long as allowed": (5, [WHAT, WHAT[:-4], WHAT[-4:]], [b"what?", b"what?"], False),
    "many short ones": (9, [WHAT * 1000], [b"what?"] * 1000, False),
    "incompressible": (1000, [zlib.compress(random.Random(1).randbytes(1000), 0)], [], False),
    "empty blocks at its end": (5, [b"\x78\x01\0\5\0\xfa\xffwhat?" + EMPTY_BLOCK * 4 + b"\3\0" + WHAT[-4:]], [], False),
}
CASES["incompressible"][2].append(random.Random(1).randbytes(1000))
CASES["empty blocks at its end"][2].append(b"what?")


def bomb(mebibytes: int) -> bytes:
    """The compressed form of so many MiB of zeros, without an end."""
    packer = zlib.compressobj(9)
    first, again = (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * (mebibytes - 1)


#: (limit, input, error, its text)
ERRORS: dict[str, tuple[int, bytes, type[FramingError], str]] = {
    "one too long": (4, WHAT, Oversize, "a compressed message of more than 4 bytes"),
    "one too long, with a wrong checksum": (
        4,
        WHAT[:-1] + b"?",
        Oversize,
        "a compressed message of more than 4 bytes",
    ),
    "a bomb of a gibibyte": (1000, bomb(1024), Oversize, "a compressed message of more than 1000 bytes"),
    "blocks of nothing, for ever": (
        9,
        b"\x78\x9c" + EMPTY_BLOCK * 999,
        Oversize,
        "no end of a compressed message within 82 bytes",
    ),
    "text": (9, b"What is your name?", Malformed, "not a zlib stream: "),
    "gzip": (9, b"\x1f\x8b\x08\0\0\0\0\0\0\3", Malformed, "not a zlib stream: "),
    "a wrong checksum": (9, WHAT[:-1] + b"?", Malformed, "not a zlib stream: "),
    "a wrong checksum, as long as allowed": (5, WHAT[:-1] + b"?", Malformed, "not a zlib stream: "),
    "as long as allowed, then empty blocks and nonsense": (
        5,
        b"\x78\x01\0\5\0\xfa\xffwhat?" + EMPTY_BLOCK * 2 + b"\xff" * 50,
        Malformed,
        "not a zlib stream: ",
    ),
    "as long as allowed, then empty blocks and more": (
        5,
        b"\x78\x01\0\5\0\xfa\xffwhat?" + EMPTY_BLOCK * 2 + b"\0\1\0\xfe\xff?\xff\xff",
        Oversize,
        "a compressed message of more than 5 bytes",
    ),
    "nonsense within": (9, WHAT[:2] + b"\xff" * 9, Malformed, "not a zlib stream: "),
    "a dictionary that we do not have": (9, b"\x78\xbb\0\0\0\1", Malformed, "not a zlib stream: "),
    "cut": (9, WHAT[:-3], Incomplete, f"socket closed {len(WHAT) - 3} bytes into a compressed message"),
    "cut at once": (9, b"\x78", Incomplete, "socket closed 1 bytes into a compressed message"),
}


@pytest.mark.parametrize(("limit", "pieces", "messages", "pending"), CASES.values(), ids=CASES)
def test_messages(limit: int, pieces: list[bytes], messages: list[bytes], pending: bool) -> None:
    decoder = Compressed(limit=limit).decoder()
    assert [message for piece in pieces for message in decoder.decode(piece)] == messages
    assert decoder.pending is pending
    assert decoder.error is None


@pytest.mark.parametrize(("limit", "data", "kind", "text"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("size", [1, 7, 1 << 30], ids=["octet by octet", "in sevens", "at once"])
def test_errors_come_after_the_message_before_them(
    limit: int, data: bytes, kind: type[FramingError], text: str, size: int
) -> None:
    decoder = Compressed(limit=limit).decoder()
    messages: list[bytes] = []
    data = zlib.compress(b"ok") + data
    for start in range(0, len(data), size):
        messages += decoder.decode(data[start : start + size])
        if decoder.error is not None:
            break
    messages += decoder.finish()
    assert messages == [b"ok"]
    assert type(decoder.error) is kind
    assert str(decoder.error).startswith(text)
    assert not decoder.pending
    assert [*decoder.decode(WHAT), *decoder.finish()] == []


def test_what_lies_behind_a_message_begins_the_next() -> None:
    # The notes' example: zlib itself would leave it in unused_data.
    decoder = Compressed(limit=99).decoder()
    assert [*decoder.decode(WHAT + b"EXTRA")] == [b"what?"]
    assert isinstance(decoder.error, Malformed)


def test_a_message_in_a_hundred_thousand_pieces_is_one_message() -> None:
    octets = random.Random(1).randbytes(100_000)
    decoder = Compressed(limit=len(octets)).decoder()
    data = zlib.compress(octets)
    assert [message for at in range(len(data)) for message in decoder.decode(data[at : at + 1])] == [octets]


def cpu(data: bytes, limit: int) -> float:
    """Seconds to decode `data` in parts of 16 KiB; the best of three."""
    best = math.inf
    for _ in range(3):
        decoder = Compressed(limit=limit).decoder()
        start = time.thread_time()
        for at in range(0, len(data), 16_384):
            decoder.decode(data[at : at + 16_384])
        best = min(best, time.thread_time() - start)
        assert decoder.error is None
    return best


def test_empty_blocks_at_the_limit_cost_no_more_than_a_message_of_that_size() -> None:
    limit = 256 * 1024
    packer = zlib.compressobj()
    full = packer.compress(bytes(limit)) + packer.flush(zlib.Z_SYNC_FLUSH)
    idle = full + EMPTY_BLOCK * (2 * limit // len(EMPTY_BLOCK) - len(full))
    honest = zlib.compress(random.Random(1).randbytes(limit)) * 2
    assert cpu(idle, limit) < 20 * cpu(honest, limit)


@pytest.mark.parametrize("level", range(10))
def test_a_reply(level: int) -> None:
    framing = Compressed(limit=100_000, level=level)
    for reply in (b"", b"a" * 100_000, random.Random(1).randbytes(100_000)):
        data = framing.encode(reply)
        assert [*framing.decoder().decode(data)] == [reply]
        assert len(data) < (1000 if level and reply[:2] in (b"", b"aa") else framing.wire_limit)


@pytest.mark.parametrize(
    ("limit", "level", "complaint"),
    [
        (0, 6, "Compressed: limit=0; 1 to 2147483647 is expected"),
        (2**31, 6, "Compressed: limit=2147483648; 1 to 2147483647 is expected"),
        (9, 10, "Compressed: level=10; 0 to 9 is expected"),
        (9, -1, "Compressed: level=-1; 0 to 9 is expected"),
    ],
)
def test_arguments_that_could_never_frame_anything(limit: int, level: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
        Compressed(limit=limit, level=level)


def test_it_shows_itself_as_it_is_written() -> None:
    assert repr(Compressed(limit=9, level=1)) == "Compressed(limit=9, level=1)"

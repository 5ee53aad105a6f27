"""Whole, Fixed, Lines, LengthPrefixed, Blocks and Stream, case by case; Until has a file of its own."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import pytest

from daemons.framings import (
    Blocked,
    Blocks,
    Fixed,
    Framing,
    FramingError,
    Incomplete,
    LengthPrefixed,
    Lines,
    Malformed,
    Oversize,
    Stream,
    Whole,
)

PREFIXED = LengthPrefixed(limit=9)
BLOCKS = Blocks(limit=9, prefix="!B")
QUOTED = Lines(limit=9, quoted=True)

#: (framing, the pieces that come, the messages they make, whether something is held after them)
CASES: dict[str, tuple[Framing, list[bytes], list[bytes], bool]] = {
    "whole: nothing before the end": (Whole(limit=9), [b"wh", b"at?"], [], True),
    "whole: as long as allowed": (Whole(limit=5), [b"wh", b"at?"], [], True),
    "fixed: one": (Fixed(4), [b"what"], [b"what"], False),
    "fixed: in pieces": (Fixed(4), [b"w", b"", b"ha", b"t"], [b"what"], False),
    "fixed: two and a half": (Fixed(4), [b"whatwhenwh"], [b"what", b"when"], True),
    "fixed: of one octet": (Fixed(1), [b"abc"], [b"a", b"b", b"c"], False),
    "lines: either end": (Lines(limit=9), [b"a\nb\r\n\n\r\n"], [b"a", b"b", b"", b""], False),
    "lines: an end cut in two": (Lines(limit=9), [b"a\r", b"\n"], [b"a"], False),
    "lines: one CR is taken off": (Lines(limit=9), [b"a\r\r\n"], [b"a\r"], False),
    "lines: a CR within": (Lines(limit=9), [b"a\rb\n"], [b"a\rb"], False),
    "lines: a backslash is itself": (Lines(limit=9), [b"a\\n\n"], [b"a\\n"], False),
    "lines: as long as allowed": (Lines(limit=5), [b"what\n", b"wha\r\n"], [b"what", b"wha"], False),
    "lines: a character cut in two": (Lines(limit=9), [b"caf\xc3", b"\xa9\n"], ["café".encode()], False),
    "quoted: a newline": (QUOTED, [b"a\\nb\n"], [b"a\nb"], False),
    "quoted: a backslash": (QUOTED, [b"a\\\\b\n"], [b"a\\b"], False),
    "quoted: a backslash before an n": (QUOTED, [b"\\\\n\n"], [b"\\n"], False),
    "quoted: a backslash and a newline": (QUOTED, [b"\\\\\\n\n"], [b"\\\n"], False),
    "quoted: cut within": (QUOTED, [b"a\\", b"nb\n"], [b"a\nb"], False),
    "quoted: a CR is part of it": (QUOTED, [b"a\r\n"], [b"a\r"], False),
    "prefix: one": (PREFIXED, [b"\0\0\0\4what"], [b"what"], False),
    "prefix: an empty one": (PREFIXED, [b"\0\0\0\0"], [b""], False),
    "prefix: two and a half": (PREFIXED, [b"\0\0\0\1a\0\0\0\2bc\0\0"], [b"a", b"bc"], True),
    "prefix: cut within": (PREFIXED, [b"\0\0", b"\0\4", b"wh", b"", b"at\0"], [b"what"], True),
    "prefix: as long as allowed": (PREFIXED, [b"\0\0\0\t123456789"], [b"123456789"], False),
    "prefix: two octets, as DNS has it": (LengthPrefixed(limit=9, prefix="!H"), [b"\0\4what"], [b"what"], False),
    "prefix: eight octets": (LengthPrefixed(limit=9, prefix="!Q"), [b"\0\0\0\0\0\0\0\1a"], [b"a"], False),
    "prefix: one octet, as much as it can say": (
        LengthPrefixed(limit=255, prefix="!B"),
        [b"\xff" + b"a" * 255],
        [b"a" * 255],
        False,
    ),
    "blocks: one": (BLOCKS, [b"\4what\0"], [b"what"], False),
    "blocks: two": (BLOCKS, [b"\2wh\2at\0"], [b"what"], False),
    "blocks: none": (BLOCKS, [b"\0\0"], [b"", b""], False),
    "blocks: two messages and a half": (BLOCKS, [b"\1a\0\1b\0\1c"], [b"a", b"b"], True),
    "blocks: before the empty one": (BLOCKS, [b"\4what"], [], True),
    "blocks: cut within": (BLOCKS, [b"\2", b"w", b"h\2a", b"t", b"\0\1"], [b"what"], True),
    "blocks: as long as allowed, prefixes and all": (BLOCKS, [b"\3abc\4defg\0"], [b"abcdefg"], False),
    "stream: as it comes": (Stream(), [b"wh", b"", b"at?"], [b"wh", b"at?"], False),
}

#: (framing, the pieces that come, the messages before the error, the error, its text)
ERRORS: dict[str, tuple[Framing, list[bytes], list[bytes], type[FramingError], str]] = {
    "whole": (Whole(limit=5), [b"what", b"s?"], [], Oversize, "no end within 5 bytes"),
    "lines": (Lines(limit=5), [b"a\nwhats"], [b"a"], Oversize, "no b'\\n' within 5 bytes"),
    "lines: with the newline": (Lines(limit=5), [b"whats\n"], [], Oversize, "no b'\\n' within 5 bytes"),
    "quoted: the limit applies to the encoded message": (
        Lines(limit=5, quoted=True),
        [b"\\\\\\\\\n" + b"\\\\\\\\n\n"],
        [b"\\\\"],
        Oversize,
        "no b'\\n' within 5 bytes",
    ),
    "quoted: another letter": (
        QUOTED,
        [b"a\n\\nb\\tc\nd\n"],
        [b"a"],
        Malformed,
        "b'\\\\t': after a backslash, n or another one is expected",
    ),
    "quoted: nothing behind it": (
        QUOTED,
        [b"a\\\\\\\n"],
        [],
        Malformed,
        "b'\\\\': after a backslash, n or another one is expected",
    ),
    "prefix: refused at once": (
        PREFIXED,
        [b"\0\0\0\1a\xff\xff\xff\xff"],
        [b"a"],
        Oversize,
        "a message of 4294967295 bytes is announced; 9 are allowed",
    ),
    "prefix: one too many": (
        PREFIXED,
        [b"\0\0", b"\0\n"],
        [],
        Oversize,
        "a message of 10 bytes is announced; 9 are allowed",
    ),
    "blocks: refused at once": (BLOCKS, [b"\1a\0\xff"], [b"a"], Oversize, "a message of more than 9 bytes in blocks"),
    "blocks: one too many": (BLOCKS, [b"\3abc", b"\5"], [], Oversize, "a message of more than 9 bytes in blocks"),
    "blocks: small ones": (BLOCKS, [b"\1a"] * 5, [], Oversize, "a message of more than 9 bytes in blocks"),
}

#: (framing, input, the error's text)
CUT: dict[str, tuple[Framing, bytes, str]] = {
    "fixed": (
        Fixed(16),
        b"What is your na",
        "was expecting 16 bytes but only received 15 bytes before the socket closed",
    ),
    "lines": (Lines(limit=9), b"a\nwhat", ""),
    "quoted": (QUOTED, b"\\", ""),
    "prefix": (LengthPrefixed(limit=99), b"\0\0\0\x10what", "socket closed 4 bytes into a 16-byte message"),
    "prefix, before its message": (PREFIXED, b"\0\0\0\4", "socket closed 0 bytes into a 4-byte message"),
    "prefix, within": (PREFIXED, b"\0\0\0", "socket closed 3 bytes into a 4-byte prefix"),
    "blocks": (BLOCKS, b"\1a\1b", "socket closed after 2 blocks, before the empty one"),
    "blocks, within the first": (BLOCKS, b"\2a", "socket closed after 0 blocks, before the empty one"),
}


@pytest.mark.parametrize(("framing", "pieces", "messages", "pending"), CASES.values(), ids=CASES)
def test_messages(framing: Framing, pieces: list[bytes], messages: list[bytes], pending: bool) -> None:
    decoder = framing.decoder()
    assert [message for piece in pieces for message in decoder.decode(piece)] == messages
    assert decoder.pending is pending
    assert decoder.error is None


@pytest.mark.parametrize(("framing", "pieces", "messages", "kind", "text"), ERRORS.values(), ids=ERRORS)
def test_errors_come_after_the_messages_before_them(
    framing: Framing, pieces: list[bytes], messages: list[bytes], kind: type[FramingError], text: str
) -> None:
    decoder = framing.decoder()
    assert [message for piece in pieces for message in decoder.decode(piece)] == messages
    assert (type(decoder.error), str(decoder.error)) == (kind, text)
    assert not decoder.pending
    assert [*decoder.decode(b"\0\n\0\0\0\0"), *decoder.finish()] == []


@pytest.mark.parametrize(("framing", "data", "text"), CUT.values(), ids=CUT)
def test_the_end_within_a_message(framing: Framing, data: bytes, text: str) -> None:
    decoder = framing.decoder()
    decoder.decode(data)
    assert [*decoder.finish()] == []
    assert (type(decoder.error), str(decoder.error)) == (Incomplete, text)
    assert [*decoder.decode(b"\0\n"), *decoder.finish()] == []


@pytest.mark.parametrize("pieces", [[b"Beautiful is better\n", b"than ugly.\n"], [b""], []])
def test_whole_input_until_the_end_is_one_message_even_if_empty(pieces: list[bytes]) -> None:
    decoder = Whole(limit=31).decoder()
    assert [message for piece in pieces for message in decoder.decode(piece)] == []
    assert [*decoder.finish()] == [b"".join(pieces)]
    assert decoder.error is None


#: (constructor call, error)
ARGUMENTS: list[tuple[Callable[[], object], str]] = [
    (lambda: Whole(limit=0), "Whole: limit=0; 1 or more is expected"),
    (lambda: Fixed(0), "Fixed: size=0; 1 or more is expected"),
    (lambda: Lines(limit=0), "Lines: limit=0; 1 or more is expected"),
    (lambda: LengthPrefixed(limit=0), "LengthPrefixed: limit=0; 1 to 4294967295 is expected with prefix='!I'"),
    (
        lambda: LengthPrefixed(limit=65536, prefix="!H"),
        "LengthPrefixed: limit=65536; 1 to 65535 is expected with prefix='!H'",
    ),
    (
        lambda: LengthPrefixed(limit=9, prefix="I"),
        "LengthPrefixed: prefix='I'; !, < or >, and one of BHILQ is expected, as in '!I'",
    ),
    (
        lambda: LengthPrefixed(limit=9, prefix="!i"),
        "LengthPrefixed: prefix='!i'; !, < or >, and one of BHILQ is expected, as in '!I'",
    ),
    (
        lambda: Blocks(limit=9, prefix="@I"),
        "Blocks: prefix='@I'; !, < or >, and one of BHILQ is expected, as in '!I'",
    ),
    (lambda: Blocks(limit=4), "Blocks: limit=4; 5 or more is expected with prefix='!I'"),
]


@pytest.mark.parametrize(("make", "complaint"), ARGUMENTS)
def test_arguments_that_could_never_frame_anything(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
        make()


@pytest.mark.parametrize("framing", [Whole, Lines, LengthPrefixed, Blocks])
def test_the_limit_must_be_named_and_has_no_default(framing: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="limit"):
        framing()


#: (framing, a reply, what carries it)
REPLIES: list[tuple[Framing, bytes, bytes]] = [
    (Whole(limit=9), b"any\nthing", b"any\nthing"),
    (Fixed(4), b"longer than four", b"longer than four"),
    (Stream(), b"any\nthing", b"any\nthing"),
    (Lines(limit=9), b"what\r?", b"what\r?\n"),
    (QUOTED, b"\\n\n\r", b"\\\\n\\n\r\n"),
    (PREFIXED, b"a text longer than nine", b"\0\0\0\x17a text longer than nine"),
    (BLOCKS, b"a" * 256, b"\xff" + b"a" * 255 + b"\1a\0"),
    (BLOCKS, b"", b"\0"),
    (BLOCKS, Blocked([b"", b"one", b"", b"two"]), b"\3one\3two\0"),
    (Blocks(limit=9), b"a" * 16385, b"\0\0\x40\0" + b"a" * 16384 + b"\0\0\0\1a\0\0\0\0"),
]


@pytest.mark.parametrize(("framing", "reply", "data"), REPLIES)
def test_a_reply(framing: Framing, reply: bytes, data: bytes) -> None:
    assert framing.encode(reply) == data


#: (framing, a reply, the complaint)
UNSENDABLE: list[tuple[Framing, bytes, str]] = [
    (
        Lines(limit=9),
        b"a\nb",
        "the reply b'a\\nb' contains a newline; Lines ends each reply with one, and only "
        "Lines(quoted=True) can carry others",
    ),
    (
        Lines(limit=9),
        b"a\r",
        "the reply b'a\\r' ends with a CR, which a peer takes for a part of the line's end; only "
        "Lines(quoted=True) can carry it",
    ),
    (LengthPrefixed(limit=9, prefix="!B"), b"a" * 256, "256 bytes: too long for a length prefix of 1 bytes"),
    (BLOCKS, Blocked([b"a" * 256]), "256 bytes: too long for a length prefix of 1 bytes"),
]


@pytest.mark.parametrize(("framing", "reply", "complaint"), UNSENDABLE)
def test_a_reply_that_would_not_arrive_as_it_was_sent(framing: Framing, reply: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
        framing.encode(reply)


def test_blocks_of_a_message_are_accessible_and_encoded_again() -> None:
    framing = Blocks(limit=99, prefix="<H")
    data = b"\3\0one\4\0two \1\0\0\0\0"
    (message,) = framing.decoder().decode(data)
    assert isinstance(message, Blocked)
    assert message == b"onetwo \0"
    assert message.blocks == (b"one", b"two ", b"\0")
    assert framing.encode(message) == data
    assert Blocked(message.blocks).blocks == message.blocks
    assert Blocked([]).blocks == ()


def test_the_order_of_octets() -> None:
    assert struct.pack("<i", 4253) == b"\x9d\x10\x00\x00"
    assert struct.pack(">i", 4253) == b"\x00\x00\x10\x9d"
    message = b"a" * 4253
    for prefix, octets in {"<I": b"\x9d\x10\x00\x00", ">I": b"\x00\x00\x10\x9d", "!I": b"\x00\x00\x10\x9d"}.items():
        framing = LengthPrefixed(limit=5000, prefix=prefix)
        assert framing.encode(message) == octets + message
        assert [*framing.decoder().decode(octets + message)] == [message]
    # In the wrong order it is another number, and refused before a single octet of it has come.
    decoder = LengthPrefixed(limit=5000, prefix="!I").decoder()
    decoder.decode(b"\x9d\x10\x00\x00")
    assert str(decoder.error) == "a message of 2635071488 bytes is announced; 5000 are allowed"


@pytest.mark.parametrize(
    "written",
    [
        "Whole(limit=9)",
        "Fixed(4)",
        "Lines(limit=9, quoted=True)",
        "LengthPrefixed(limit=9, prefix='!H')",
        "Blocks(limit=9, prefix='!H')",
        "Stream()",
    ],
)
def test_it_shows_itself_as_it_is_written(written: str) -> None:
    assert repr(eval(written)) == written

"""Commands of memcached, and refused input."""

from __future__ import annotations

import tracemalloc

import pytest

from daemons.framings import FramingError, Incomplete, Malformed, Oversize
from daemons.framings.memcached import LINE, MULTIGET, Memcached


def decoded(*pieces: bytes, item: int = 1000) -> tuple[list[bytes], FramingError | None]:
    decoder = Memcached(item=item).decoder()
    messages = [message for piece in pieces for message in decoder.decode(piece)]
    messages += decoder.finish()
    return messages, decoder.error


def test_a_block_of_data_is_part_of_its_message() -> None:
    commands = [
        b"get a\r\n",
        b"set a 0 0 7\r\nget b\r\n\r\n",
        b"ms a 1 T0\n1\r\n",
        b"cas a 0 0 0 5\r\n\r\n",
        b"mg a v\n",
    ]
    assert decoded(b"".join(commands)) == (commands, None)


def test_a_line_without_a_valid_length_has_no_block() -> None:
    lines = [b"set a 0 0 x\r\n", b"set a 0 0 -5\r\n", b"set a 0\r\n", b"ms a\r\n", b"seta 0 0 0 5\r\n", b"\r\n"]
    assert decoded(b"".join(lines)) == (lines, None)


def test_the_block_of_an_otherwise_invalid_line_belongs_to_it() -> None:
    commands = [b"set %b 0 0 1\r\na\r\n" % (b"k" * 251), b"add a b c 1 d e f\r\na\r\n", b"get a\r\n"]
    assert decoded(b"".join(commands)) == (commands, None)


@pytest.mark.parametrize("size", [1, 3, 500, 10**6])
def test_a_block_that_is_too_long_is_skipped(size: int) -> None:
    line, rest = b"set a 0 0 1001\r\n", b"get b\r\n"
    data = line + b"x" * 1001 + b"\r\n" + rest
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert decoded(*pieces) == ([line, rest], None)


def test_an_announced_block_of_4_gib_takes_no_memory() -> None:
    decoder = Memcached(item=1024**2).decoder()
    piece = b"x" * 1024**2
    tracemalloc.start()
    try:
        assert len(decoder.decode(b"set a 0 0 4294967296\r\n")) == 1
        for _ in range(20):
            decoder.decode(piece)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()
    assert decoder.pending


def test_input_after_quit_is_ignored() -> None:
    decoder = Memcached(item=1000).decoder()
    assert decoder.decode(b"get a\r\nquit\r\n") == [b"get a\r\n"]
    assert (decoder.ended, decoder.surplus, decoder.pending) == (True, False, False)
    assert decoder.decode(b"get b\r\n") == ()
    assert decoder.surplus


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x80\0\0\0", Malformed),
        (b"GET / HTTP/1.1\r\n", Malformed),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\nset a 0 0 1\r\n1\r\n", Malformed),
        (b"set a 0 0 5" + b" " * LINE, Oversize),
        (b"get " + b"a " * (MULTIGET // 2), Oversize),
        (b"get a", Incomplete),
        (b"set a 0 0 5\r\nhello", Incomplete),
        (b"set a 0 0 5000\r\nhello", Incomplete),
    ],
)
def test_input_that_is_no_command_is_an_error(data: bytes, kind: type[FramingError]) -> None:
    assert type(decoded(data)[1]) is kind


def test_a_get_of_many_keys_may_be_long() -> None:
    line = b"get " + b"key " * 50_000 + b"\r\n"
    assert decoded(line) == ([line], None)
    pieces = [line[start : start + 1000] for start in range(0, len(line), 1000)]
    assert decoded(*pieces) == ([line], None)


def test_a_limit_below_one_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="item=0"):
        Memcached(item=0)

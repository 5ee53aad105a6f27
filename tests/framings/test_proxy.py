"""PROXY headers, versions 1 and 2: for any bytes, cut anywhere, one header, one error, or a wait for more."""

from __future__ import annotations

import socket
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.framings import Incomplete, Malformed, Oversize
from daemons.framings.proxy import LIMIT, LINE_LIMIT, SIGNATURE, Header, HeaderDecoder


def block(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    return (
        SIGNATURE + bytes((0x20 | command, family)) + struct.pack("!H", len(body) if length is None else length) + body
    )


V4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 4242, 1060)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 4242, 1060)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.7") * 2 + struct.pack("!HH", 4242, 1060)
TLV = b"\x02\x00\x07camelot"
LONGEST = b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n"

GOOD: list[tuple[bytes, tuple[str, int] | None]] = [
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 1060\r\n", ("192.0.2.7", 4242)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0)),
    (b"PROXY TCP6 2001:DB8::7 ::1 4242 1060\r\n", ("2001:db8::7", 4242)),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4242 1060\r\n", ("192.0.2.7", 4242)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN what\rever\n stands here\r\n", None),
    (LONGEST, None),
    (block(1, 0x11, V4), ("192.0.2.7", 4242)),
    (block(1, 0x11, V4 + TLV), ("192.0.2.7", 4242)),
    (block(1, 0x11, V4 + bytes(LIMIT - 16 - len(V4))), ("192.0.2.7", 4242)),
    (block(1, 0x21, V6), ("2001:db8::7", 4242)),
    (block(1, 0x21, MAPPED), ("192.0.2.7", 4242)),
    (block(1, 0x00, b""), None),
    (block(1, 0x12, V4), None),  # datagrams
    (block(1, 0x31, bytes(216)), None),  # Unix
    (block(0, 0x00, b""), None),  # LOCAL
    (block(0, 0x11, V4), None),
    (block(0, 0xFF, b"ignored"), None),
]

BAD: list[tuple[bytes, type[Exception]]] = [
    (b"What is your name?", Malformed),
    (b"GET / HTTP/1.1\r\n", Malformed),
    (b"proxy TCP4 192.0.2.7 127.0.0.1 4242 1060\r\n", Malformed),
    (b"PROXY  TCP4 192.0.2.7 127.0.0.1 4242 1060\r\n", Malformed),
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 1060 \r\n", Malformed),
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 4242\r\n", Malformed),
    (b"PROXY TCP4 192.0.2.07 127.0.0.1 4242 1060\r\n", Malformed),
    (b"PROXY TCP4 192.0.2.256 127.0.0.1 4242 1060\r\n", Malformed),
    (b"PROXY TCP4 192.0.2.7 127.0.0 4242 1060\r\n", Malformed),
    (b"PROXY TCP4 ::1 ::1 4242 1060\r\n", Malformed),
    (b"PROXY TCP6 192.0.2.7 127.0.0.1 4242 1060\r\n", Malformed),
    (b"PROXY TCP6 ::1%eth0 ::1 4242 1060\r\n", Malformed),
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 04242 1060\r\n", Malformed),
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 65536 1060\r\n", Malformed),
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 65536\r\n", Malformed),
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 -1 1060\r\n", Malformed),
    (b"PROXY TCP4 192.0.2.7\n127.0.0.1 4242 1060\r\n", Malformed),
    (b"PROXY UDP4 192.0.2.7 127.0.0.1 4242 1060\r\n", Malformed),
    (b"PROXY UNKNOWNS\r\n", Malformed),
    (b"PROXY \r\n", Malformed),
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 1060\n" + bytes(LINE_LIMIT), Oversize),
    (b"PROXY UNKNOWN " + b"x" * (LINE_LIMIT - 15) + b"\r\n", Oversize),
    (SIGNATURE[:11] + b"\r", Malformed),
    (SIGNATURE + b"\x11\x11\x00\x0c" + V4, Malformed),  # version 1 in the form of 2
    (SIGNATURE + b"\x22\x11\x00\x0c" + V4, Malformed),  # no such command
    (block(1, 0x41, V4), Malformed),
    (block(1, 0x13, V4), Malformed),
    (block(1, 0x11, V4[:-1]), Malformed),
    (block(1, 0x21, V4), Malformed),
    (block(1, 0x11, V4, length=LIMIT - 15), Oversize),
    (block(0, 0x00, b"", length=0xFFFF), Oversize),
]


@pytest.mark.parametrize(("header", "source"), GOOD)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_header_however_it_is_cut(header: bytes, source: tuple[str, int] | None, size: int) -> None:
    rest = b"What is your name?"
    decoder = HeaderDecoder()
    version = 2 if header.startswith(SIGNATURE) else 1
    data = header + rest
    taken = 0
    while decoder.header is None:
        assert decoder.error is None
        assert taken < len(header)
        decoder.decode(data[taken : taken + size])
        taken += size
    assert decoder.header == Header(version, source)
    assert decoder.rest == data[len(header) : taken]
    assert decoder.wanted == 0


@pytest.mark.parametrize(("data", "kind"), BAD)
@pytest.mark.parametrize("size", [1, 100_000])
def test_an_error_however_it_is_cut(data: bytes, kind: type[Exception], size: int) -> None:
    decoder = HeaderDecoder()
    for start in range(0, len(data), size):
        assert decoder.decode(data[start : start + size]) is None
    assert type(decoder.error) is kind
    # The text is for the log: nothing of the peer's own is in it.
    assert "192.0.2" not in str(decoder.error)
    assert decoder.decode(b"PROXY UNKNOWN\r\n") is None


@pytest.mark.parametrize(("header", "source"), GOOD)
def test_a_header_cut_off_is_incomplete(header: bytes, source: tuple[str, int] | None) -> None:
    for end in range(min(len(header), 200)):
        decoder = HeaderDecoder()
        if end:
            decoder.decode(header[:end])
        decoder.finish()
        assert decoder.header is None
        assert isinstance(decoder.error, Incomplete)


@pytest.mark.parametrize(("header", "source"), GOOD)
def test_reading_the_wanted_number_of_bytes_reads_exactly_the_header(
    header: bytes, source: tuple[str, int] | None
) -> None:
    decoder = HeaderDecoder()
    data = header + b"What is your name?"
    while wanted := decoder.wanted:
        decoder.decode(data[:wanted])
        data = data[wanted:]
    assert decoder.header is not None
    assert decoder.rest == b""
    assert data == b"What is your name?"


STARTS = st.sampled_from([b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"])
SEEDS = st.sampled_from([data for data, _ in GOOD] + [data for data, _ in BAD])


@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.sampled_from([b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"]), st.binary()).map(
            b"".join
        ),
        st.tuples(SEEDS, st.integers(0, 5000), st.binary(max_size=3)).map(
            lambda made: made[0][: made[1]] + made[2] + made[0][made[1] + len(made[2]) :]
        ),
    ),
    st.lists(st.integers(0, 200), max_size=5),
)
def test_any_bytes_are_a_header_or_one_error_or_wait(data: bytes, cuts: list[int]) -> None:
    whole = HeaderDecoder()
    whole.decode(data)
    pieces = HeaderDecoder()
    edges = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    for start, end in pairwise(edges):
        pieces.decode(data[start:end])
        assert len(pieces._held) < LIMIT
    assert pieces.header == whole.header
    assert type(pieces.error) is type(whole.error)
    assert whole.header is None or whole.error is None
    assert 0 <= whole.wanted <= LIMIT
    whole.finish()
    assert (whole.header is None) != (whole.error is None)

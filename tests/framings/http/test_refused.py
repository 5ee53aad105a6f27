"""Requests that two readers might read in two ways, and others that are none: promise 18, line by line.

Each is refused with its status, whole or octet by octet, and nothing behind it is answered.
"""

from __future__ import annotations

import pytest

from daemons.framings import FramingError, Malformed
from daemons.framings.http import HTTP

GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\n"
HOST = b"Host: a\r\n"
END = b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
EMPTY = b"0\r\n\r\n"

#: A request that an attacker tries to smuggle behind another.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def header(line: bytes) -> bytes:
    return GET + HOST + line + b"\r\n" + END


def target(what: bytes, method: bytes = b"GET") -> bytes:
    return method + b" " + what + b" HTTP/1.1\r\n" + HOST + END


def host(what: bytes) -> bytes:
    return GET + b"Host: " + what + b"\r\n" + END


def length(value: bytes) -> bytes:
    return POST + HOST + b"Content-Length:" + value + b"\r\n" + END + b"aaaaa"


def coding(lines: bytes) -> bytes:
    return POST + HOST + lines + b"\r\n" + END + EMPTY


def chunks(octets: bytes) -> bytes:
    return POST + HOST + CHUNKED + END + octets


REFUSED: dict[int, dict[str, bytes]] = {
    400: {
        # Lines and octets.
        "LF alone, everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
        "LF alone behind the request line": b"GET / HTTP/1.1\n" + HOST + END,
        "LF alone behind a header": GET + b"Host: a\n\r\n",
        "LF alone behind the head": GET + HOST + b"\n",
        "LF alone within a value": header(b"X: a\nContent-Length: 36"),
        "CR alone within a value": header(b"X: a\rContent-Length: 36"),
        "CR alone behind a header": GET + HOST + b"X: a\r" + END,
        "CR CR LF": GET + HOST + b"X: a\r\r\n" + END,
        "LF CR": GET + HOST + b"X: a\n\r" + END,
        "CR in a name": header(b"X\rY: a"),
        "CR in the target": target(b"/\ra"),
        "an empty line of LF alone": b"\n" + GET + HOST + END,
        "an empty line of CR alone": b"\r" + GET + HOST + END,
        "five empty lines": b"\r\n" * 5 + GET + HOST + END,
        "obs-fold": header(b"X: a\r\n b"),
        "obs-fold with a tab": header(b"X: a\r\n\tb"),
        "obs-fold of a coding": coding(b"Transfer-Encoding:\r\n chunked"),
        "obs-fold of the first header": GET + b" X: y\r\n" + HOST + END,
        "a line of a blank": header(b" "),
        "a blank before the colon": header(b"X : a"),
        "a blank before the colon of a coding": coding(b"Transfer-Encoding : chunked"),
        "a tab before the colon of a length": GET + HOST + b"Content-Length\t: 5\r\n" + END + b"aaaaa",
        "a blank in a name": header(b"X Y: a"),
        "no colon": header(b"X"),
        "no name": header(b": a"),
        "a name in quotes": header(b'"X": a'),
        "an 8-bit name": header(b"X\xe9: a"),
        "NUL in a name": header(b"X\0: a"),
        "NUL in a value": header(b"X: a\0b"),
        "a vertical tab in a value": header(b"X: a\x0bb"),
        "a vertical tab before a coding": coding(b"Transfer-Encoding: \x0bchunked"),
        "a form feed behind a coding": coding(b"Transfer-Encoding: chunked\x0c"),
        "DEL in a value": header(b"X: a\x7fb"),
        "escape in a value": header(b"X: \x1b[2J"),
        "NUL in the target": target(b"/\0"),
        "NUL in a target without an end": b"GET /\0" + b"a" * 9000,
        "8 bits in the target": target(b"/caf\xe9"),
        # The request line.
        "a blank before the method": b" " + GET + HOST + END,
        "two blanks": b"GET  / HTTP/1.1\r\n" + HOST + END,
        "a tab for a blank": b"GET\t/ HTTP/1.1\r\n" + HOST + END,
        "a blank behind the version": b"GET / HTTP/1.1 \r\n" + HOST + END,
        "a blank in the target": target(b"/a b"),
        "no version, as in HTTP/0.9": b"GET /\r\n\r\n",
        "no target": b"GET HTTP/1.1\r\n" + HOST + END,
        "a small http": b"GET / http/1.1\r\n" + HOST + END,
        "a version of one digit": b"GET / HTTP/1\r\n" + HOST + END,
        "a version of three digits": b"GET / HTTP/1.10\r\n" + HOST + END,
        "another protocol": b"GET / RTSP/1.0\r\n" + HOST + END,
        "no method": b" / HTTP/1.1\r\n" + HOST + END,
        "a method that is no token": b"GE(T / HTTP/1.1\r\n" + HOST + END,
        "a handshake of TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        # The target.
        "a fragment": target(b"/#a"),
        "neither path nor URL": target(b"a/b"),
        "an asterisk for GET": target(b"*"),
        "an authority for GET": target(b"a:80"),
        "a path for CONNECT": target(b"/", b"CONNECT"),
        "a body for CONNECT": length(b" 5").replace(b"POST /", b"CONNECT a:1"),
        "chunks for CONNECT": coding(CHUNKED[:-2]).replace(b"POST /", b"CONNECT a:1"),
        "no port for CONNECT": target(b"a", b"CONNECT"),
        "an empty port for CONNECT": target(b"a:", b"CONNECT"),
        "a URL for CONNECT": target(b"http://a:1/", b"CONNECT"),
        "another scheme": target(b"ftp://a/"),
        "a URL without a host": target(b"http:///a"),
        "a URL with a user": target(b"http://b@a/"),
        "a backslash in a URL's host": target(b"http://b\\@a/"),
        # Host.
        "no Host": GET + END,
        "no Host but a URL": b"GET http://a/ HTTP/1.1\r\n" + END,
        "two Hosts": GET + HOST + b"host: b\r\n" + END,
        "two Hosts that are one": GET + HOST + HOST + END,
        "two Hosts in HTTP/1.0": b"GET / HTTP/1.0\r\n" + HOST + HOST + END,
        "an empty Host": host(b""),
        "two hosts in a Host": host(b"a, b"),
        "a blank in a Host": host(b"a b"),
        "a user in a Host": host(b"b@a"),
        "a path in a Host": host(b"a/b"),
        "a Host of a port alone": host(b":80"),
        "a port that is none": host(b"a:http"),
        "a port too high": host(b"a:65536"),
        "a port too long": host(b"a:000080"),
        "IPv6 without brackets": host(b"::1"),
        "half a bracket": host(b"[::1"),
        # Fields with one value.
        "two Content-Types": POST + HOST + b"Content-Type: a/b\r\ncontent-type: a/c\r\nContent-Length: 0\r\n" + END,
        "two Content-Types that are one": header(b"Content-Type: a/b\r\nContent-Type: a/b"),
        "two Authorizations": header(b"Authorization: Basic YTpi\r\nauthorization: Basic YTpj"),
        "two Proxy-Authorizations": header(b"Proxy-Authorization: Basic YTpi\r\nProxy-Authorization: Basic YTpi"),
        "two Ranges": header(b"Range: bytes=0-1\r\nRange: bytes=2-3"),
        "two If-Ranges": header(b'If-Range: "a"\r\nIf-Range: "b"'),
        "two If-Modified-Since": header(b"If-Modified-Since: a\r\nIf-Modified-Since: b"),
        "two If-Unmodified-Since": header(b"If-Unmodified-Since: a\r\nIf-Unmodified-Since: b"),
        "two Content-Ranges": header(b"Content-Range: bytes 0-1/2\r\nContent-Range: bytes 2-3/4"),
        # Content-Length.
        "a length twice": POST + HOST + b"Content-Length: 5\r\n" * 2 + END + b"aaaaa",
        "two lengths": POST + HOST + b"Content-Length: 5\r\ncontent-length: 0\r\n" + END + b"aaaaa",
        "a list of lengths": length(b"5, 5"),
        "a length with a plus": length(b"+5"),
        "a length with a minus": length(b"-5"),
        "a length with an underscore": length(b"0_5"),
        "a length in hexadecimal": length(b"0x5"),
        "a length in letters": length(b"a"),
        "a length in Arabic": length("\u0665".encode()),
        "a superscript length": length(b"\xb2"),
        "a length with a point": length(b"5.0"),
        "a length with a blank in it": length(b"0 5"),
        "an empty length": length(b""),
        "an absurd length": length(b"18446744073709551621"),  # 2**64 + 5
        "a long length": length(b"0" * 18 + b"5"),
        "a tab before a length": length(b"\t5"),
        "a tab behind a length": length(b"5 \t"),
        "a length under another name": GET + HOST + b"Content_Length: 36\r\n" + END,
        # Transfer-Encoding.
        "CL.TE": POST + HOST + b"Content-Length: 6\r\n" + CHUNKED + END + EMPTY + b"G",
        "TE.CL": POST + HOST + CHUNKED + b"Content-Length: 3\r\n" + END + b"1\r\na\r\n" + EMPTY,
        "a length and a coding that is none": POST + HOST + b"Content-Length: 5\r\nTransfer-Encoding: x\r\n" + END,
        "a coding in HTTP/1.0": POST.replace(b"1.1", b"1.0") + HOST + CHUNKED + END + EMPTY,
        "a tab before a coding": coding(b"Transfer-Encoding: \tchunked"),
        "a tab behind a coding": coding(b"X: a\r\nTRANSFER-encoding:chunked\t "),
        "a coding under another name": coding(b"transfer_encoding: chunked"),
        # Chunks.
        "a size with 0x": chunks(b"0x1\r\na\r\n" + EMPTY),
        "a size with a plus": chunks(b"+1\r\na\r\n" + EMPTY),
        "a size with a minus": chunks(b"-1\r\na\r\n" + EMPTY),
        "a size with an underscore": chunks(b"0_1\r\na\r\n" + EMPTY),
        "a size that overflows": chunks(b"10000000000000001\r\na\r\n" + EMPTY),
        "a size of no digits": chunks(b"\r\n" + EMPTY),
        "a size that is none": chunks(b"g\r\n"),
        "a blank before a size": chunks(b" 1\r\na\r\n" + EMPTY),
        "a blank behind a size": chunks(b"1 \r\na\r\n" + EMPTY),
        "LF alone behind a size": chunks(b"1\na\r\n" + EMPTY),
        "CR alone behind a size": chunks(b"1\ra\r\n" + EMPTY),
        "LF alone behind a chunk": chunks(b"1\r\na\n" + EMPTY),
        "nothing behind a chunk": chunks(b"1\r\na" + EMPTY),
        "a chunk longer than its size": chunks(b"1\r\nab\r\n" + EMPTY),
        "a chunk shorter than its size": chunks(b"3\r\na\r\n" + EMPTY),
        "a blank before an extension": chunks(b"1 ;a\r\na\r\n" + EMPTY),
        "a blank in an extension": chunks(b"1;a =b\r\na\r\n" + EMPTY),
        "an extension without a name": chunks(b"1;\r\na\r\n" + EMPTY),
        "an extension without a value": chunks(b"1;a=\r\na\r\n" + EMPTY),
        "an extension of two semicolons": chunks(b"1;;a\r\na\r\n" + EMPTY),
        "an extension behind a semicolon too many": chunks(b"1;a=b;\r\na\r\n" + EMPTY),
        "an extension behind a quoted value": chunks(b'1;a="b"c\r\na\r\n' + EMPTY),
        "an extension with two values": chunks(b"1;a=b=c\r\na\r\n" + EMPTY),
        "an extension without its other quote": chunks(b'1;a="b\\"\r\na\r\n' + EMPTY),
        "LF alone in an extension": chunks(b"1;a\nb\r\na\r\n" + EMPTY),
        "CR alone in an extension": chunks(b"1;a\rb\r\na\r\n" + EMPTY),
        "NUL in an extension": chunks(b"1;\0\r\na\r\n" + EMPTY),
        "an extension without its semicolon": chunks(b"1 a\r\na\r\n" + EMPTY),
        "LF alone behind the last chunk": chunks(b"0\n\r\n"),
        "LF alone behind it all": chunks(b"0\r\n\n"),
        "a trailer without a colon": chunks(b"0\r\nX\r\n\r\n"),
        **{
            f"a trailer {name}": chunks(b"0\r\n%b: 1\r\n\r\n" % name.encode())
            for name in (
                *("Content-Length", "host", "TE", "Transfer-Encoding", "Content_Length", "Content-Type", "Cookie"),
                *("AUTHORIZATION", "If-Match", "Cache-Control", "Trailer", "Connection", "Expires", "Range"),
            )
        },
        "two ETags in the trailers": chunks(b"0\r\nETag: a\r\nA: b\r\netag: a\r\n\r\n"),
        "a trailer that is folded": chunks(b"0\r\nX: a\r\n b\r\n\r\n"),
        "a trailer with NUL": chunks(b"0\r\nX: \0\r\n\r\n"),
        "LF alone behind a trailer": chunks(b"0\r\nX: a\n\r\n"),
        "a request for a trailer": chunks(b"0\r\n"),
    },
    413: {
        "a long body": length(b" 1048577"),
        "a very long body": length(b" 999999999999999999"),
        "a long chunk": chunks(b"100001\r\n"),
        "the longest chunk": chunks(b"ffffffffffffffff\r\n"),
        "a chunk that overflows into nothing": chunks(b"1\r\na\r\nffffffffffffffff\r\n"),
    },
    414: {"a target without an end": b"GET /" + b"a" * 20_000},
    417: {
        "another expectation": header(b"Expect: 200-ok"),
        "another expectation too": header(b"Expect: 100-continue\r\nExpect: tea"),
        "a parameter": header(b"Expect: 100-continue=1"),
    },
    431: {
        "more than a hundred trailers": chunks(b"0\r\n" + b"a:b\r\n" * 101 + b"\r\n"),
        "a header without an end": GET + b"X: " + b"a" * 20_000,
        "101 headers": GET + HOST + b"X: a\r\n" * 100 + END,
    },
    501: {
        "xchunked": coding(b"Transfer-Encoding: xchunked"),
        "identity": coding(b"Transfer-Encoding: identity"),
        "nothing": coding(b"Transfer-Encoding:"),
        "chunked, identity": coding(b"Transfer-Encoding: chunked, identity"),
        "gzip, chunked": coding(b"Transfer-Encoding: gzip, chunked"),
        "chunked twice": coding(CHUNKED + b"Transfer-Encoding: chunked"),
        "chunked and identity": coding(CHUNKED + b"Transfer-Encoding: identity"),
        "identity and chunked": coding(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        "chunked in quotes": coding(b'Transfer-Encoding: "chunked"'),
        "chunked with a comma": coding(b"Transfer-Encoding: ,chunked"),
        "chunked with a parameter": coding(b"Transfer-Encoding: chunked;a=b"),
        "a long s": coding("Transfer-Encoding: chun\u212aed".encode()),  # the Kelvin sign is a small k to some
    },
    505: {
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/0.9, by name": b"GET / HTTP/0.9\r\n" + HOST + END,
        "HTTP/3.1": b"GET / HTTP/3.1\r\n" + HOST + END,
    },
}

CASES = [(status, data) for status, cases in REFUSED.items() for data in cases.values()]
NAMES = [f"{status}: {name}" for status, cases in REFUSED.items() for name in cases]

PHRASES = {
    400: "Bad Request",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}


def outcome(data: bytes, size: int) -> tuple[list[bytes], FramingError | None, bool]:
    decoder = HTTP().decoder()
    messages = [message for at in range(0, len(data), size) for message in decoder.decode(data[at : at + size])]
    return [*messages, *decoder.finish()], decoder.error, decoder.pending


@pytest.mark.parametrize(("status", "data"), CASES, ids=NAMES)
def test_it_is_refused_however_it_is_cut_and_nothing_behind_it_is_answered(status: int, data: bytes) -> None:
    said = set()
    for size in (len(data) + len(SMUGGLED), len(data), 5, 1):
        messages, error, pending = outcome(data + SMUGGLED, size)
        assert messages == []
        assert error is not None
        assert not pending
        assert error.__traceback__ is None, "the traceback's frames hold the input"
        assert isinstance(error, Malformed) is (status not in (413, 414, 431))
        # All of it, so nothing of the request is in it.
        body = f"{status} {PHRASES[status]}\n"
        assert error.apology.decode() == (
            f"HTTP/1.1 {body[:-1]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
        )
        said.add(str(error))
        assert "smuggled" not in str(error)
        assert str(error).isprintable()
    assert len(said) == 1


def test_request_before_a_refused_one_is_answered() -> None:
    messages, error, _ = outcome(SMUGGLED + GET + END + SMUGGLED, 1000)
    assert (messages, str(error)) == ([SMUGGLED], "no Host, which HTTP/1.1 must have")


@pytest.mark.parametrize(
    ("data", "octets"),
    [
        (b"GET / HTTP/1.1\nHost: a", 15),
        (GET + b"X: \0", len(GET) + 4),
        (GET + b"X: a\r\r", len(GET) + 6),
        (b"\x16\x03\x01", 1),
        (b"GET /" + b"a" * 9000, 8192),
        (GET + b"X" * 20_000, 16 * 1024),
    ],
)
def test_it_is_refused_with_the_first_octet_that_is_wrong(data: bytes, octets: int) -> None:
    decoder = HTTP().decoder()
    assert [*decoder.decode(data[: octets - 1])] == []
    assert decoder.error is None
    decoder.decode(data[octets - 1 : octets])
    assert decoder.error is not None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (header(b"X: a\r\n b"), "header line 3 begins with a blank: lines are not folded"),
        (header(b"X"), "header line 2 has no colon"),
        (header(b"X : a"), "header line 2: the bytes before the colon are not a field name"),
        (header(b"X: \0"), "a control character, or a CR or LF without the other"),
        (target(b"/a b"), "the request line is not a method, a target and HTTP/1.1, one blank between them"),
        (length(b" 1048577"), "a body of 1048577 bytes is announced; 1048576 are allowed"),
    ],
)
def test_error_names_the_fault_without_the_peers_bytes(data: bytes, said: str) -> None:
    assert str(outcome(data, len(data))[1]) == said

"""`ResponseDecoder`: good responses, cut anywhere; refusals; limits."""

from __future__ import annotations

import pytest

from daemons.framings import FramingError, Incomplete, Malformed, Oversize
from daemons.framings.http import ResponseDecoder, ResponseHead, ResponseLimits

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = b"0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def decode(
    data: bytes, size: int = 1, method: str = "GET", limits: ResponseLimits | None = None, *, unfold: bool = False
) -> tuple[ResponseDecoder, ResponseHead | None, bytes]:
    """The decoder, the head and the body of the response in `data`, which comes in pieces of `size` bytes, and ends."""
    decoder = ResponseDecoder(method, limits or ResponseLimits(), unfold=unfold)
    events = [event for at in range(0, len(data), size) for event in decoder.decode(data[at : at + size])]
    decoder.finish()
    heads = [event for event in events if isinstance(event, ResponseHead)]
    assert heads == ([] if decoder.head is None else [decoder.head])
    assert not heads or events[0] is heads[0]
    pieces = [event for event in events if isinstance(event, bytes)]
    assert all(pieces)
    return decoder, decoder.head, b"".join(pieces)


def good(data: bytes, method: str = "GET", *, unfold: bool = False) -> tuple[ResponseHead, bytes, bytes]:
    """Head and body of the good response in `data`, and the bytes behind it: the same however it is cut."""
    found = []
    for size in (len(data), 1, 7):
        decoder, head, body = decode(data, size, method, unfold=unfold)
        assert decoder.error is None
        assert decoder.complete
        assert decoder.received == len(body)
        assert head is not None
        found.append((head, body, decoder.rest))
    assert found[0] == found[1] == found[2]
    return found[0]


def refused(data: bytes, kind: type[FramingError] = Malformed, limits: ResponseLimits | None = None) -> str:
    """The error of `data`: the same however it is cut, and never a complete response."""
    found = set()
    for size in (len(data) or 1, 1, 7):
        decoder, _, _ = decode(data, size, limits=limits)
        assert not decoder.complete
        assert type(decoder.error) is kind
        assert decoder.error.__traceback__ is None, "its frames would keep the input"
        assert decoder.error.apology == b""
        assert decoder.decode(OK + b"\r\n") == []
        found.add(str(decoder.error))
    (text,) = found
    assert text.isprintable()
    return text


def test_a_head_and_all_that_it_says() -> None:
    head, body, rest = good(
        b'HTTP/1.1 404 \xe9 "x"\t\r\nX-Empty:\r\nx: \t a,\t"b" \t\r\nX:c\r\nContent-length: 02\r\n\r\nokHT'
    )
    assert (head.version, head.status, head.reason) == ((1, 1), 404, b'\xe9 "x"\t')
    assert head.fields == ((b"X-Empty", b""), (b"x", b'a,\t"b"'), (b"X", b"c"), (b"Content-length", b"02"))
    assert (head.length, head.announced, head.chunked, head.keep_alive) == (2, 2, False, True)
    assert (body, rest) == (b"ok", b"HT")


@pytest.mark.parametrize(
    ("line", "version", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", (1, 1), 200, b"OK"),
        (b"HTTP/1.0 599 ", (1, 0), 599, b""),
        (b"HTTP/1.7 200", (1, 1), 200, b""),
        (b"HTTP/1.1 200  two  blanks ", (1, 1), 200, b" two  blanks "),
    ],
)
def test_status_lines(line: bytes, version: tuple[int, int], status: int, reason: bytes) -> None:
    head, _, _ = good(line + b"\r\nContent-Length: 0\r\n\r\n")
    assert (head.version, head.status, head.reason) == (version, status, reason)


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"Content-Length: 0\r\n\r\n", b""),
        (b"content-LENGTH:0005 \r\n\r\nhe\r\n\r", b"he\r\n\r"),
        (CHUNKED + b"\r\n" + EMPTY, b""),
        (
            b"transfer-encoding:  CHUNKED \r\n\r\n5\r\nhel\r\n\r\n00aB\r\n%b\r\n0\r\n\r\n" % bytes(171),
            b"hel\r\n" + bytes(171),
        ),
        (CHUNKED + b'\r\n2;a="0;\\" ";b\r\nhe\r\n1;c=d\r\n!\r\n000\r\n\r\n', b"he!"),
        (CHUNKED + b"\r\n1\r\n0\r\n0\r\nServer-Timing: a\r\nETag: b\r\n\r\n", b"0"),
    ],
)
def test_the_end_of_a_body_is_found_and_the_connection_can_be_used_again(sent: bytes, body: bytes) -> None:
    head, found, rest = good(OK + sent + OK)
    assert (found, rest, head.keep_alive) == (body, OK, True)
    assert head.chunked is (head.length is None)


def test_a_body_without_a_length_lasts_until_the_close() -> None:
    head, body, rest = good(OK + b"\r\n" + EMPTY + OK)
    assert (head.length, head.chunked, head.keep_alive) == (None, False, False)
    assert (body, rest) == (EMPTY + OK, b"")


@pytest.mark.parametrize(
    ("method", "status", "fields", "announced", "kept"),
    [
        ("HEAD", b"200 OK", b"Content-Length: 7\r\n", 7, True),
        ("HEAD", b"200 OK", CHUNKED, None, True),
        ("HEAD", b"200 OK", b"", None, True),
        ("GET", b"304 Not Modified", b"Content-Length: 7\r\n", 7, True),
        ("GET", b"204 No Content", b"", None, True),
        ("GET", b"204 No Content", b"Content-Length: 0\r\n", 0, True),
        ("GET", b"204 No Content", b"Content-Length: 7\r\n", 7, False),
        ("GET", b"204 No Content", CHUNKED, None, False),
        ("CONNECT", b"200 OK", b"Content-Length: 7\r\n", None, False),
        ("CONNECT", b"299 OK", b"Transfer-Encoding: gzip\r\n", None, False),
    ],
)
def test_response_without_a_body_ends_with_its_head_for_any_fields(
    method: str, status: bytes, fields: bytes, announced: int | None, kept: bool
) -> None:
    head, body, rest = good(b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\nrest", method)
    assert (body, rest, head.length, head.announced, head.keep_alive) == (b"", b"rest", 0, announced, kept)


def test_the_refusal_of_a_tunnel_has_a_body() -> None:
    head, body, _ = good(b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno", "CONNECT")
    assert (head.status, body) == (407, b"no")


@pytest.mark.parametrize(
    ("version", "options", "kept"),
    [
        (b"1", b"", True),
        (b"1", b"Connection: Keep-Alive , cLOSE\r\n", False),
        (b"1", b"Connection: a\r\nconnection:\tclose\r\n", False),
        (b"1", b"Connection: closed\r\n", True),
        (b"0", b"", False),
        (b"0", b"Connection: keep-alive\r\n", True),
        (b"0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_whether_the_connection_is_kept(version: bytes, options: bytes, kept: bool) -> None:
    head, _, _ = good(b"HTTP/1." + version + b" 200 OK\r\n" + options + b"Content-Length: 0\r\n\r\n")
    assert head.keep_alive is kept


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def test_interim_responses_are_skipped_up_to_a_number() -> None:
    others = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 \r\nX: y\r\n\r\n"
    head, body, _ = good(others + INTERIM * 13 + OK + b"Content-Length: 2\r\n\r\nok")
    assert (head.status, body) == (200, b"ok")
    assert refused(others + INTERIM * 14 + OK) == "more than 16 responses of 1xx"


def test_fields_are_unfolded_for_a_user_agent_and_refused_for_a_gateway() -> None:
    folded = OK + b"X: a\r\n\t b\r\nContent-Length: 2\r\nY: c \r\n   \r\n\r\nok"
    head, body, _ = good(folded, unfold=True)
    assert (head.fields, body) == (((b"X", b"a b"), (b"Content-Length", b"2"), (b"Y", b"c")), b"ok")
    assert refused(folded) == "header line 2 begins with a blank: lines are not folded"
    for bad in (b" X: a\r\n", b"Content-Length: 1\r\n 2\r\n", b"X\r\n : a\r\n"):
        decoder, _, _ = decode(OK + bad + b"\r\n", unfold=True)
        assert isinstance(decoder.error, Malformed)


def fields(lines: bytes) -> bytes:
    return OK + lines + b"\r\n\r\n"


def chunks(sent: bytes) -> bytes:
    return OK + CHUNKED + b"\r\n" + sent


REFUSED = {
    # The status line.
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "nothing but a line end": b"\r\n\r\n",
    "an empty line before it": b"\r\n" + OK + b"\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/0.9 by name": b"HTTP/0.9 200 OK\r\n\r\n",
    "small letters": b"http/1.1 200 OK\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "a greeting": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an alert of TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "a version of two digits": b"HTTP/1.10 200 OK\r\n\r\n",
    "a version of one digit": b"HTTP/1 200 OK\r\n\r\n",
    "two blanks before the status": b"HTTP/1.1  200 OK\r\n\r\n",
    "a tab before the status": b"HTTP/1.1\t200 OK\r\n\r\n",
    "a tab behind the status": b"HTTP/1.1 200\tOK\r\n\r\n",
    "a blank before it all": b" HTTP/1.1 200 OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status with a sign": b"HTTP/1.1 +20 OK\r\n\r\n",
    "a status with an underscore": b"HTTP/1.1 2_0 OK\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\n\r\n",
    "a status above 599": b"HTTP/1.1 600 OK\r\n\r\n",
    "Arabic digits": "HTTP/1.1 \u0662\u0660\u0660 OK\r\n\r\n".encode(),
    "no status": b"HTTP/1.1\r\n\r\n",
    "an escape in the reason": b"HTTP/1.1 200 \x1b[2J\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "DEL in the reason": b"HTTP/1.1 200 O\x7fK\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    "a body behind 103": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nok" + OK + b"\r\n",
    "chunks behind 100": b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n" + EMPTY + OK + b"\r\n",
    # Lines.
    "LF alone behind the status line": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "LF alone everywhere": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "LF alone behind a field": OK + b"A: b\nSet-Cookie: c\r\n\r\n",
    "CR alone in a value": fields(b"A: b\rSet-Cookie: c"),
    "CR twice": OK + b"A: b\r\r\n\r\n",
    "NUL in a value": fields(b"A: \0"),
    "NUL in a name": fields(b"A\0: b"),
    "DEL in a value": fields(b"A: \x7f"),
    "a line without a colon": fields(b"no colon\r\nSet-Cookie: a=b\r\nCache-Control: private"),
    "a line without a colon in its middle": fields(b"A: b\r\nno-colon\r\nX-Frame-Options: DENY"),
    "a blank before the colon": fields(b"Name : a\r\nSet-Cookie: a=b"),
    "a tab before the colon": fields(b"Name\t: a"),
    "no name": fields(b": a"),
    "a blank in a name": fields(b"Na me: a"),
    "a name that is no token": fields(b"Na(me: a"),
    "a name in Latin-1": fields(b"Na\xefve: a"),
    "a folded line": fields(b"A: b\r\n c"),
    "a folded line at the beginning": fields(b" A: b"),
    # Lengths.
    "a hexadecimal length": fields(b"Content-Length: 0x2"),
    "a length with a plus": fields(b"Content-Length: +2"),
    "a length with a minus": fields(b"Content-Length: -2"),
    "a length with an underscore": fields(b"Content-Length: 0_2"),
    "a length with a point": fields(b"Content-Length: 2.0"),
    "a length with a blank in it": fields(b"Content-Length: 0 2"),
    "an empty length": fields(b"Content-Length:"),
    "a superscript length": fields(b"Content-Length: \xb2"),
    "Arabic length": fields("Content-Length: \u0662".encode()),
    "an absurd length": fields(b"Content-Length: 18446744073709551618"),
    "two lengths": fields(b"Content-Length: 2\r\nContent-Length: 3"),
    "a length twice": fields(b"Content-Length: 2\r\ncontent-length: 2"),
    "a list of lengths": fields(b"Content-Length: 2, 2"),
    "a tab before a length": fields(b"Content-Length:\t2"),
    "a length under another name": fields(b"Content_Length: 2"),
    "two Content-Types": fields(b"Content-Type: a/b\r\ncontent-type: text/html"),
    "two Content-Ranges": fields(b"Content-Range: bytes 0-1/2\r\nContent-Range: bytes 2-3/4"),
    "two Locations": fields(b"Location: /a\r\nLocation: http://b/"),
    "CL.TE": OK + b"Content-Length: 2\r\n" + CHUNKED + b"\r\n" + EMPTY,
    "TE.CL": OK + CHUNKED + b"Content-Length: 5\r\n\r\n" + EMPTY,
    "a coding in HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n" + EMPTY,
    "gzip, chunked": fields(b"Transfer-Encoding: gzip, chunked"),
    "chunked, gzip": fields(b"Transfer-Encoding: chunked, gzip"),
    "identity": fields(b"Transfer-Encoding: identity"),
    "gzip": fields(b"Transfer-Encoding: gzip"),
    "xchunked": fields(b"Transfer-Encoding: xchunked"),
    "chunked twice": fields(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    "an empty coding": fields(b"Transfer-Encoding:"),
    "a coding under another name": fields(b"transfer_encoding: chunked"),
    # Chunks.
    "a size with an underscore": chunks(b"1_0\r\n0123456789abcdef\r\n" + EMPTY),
    "a size with 0x": chunks(b"0x1\r\na\r\n" + EMPTY),
    "a size with a plus": chunks(b"+1\r\na\r\n" + EMPTY),
    "a size with a minus": chunks(b"-1\r\na\r\n" + EMPTY),
    "a size of no digits": chunks(b"\r\na\r\n" + EMPTY),
    "a size that is none": chunks(b"g\r\n"),
    "a size that overflows": chunks(b"10000000000000001\r\na\r\n" + EMPTY),
    "a blank before a size": chunks(b" 1\r\na\r\n" + EMPTY),
    "a blank behind a size": chunks(b"1 \r\na\r\n" + EMPTY),
    "LF alone behind a size": chunks(b"1\na\r\n" + EMPTY),
    "LF alone behind a chunk": chunks(b"1\r\na\n" + EMPTY),
    "nothing behind a chunk": chunks(b"1\r\na" + EMPTY),
    "a chunk longer than its size": chunks(b"1\r\nab\r\n" + EMPTY),
    "an extension without a name": chunks(b"1;\r\na\r\n" + EMPTY),
    "an extension without a value": chunks(b"1;a=\r\na\r\n" + EMPTY),
    "LF alone at the end": chunks(b"0\r\n\n"),
    "Content-Length in a trailer": chunks(b"0\r\nContent-Length: 2\r\n\r\n"),
    "Set-Cookie in a trailer": chunks(b"0\r\nSet-Cookie: a=b\r\n\r\n"),
    "a trailer without a colon": chunks(b"0\r\nA\r\n\r\n"),
    "a folded trailer": chunks(b"0\r\nA: b\r\n c\r\n\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_however_it_is_cut(name: str) -> None:
    refused(REFUSED[name])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (REFUSED["a greeting"], "it does not begin with HTTP/1."),
        (REFUSED["a line without a colon"], "header line 1 has no colon"),
        (REFUSED["a blank before the colon"], "header line 1: the bytes before the colon are not a field name"),
        (REFUSED["NUL in a value"], "a control character, or a CR or LF without the other"),
        (REFUSED["two lengths"], "more than one Content-Length"),
        (REFUSED["101"], "101 Switching Protocols, but the request had no Upgrade"),
    ],
)
def test_error_names_the_fault(data: bytes, text: str) -> None:
    assert refused(data) == text


@pytest.mark.parametrize("data", [b"S", b"HTTP/2", b"HTTP/1.1 200 OK\r\nA: \0", b"HTTP/1.1 200 OK\n"])
def test_it_is_refused_with_the_first_byte_that_is_wrong(data: bytes) -> None:
    decoder = ResponseDecoder("GET")
    decoder.decode(data[:-1])
    assert decoder.error is None
    decoder.decode(data[-1:])
    assert isinstance(decoder.error, Malformed)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "without a response"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n", "in the middle of the head"),
        (INTERIM, "without a response"),
        (OK + b"Content-Length: 9\r\n\r\nshort", "4 bytes before the end of the body"),
        (chunks(b"9\r\nshort"), "in the middle of a chunked body, behind 5 bytes"),
        (chunks(b"5\r\nshort\r\n0\r\n"), "in the middle of a chunked body, behind 5 bytes"),
    ],
)
def test_a_response_that_was_cut_short_is_never_complete(data: bytes, text: str) -> None:
    assert refused(data, Incomplete) == text


@pytest.mark.parametrize(
    ("limits", "within", "beyond"),
    [
        (ResponseLimits(head=40), OK + b"X: %b\r\n\r\n" % (b"x" * 16), OK + b"X: %b\r\n\r\n" % (b"x" * 17)),
        (ResponseLimits(head=40), OK + b"X: %b\r\n\r\n" % (b"x" * 16), OK + b"X" * 40),
        (ResponseLimits(fields=2), fields(b"A: b\r\nA: b"), fields(b"A: b\r\nA: b\r\nA: b")),
        (ResponseLimits(body=2), fields(b"Content-Length: 2") + b"ab", fields(b"Content-Length: 3") + b"abc"),
        (ResponseLimits(body=2), chunks(b"1\r\na\r\n1\r\nb\r\n" + EMPTY), chunks(b"1\r\na\r\n2\r\nbc\r\n" + EMPTY)),
        (ResponseLimits(body=2), OK + b"\r\nab", OK + b"\r\nabc"),
        (ResponseLimits(), chunks(b"0\r\n" + b"A: b\r\n" * 100 + b"\r\n"), chunks(b"0\r\n" + b"A: b\r\n" * 101)),
        (ResponseLimits(head=50), chunks(b"0\r\nA: %b\r\n\r\n" % (b"a" * 40)), chunks(b"0\r\n" + b"A: b\r\n" * 9)),
    ],
    ids=[
        "head",
        "head without an end",
        "fields",
        "length",
        "chunks",
        "until the close",
        "count of trailers",
        "trailers",
    ],
)
def test_limits(limits: ResponseLimits, within: bytes, beyond: bytes) -> None:
    for size in (1, 9, len(within)):
        decoder, _, _ = decode(within, size, limits=limits)
        assert (decoder.error, decoder.complete) == (None, True)
    refused(beyond, Oversize, limits)


def test_a_thousand_fields_are_fine() -> None:
    many = OK + b"Set-Cookie: a=b\r\n" * 999 + b"Content-Length: 0\r\n\r\n"
    assert len(good(many)[0].fields) == 1000
    assert refused(OK + b"A: b\r\n" * 1001 + b"\r\n", Oversize) == "1001 header fields; 1000 are allowed"


def test_an_announced_length_and_a_long_body_take_no_memory() -> None:
    decoder = ResponseDecoder("GET")
    decoder.decode(fields(b"Content-Length: 999999999999999999"))
    for _ in range(100):
        assert decoder.decode(b"x" * 65536) == [b"x" * 65536]
        assert not decoder._held
    assert (decoder.received, decoder.complete) == (6553600, False)
    decoder = ResponseDecoder("GET")
    assert decoder.decode(chunks(b"ffffffffffffffff\r\nabc"))[1:] == [b"abc"]
    assert decoder.decode(b"\r\nde") == [b"\r\nde"]

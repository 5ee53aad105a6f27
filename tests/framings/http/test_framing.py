"""Valid requests, each cut into pieces of every size, and the limits of a request."""

from __future__ import annotations

import io
import socket
from collections.abc import Sequence
from http.client import HTTPConnection, parse_headers

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemons.framings import FramingError, Incomplete, Oversize
from daemons.framings.cache import HEAD, HEADS
from daemons.framings.http import HTTP, Request, bodies

HOST = b"Host: camelot.example:8080\r\n"


def read(data: bytes, framing: HTTP | None = None, size: int = 1) -> tuple[list[Request], FramingError | None]:
    """Decode `data` in pieces of `size` bytes; return its requests and the error."""
    decoder = (framing or HTTP()).decoder()
    messages: list[bytes] = []
    for at in range(0, len(data), size):
        messages += decoder.decode(data[at : at + size])
    messages += decoder.finish()
    requests = [message for message in messages if isinstance(message, Request)]
    assert len(requests) == len(messages)
    return requests, decoder.error


def one(data: bytes, framing: HTTP | None = None) -> Request:
    """The one request in `data`: the same whole, octet by octet and in sevens, and when it is there once more."""
    framing = framing or HTTP()
    found = [read(data, framing, size) for size in (len(data), 1, 7, len(data))]
    assert [error for _, error in found] == [None] * 4
    ((request, *more), *others) = ([request for request in requests if not request.expects] for requests, _ in found)
    assert not more
    for (other,) in others:
        assert (bytes(other), vars(other)) == (bytes(request), vars(request))
    return request


def test_a_request_and_all_that_it_says() -> None:
    head = b'gEt /a"{|}?b=%00 HTTP/1.1\r\nX-Empty:\r\nhOST: \t a \t\r\nX: caf\xe9\t "," ;\r\nx: again\r\n\r\n'
    request = one(head)
    assert request == head
    assert (request.method, request.target, request.path) == ("gEt", '/a"{|}?b=%00', '/a"{|}?b=%00')
    assert (request.version, request.body, request.keep_alive, request.expects) == ((1, 1), b"", True, False)
    assert request.headers == ((b"X-Empty", b""), (b"hOST", b"a"), (b"X", b'caf\xe9\t "," ;'), (b"x", b"again"))


@pytest.mark.parametrize(
    ("line", "path", "host"),
    [
        (b"GET http://grail.example HTTP/1.1", "/", b"grail.example"),
        (b"GET HTTPS://[::1]:443/a//b?c=http://d HTTP/1.1", "/a//b?c=http://d", b"[::1]:443"),
        (b"GET http://grail.example?a HTTP/1.0", "/?a", b"grail.example"),
        (b"OPTIONS http://grail.example:1 HTTP/1.1", "*", b"grail.example:1"),
        (b"OPTIONS * HTTP/1.1", "*", b"camelot.example:8080"),
        (b"OPTIONS / HTTP/1.9", "/", b"camelot.example:8080"),
        (b"CONNECT grail.example:443 HTTP/1.1", "grail.example:443", b"camelot.example:8080"),
        (b"GET //grail.example/ HTTP/1.1", "//grail.example/", b"camelot.example:8080"),
        (b"M-SEARCH!#$%&'*+-.^_`|~ /:@ HTTP/1.1", "/:@", b"camelot.example:8080"),
    ],
)
def test_each_form_of_a_target_and_whose_it_is(line: bytes, path: str, host: bytes) -> None:
    request = one(line + b"\r\nA: b\r\n" + HOST + b"\r\n")
    assert (request.method, request.target) == tuple(line.decode().split(" ")[:2])
    assert (request.path, request.headers) == (path, ((b"A", b"b"), (b"Host", host)))


def test_an_absolute_target_brings_its_host_along_in_http_1_0() -> None:
    assert one(b"GET http://a:1/ HTTP/1.0\r\nB: c\r\n\r\n").headers == ((b"Host", b"a:1"), (b"B", b"c"))


@pytest.mark.parametrize("host", [b"a", b"A_b-c.9", b"127.0.0.1:", b"a:0", b"a:65535", b"[::ffff:1.2.3.4]", b"[::]:80"])
def test_valid_host_is_accepted(host: bytes) -> None:
    assert one(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").headers == ((b"Host", host),)


@pytest.mark.parametrize(
    ("version", "options", "goes_on"),
    [
        (b"1", b"", True),
        (b"1", b"Connection: Keep-Alive , cLOSE\r\n", False),
        (b"1", b"Connection: upgrade\r\nConnection: close\r\n", False),
        (b"1", b"Connection: closed, not-close\r\n", True),
        (b"0", b"", False),
        (b"0", b"Connection:\tKeep-Alive\r\n", True),
        (b"0", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (b"7", b"", True),
    ],
)
def test_whether_the_connection_may_go_on(version: bytes, options: bytes, goes_on: bool) -> None:
    request = one(b"GET / HTTP/1." + version + b"\r\n" + HOST + options + b"\r\n")
    assert request.keep_alive is goes_on
    assert request.version == ((1, 0) if version == b"0" else (1, 1))


@pytest.mark.parametrize(
    "last", [b"GET / HTTP/1.0\r\n\r\n", b"POST / HTTP/1.1\r\n%bContent-Length: 1\r\nConnection: close\r\n\r\nx" % HOST]
)
@pytest.mark.parametrize("size", [1, 1000])
def test_behind_a_peers_last_request_nothing_is_read(last: bytes, size: int) -> None:
    for behind in (b"", b"x", b"\x00" * 99, last):
        decoder = HTTP().decoder()
        data = b"GET / HTTP/1.1\r\n%b\r\n" % HOST + last + behind
        found = [each for at in range(0, len(data), size) for each in decoder.decode(data[at : at + size])]
        assert [each.keep_alive for each in found if isinstance(each, Request)] == [True, False]
        assert (decoder.ended, decoder.surplus, decoder.pending, decoder.error) == (True, behind != b"", False, None)
        assert decoder.finish() == ()
        assert decoder.error is None


@pytest.mark.parametrize(
    ("how", "sent", "body"),
    [
        (b"Content-Length: 0", b"", b""),
        (b"content-LENGTH:0005 ", b"he\r\n\r", b"he\r\n\r"),
        (b"Transfer-Encoding: chunked", b"0\r\n\r\n", b""),
        (b"transfer-encoding:  CHUNKED ", b"5\r\nhel\r\n\r\n00000000000000aB\r\n%b\r\n0\r\n\r\n" % bytes(171), None),
        (b"Transfer-Encoding: chunked", b'2;a="0;\\" ";b\r\nhe\r\n1;c=d\r\n!\r\n000\r\n\r\n', b"he!"),
        (b"Transfer-Encoding: chunked", b'1\r\n0\r\n0\r\nETag: "a"\r\nX-Host: b\r\nX-Host: c\r\n\r\n', b"0"),
    ],
)
def test_bodies(how: bytes, sent: bytes, body: bytes | None) -> None:
    head = b"POST /quest HTTP/1.1\r\n" + HOST + how + b"\r\n\r\n"
    request = one(head + sent)
    assert request == head
    assert len(request.headers) == 2
    assert request.body == (b"hel\r\n" + bytes(171) if body is None else body)


def test_a_pipeline_is_delivered_in_order_and_empty_lines_before_a_request_are_passed_over() -> None:
    post = b"POST /%d HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n%02d\r\n"
    chunks = (
        b"POST /%d HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n%02d\r\n0\r\n\r\n\r\n\r\n\r\n\r\n"
    )
    get = b"GET /%d HTTP/1.1\r\n" + HOST + b"\r\n"
    data = b"\r\n\r\n" + b"".join((post + chunks + get) % (n, n, n + 1, n + 1, n + 2) for n in range(0, 60, 3))
    for size in (1, 100, 333, len(data)):
        requests, error = read(data, size=size)
        assert error is None
        assert [(request.target, request.body) for request in requests] == [
            (f"/{n}", b"%02d" % n if n % 3 < 2 else b"") for n in range(60)
        ]


WAITING = b"PUT / HTTP/1.1\r\n" + HOST + b"Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n"


def test_head_with_expect_100_continue_is_reported_before_the_body() -> None:
    decoder = HTTP().decoder()
    assert not decoder.decode(WAITING[:-1])
    (leave,) = decoder.decode(WAITING[-1:])
    assert isinstance(leave, Request)
    assert (leave, leave.expects) == (b"", True)
    assert (leave.method, leave.target, leave.path, leave.headers, leave.body) == ("", "", "", (), b"")
    assert decoder.pending
    (request,) = decoder.decode(b"ab")
    assert isinstance(request, Request)
    assert (request, request.body, request.expects) == (WAITING, b"ab", False)


@pytest.mark.parametrize(
    "data",
    [
        WAITING + b"a",
        WAITING.replace(b"h: 2", b"h: 0"),
        WAITING.replace(b"/1.1", b"/1.0"),
        WAITING.replace(b"100-", b"200-").replace(b"/1.1", b"/1.0"),
        WAITING.replace(b"h: 2", b"h: 9999999"),
    ],
    ids=["its body came", "no body", "HTTP/1.0", "HTTP/1.0 and something else", "refused"],
)
def test_no_100_continue_is_requested_if_the_client_does_not_wait(data: bytes) -> None:
    assert not any(request.expects for request in read(data, size=len(data))[0])


def test_leave_is_asked_for_in_order() -> None:
    get = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    decoder = HTTP().decoder()
    messages = [*decoder.decode(get + WAITING), *decoder.decode(b"ab" + get + WAITING), *decoder.decode(b"cd")]
    assert messages == [get, b"", WAITING, get, b"", WAITING]


@pytest.mark.parametrize(
    ("data", "held"),
    [
        (b"GET / HT", "the input ended 8 bytes into a head"),
        (b"\r\n\r", "the input ended 1 bytes into a head"),
        (WAITING + b"a", "the input ended 1 bytes into a body"),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", "3 bytes into a body"),
    ],
)
def test_truncated_request_is_incomplete_and_gets_no_error_response(data: bytes, held: str) -> None:
    requests, error = read(data)
    assert isinstance(error, Incomplete)
    assert held in str(error)
    assert error.apology == b""
    assert not [request for request in requests if not request.expects]


def test_a_line_end_too_many_at_the_end_cuts_nothing_short() -> None:
    requests, error = read(b"PUT / HTTP/1.0\r\nContent-Length: 1\r\n\r\na\r\n")
    assert (len(requests), error) == (1, None)


# Limits


def status(error: FramingError | None) -> int:
    assert error is not None
    return int(error.apology[9:12])


def sized(octets: int, line: int = 100) -> bytes:
    """A request of so many octets of head, the request line being so long."""
    start = b"GET /%b HTTP/1.1\r\nHost: a\r\nX: " % (b"a" * (line - 16))
    return start + b"x" * (octets - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("framing", "good", "bad", "code"),
    [
        (HTTP(head=200), sized(200), sized(201), 431),
        (HTTP(), sized(16 * 1024), sized(16 * 1024 + 1), 431),
        (HTTP(), sized(10_000, line=8192), sized(10_000, line=8193), 414),
        (HTTP(head=200), sized(200, line=170), sized(230, line=201), 414),
        (
            HTTP(headers=2),
            b"GET / HTTP/1.1\r\nHost: a\r\na:\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\na:\r\na:\r\n\r\n",
            431,
        ),
        (HTTP(body=2), WAITING + b"ab", WAITING.replace(b": 2", b": 3") + b"abc", 413),
        (HTTP(body=0), WAITING.replace(b": 2", b": 0"), WAITING.replace(b": 2", b": 1") + b"a", 413),
    ],
)
def test_limits_of_a_head_and_of_the_announced_body(framing: HTTP, good: bytes, bad: bytes, code: int) -> None:
    assert one(good, framing)
    for size in (1, 333, len(bad)):
        requests, error = read(bad + good, framing, size)
        assert (requests, status(error), type(error)) == ([], code, Oversize)


CHUNKS = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("good", "bad", "code"),
    [
        (b"a\r\n0123456789\r\n2\r\nab\r\n0\r\n\r\n", b"a\r\n0123456789\r\n3\r\n", 413),
        (b"1;" + b"x" * 69 + b"\r\na\r\n0\r\n\r\n", b"1;" + b"x" * 70 + b"\r\na\r\n", 431),
        (b"0\r\nX: " + b"x" * 65 + b"\r\n\r\n", b"0\r\nX: " + b"x" * 66 + b"\r\n\r\n", 431),
        (b"1;" + b"x" * 29 + b"\r\na\r\n0\r\nX: " + b"x" * 35 + b"\r\n\r\n", b"0;a\r\n" + b"X: x\r\n" * 12, 431),
        (b"0\r\n\r\n", b"0\r\n" + b"x" * 72, 431),
        (b"0\r\n\r\n", b"0" * 256, 400),
    ],
    ids=["chunks", "an extension", "a trailer", "both", "a trailer without an end", "a size without an end"],
)
def test_limits_of_chunks(good: bytes, bad: bytes, code: int) -> None:
    framing = HTTP(head=70, body=12)
    assert one(CHUNKS + good, framing)
    for size in (1, 30, 999):
        requests, error = read(CHUNKS + bad, framing, size)
        assert (requests, status(error)) == ([], code)


@pytest.mark.parametrize(
    ("short", "long", "accepted"),
    [
        (bodies.CHUNKS, 0, True),
        (bodies.CHUNKS + bodies.CHUNKS // 32, 0, False),
        (bodies.CHUNKS + bodies.CHUNKS // 32, 100, True),
        (4 * bodies.CHUNKS, 100, False),
    ],
)
def test_many_chunks_must_not_be_short_on_average(short: int, long: int, accepted: bool) -> None:
    chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    requests, error = read(CHUNKS + chunk * long + b"1\r\nx\r\n" * short + b"0\r\n\r\n", HTTP(), 65536)
    assert len(requests) == accepted
    assert accepted or status(error) == 400


@pytest.mark.parametrize("wrong", [{"head": 0}, {"headers": 0}, {"body": -1}])
def test_a_limit_that_is_none(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"^HTTP: (head=0|headers=0|body=-1); [01] or more is expected$"):
        HTTP(**wrong)


def test_repr_shows_the_limits_and_encode_returns_its_argument() -> None:
    assert repr(HTTP(head=1, headers=2, body=3)) == "HTTP(head=1, headers=2, body=3)"
    assert HTTP().encode(b"as it is") == b"as it is"


def test_heads_are_remembered_but_not_all_and_not_the_long_ones() -> None:
    framing = HTTP()
    (first,), (again,) = (framing.decoder().decode(sized(200)) for _ in range(2))
    assert first is again
    read(sized(HEAD + 1), framing)
    assert list(framing._known.table) == [sized(200)]
    for number in range(HEADS + 5):
        read(b"GET /%d HTTP/1.0\r\n\r\n" % number, framing, 99)
    assert len(framing._known) <= HEADS
    # A cached head is refused again if it is invalid, and each request has its own body.
    for _ in range(2):
        assert read(b"GET / HTTP/1.1\r\n\r\n", framing)[0] == []
    assert [read(WAITING + body, framing, 999)[0][0].body for body in (b"ab", b"cd")] == [b"ab", b"cd"]


# Others


NAMES = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8)
VALUES = st.text([*map(chr, range(0x20, 0x7F)), "\t", "\xe9"], max_size=20).map(lambda value: value.strip(" \t"))


@settings(max_examples=40)
@given(fields=st.lists(st.tuples(NAMES, st.sampled_from(["", " ", "\t "]), VALUES, st.sampled_from(["", " "]))))
def test_headers_equal_those_of_the_standard_library(fields: Sequence[tuple[str, str, str, str]]) -> None:
    lines = b"".join(f"{n}:{before}{v}{after}\r\n".encode("latin-1") for n, before, v, after in fields) + b"\r\n"
    theirs = [(name, value.strip(" \t")) for name, value in parse_headers(io.BytesIO(lines)).items()]
    (request,), error = read(b"GET / HTTP/1.0\r\n" + lines, size=9)
    assert error is None
    assert [(name.decode(), value.decode("latin-1")) for name, value in request.headers] == theirs


@pytest.mark.parametrize("body", [None, b"spam", [b"sp", b"a", b"m"]], ids=["none", "sized", "chunked"])
def test_request_of_the_standard_librarys_client_is_decoded(body: bytes | list[bytes] | None) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = HTTPConnection("camelot.example", 8080)
        client.sock = theirs
        client.request("PUT", "/a?b=c", body=body, headers={"X": "y"})
        theirs.shutdown(socket.SHUT_WR)
        request = one(ours.recv(65536, socket.MSG_WAITALL))
    assert (request.method, request.target, request.body) == ("PUT", "/a?b=c", b"spam" if body else b"")
    assert {(b"Host", b"camelot.example:8080"), (b"X", b"y")} < set(request.headers)

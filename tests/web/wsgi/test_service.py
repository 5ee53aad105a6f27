"""WSGI applications: requests and responses without sockets, and once over real ones."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemons.framings.http.refusals import RESPONSES
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.states import OVER
from daemons.serving.engines import stream_server
from daemons.web.handlers.server import WebServer
from daemons.web.wsgi.fields import head_of
from tests.serving.running import Within, access_of
from tests.web import applications
from tests.web.applications import LARGE, PLAIN, Environ, Start, closed
from tests.web.talking import responses
from tests.web.wsgi_talking import FAILED, carried, chunks, get, parts, response, said, visit

CLOSE = "Connection: close"
KEEP = "Connection: keep-alive"
OLD = {"version": "1.0"}
HEAD = {"method": "HEAD"}

#: A request, the expected response, and whether the connection is kept.
ANSWERS: dict[str, tuple[bytes, bytes, bool]] = {
    "of one piece": (get(""), response(b"hello"), True),
    "a list": (get("list"), response(b"abc"), True),
    "nothing": (get("empty"), response(b""), True),
    "the peer closes": (get("", CLOSE), response(b"hello", CLOSE), False),
    "an old peer": (get("", **OLD), response(b"hello", CLOSE), False),
    "an old peer that stays": (get("", KEEP, **OLD), response(b"hello", KEEP), True),
    "pieces": (get("pieces"), chunks(b"a", b"bc"), True),
    "pieces, to an old peer": (get("pieces", KEEP, **OLD), response(b"abc", CLOSE, length=None), False),
    "no pieces": (get("no pieces"), response(b""), True),
    "measured": (get("measured"), response(b"abc", length=3), True),
    "measured, to an old peer": (get("measured", KEEP, **OLD), response(b"abc", KEEP), True),
    "too much": (get("too much"), response(b"abc"), False),
    "too little": (get("too little"), response(b"a", length=3), False),
    "whole, too much": (get("whole, too much"), response(b"abc", CLOSE), False),
    "whole, too little": (get("whole, too little"), response(b"a", CLOSE, length=3), False),
    "HEAD": (get("", **HEAD), response(b"", length=5), True),
    "HEAD of pieces": (get("pieces", **HEAD), response(b"", length=None), True),
    "HEAD of nothing": (get("empty", **HEAD), response(b"", length=None), True),
    "HEAD with write()": (get("written", **HEAD), response(b"", length=13), True),
    "204": (get("nothing"), response(b"", status="204 No Content", length=None), True),
    "304": (get("unchanged"), response(b"", status="304 Not Modified", length=9), True),
    "start_response late": (get("late"), chunks(b"late"), True),
    "written": (get("written"), response(b"one,two,three"), True),
    "written, and pieces": (get("written and more"), chunks(b"one,two,", b"three"), True),
    "written, and much": (get("written much"), response(b"x" * LARGE), True),
    "changed": (get("changed"), response(b"sorry", status="503 Service Unavailable"), True),
    "a file": (get("file"), response(b"x" * (LARGE - 3)), True),
    "no file": (get("no file"), chunks(b"in memory"), True),
    "an empty file": (get("empty file"), response(b""), True),
    "Date and Server of its own": (get("dated"), response(b"", "Date: yesterday", "Server: mine"), True),
    "a tunnel": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", RESPONSES[501], False),
    "a body": (get("echo", "Content-Length: 2", method="PUT") + b"ab", response(b"ab2"), True),
    "no body": (get("echo", "Content-Length: 0", method="PUT"), response(b"0"), True),
    "a body in chunks": (
        get("echo", "Transfer-Encoding: chunked", method="PUT") + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        response(b"abc3"),
        True,
    ),
    "a bug": (get("raise"), FAILED, False),
    "a bug in the first piece": (get("raise at once"), FAILED, False),
    "a bug in the second": (get("raise late"), b"half", False),
    "a change too late": (get("changed late"), b"half", False),
    "sys.exit": (get("leave"), FAILED, False),
    "no start_response": (get("silent"), FAILED, False),
    "nothing returned": (get("none"), FAILED, False),
    "text": (get("text"), FAILED, False),
    "text in the second piece": (get("text late"), b"", False),
    "octets for a list": (get("octets"), FAILED, False),
    "write() too late": (get("written late"), b"", False),
    "start_response twice": (get("twice"), FAILED, False),
}

#: Those that fail after the head was sent, with incomplete responses.
CUT = {"raise late": b"half", "changed late": b"half", "text late": b"a", "written late": b"a"}

#: Those with an iterable to close.
CLOSED = {"pieces", "no pieces", "measured", "too much", "too little", "unchanged", "written and more"}
CLOSED |= {"raise at once", "raise late", "text late"}


@pytest.mark.parametrize("title", ANSWERS)
def test_requests_get_the_expected_responses(title: str) -> None:
    sent, expected, stays = ANSWERS[title]
    name = sent.split()[1][1:].replace(b"%20", b" ").decode()
    with visit() as conversation:
        heard = said(conversation, sent)
        assert b"secret" not in heard
        if name in CUT:
            expected = chunks(CUT[name]).removesuffix(b"0\r\n\r\n")
        assert parts(heard) == parts(expected)
        assert (conversation.state != OVER) == stays
        if stays:
            assert said(conversation, get("", CLOSE)) == response(b"hello", CLOSE)
        failed = expected == FAILED or name in (*CUT, "too much", "too little")
        theirs = stays or CLOSE.encode() in sent or (b"HTTP/1.0" in sent and b"keep-alive" not in sent.lower())
        assert conversation.ending is (Ending.FAILED if failed else Ending.DONE if theirs else Ending.FINISHED)
        assert (conversation.failure is not None) == failed
    assert closed == [name] * (name in CLOSED)


def test_requests_are_handled_in_order_in_any_segmentation() -> None:
    sent = get("pieces") + get("") + get("echo", "Content-Length: 1", method="PUT") + b"x" + get("no file")
    sent += get("", CLOSE) + get("")
    expected = chunks(b"a", b"bc") + response(b"hello") + response(b"x1") + chunks(b"in memory")
    expected += response(b"hello", CLOSE)
    for pieces in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
        with visit() as conversation:
            assert said(conversation, *pieces) == expected
            assert closed == ["pieces"]


def test_each_piece_is_sent_before_the_next_is_requested() -> None:
    made = []

    def slowly(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", PLAIN)
        for number in (b"one", b"two"):
            made.append(number)
            yield number

    with visit(slowly) as conversation:
        assert conversation.receive(get("")).endswith(b"3\r\none\r\n")
        assert made == [b"one"]
        assert conversation.proceed() == b"3\r\ntwo\r\n"
        assert conversation.proceed() == b"0\r\n\r\n"


@pytest.mark.parametrize("drawn", [0, 1])
def test_iterable_is_closed_when_the_client_disconnects(drawn: int) -> None:
    with visit() as conversation:
        conversation.receive(get("measured"))
        for _ in range(drawn):
            conversation.proceed()
        assert closed == []
    assert closed == ["measured"]


def test_exception_in_close_is_a_failure() -> None:
    class Whole(list[bytes]):
        def close(self) -> None:
            raise ValueError("a secret of the application")

    class InPieces(applications.Pieces):
        def close(self) -> None:
            raise ValueError("a secret of the application")

    def cling(environ: Environ, start: Start) -> Any:
        start("200 OK", PLAIN)
        return Whole([b"a"]) if environ["PATH_INFO"] == "/whole" else InPieces("", b"a")

    for path, expected in {"whole": FAILED, "pieces": chunks(b"a")}.items():
        with visit(cling) as conversation:
            assert said(conversation, get(path)) == expected
            assert isinstance(conversation.failure, ValueError)
            assert conversation.ending is Ending.FAILED


def test_expect_100_continue_gets_100() -> None:
    with visit() as conversation:
        heard = said(conversation, get("echo", "Expect: 100-continue", "Content-Length: 2", method="PUT"))
        assert heard == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert said(conversation, b"ab") == response(b"ab2")


@pytest.mark.parametrize("sent", [b"GET /\n\n", get("", "Transfer-Encoding: gzip"), get("", "Content-Length: 9999999")])
def test_malformed_request_does_not_reach_the_application(sent: bytes) -> None:
    with visit(lambda *_: pytest.fail("it was asked")) as conversation:
        assert re.match(rb"HTTP/1.1 4|HTTP/1.1 501", said(conversation, sent))
        assert conversation.state == OVER


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (200, [], "the status is int; str is expected"),
        ("200", [], "200 to 599"),
        ("600 No", [], "200 to 599"),
        ("103 Early Hints", [], "200 to 599"),
        ("200 OK\r\nX: y", [], "200 to 599"),
        ("200 OK", (), "a list of tuples is expected"),
        ("200 OK", [["A", "b"]], "a tuple of two str is expected"),
        ("200 OK", [("A", b"b")], "a tuple of two str is expected"),
        ("200 OK", [("A b", "c")], "a token"),
        ("200 OK", [("A", "b\r\nC: d")], "without control characters"),
        ("200 OK", [("A", "\u20ac")], "Latin-1"),
        ("200 OK", [("Connection", "close")], "hop-by-hop"),
        ("200 OK", [("Transfer-Encoding", "chunked")], "hop-by-hop"),
    ],
)
def test_invalid_status_or_field_is_refused(status: Any, headers: Any, reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        head_of(status, headers)


@pytest.mark.parametrize("lengths", [["1", "1"], ["-1"], ["one"], [""]])
def test_invalid_content_length_is_refused(lengths: list[str]) -> None:
    def measured(environ: Environ, start: Start) -> list[bytes]:
        start("200 OK", [("Content-Length", each) for each in lengths])
        return [b"a"]

    with visit(measured) as conversation:
        assert said(conversation, get("")) == FAILED


@pytest.mark.parametrize(("path", "body"), [("/proc/self/comm", None), ("empty", b"")])
def test_file_of_size_0_is_read_to_its_end(tmp_path: Path, path: str, body: bytes | None) -> None:
    (tmp_path / "empty").touch()

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"]((tmp_path / path).open("rb"))

    with visit(application) as conversation:
        (found,) = responses(said(conversation, get("/")))
    assert found.body == (Path(path).read_bytes() if body is None else body)


# --- over real sockets -----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["threads", "pool", "loop"])
def test_client_and_validator_accept_every_response(engine: str) -> None:
    kind = stream_server(engine, WebServer)
    with closing(Within(kind, carried(applications.clean))) as server:
        address: Any = server.address
        host, port = address
        with closing(http.client.HTTPConnection(host, port, timeout=15)) as client:
            client.connect()
            name = "{}:{}".format(*client.sock.getsockname())
            for path, body in {"/": b"hello", "/pieces": b"abc", "/file": b"x" * (LARGE - 3), "/written": b""}.items():
                client.request("GET", path)
                assert client.getresponse().read() == (body or b"one,two,three")
            client.request("POST", "/echo", iter((b"a", b"b")))
            assert client.getresponse().read() == b"ab2"
            client.request("GET", "/raise")
            assert client.getresponse().status == 500
        assert access_of(server, name)[0] == "failed"
        assert "a secret of the application" in server.log_line(f"{name}: the service failed")
        server.expect_no_connections()

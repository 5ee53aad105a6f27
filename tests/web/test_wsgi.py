"""WSGI applications: octets of requests in, octets of responses out; then once over real sockets."""

from __future__ import annotations

import http.client
import logging
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from daemons.framings.http.refusals import RESPONSES
from daemons.operating import loading
from daemons.operating.complaints import ConfigurationError
from daemons.serving.connection import Connection
from daemons.serving.conversation import OVER, PENDING, Conversation
from daemons.serving.endings import Ending
from daemons.serving.engines import stream_server
from daemons.serving.pump import Pump
from daemons.web.environ import of_visitor
from daemons.web.fields import head_of
from daemons.web.server import WebServer
from daemons.web.wsgi import WSGIService
from tests.operating.folder import Folder
from tests.serving.running import Within, access_of
from tests.web import applications
from tests.web.applications import LARGE, PLAIN, Environ, Start, closed

#: What every answer has, and what is not compared.
_EACH = re.compile(rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\nServer: WSGIServer/[ -~]+\r\n")

FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 26\r\n"
    b"Connection: close\r\n\r\n500 Internal Server Error\n"
)


def carried(application: Any, **more: Any) -> type[Pump]:
    return Pump.carrying(WSGIService.of(application, "page", **more)())


@contextmanager
def visit(application: Any = applications.page, address: Any = ("192.0.2.7", 4242), **more: Any) -> Iterator[Any]:
    """A visitor's conversation with `application`, opened and, in the end, closed."""
    closed.clear()
    with WebServer(("127.0.0.1", 8001), carried(application, **more), bind_and_activate=False) as server:
        conversation = server.conversation(Connection(server.socket, address, 1.0))
        assert conversation.open() == b""
        yield conversation
        conversation.close()


def batches(conversation: Conversation, data: bytes) -> list[bytes]:
    """All that is said to `data`, as it is sent."""
    heard = [conversation.receive(data)]
    while conversation.state == PENDING:
        heard.append(conversation.proceed())
    return heard


def said(conversation: Conversation, *pieces: bytes) -> bytes:
    """All that is said to these pieces of input, without what every answer has."""
    return _EACH.sub(b"", b"".join(b"".join(batches(conversation, piece)) for piece in pieces))


def get(path: str, *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    """A request without a body."""
    lines = [f"{method} /{path.replace(' ', '%20')} HTTP/{version}", "Host: localhost", *fields, ""]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def response(body: bytes, *fields: str, status: str = "200 OK", length: int | None = -1) -> bytes:
    """What is expected; with the body's length, unless it is said otherwise."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/plain", *fields]
    if length is not None:
        lines.insert(2, f"Content-Length: {len(body) if length < 0 else length}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body


def chunks(*pieces: bytes) -> bytes:
    said = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return response(said, "Transfer-Encoding: chunked", length=None)


def parts(octets: bytes) -> tuple[list[bytes], bytes]:
    """The lines of the head, of which the order means nothing; and the body."""
    head, _, body = octets.partition(b"\r\n\r\n")
    return sorted(head.split(b"\r\n")), body


CLOSE = "Connection: close"
KEEP = "Connection: keep-alive"
OLD = {"version": "1.0"}
HEAD = {"method": "HEAD"}

#: A request, what is said, and whether the conversation goes on then.
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
    "HEAD of what is written": (get("written", **HEAD), response(b"", length=13), True),
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

#: Those that fail when the head is out: what is said has no end.
CUT = {"raise late": b"half", "changed late": b"half", "text late": b"a", "written late": b"a"}

#: Those that have something to close.
CLOSED = {"pieces", "no pieces", "measured", "too much", "too little", "unchanged", "written and more"}
CLOSED |= {"raise at once", "raise late", "text late"}


@pytest.mark.parametrize("title", ANSWERS)
def test_what_is_answered(title: str) -> None:
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
        assert conversation.ending is (Ending.FAILED if failed else Ending.FINISHED)
        assert (conversation.failure is not None) == failed
    assert closed == [name] * (name in CLOSED)


def test_requests_are_answered_in_order_and_however_they_are_cut() -> None:
    sent = get("pieces") + get("") + get("echo", "Content-Length: 1", method="PUT") + b"x" + get("no file")
    sent += get("", CLOSE) + get("")
    expected = chunks(b"a", b"bc") + response(b"hello") + response(b"x1") + chunks(b"in memory")
    expected += response(b"hello", CLOSE)
    for pieces in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
        with visit() as conversation:
            assert said(conversation, *pieces) == expected
            assert closed == ["pieces"]


def test_each_piece_is_sent_before_the_next_is_made() -> None:
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
def test_who_leaves_in_the_middle_has_it_closed(drawn: int) -> None:
    with visit() as conversation:
        conversation.receive(get("measured"))
        for _ in range(drawn):
            conversation.proceed()
        assert closed == []
    assert closed == ["measured"]


def test_a_close_that_fails_is_a_bug_like_any_other() -> None:
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


def test_who_waits_for_leave_to_send_a_body_is_given_it() -> None:
    with visit() as conversation:
        heard = said(conversation, get("echo", "Expect: 100-continue", "Content-Length: 2", method="PUT"))
        assert heard == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert said(conversation, b"ab") == response(b"ab2")


@pytest.mark.parametrize("sent", [b"GET /\n\n", get("", "Transfer-Encoding: gzip"), get("", "Content-Length: 9999999")])
def test_what_is_no_request_is_refused_without_asking_the_application(sent: bytes) -> None:
    with visit(lambda *_: pytest.fail("it was asked")) as conversation:
        assert re.match(rb"HTTP/1.1 4|HTTP/1.1 501", said(conversation, sent))
        assert conversation.state == OVER


def environ_of(sent: bytes, **more: Any) -> Environ:
    seen: list[Environ] = []

    def look(environ: Environ, start: Start) -> list[bytes]:
        seen.append(dict(environ))
        environ.clear()  # it may be changed
        start("200 OK", PLAIN)
        return []

    with visit(look, **more) as conversation:
        said(conversation, sent, sent)
    assert {**seen[0], "wsgi.input": 0} == {**seen[1], "wsgi.input": 0}
    return seen[0]


def test_the_environ() -> None:
    fields = ("Content-Type: text/x", "X-A: 1", "X-A: 2", "Cookie: a=b", "Cookie: c=d", "x_a: 3", "Proxy: http://evil")
    environ = environ_of(get("caf%C3%A9/%2F%FF?a=%20&b?", *fields, "Content-Length: 1", method="POST") + b"x")
    assert environ.pop("wsgi.input").read() == b"x"
    assert hasattr(environ.pop("wsgi.errors"), "writelines")
    assert callable(environ.pop("wsgi.file_wrapper"))
    assert environ.pop("SERVER_SOFTWARE").startswith("WSGIServer/")
    assert environ == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/caf\xc3\xa9//\xff",
        "QUERY_STRING": "a=%20&b?",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "1",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8001",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "4242",
        "HTTP_HOST": "localhost",
        "HTTP_X_A": "1, 2",
        "HTTP_COOKIE": "a=b; c=d",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def test_the_environ_of_other_requests() -> None:
    chunked = get("", "Transfer-Encoding: chunked", "Trailer: X", method="POST") + b"1\r\na\r\n0\r\nX: y\r\n\r\n"
    environ = environ_of(chunked)
    assert environ["CONTENT_LENGTH"] == "1"
    assert [key for key in environ if key.startswith("HTTP_")] == ["HTTP_HOST"]
    environ = environ_of(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", multithread=False, multiprocess=False)
    assert environ["PATH_INFO"] == ""
    assert "CONTENT_LENGTH" not in environ
    assert not environ["wsgi.multithread"]
    assert not environ["wsgi.multiprocess"]
    environ = environ_of(b"GET http://b:9/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [environ[key] for key in ("PATH_INFO", "QUERY_STRING", "HTTP_HOST")] == ["/x", "y", "b:9"]


@pytest.mark.parametrize(
    ("listener", "tls", "address", "expected"),
    [
        (("::1", 8001), False, ("::1", 9, 0, 0), ("http", "[::1]", "8001", "::1", "9")),
        (("127.0.0.1", 8001), True, ("192.0.2.7", 9), ("https", "127.0.0.1", "8001", "192.0.2.7", "9")),
        ("/nowhere", False, ("unix:pid=1,uid=0", 0), ("http", "localhost", "80", "", "")),
    ],
)
def test_where_it_is_asked(listener: Any, tls: bool, address: Any, expected: tuple[str, ...]) -> None:
    with WebServer(listener, carried(applications.page), bind_and_activate=False) as server:
        server.tls = object() if tls else None  # type: ignore[assignment]  # it is only asked whether there is one
        environ = of_visitor(server, address, "unix:pid=1,uid=0")
    names = ("wsgi.url_scheme", "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "REMOTE_PORT")
    assert tuple(environ[name] for name in names) == expected


def test_what_is_written_to_errors_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with visit() as conversation, caplog.at_level(logging.ERROR, "daemons.web"):
        said(conversation, get("complain"))
        assert caplog.messages == ["192.0.2.7:4242: a line", "192.0.2.7:4242: and another"]
        said(conversation, get("whole, too much"))
        assert caplog.messages[2] == "192.0.2.7:4242: page announced 3 octets and gave 4"


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
        ("200 OK", [("Connection", "close")], "about the connection"),
        ("200 OK", [("Transfer-Encoding", "chunked")], "about the connection"),
    ],
)
def test_what_must_not_be_in_a_head(status: Any, headers: Any, reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        head_of(status, headers)


@pytest.mark.parametrize("lengths", [["1", "1"], ["-1"], ["one"], [""]])
def test_a_length_is_one_number(lengths: list[str]) -> None:
    def measured(environ: Environ, start: Start) -> list[bytes]:
        start("200 OK", [("Content-Length", each) for each in lengths])
        return [b"a"]

    with visit(measured) as conversation:
        assert said(conversation, get("")) == FAILED


# --- what an ini says ------------------------------------------------------------------------------

APPLICATION = """
    number = 1

    def application(environ, start_response):
        start_response("200 OK", [])
        return []

    from daemons import Lines, Service

    class Spoken(Service):
        framing = Lines(limit=10)
"""


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("wsgi = pages", "[daemon] wsgi = pages: write module:NAME, for the application NAME in that module"),
        ("wsgi = pages:aplication", "[daemon] wsgi = pages:aplication: pages has no aplication; did you mean applicat"),
        ("wsgi = pages:number", "[daemon] wsgi = pages:number: number is not callable; a WSGI application is, PEP"),
        ("wsgi = pages:Spoken", "Spoken is no WSGI application; write service = pages:Spoken"),
        ("wsgi = none:app", "[daemon] wsgi = none:app: there is no module none in "),
        ("wsgi = pages:application\nhandler = a:B", "[daemon] wsgi: there is a handler too; write only one of the two"),
        ("wsgi = pages:application\nservice = zen", "[daemon] wsgi: there is a service too; write only one of the two"),
        ("wsgi = pages:application\n[application]\na = b", "[application] a: application has no options"),
        ("wsgi = pages:application\nlisten = udp://[::1]:1", "HTTP is not spoken over UDP; write listen = tcp://"),
    ],
)
def test_what_an_ini_says_wrong(folder: Folder, said: str, complaint: str) -> None:
    folder.module("pages", APPLICATION)
    where = "" if "listen" in said else "port = 1\n"
    folder.write("x", f"[daemon]\n{where}{said}\n")
    with pytest.raises(ConfigurationError) as raised:
        loading.request_handlers(folder.read())
    (found,) = raised.value.complaints
    assert found.startswith("conf/x.ini [")
    assert complaint in found


@pytest.mark.parametrize(
    ("engine", "processes", "multithread", "multiprocess"),
    [("threads", 1, True, False), ("pool", 2, True, True), ("loop", 1, False, False), ("forks", 1, False, True)],
)
def test_what_an_ini_names_is_served_by_a_web_server(
    folder: Folder, engine: str, processes: int, multithread: bool, multiprocess: bool
) -> None:
    folder.module("pages", APPLICATION)
    folder.write("x", f"[daemon]\nwsgi = pages:application\nport = 1\nengine = {engine}\nprocesses = {processes}\n")
    handler = loading.request_handlers(folder.read("daemon.service=zen", "daemon.wsgi=pages:application"))(False)
    assert loading.server_class(handler) is WebServer
    assert issubclass(handler, Pump)
    service = handler.service
    assert isinstance(service, WSGIService)
    assert type(service).__name__ == "application"
    assert (service.multithread, service.multiprocess) == (multithread, multiprocess)


# --- over real sockets -----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["threads", "pool", "loop"])
def test_a_client_and_the_validator_are_content(engine: str) -> None:
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
        server.expect_nobody()

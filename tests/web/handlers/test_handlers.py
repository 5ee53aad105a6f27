"""Stock handlers run in memory, without sockets: requests and responses."""

from __future__ import annotations

import http.server
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from daemons import Ending
from daemons.framings.cache import HEADS
from daemons.serving.connection import Connection
from daemons.serving.conversation.states import IDLE, OVER
from daemons.web.handlers import mixins as web
from daemons.web.handlers.response_buffer import ResponseBuffer
from daemons.web.handlers.response_head import CACHED, _plain
from daemons.web.handlers.server import WebServer
from tests.web.example_handlers import LARGE, Careful, Hello, Older, Reading
from tests.web.talking import Response, get, responses, said, visit


def ask(path: str, *fields: str, **more: Any) -> tuple[Response, Ending | None]:
    """Send one request; return its response, and the ending of the conversation."""
    with visit(Hello) as talk:
        (response,) = responses(said(talk, get(path, *fields, **more)), [more.get("method", "GET")])
        return response, talk.ending


@pytest.mark.parametrize(
    ("path", "status", "body", "length"),
    [
        ("/", 200, b"hello", "5"),
        ("/measured", 200, b"five!", "5"),
        ("//measured", 200, b"five!", "5"),
        ("/chunks", 200, b"ab", None),
        ("/large", 200, b"x" * LARGE, str(LARGE)),
        ("/nothing", 204, b"", None),
        ("/unchanged", 304, b"", None),
        ("/hints", 200, b"hello", "5"),
        ("/too_much", 200, b"123", "3"),
    ],
)
def test_connection_is_kept_after_a_response_of_known_length(
    path: str, status: int, body: bytes, length: str | None
) -> None:
    """The handler's `protocol_version` does not matter; most handlers leave it at HTTP/1.0."""
    response, ending = ask(path)
    assert (response.status, response.body == body, response.version) == (status, True, "HTTP/1.1")
    assert response.fields.get("content-length") == length
    assert "connection" not in response.fields
    assert ending is None


@pytest.mark.parametrize(
    ("path", "status", "body", "announced"),
    [
        ("/leave", 200, b"bye", True),
        ("/no_such_page", 404, None, True),
        ("/old", 200, b"by hand", False),
        ("/through_the_socket", 200, b"sent", False),
        ("/too_little", 200, b"12345", True),
    ],
)
def test_connection_is_closed_after_a_response_of_unknown_length(
    path: str, status: int, body: bytes | None, announced: bool
) -> None:
    response, ending = ask(path)
    assert (response.status, response.body) == (status, response.body if body is None else body)
    assert (response.fields.get("connection") == "close") is announced
    assert ending is Ending.FINISHED


def test_missing_last_chunk_closes_the_connection() -> None:
    with visit(Hello) as talk:
        assert said(talk, get("/half_a_chunk")).endswith(b"Connection: close\r\n\r\n2\r\na")
        assert talk.ending is Ending.FINISHED


@pytest.mark.parametrize(
    ("version", "field", "kept"),
    [
        ("1.1", "Accept: */*", True),
        ("1.1", "Connection: close", False),
        ("1.0", "Accept: */*", False),
        ("1.0", "Connection: keep-alive", True),
    ],
)
def test_connection_field_of_the_client_is_honored(version: str, field: str, kept: bool) -> None:
    response, ending = ask("/", field, version=version)
    assert response.version == "HTTP/1.1"
    said_so = {"1.1": (None, "close"), "1.0": ("keep-alive", "close")}[version][not kept]
    assert (response.fields.get("connection"), ending) == (said_so, None if kept else Ending.DONE)


@pytest.mark.parametrize(("field", "said_so"), [("Accept: */*", "keep-alive"), ("Connection: close", "close")])
def test_connection_field_of_a_handler_is_sent_if_true(field: str, said_so: str) -> None:
    response, _ = ask("/stay", field)
    # Unregistered statuses are sent unchanged.
    assert (response.status, response.body, response.fields["connection"]) == (999, b"well", said_so)


def test_chunked_response_to_http_1_0_closes_the_connection() -> None:
    assert ask("/chunks", "Connection: keep-alive", version="1.0")[1] is Ending.FINISHED


@pytest.mark.parametrize("path", ["/", "/measured", "/large"])
def test_head_has_the_fields_of_get_and_no_body(path: str) -> None:
    (head, _), (got, _) = ask(path, method="HEAD"), ask(path)
    assert (head.fields | {"date": ""}, head.body) == (got.fields | {"date": ""}, b"")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_chunked_body_is_given_to_the_handler_with_its_length(method: str) -> None:
    assert ask("/", method=method, body=b"abc")[0].body == b"ABC"
    with visit(Hello) as talk:
        chunked = get("/", "Transfer-Encoding: chunked", method=method) + b"2\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n"
        assert [each.body for each in responses(said(talk, chunked, get("/")))] == [b"ABC", b"hello"]


def test_handler_has_the_fields_of_the_stock_class() -> None:
    fields = ("X-One:  a b \t", "x-one: c", "X-Latin: \xe9", "Connection: close")
    raw = get("/echo", *fields).decode().encode("latin-1")
    with visit(Hello) as talk:
        (response,) = responses(said(talk, raw))
    told = eval(response.body)
    assert told == sorted(
        [("Host", "localhost"), ("X-One", "a b"), ("x-one", "c"), ("X-Latin", "\xe9"), ("Connection", "close")]
    )


def test_expect_100_continue_gets_100() -> None:
    request = get("/", "Expect: 100-continue", method="POST", body=b"abc")
    with visit(Hello) as talk:
        assert said(talk, get("/"), request[:-3]).endswith(b"hello" + b"HTTP/1.1 100 Continue\r\n\r\n")
        assert responses(said(talk, b"abc"))[0].body == b"ABC"
        assert [each.status for each in responses(said(talk, request))] == [200]


def test_pipelined_requests_are_handled_in_order_until_a_close() -> None:
    asked = get("/") + get("/large") + get("/", method="POST", body=b"abc") + get("/leave") + get("/")
    bodies = [b"hello", b"x" * LARGE, b"ABC", b"bye"]
    for size in (len(asked), 7):
        with visit(Hello) as talk:
            heard = said(talk, *(asked[at : at + size] for at in range(0, len(asked), size)))
            assert [each.body for each in responses(heard)] == bodies
            assert (talk.ending, talk.messages) == (Ending.FINISHED, 4)


@pytest.mark.parametrize(
    ("request_", "status"),
    [(b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505), (get("/", method="FROB"), 501)],
)
def test_malformed_request_gets_an_error_response(request_: bytes, status: int) -> None:
    with visit(Hello) as talk:
        first, second = responses(said(talk, get("/") + request_ + get("/")))
        assert (first.status, second.status, second.fields["connection"]) == (200, status, "close")
        assert talk.state == OVER


# --- bugs of a handler -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/fail", "a secret of the handler"),
        ("/leave_the_daemon", "3"),
        ("/twice", r"a second response to one request: b'HTTP/1.0 404 Not Found\r\n' after status 200"),
        ("/silent", "Hello.do_GET did not call end_headers(): there is no response to send"),
        ("/without_end", "Hello.do_GET did not call end_headers(): there is no response to send"),
        (
            "/split",
            r"a header field without control characters is expected, not b'Location: /\r\nSet-Cookie: a=b\r\n'",
        ),
        ("/measured_in_words", "Content-Length: b'five'; one number of bytes is expected"),
        ("/text", "memoryview: a bytes-like object is required, not 'str'"),
        ("/upgrade", "101: there is no socket in memory; override handle() to be given one"),
    ],
)
def test_failed_handler_gets_500_without_details(path: str, text: str) -> None:
    with visit(Hello) as talk:
        first, second = responses(said(talk, get("/") + get(path) + get("/")))
        assert (first.body, second.status, second.body) == (b"hello", 500, b"500 Internal Server Error\n")
        assert second.fields["connection"] == "close"
        assert (talk.ending, str(talk.failure)) == (Ending.FAILED, text)


def test_exception_in_a_handler_constructor_fails_the_first_request() -> None:
    with visit(partial(Careful, wrod="?")) as talk:
        assert talk.state == IDLE
        assert responses(said(talk, get("/")))[0].status == 500


# --- attributes of handlers --------------------------------------------------------------------------


def test_one_handler_serves_one_connection_with_its_overrides() -> None:
    Careful.journal.clear()
    with visit(partial(Careful, word="Ni")) as talk:
        assert Careful.journal == []
        received = responses(said(talk, get("/") + get("/measured")))
        assert [each.fields["x-word"] for each in received] == ["Ni", "Ni"]
        assert Careful.journal == ["set up", '"GET / HTTP/1.1" 200 -', '"GET /measured HTTP/1.1" 200 -']
    assert Careful.journal[-1] == "finished"


def test_handler_that_calls_the_stock_class_by_name_is_served() -> None:
    with visit(Older) as talk:
        received = responses(said(talk, get("/") + get("/measured") + get("/chunks") + get("/leave")))
    assert [each.body for each in received] == [b"hello", b"five!", b"ab", b"bye"]
    assert {each.version for each in received} == {"HTTP/1.1"}
    assert [each.fields.get("connection") for each in received] == [None, None, None, "close"]
    assert all(each.fields["x-older"] == "yes" for each in received)


def test_handler_has_the_client_address_of_the_proxy_header() -> None:
    with WebServer(("127.0.0.1", 80), Hello, bind_and_activate=False) as server:
        connection = Connection(server.socket, ("127.0.0.1", 1), 1.0)
        connection.awaits_proxy_header = True
        talk = server.make_conversation(connection)
        talk.open()
        heard = said(talk, b"PROXY TCP4 192.0.2.8 127.0.0.1 4243 80\r\n" + get("/address") + get("/address"))
        assert [each.body for each in responses(heard)] == [b"192.0.2.8 4243"] * 2
        talk.close()


def test_unix_peer_has_a_client_address() -> None:
    with visit(Hello, address="") as talk:
        (response,) = responses(said(talk, get("/address")))
        assert re.fullmatch(rb"unix\S* 0", response.body)


def test_requests_are_logged_with_their_peer(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "daemons.web"), visit(Hello) as talk:
        said(talk, get("/"))
    assert caplog.messages == ['192.0.2.7:4242: "GET / HTTP/1.1" 200 -']


@pytest.mark.parametrize(("path", "announced"), [("/too_much", 3), ("/too_little", 9)])
def test_response_with_a_wrong_content_length_is_logged(
    path: str, announced: int, caplog: pytest.LogCaptureFixture
) -> None:
    ask(path)
    assert f"Hello.do_GET: Content-Length is {announced}, but the handler wrote 5 bytes" in caplog.messages


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Hello, True),
        (partial(http.server.SimpleHTTPRequestHandler, directory="/"), True),
        (http.server.BaseHTTPRequestHandler, True),
        (Reading, False),
        (http.server.CGIHTTPRequestHandler, False),
        (type("Asking", (Hello,), {"parse_request": lambda self: True}), False),
        (print, False),
    ],
)
def test_handlers_that_read_no_socket_are_run_in_memory(kind: object, expected: bool) -> None:
    assert web.in_memory(kind) is expected


def test_server_name_is_set_without_a_dns_lookup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments: object) -> Any:
        raise AssertionError("the DNS was queried")

    monkeypatch.setattr("socket.getfqdn", refuse)
    with WebServer(("127.0.0.1", 0), Hello) as server:
        assert (server.server_name, server.server_port) == server.server_address
        assert server.handler_class is Hello
    with WebServer(str(tmp_path / "x.sock"), Hello) as server:
        assert (server.server_name, server.server_port) == ("localhost", 0)


def test_head_cache_is_bounded() -> None:
    with visit(Hello) as talk:
        known = talk._service._heads._known  # type: ignore[attr-defined]
        for number in range(HEADS + 2):
            said(talk, get(f"/measured?{number}"))
            assert 0 < len(known) <= HEADS
        said(talk, get("/measured?" + "x" * 4096))
        assert max(map(len, known.table)) < 4096


def test_field_cache_is_bounded() -> None:
    lines = [b"X: %d\r\n" % number for number in range(2 * CACHED)] + [b"X: " + b"x" * 4096 + b"\r\n"]
    for line in lines * 2:
        buffer = ResponseBuffer()
        buffer.write_head([b"HTTP/1.0 200 OK\r\n"])
        buffer.write_head([line])
        assert len(_plain) <= CACHED
        assert buffer.head == [b"HTTP/1.1 200 OK\r\n", line]
    assert max(map(len, _plain)) < 4096


def test_field_of_spaces_is_refused_in_linear_time() -> None:
    """A line 8 times as long takes at most 20 times the CPU; with a quadratic pattern it takes 64 times."""
    times = []
    for size in (2_000, 16_000):
        best = float("inf")
        for _ in range(5):
            buffer = ResponseBuffer()
            buffer.write_head([b"HTTP/1.0 200 OK\r\n"])
            start = time.thread_time()
            with pytest.raises(ValueError, match="a header field without control"):
                buffer.write_head([b"X:" + b" " * size + b"\x01\r\n"])
            best = min(best, time.thread_time() - start)
        times.append(max(best, 0.0005))  # less is noise
    assert times[1] < 20 * times[0]


def test_field_with_a_line_end_is_refused_although_its_bytes_are_cached() -> None:
    lines = [b"HTTP/1.0 200 OK\r\n", b"X: 1\r\n", b"Set-Cookie: a=b\r\n", b"\r\n"]
    ResponseBuffer().write_head(lines)
    with pytest.raises(ValueError, match="a header field without control"):
        ResponseBuffer().write_head([lines[0], b"".join(lines[1:3]), lines[3]])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/%00", "/text.txt%00.html", "/sub%00", "/%ed%a0%80", "/%00/", "/%ed%a0%80/"])
def test_path_that_no_file_can_have_is_404(method: str, path: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"text")
    (tmp_path / "sub").mkdir()
    with visit(partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))) as talk:
        (response,) = responses(said(talk, get(path, method=method)), [method])
        assert (response.status, talk.failure) == (404, None)


def test_file_of_size_0_is_copied_to_its_end() -> None:
    class Status(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with Path("/proc/self/comm").open("rb") as file:
                self.copyfile(file, self.wfile)

    with visit(Status) as talk:
        (response,) = responses(said(talk, get("/")))
    assert response.body == Path("/proc/self/comm").read_bytes()

"""Request log: formats, escaping of text from the peer, and maximum length."""

from __future__ import annotations

import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.framings.cache import HEADS
from daemons.framings.http import HTTP, Request
from daemons.operating.logging.lines import MAX_LINES, NEVER
from daemons.operating.logging.logs import LINE_LIMIT
from daemons.operating.logging.request_log import FORMS, RequestLog
from tests.operating.writes import Writes

DATE = r"\d\d/(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/\d{4}:\d\d:\d\d:\d\d \+0000"


@pytest.fixture
def log(writes: Writes) -> RequestLog:
    """A log with batches, made before the handlers of the tests are on the root logger."""
    return RequestLog("x", "common", together=True)


def request(target: str = "/a?b", *fields: bytes, version: str = "1.1", method: str = "GET") -> Request:
    head = f"{method} {target} HTTP/{version}\r\nHost: here\r\n".encode() + b"".join(
        field + b"\r\n" for field in fields
    )
    (message,) = HTTP().decoder().decode(head + b"\r\n")
    assert isinstance(message, Request)
    return message


BROWSER = (b'User-Agent: curl/8.1 ("x\\")\xe9', b"Referer: http://here/")


def line_of(form: str, made: Request, status: int = 200, size: int | None = 12, user: str = "") -> str:
    log = RequestLog("x", form)
    return log.form(0.0) % ("127.0.0.1", *log.entry(made, status, size, user))


def test_combined() -> None:
    found = line_of("combined", request("/a?b", *BROWSER), user="the king")
    expected = r'"GET /a\?b HTTP/1\.1" 200 12 "http://here/" "curl/8\.1 \(\\"x\\\\\\"\)\\xc3\\xa9"'
    assert re.fullmatch(rf"127\.0\.0\.1 - the%20king \[{DATE}\] {expected}", found)


def test_common() -> None:
    found = line_of("common", request("/", *BROWSER, version="1.0", method="HEAD"), 304, 0)
    assert re.fullmatch(rf'127\.0\.0\.1 - - \[{DATE}\] "HEAD / HTTP/1\.0" 304 0', found)
    assert line_of("common", request(), size=None).endswith('HTTP/1.1" 200 -')


def test_json() -> None:
    found = json.loads(line_of("json", request("/a?b", *BROWSER), user="the king"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found.pop("time"))
    assert found == {
        "host": "127.0.0.1",
        "user": "the king",
        "method": "GET",
        "target": "/a?b",
        "version": "1.1",
        "status": 200,
        "size": 12,
        "referer": "http://here/",
        "agent": 'curl/8.1 ("x\\")\xe9',
    }
    empty = json.loads(line_of("json", request(), size=None))
    assert [empty[name] for name in ("user", "size", "referer", "agent")] == [None] * 4


#: Characters of a method (RFC 9110, section 5.6.2).
TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@given(
    st.text(TOKEN, min_size=1, max_size=20) | st.integers(1, 8000).map(lambda length: "A" * length),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=4000),
    st.binary(max_size=3000),
    st.text(),
)
def test_any_request_is_one_short_line(method: str, target: str, agent: bytes, user: str) -> None:
    made = request()
    made.method = method
    made.target = "/" + target
    made.headers = ((b"User-Agent", agent), (b"Referer", agent))
    for form in FORMS[:-1]:
        found = line_of(form, made, user=user)
        assert found.isascii()
        assert found.isprintable()
        assert len(found) < LINE_LIMIT - 200  # room for the prefix of the log format
        if form == "json":
            assert json.loads(found)["status"] == 200
        else:
            # A field ends with the first quote that has no backslash before it.
            assert len(re.findall(r'"(?:[^"\\]|\\.)*"', found)) == (3 if form == "combined" else 1)


def test_lines_are_written_in_batches(log: RequestLog, writes: Writes) -> None:
    made = request()
    for _ in range(MAX_LINES - 1):
        log.log("127.0.0.1", log.entry(made, 200, 1))
    assert writes.made == []
    assert log.due < NEVER
    log.log("127.0.0.1", log.entry(made, 200, 1))
    assert log.due == NEVER
    assert sum(count for _, count in writes.made) == MAX_LINES
    assert all(
        line.startswith("INFO daemons.x.requests 127.0.0.1 - - [")
        for text, _ in writes.made
        for line in text.split("\n")
    )


def test_line_without_batches_is_written_at_once(writes: Writes) -> None:
    log = RequestLog("x", "common")
    log.log("127.0.0.1", log.entry(request(), 200, 1))
    assert [count for _, count in writes.made] == [1]


def test_disabled_request_log_has_no_lines(writes: Writes) -> None:
    logging.getLogger("daemons.x.requests").setLevel(logging.WARNING)
    try:
        log = RequestLog("x", "common")
        log.log("127.0.0.1", log.entry(request(), 200, 1))
    finally:
        logging.getLogger("daemons.x.requests").setLevel(logging.NOTSET)
    assert writes.made == []


def test_cached_entries_are_bounded_and_exact() -> None:
    log = RequestLog("x", "common")
    for number in range(2 * HEADS):
        made = request(f"/{number}")
        for status, size, user in ((200, 1, ""), (200, 2, ""), (404, 1, ""), (200, 1, "you")):
            for _ in range(2):
                before, after = log.entry(made, status, size, user)
                assert (before, after) == (f" - {user or '-'} [", f'] "GET /{number} HTTP/1.1" {status} {size}')
    assert len(log._known) <= HEADS
    assert all(type(key[0]) is bytes for key in log._known.table)

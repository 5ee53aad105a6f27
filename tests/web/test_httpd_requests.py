"""Log lines of requests to httpd.  Without sockets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daemons.httpd import Httpd
from daemons.operating.logging.request_log import Entry, RequestLog
from daemons.serving.conversation.peer import Peer
from daemons.web.gateway.upstream_address import UPSTREAM
from daemons.web.site.protection import Realm
from tests.web.example_site import LOCAL, make, request, send, service, talking
from tests.web.scripted_upstream import scripted
from tests.web.site.test_protection import GOOD, basic, write


class Kept(RequestLog):
    """Keeps its lines."""

    def __init__(self) -> None:
        super().__init__("httpd", "common")
        self.lines: list[str] = []

    def log(self, host: str, entry: Entry) -> None:
        line = self.form(0.0) % (host, *entry)
        self.lines.append(re.sub(r"\[.*\]", "[]", line))


def log_lines(httpd: Httpd, *data: bytes, peer: Peer = LOCAL) -> list[str]:
    """Return the log lines of requests, which are the same in two conversations."""
    httpd.request_log = log = Kept()
    for _ in range(2):
        with talking(httpd, peer) as conversation:
            for each in data:
                send(conversation, each)
    first, second = log.lines[: len(log.lines) // 2], log.lines[len(log.lines) // 2 :]
    assert first == second
    return first


@pytest.fixture
def root(tmp_path: Path) -> str:
    make(tmp_path)
    return str(tmp_path / "www")


def test_status_and_size_are_those_of_the_response(root: str) -> None:
    long = Path(root, "long.bin").stat().st_size
    assert long > 64 * 1024
    asked = {
        request("/long.bin"): f'"GET /long.bin HTTP/1.1" 200 {long}',
        request("/long.bin", "Range: bytes=1-70000"): '"GET /long.bin HTTP/1.1" 206 70000',
        request("/short.txt", "Range: bytes=0-1"): '"GET /short.txt HTTP/1.1" 206 2',
        request("/short.txt", method="HEAD", version="1.0"): '"HEAD /short.txt HTTP/1.0" 200 0',
        request("/short.txt", method="OPTIONS"): '"OPTIONS /short.txt HTTP/1.1" 204 0',
    }
    for data, line in asked.items():
        assert log_lines(service(root), data) == [f"127.0.0.1 - - [] {line}"]
    (missing,) = log_lines(service(root), request("/no%22thing"))
    assert re.fullmatch(r'127\.0\.0\.1 - - \[\] "GET /no%22thing HTTP/1\.1" 404 \d+', missing)


def test_expect_and_malformed_requests_are_not_logged(root: str) -> None:
    expecting = request("/short.txt", "Expect: 100-continue", "Content-Length: 2", method="POST")
    (line,) = log_lines(service(root), expecting, b"xx")
    assert line.startswith('127.0.0.1 - - [] "POST /short.txt HTTP/1.1" 405 ')
    assert log_lines(service(root), b"GET / HTTP/1.1\n\n") == []


def test_authenticated_user_is_logged(root: str, tmp_path: Path) -> None:
    write(tmp_path / "users", Arthur="of the Britons:")
    httpd = service(root, protected={"/sub": Realm("The vault", str(tmp_path / "users"))})
    lines = log_lines(
        httpd,
        request("/sub/", GOOD),
        request("/sub/", basic("Arthur", "of nowhere")),
        request("/short.txt", GOOD),
    )
    assert [line.split()[2] for line in lines] == ["Arthur", "-", "-"]


def test_user_is_not_logged_once_a_file_is_no_longer_protected(root: str, tmp_path: Path) -> None:
    write(tmp_path / "users", Arthur="of the Britons:")
    realm = Realm("The vault", str(tmp_path / "users"))
    store = str(tmp_path / "notes")
    for protected, user in (({"/sub": realm, "/notes": realm}, "Arthur"), ({}, "-")):
        httpd = service(root, protected=protected, documents={"/notes": store})
        lines = log_lines(httpd, request("/sub/", GOOD), request("/notes/", GOOD))
        assert [line.split()[2] for line in lines] == [user] * 2


def test_forwarded_response_is_logged_with_its_status_and_known_size(root: str) -> None:
    with scripted() as (running, _):
        httpd = service(root, proxy={"/app": UPSTREAM.parse(f"127.0.0.1:{running.address[1]}")})
        try:
            lines = log_lines(httpd, request("/app/plain"), request("/app/long"), request("/app/chunks"), peer=LOCAL)
        finally:
            httpd.close()
    assert [line.split('" ')[1] for line in lines] == ["200 5", "200 200000", "200 -"]


def test_redirect_to_https_is_logged(root: str) -> None:
    (line,) = log_lines(service(root, https=("localhost", 8443)), request("/short.txt"))
    assert '"GET /short.txt HTTP/1.1" 301 ' in line

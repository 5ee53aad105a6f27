"""Upstream servers that fail: the response to the client, and the log line."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemons.httpd import Httpd
from daemons.serving.pump import Pump
from daemons.web.gateway.upstream_address import UPSTREAM
from tests.serving.peers import connect, hear_all
from tests.serving.running import Within
from tests.web.example_site import make, request, service
from tests.web.gateway.forwarding import fetch, in_front


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("nothing", 502, "closed the connection without a response"),
        ("garbage", 502, "sent a malformed response: it does not begin with HTTP/1."),
        ("folded", 502, "sent a malformed response: header line 2 begins with a blank: lines are not folded"),
        ("coded", 502, "sent a malformed response: a Transfer-Encoding other than chunked"),
        ("lengths", 502, "sent a malformed response: more than one Content-Length"),
        ("twice", 502, "sent a malformed response: more than one Content-Length"),
        ("latin", 502, "sent a malformed response: Content-Length is not one to 18 digits"),
        ("hexadecimal", 502, "sent a malformed response: Content-Length is not one to 18 digits"),
        ("plus", 502, "sent a malformed response: Content-Length is not one to 18 digits"),
        ("both", 502, "sent a malformed response: both Content-Length and Transfer-Encoding"),
        (
            "underscore",
            502,
            "sent a malformed response: a chunk's size is one to sixteen hexadecimal digits, and maybe extensions",
        ),
        ("upgrade", 502, "sent a malformed response: 101 Switching Protocols, but the request had no Upgrade"),
        ("many-hints", 502, "sent a malformed response: more than 16 responses of 1xx"),
        ("no-colon", 502, "sent a malformed response: header line 1 has no colon"),
        (
            "blank-name",
            502,
            "sent a malformed response: header line 1: the bytes before the colon are not a field name",
        ),
        ("split", 502, "sent a malformed response: a control character, or a CR or LF without the other"),
        ("reason", 502, "sent a malformed response: a control character, or a CR or LF without the other"),
        ("short", 502, "closed the connection 4 bytes before the end of the body"),
        ("head-only", 502, "closed the connection in the middle of a chunked body, behind 0 bytes"),
        ("head-of-much", 502, "closed the connection 300000 bytes before the end of the body"),
        ("mute", 504, "no response within 0.1 s (upstream_timeout)"),
    ],
)
def test_upstream_failure_is_logged_and_not_disclosed_to_the_client(
    tmp_path: Path, upstream: tuple[Within, Any], name: str, status: int, reason: str
) -> None:
    server = f"127.0.0.1:{upstream[0].address[1]}"
    options = {"upstream_timeout": 0.1} if name == "mute" else {"upstream_timeout": 20.0}
    httpd = service(make(tmp_path), proxy={"/app": UPSTREAM.parse(server)}, **options)
    with closing(httpd):
        found = fetch(httpd, f"/app/{name}", method="POST", body=b"")
    assert found.status == status
    assert b"malformed" not in found.body
    assert "set-cookie" not in found.fields
    assert upstream[0].log_line(f"127.0.0.1:4242: /app: upstream server {server}: {reason}")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("short-chunk", "closed the connection in the middle of a chunked body, behind 5 bytes"),
        ("short-until-close", "closed the connection 200000 bytes before the end of the body"),
    ],
)
@pytest.mark.parametrize("engine", ["pool", "threads"])
def test_incomplete_response_is_cut_short_and_logged_in_one_line(
    front: Httpd, upstream: tuple[Within, Any], engine: str, name: str, reason: str
) -> None:
    running = Within(engine, Pump.for_service(front))
    try:
        with connect(running.address) as client:
            client.sendall(request(f"/app/{name}") + request("/text.txt"))
            data = hear_all(client)
        line = running.log_line(": /app: upstream server ")
        assert line.endswith(f": /app: upstream server 127.0.0.1:{upstream[0].address[1]}: {reason}")
        running.log_line(" failed messages=")
        assert not [each for each in running.lines if "Traceback" in each or "the service failed" in each]
    finally:
        running.close()
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert data.count(b"HTTP/1.1") == 1, "nothing is sent behind it"
    if name != "short-until-close":
        assert not data.endswith(b"0\r\n\r\n")


def test_refused_connection_gets_502(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and listens not
        with closing(in_front(tmp_path, f"127.0.0.1:{held.getsockname()[1]}")) as httpd:
            found = fetch(httpd, "/app/")
            assert (found.status, found.body.count(b"502 Bad Gateway")) == (502, 2)
            assert fetch(httpd, "/text.txt").status == 200
    httpd = service(str(tmp_path / "www"), proxy={"/app": UPSTREAM.parse(f"unix:{tmp_path}/no.sock")})
    assert fetch(httpd, "/app").status == 502
    assert "connection refused while connecting" in caplog.messages[0]
    assert f"upstream server unix:{tmp_path}/no.sock: no such file or directory while connecting" in caplog.messages[1]

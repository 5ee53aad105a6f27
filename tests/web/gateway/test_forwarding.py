"""Requests and responses are forwarded, without fields of one connection, and paths in normal form."""

from __future__ import annotations

import http.client
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemons.httpd import Httpd
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.states import IDLE, OVER
from daemons.serving.pump import Pump
from daemons.web.site.prefix_map import names_of
from daemons.web.site.protection import Realm
from tests.serving.running import Within
from tests.web.example_site import request, send, talking
from tests.web.gateway.forwarding import fetch, in_front
from tests.web.site.test_protection import GOOD, write
from tests.web.talking import responses


def test_forwarded_request_has_the_fields_of_this_server(front: Httpd, upstream: tuple[Within, Any]) -> None:
    found = fetch(
        front,
        "/app/plain?a=b",
        *("X-Forwarded-For: 6.6.6.6", "X-Forwarded-User: root", "Forwarded: for=6.6.6.6", "X_Forwarded_For: 6.6.6.6"),
        *("X.Forwarded.For: 6.6.6.6", "X-Forwarded!For: 6.6.6.6", "X~Real^IP: 6.6.6.6", "X-Forwarded: for=6.6.6.6"),
        *("Connection: X-Mine, te", "X-Mine: 1", "TE: trailers", "Upgrade: h2c", "Proxy: http://evil.example"),
        *("Via: 1.1 elsewhere", "Accept: text/html", "Accept: */*", "Expect: 100-continue"),
        method="POST",
        body=b"octets",
        host="example.org:8088",
        peer=Peer("[2001:db8::7]:4242", "2001:db8::7", True),
    )
    assert (found.status, found.body, found.fields["content-length"]) == (200, b"plain", "5")
    ((_, received),) = upstream[1].requests
    assert sorted(received.split(b"\r\n")) == sorted(
        [
            b"POST /app/plain?a=b HTTP/1.1",
            b"Host: example.org:8088",
            b"Accept: text/html",
            b"Accept: */*",
            b"Via: 1.1 elsewhere, 1.1 camelot",
            b"X-Forwarded-Host: example.org:8088",
            b"X-Forwarded-For: 2001:db8::7",
            b"X-Forwarded-Proto: https",
            b"Content-Length: 6",
            b"octets",
        ]
    )


@pytest.mark.parametrize(
    "name",
    [
        *("X-Original-URL", "x-rewrite-url", "X-Original-URI", "X-Script-Name", "X-ORIGINAL-HOST", "X-Host"),
        *("True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "Client-IP", "X-Scheme", "Front-End-Https"),
    ],
)
def test_fields_that_override_the_target_or_peer_are_not_forwarded(
    name: str, front: Httpd, upstream: tuple[Within, Any]
) -> None:
    assert fetch(front, "/app/plain", f"{name}: /admin", "X-Mine: 1").status == 200
    ((_, forwarded),) = upstream[1].requests
    assert b"X-Mine: 1\r\n" in forwarded
    assert b"/admin" not in forwarded


def test_hop_by_hop_fields_are_not_forwarded(front: Httpd) -> None:
    found = fetch(front, "/app/hops")
    assert found.fields == {"content-length": "0", "date": "then", "cache-control": "public, max-age=9"}
    assert fetch(front, "/app/hop-date").fields["date"] != "then"
    with talking(front) as conversation:
        data = send(conversation, request("/app/cookies"))
    assert data.count(b"Set-Cookie: ") == 2


@pytest.mark.parametrize(
    ("name", "method", "status", "body", "field"),
    [
        ("chunks", "GET", 200, b"onetwo", ("transfer-encoding", "chunked")),
        ("end", "GET", 200, b"until the end", ("transfer-encoding", "chunked")),
        ("long", "GET", 200, bytes(200000), ("content-length", "200000")),
        ("close", "GET", 200, b"ok", ("content-length", "2")),
        ("head", "HEAD", 200, b"", ("content-length", "7")),
        ("304", "GET", 304, b"", ("content-length", "7")),
        ("204", "DELETE", 204, b"", ("content-length", None)),
        ("teapot", "PATCH", 418, b"", ("content-length", "0")),
        ("odd", "OPTIONS", 599, b"", ("content-length", "0")),
    ],
)
def test_responses_of_every_kind_are_forwarded_and_the_connection_is_kept(
    front: Httpd, name: str, method: str, status: int, body: bytes, field: tuple[str, str | None]
) -> None:
    with talking(front) as conversation:
        data = send(conversation, request(f"/app/{name}", method=method))
        data += send(conversation, request("/app/plain") + request("/text.txt"))
        assert (conversation.state, conversation.failure) == (IDLE, None)
    found, plain, _ = responses(data, [method])
    assert (found.status, found.body, found.fields.get(field[0])) == (status, body, field[1])
    assert (plain.body, "date" in found.fields, "connection" in found.fields) == (b"plain", True, False)


def test_response_of_unknown_length_to_http_1_0_closes_the_connection(front: Httpd) -> None:
    for name, state in (("chunks", OVER), ("end", OVER), ("plain", IDLE)):
        with talking(front) as conversation:
            data = send(conversation, request(f"/app/{name}", "Connection: keep-alive", version="1.0"))
            assert conversation.state == state
        (found,) = responses(data)
        assert found.fields["connection"] == ("close" if state == OVER else "keep-alive")
        assert found.body in (b"onetwo", b"until the end", b"plain")


def test_interim_responses_are_dropped_and_many_fields_forwarded(front: Httpd) -> None:
    assert fetch(front, "/app/hints").body == b"hints"
    with talking(front) as conversation:
        assert send(conversation, request("/app/many-fields")).count(b"Set-Cookie: a=b\r\n") == 150


def test_empty_chunked_body_is_forwarded(front: Httpd) -> None:
    found = fetch(front, "/app/empty-chunks")
    assert (found.status, found.body, found.fields["transfer-encoding"]) == (200, b"", "chunked")


@pytest.mark.parametrize(
    "path",
    [
        *("/app/..;/admin", "/app/a/..;x=y/b", "/app/.;/plain", "/app/%2e%2e;/plain", "/app/%252e%252e/plain"),
        *("/app/..%3Fx", "/app/a/..%23/plain", "/app/.%3f", "/app/%252e.%253F/plain"),
        *("/app/%25252E./plain", "/app/a%252f..%252fb/plain", "/app/a%255c..%255cb/plain", "/app/%" + "25" * 99 + "2e"),
    ],
)
def test_path_with_hidden_dot_segments_is_not_forwarded(front: Httpd, upstream: tuple[Within, Any], path: str) -> None:
    assert fetch(front, path).status == 404
    assert upstream[1].requests == []


@pytest.mark.parametrize(
    ("path", "forwarded"),
    [
        ("/%61pp/%7euser/%2d%2E%5F", "/app/~user/-._"),
        ("/app/%c3%bc%3b%2b", "/app/%C3%BC%3B%2B"),
        ("/app/;a=b/+!$&'()*,=:@?%61=%zz%2f", "/app/;a=b/+!$&'()*,=:@?%61=%zz%2f"),
        ("/app/100%?%", "/app/100%25?%"),
        ("/app/.../..a/a..;b", "/app/.../..a/a..;b"),
        ("/app/%2561dmin/%25", "/app/%2561dmin/%25"),
        ("http://localhost/app/%41", "/app/A"),
    ],
)
def test_forwarded_path_is_the_checked_path_in_normal_form(
    front: Httpd, upstream: tuple[Within, Any], path: str, forwarded: str
) -> None:
    fetch(front, path + ("&/plain" if "?" in path else "/plain"))
    target = upstream[1].requests[0][1].split(b" ")[1].decode()
    assert target == forwarded + ("&/plain" if "?" in path else "/plain")
    assert names_of(target.partition("?")[0]) == names_of(
        path.removeprefix("http://localhost").partition("?")[0] + "/plain" * ("?" not in path)
    )


def test_response_to_head_has_the_content_length_of_get_or_none(front: Httpd) -> None:
    for name, lengths in (("head", 1), ("chunks", 0), ("end", 0)):
        with talking(front) as conversation:
            received = send(conversation, request(f"/app/{name}", method="HEAD")).lower()
            assert received.count(b"content-length: 7\r\n") == received.count(b"content-length:") == lengths


def test_loops_unsupported_methods_and_invalid_paths_are_refused(front: Httpd, upstream: tuple[Within, Any]) -> None:
    assert fetch(front, "/app/plain", "Via: " + ", ".join(["1.1 camelot"] * 9)).status == 508
    assert fetch(front, "/app/plain", method="TRACE").status == 405
    for path in ("/app/../secret", "/app//x", "/app%2fplain", "/app/a%2f..%2fb", "/apples"):
        assert fetch(front, path).status == 404
    assert upstream[1].requests == []


def test_protected_response_is_not_cacheable(tmp_path: Path, upstream: tuple[Within, Any]) -> None:
    write(tmp_path / "users", Arthur="of the Britons:")
    realms = {"/app": Realm("The vault", str(tmp_path / "users"))}
    with closing(in_front(tmp_path, f"127.0.0.1:{upstream[0].address[1]}", protected=realms)) as httpd:
        assert fetch(httpd, "/app/hops").status == 401
        assert upstream[1].requests == []
        assert fetch(httpd, "/app/hops", GOOD).fields["cache-control"] == "private, no-cache"
        fields = fetch(httpd, "/app/caches", GOOD).fields
        assert fields.keys() == {"content-length", "date", "cache-control"}
        assert fields["cache-control"] == "private, no-cache"


def test_http_client_receives_forwarded_responses_under_pool(front: Httpd, upstream: tuple[Within, Any]) -> None:
    running = Within("pool", Pump.for_service(front))
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", running.address[1], timeout=20)) as client:
            for name, body in (("long", bytes(200000)), ("chunks", b"onetwo"), ("plain", b"plain")):
                client.request("GET", f"/app/{name}")
                assert client.getresponse().read() == body
        running.expect_no_connections()
    finally:
        running.close()

"""Connections to upstream servers: reuse, connecting, and the order of request and response."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from daemons.framings.http import HTTP
from daemons.httpd import Httpd
from daemons.serving.conversation.states import PENDING
from daemons.web.gateway.upstream import Upstream
from daemons.web.gateway.upstream_address import UPSTREAM
from daemons.web.gateway.upstream_socket import CONNECT, UpstreamSocket
from tests.serving.running import Within
from tests.web.example_site import make, request, service, talking
from tests.web.gateway.forwarding import fetch, in_front
from tests.web.scripted_upstream import OK, Scripted


def test_upstream_connection_is_closed_when_the_client_disconnects(front: Httpd, upstream: tuple[Within, Any]) -> None:
    with talking(front) as conversation:
        assert conversation.receive(request("/app/endless")).startswith(b"HTTP/1.1 200 OK")
        assert conversation.state == PENDING
    upstream[0].expect_no_connections()


def test_surplus_bytes_do_not_become_the_next_response(front: Httpd, upstream: tuple[Within, Any]) -> None:
    assert fetch(front, "/app/surplus").body == b"ok"
    assert fetch(front, "/app/plain").body == b"plain"
    assert [number for number, _ in upstream[1].requests] == [1, 2]


def test_connections_are_reused_and_a_stale_one_is_replaced(front: Httpd, upstream: tuple[Within, Any]) -> None:
    for name in ("plain", "chunks", "plain"):
        fetch(front, f"/app/{name}")
    assert [number for number, _ in upstream[1].requests] == [1, 1, 1]
    # /first closes a reused connection, so the request is repeated.
    assert fetch(front, "/app/first").body == b"plain"
    # After HEAD, 204 and 304 a server may wrongly send a body, so the connection is closed.
    fetch(front, "/app/head", method="HEAD")
    fetch(front, "/app/204")
    fetch(front, "/app/304")
    fetch(front, "/app/plain")
    assert [number for number, _ in upstream[1].requests][3:] == [1, 2, 2, 3, 4, 5]


def test_connection_that_a_request_may_have_authenticated_is_not_reused(
    front: Httpd, upstream: tuple[Within, Any]
) -> None:
    values = ["NTLM TlRMTVNT", "Negotiate", "Basic YTpi", "bearer x", "Digest a=b", "negotiate,Basic YTpi", "Basic  "]
    for value in values:
        assert fetch(front, "/app/plain", f"Authorization: {value}").body == b"plain"
    assert [number for number, _ in upstream[1].requests] == [1, 2, 3, 3, 3, 3, 4]


def test_connection_is_kept_when_its_exchange_can_no_longer_be_cut(
    front: Httpd, upstream: tuple[Within, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cutting an exchange shuts its connection down, which another client may use by then."""
    keep = Upstream.keep
    left: list[int] = []

    def observe(self: Upstream, connection: UpstreamSocket) -> None:
        left.append(len(self._exchanges))
        keep(self, connection)

    monkeypatch.setattr(Upstream, "keep", observe)
    for name in ("plain", "chunks"):
        fetch(front, f"/app/{name}")
    assert left == [0, 0]


def test_non_idempotent_request_is_not_repeated(front: Httpd, upstream: tuple[Within, Any]) -> None:
    fetch(front, "/app/plain")
    assert fetch(front, "/app/first", method="POST", body=b"1").status == 502
    assert [number for number, _ in upstream[1].requests] == [1, 1]
    upstream[0].log_line("closed a kept connection after a request was sent")
    fetch(front, "/app/stale")
    upstream[0].expect_no_connections()
    # The kept connection is known to be closed.
    assert fetch(front, "/app/plain", method="POST", body=b"2").status == 200


def test_response_may_begin_before_the_body_is_sent(tmp_path: Path) -> None:
    path, size = str(tmp_path / "app.sock"), 1_000_000

    def serve() -> None:
        with listener.accept()[0] as peer, peer.makefile("rb") as stream:
            while stream.readline() != b"\r\n":
                pass
            peer.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            peer.sendall(b"7\r\n%d\r\n0\r\n\r\n" % len(stream.read(size)))

    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(path)
        listener.listen()
        server = Thread(target=serve)
        server.start()
        with closing(in_front(tmp_path, f"unix:{path}")) as httpd:
            # More than the socket buffers hold:
            assert fetch(httpd, "/app/", method="POST", body=bytes(size)).body == b"hello1000000"
        server.join()


def test_connecting_waits_for_a_full_backlog_of_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "app.sock")
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(path)

        def serve() -> None:
            listener.accept()[0].close()
            with listener.accept()[0] as peer:
                peer.recv(65536)
                peer.sendall(OK + b"Content-Length: 2\r\n\r\nok")

        server = Thread(target=serve)
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                server.start()
            Event().wait(seconds)

        monkeypatch.setattr("daemons.serving.listening.unix_client.sleep", pause)
        httpd = service(make(tmp_path), proxy={"/app": UPSTREAM.parse(f"unix:{path}")})
        stack.enter_context(closing(httpd))
        assert fetch(httpd, "/app/").body == b"ok"
        server.join()
        monkeypatch.setattr("daemons.web.gateway.upstream_socket.CONNECT", 0.0)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        assert fetch(httpd, "/app/").status == 504


def test_address_with_a_zone_is_accepted(tmp_path: Path) -> None:
    with closing(service(make(tmp_path), proxy={"/app": UPSTREAM.parse("[fe80::1%lo]:9")})) as httpd:
        assert fetch(httpd, "/app/").status in (502, 504)  # no host has that address
    assert UPSTREAM.parse("[fe80::1%lo]:9")[1:3] == ("fe80::1%lo", 9)


def test_unreachable_address_of_a_host_leaves_time_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def connect_in_vain(family: int, protocol: int, address: object, timeout: float) -> socket.socket:
        given.append(timeout)
        now[0] += timeout
        raise TimeoutError

    now = [100.0]
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"192.0.2.{last}", 80)) for last in (1, 2, 3, 4)]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: addresses)
    monkeypatch.setattr("daemons.web.gateway.upstream_socket._connect", connect_in_vain)
    monkeypatch.setattr("daemons.web.gateway.upstream_socket.monotonic", lambda: now[0])
    with pytest.raises(TimeoutError):
        UpstreamSocket(UPSTREAM.parse("behind.example:80"))
    assert given == pytest.approx([CONNECT / 4] * 4)


def test_response_before_the_end_of_the_request_is_forwarded(tmp_path: Path) -> None:
    class Refusing(Scripted):
        """Reads a head without its body, and waits until the connection is closed."""

        def handle(self) -> None:
            with suppress(OSError), self.request.makefile("rb", buffering=0) as stream:
                while stream.readline() != b"\r\n":
                    pass
                self.request.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                self.request.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
                ended.wait(20)

    ended = Event()
    running = Within("threads", Refusing)
    running.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        with closing(in_front(tmp_path, "{}:{}".format(*running.address))) as httpd:
            httpd.framing = HTTP(body=64 * 1024**2)
            found = fetch(httpd, "/app/a", method="PUT", body=bytes(32 * 1024**2))
            assert (found.status, found.body) == (413, b"big")
            ended.set()
    finally:
        ended.set()
        running.close()


def test_connection_is_not_reused_after_a_body(tmp_path: Path) -> None:
    class Careless(Scripted):
        """Ignores bodies, so that it reads one as the next request."""

        def handle(self) -> None:
            with suppress(OSError), self.request.makefile("rb") as stream:
                while head := b"".join(iter(stream.readline, b"\r\n")) if stream.peek(1) else b"":
                    name = head.split(b" ")[1]
                    if name == b"/smuggled":
                        may_answer.wait(10)
                    self.request.sendall(OK + b"Content-Length: %d\r\n\r\n%b" % (len(name), name))

    may_answer = Event()
    running = Within("threads", Careless)
    front = in_front(tmp_path, "{}:{}".format(*running.address))
    try:
        within = b"GET /smuggled HTTP/1.1\r\n\r\n"
        assert fetch(front, "/app/a", body=within).body == b"/app/a"
        assert fetch(front, "/app/b").body == b"/app/b"
    finally:
        may_answer.set()
        front.close()
        running.close()

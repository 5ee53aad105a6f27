"""Slow upstream servers: requests are limited in number and time, and files are still served."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from daemons.operating.loading.targets import target_of
from daemons.serving.pump import Pump
from daemons.web.gateway import exchange, upstream
from daemons.web.gateway.exchange import Exchange
from daemons.web.gateway.upstream_address import UPSTREAM
from tests.operating.folder import Folder
from tests.serving.peers import DEADLINE, connect, eventually, hear, hear_all
from tests.serving.running import Within
from tests.web.example_site import TEXT, make, request, service
from tests.web.gateway.forwarding import fetch
from tests.web.scripted_upstream import OK, Scripted
from tests.web.site.test_protection import write
from tests.web.talking import responses


class Slow(Scripted):
    """Waits for `may_answer`: before the response to /slow, and between one-byte chunks of /trickle."""

    may_answer: Event

    def handle(self) -> None:
        with suppress(OSError), self.request.makefile("rb") as stream:
            while head := b"".join(iter(stream.readline, b"\r\n")) if stream.peek(1) else b"":
                path = head.split(b" ")[1]
                if path.endswith(b"/trickle"):
                    self.request.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
                    while not self.may_answer.wait(0.01):
                        self.request.sendall(b"1\r\na\r\n")
                    self.request.sendall(b"0\r\n\r\n")
                    continue
                if path.endswith(b"/head"):
                    for octet in OK * 99:
                        self.request.sendall(bytes([octet]))
                        self.may_answer.wait(0.01)
                if path.endswith(b"/slow"):
                    self.may_answer.wait(60)
                self.request.sendall(OK + b"Content-Length: 4\r\n\r\nslow")


@pytest.fixture
def slow() -> Iterator[tuple[str, Event]]:
    """Run such a server; yield its address, and the event that it waits for."""
    handler: Any = type("FreshSlow", (Slow,), {"may_answer": Event()})
    running = Within("threads", handler)
    try:
        yield "{}:{}".format(*running.address), handler.may_answer
    finally:
        handler.may_answer.set()
        running.close()


def get(address: Any, path: str, stack: ExitStack) -> socket.socket:
    """Send a request on a new connection, and return the connection."""
    peer = stack.enter_context(connect(address))
    peer.sendall(request(path, "Connection: close"))
    return peer


@pytest.mark.parametrize("path", ["/app/slow", "/other/trickle"])
def test_files_are_served_while_64_requests_wait_for_a_slow_server(
    tmp_path: Path, slow: tuple[str, Event], path: str
) -> None:
    upstream = UPSTREAM.parse(slow[0])
    httpd = service(make(tmp_path), proxy={"/app": upstream, "/other": upstream}, upstream_requests=12)
    running = Within("pool", Pump.for_service(httpd))
    try:
        with closing(httpd), ExitStack() as stack:
            waiting = [get(running.address, path, stack) for _ in range(64)]
            eventually(lambda: len(refused(waiting)) == 64 - 12)
            # While the other twelve are in progress:
            for _ in range(50):
                (found,) = responses(hear_all(get(running.address, "/text.txt", stack)))
                assert (found.status, found.body) == (200, TEXT)
            (found,) = responses(hear_all(get(running.address, path, stack)))
            assert (found.status, found.fields["retry-after"]) == (503, "1")
            slow[1].set()
            for peer in waiting:
                hear_all(peer)
            # The server has recovered, and its share is free again.
            (found,) = responses(hear_all(get(running.address, "/app/quick", stack)))
            assert (found.status, found.body) == (200, b"slow")
            running.log_line("12 requests are in progress (upstream_requests); requests refused: ")
        lines = [line for line in running.lines if "requests refused" in line]
        assert len(lines) < 10, "one line a second, and not one for each"
    finally:
        running.close()


def refused(peers: list[socket.socket]) -> list[socket.socket]:
    """Return the connections that have received a 503, without consuming it."""
    readable, _, _ = select.select(peers, (), (), 0)
    return [peer for peer in readable if peer.recv(13, socket.MSG_PEEK) == b"HTTP/1.1 503 "]


def test_each_server_has_an_equal_share_of_the_requests(tmp_path: Path, slow: tuple[str, Event]) -> None:
    table = {"/app": UPSTREAM.parse(slow[0]), "/b": UPSTREAM.parse("127.0.0.1:1"), "/c": UPSTREAM.parse("127.0.0.1:1")}
    for requests, share in ((12, 6), (7, 3), (1, 1)):
        with closing(service(str(tmp_path), proxy=table, upstream_requests=requests)) as httpd:
            assert httpd._router is not None
            upstreams = {each.upstream for each in httpd._router._forwarding.values()}
            assert [upstream.limits.requests for upstream in upstreams] == [share, share]


@pytest.mark.parametrize(
    ("threads", "protected", "bound"), [(16, False, 12), (16, True, 6), (8, False, 7), (4, True, 1), (1, False, 1)]
)
def test_some_threads_of_a_pool_are_reserved_for_files(
    folder: Folder, threads: int, protected: bool, bound: int
) -> None:
    (folder.path / "www").mkdir()
    ini = f"[daemon]\nservice = httpd\nport = 1\nengine = pool\nthreads = {threads}\n[httpd]\nroot = www\n"
    if protected:
        write(folder.path / "users", Arthur="of the Britons:")
        ini += '[protected]\n/app = "The vault" users\n'
    folder.write("x", f"{ini}[proxy]\n/app = 127.0.0.1:1\n")
    pump: Any = target_of(folder.read()).request_handlers().stream
    (forwarding,) = pump.service._router._forwarding.values()
    assert forwarding.upstream.limits.requests == bound


@pytest.mark.parametrize(
    ("path", "limits", "status", "reason"),
    [
        ("/app/trickle", (60.0, 0.3), 200, "no complete response within 0.3 s of waiting (upstream_total)"),
        ("/app/head", (0.3, 60.0), 504, "no response within 0.3 s (upstream_timeout)"),
    ],
)
def test_trickling_response_ends_at_the_total_timeout(
    tmp_path: Path, slow: tuple[str, Event], path: str, limits: tuple[float, float], status: int, reason: str
) -> None:
    proxy = {"/app": UPSTREAM.parse(slow[0])}
    httpd = service(make(tmp_path), proxy=proxy, upstream_timeout=limits[0], upstream_total=limits[1])
    running = Within("pool", Pump.for_service(httpd))
    try:
        with closing(httpd), ExitStack() as stack:
            data = hear_all(get(running.address, path, stack))
            assert data.startswith(b"HTTP/1.1 %d " % status)
            assert not data.endswith(b"0\r\n\r\n")
            assert running.log_line(": /app: upstream server ").endswith(f"{slow[0]}: {reason}")
            assert not [line for line in running.lines if "Traceback" in line]
    finally:
        running.close()


@pytest.mark.parametrize("engine", ["pool", "forks"])
def test_response_to_a_paused_client_does_not_count_as_in_progress(tmp_path: Path, engine: str) -> None:
    """With `upstream_requests` of 1, a client that stops reading a long response does not block others."""

    class Long(Scripted):
        def handle(self) -> None:
            with suppress(OSError), self.request.makefile("rb") as stream:
                while head := b"".join(iter(stream.readline, b"\r\n")) if stream.peek(1) else b"":
                    size = 90_000_000 if b"/long" in head else 4
                    self.request.sendall(OK + b"Content-Length: %d\r\n\r\n" % size)
                    self.request.sendall(bytes(size))

    server = Within("threads", Long)
    proxy = {"/app": UPSTREAM.parse("{}:{}".format(*server.address))}
    httpd = service(make(tmp_path), proxy=proxy, upstream_requests=1)
    running = Within(engine, Pump.for_service(httpd))
    try:
        with closing(httpd), ExitStack() as stack:
            hear(get(running.address, "/app/long", stack), OK)
            statuses: list[int] = []

            def answered() -> bool:
                (found,) = responses(hear_all(get(running.address, "/app/short", stack)))
                statuses.append(found.status)
                return found.status == 200

            eventually(answered)
            assert set(statuses) <= {200, 503}
    finally:
        running.close()
        server.close()


def test_paused_clients_that_resume_together_do_not_occupy_all_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server sends more than the buffers of the sockets hold, and then nothing; its clients wait until they do not
    count, and then read all."""
    monkeypatch.setattr(exchange, "PAUSED", 0.01)
    over = Event()
    server = Within("threads", stalling(over))
    proxy = {"/app": UPSTREAM.parse("{}:{}".format(*server.address))}
    httpd = service(make(tmp_path), proxy=proxy, upstream_requests=4)
    running = Within("pool", Pump.for_service(httpd))
    try:
        with closing(httpd), ExitStack() as stack:
            assert httpd._router is not None
            (forwarding,) = httpd._router._forwarding.values()
            exchanges = forwarding.upstream._exchanges
            clients = []
            for number in range(1, 25):
                peer = stack.enter_context(socket.socket())
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                peer.connect(running.address)
                peer.sendall(request("/app/long", "Connection: close"))
                clients.append(peer)
                eventually(partial(_all_have_paused, exchanges, number))
            going_on = dict.fromkeys(clients)
            while len(going_on) > 4:
                readable, _, _ = select.select(going_on, (), (), 20)
                assert readable, "more than four wait for the server"
                for peer in readable:
                    if not peer.recv(65536):
                        del going_on[peer]
            (found,) = responses(hear_all(get(running.address, "/text.txt", stack)))
            assert (found.status, found.body) == (200, TEXT)
            running.log_line("4 requests are in progress (upstream_requests), and the client of this one had paused")
            assert not [line for line in running.lines if "Traceback" in line]
    finally:
        over.set()
        running.close()
        server.close()


def stalling(over: Event) -> type[Scripted]:
    """Return a server that sends more than the buffers of the sockets hold, and then nothing until `over`."""

    class Stalling(Scripted):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.recv(65536)
                self.request.sendall(OK + b"Content-Length: 90000000\r\n\r\n" + bytes(4_000_000))
                over.wait(60)

    return Stalling


def _all_have_paused(exchanges: set[Exchange], number: int) -> bool:
    return len(exchanges) == number and not any(each.in_progress for each in exchanges)


def test_refused_loop_leaves_no_request_in_progress(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen
        proxy = {"/app": UPSTREAM.parse(f"127.0.0.1:{held.getsockname()[1]}")}
        with closing(service(make(tmp_path), proxy=proxy, upstream_requests=1)) as httpd:
            assert [fetch(httpd, "/app/").status for _ in range(5)] == [502] * 5


def _slow_client(stack: ExitStack, address: Any) -> socket.socket:
    """Return a client that has sent a request, and has a small buffer for the response."""
    peer = stack.enter_context(socket.socket())
    peer.settimeout(DEADLINE)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.connect(address)
    peer.sendall(request("/app/long", "Connection: close"))
    return peer


def test_response_paused_longest_is_cut_short_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PAUSED", 0.01)
    monkeypatch.setattr(upstream, "PAUSED_RESPONSES", 1)
    over = Event()
    server = Within("threads", stalling(over))
    proxy = {"/app": UPSTREAM.parse("{}:{}".format(*server.address))}
    httpd = service(make(tmp_path), proxy=proxy, upstream_requests=2)
    running = Within("pool", Pump.for_service(httpd))
    try:
        with closing(httpd), ExitStack() as stack:
            assert httpd._router is not None
            (forwarding,) = httpd._router._forwarding.values()
            exchanges = forwarding.upstream._exchanges
            clients = []
            for number in (1, 2, 3, 4, 4, 4):
                peer = _slow_client(stack, running.address)
                while peer.recv(len(OK), socket.MSG_WAITALL) != OK:
                    # 503: an earlier response was not paused for a moment, since its client's buffers have grown.
                    peer = _slow_client(stack, running.address)
                clients.append(peer)
                eventually(partial(_all_have_paused, exchanges, number))
            for peer in clients[:2]:
                assert len(hear_all(peer)) < 90_000_000
            running.log_line("too many clients have paused")
            assert len(exchanges) == 4
            assert not [line for line in running.lines if "Traceback" in line]
    finally:
        over.set()
        running.close()
        server.close()

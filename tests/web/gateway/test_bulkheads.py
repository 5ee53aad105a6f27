"""An upstream server that fails: only requests to it get 503, until it has recovered."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from daemons.httpd import Httpd
from daemons.serving.guards.upstream_counter import UPSTREAMS
from daemons.serving.pump import Pump
from daemons.web.gateway.circuit_breaker import CLOSED
from daemons.web.gateway.upstream import Upstream
from daemons.web.gateway.upstream_address import UPSTREAM
from tests.serving.peers import connect, eventually, hear, hear_all
from tests.serving.running import Within
from tests.web.example_site import TEXT, make, request, service
from tests.web.scripted_upstream import OK
from tests.web.talking import Response, responses

ENGINES = ["threads", "pool", "forks"]

#: For close(2): send a reset.
RESETTING = struct.pack("ii", 1, 0)


class Faulty(socketserver.BaseRequestHandler):
    """Fails in the way `fault` until the event `recovered`, then responds."""

    fault: str
    recovered: Event

    def handle(self) -> None:
        with suppress(OSError):
            # Closing a Unix socket resets the connection if received bytes are unread.
            while self.request.recv(1 if self.fault == "resetting" and not self.recovered.is_set() else 65536):
                if not self.recovered.is_set():
                    self.fail()
                    return
                self.request.sendall(OK + b"Content-Length: 4\r\n\r\nfine")

    def fail(self) -> None:
        if self.fault == "resetting":
            self.request.close()
            return
        if self.fault == "trickling":
            for octet in (OK + b"X: x\r\n" * 10_000)[:-1]:
                self.request.sendall(bytes([octet]))
                if self.recovered.wait(0.01):
                    break
        self.recovered.wait(60)


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A server on a Unix socket, which refuses connections until it is started."""

    request_queue_size = 64


@contextmanager
def faulty(fault: str, path: Path) -> Iterator[Event]:
    """Run such a server on a Unix socket; yield the event with which it recovers."""
    recovered = Event()
    handler: Any = type("FreshFaulty", (Faulty,), {"fault": fault, "recovered": recovered})

    def serve() -> None:
        if fault == "refusing":
            recovered.wait(60)
        with UnixServer(str(path), handler) as server:
            server.timeout = 0.05
            while not over.is_set():
                server.handle_request()

    over = Event()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        if fault != "refusing":
            eventually(path.exists)
        yield recovered
    finally:
        recovered.set()
        over.set()
        thread.join()


def fetch(address: Any, path: str) -> Response:
    with connect(address) as peer:
        peer.sendall(request(path, "Connection: close"))
        (found,) = responses(hear_all(peer))
        return found


def upstream_of(httpd: Httpd, prefix: str) -> Upstream:
    assert httpd._router is not None
    return httpd._router._forwarding[prefix].upstream


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fault", ["hanging", "trickling", "refusing", "resetting"])
def test_failing_server_gets_503_others_are_served_and_it_recovers(tmp_path: Path, engine: str, fault: str) -> None:
    with faulty(fault, tmp_path / "bad") as recovered, faulty("none", tmp_path / "good") as good:
        good.set()
        proxy = {f"/{name}": UPSTREAM.parse(f"unix:{tmp_path}/{name}") for name in ("bad", "good")}
        httpd = service(make(tmp_path), proxy=proxy, upstream_timeout=0.3)
        running = Within(engine, Pump.for_service(httpd))
        try:
            with closing(httpd):
                bad = upstream_of(httpd, "/bad")

                def refused() -> bool:
                    found = fetch(running.address, "/bad/x")
                    assert found.status == (504 if fault in ("hanging", "trickling") else 502) or found.status == 503
                    return found.status == 503 and found.fields["retry-after"] == "1"

                eventually(refused)
                assert bad.breaker.state != CLOSED
                assert UPSTREAMS.open == 1
                for _ in range(10):
                    assert fetch(running.address, "/text.txt").body == TEXT
                    assert fetch(running.address, "/good/x").body == b"fine"
                eventually(refused)
                recovered.set()
                eventually(lambda: fetch(running.address, "/bad/x").status == 200)
                eventually(lambda: bad.breaker.state == CLOSED)
                assert [fetch(running.address, "/bad/x").body for _ in range(5)] == [b"fine"] * 5
                assert UPSTREAMS.open == 0
        finally:
            running.close()


def test_each_change_of_the_circuit_breaker_is_logged_in_one_line(tmp_path: Path) -> None:
    with faulty("resetting", tmp_path / "bad") as recovered:
        httpd = service(make(tmp_path), proxy={"/bad": UPSTREAM.parse(f"unix:{tmp_path}/bad")})
        running = Within("threads", Pump.for_service(httpd))
        opened = UPSTREAMS.opened
        try:
            with closing(httpd):
                eventually(lambda: fetch(running.address, "/bad").status == 503)
                recovered.set()
                eventually(lambda: fetch(running.address, "/bad").status == 200)
                running.log_line("circuit breaker closed: the server responds")
        finally:
            running.close()
    changes = [line for line in running.lines if "circuit breaker open after" in line or "breaker closed" in line]
    assert len(changes) == 2
    reason = "reset the connection before the end of its response"
    assert f"unix:{tmp_path}/bad: circuit breaker open after 5 failures in a row: {reason}; " in changes[0]
    assert UPSTREAMS.opened == opened + 1


@pytest.mark.parametrize(
    ("engine", "how"),
    # A child inherits the test's end of the connection, so closing that resets nothing under forks.
    [("threads", "reset"), ("threads", "close"), ("pool", "reset"), ("pool", "close"), ("forks", "close")],
)
def test_client_that_leaves_while_the_server_is_silent_gives_its_place_back(
    tmp_path: Path, engine: str, how: str
) -> None:
    """With a timeout longer than the test, one place, and eight clients that leave one after the other."""
    silent = Silent()
    with silent.running() as address:
        httpd = service(make(tmp_path), proxy={"/app": UPSTREAM.parse(address)}, upstream_requests=1)
        running = Within(engine, Pump.for_service(httpd))
        try:
            with closing(httpd):
                for _ in range(8):
                    with connect(running.address) as client:
                        before = len(silent.received)
                        client.sendall(request("/app/silent"))
                        eventually(lambda before=before: len(silent.received) > before)  # type: ignore[misc]
                        if how == "reset":
                            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETTING)
                        else:
                            client.shutdown(socket.SHUT_RDWR)
                    eventually(lambda: fetch(running.address, "/app/quick").status == 200)
                assert upstream_of(httpd, "/app").breaker.state == CLOSED, "no failure of the server"
                assert not [line for line in running.lines if "Traceback" in line]
        finally:
            silent.over.set()
            running.close()


@pytest.mark.parametrize("engine", ["threads", "pool"])
def test_half_closed_client_is_answered_unless_its_place_is_needed(tmp_path: Path, engine: str) -> None:
    silent = Silent()
    with silent.running() as address:
        httpd = service(make(tmp_path), proxy={"/app": UPSTREAM.parse(address)}, upstream_requests=2)
        running = Within(engine, Pump.for_service(httpd))
        try:
            with closing(httpd), connect(running.address) as first, connect(running.address) as second:
                first.sendall(request("/app/silent", "Connection: close"))
                first.shutdown(socket.SHUT_WR)
                eventually(lambda: len(silent.received) == 1)
                assert fetch(running.address, "/app/quick").status == 200
                second.sendall(request("/app/silent", "Connection: close"))
                (found,) = responses(hear_all(first))
                assert (found.status, found.fields["retry-after"]) == (503, "1")
                second.shutdown(socket.SHUT_WR)
                silent.over.set()
                hear(second, OK)
        finally:
            silent.over.set()
            running.close()


class Silent:
    """A server that does not respond to /silent until `over`."""

    def __init__(self) -> None:
        self.over = Event()
        #: Requests for /silent.
        self.received: list[bytes] = []

    @contextmanager
    def running(self) -> Iterator[str]:
        """Run the server; yield its address."""
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    while data := self.request.recv(65536):
                        if b"/silent" in data:
                            outer.received.append(data)
                            outer.over.wait(60)
                        self.request.sendall(OK + b"Content-Length: 2\r\n\r\nok")

        server = Within("threads", Handler)
        try:
            yield "{}:{}".format(*server.address)
        finally:
            self.over.set()
            server.close()

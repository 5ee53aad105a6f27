"""Bulkheads: slow upstream servers and guessed passwords do not delay files and pages.

`front` forwards 200 requests to an upstream server that hangs or sends single bytes; files must still be served, the
circuit breaker must answer with 503, and the server must be used again after it has recovered.  Then 200 clients guess
passwords at `webapp`, and its pages must still be served.
"""

from __future__ import annotations

import http.client
import re
import signal
import socketserver
import sys
import threading
import time
from contextlib import closing, suppress
from urllib.parse import urlencode

from soak.crowd import Crowd
from soak.lone import Lone
from soak.newcomers import Ask, Measured, visit
from soak.place import until

CLIENTS = 200
NEWCOMERS = 1000

#: Allowed p99 in milliseconds; it is also allowed to be five times as long as without the load.
BAR = 150.0

#: Seconds within which the circuit breaker must answer, and the upstream server be used again.
REFUSED_WITHIN, RECOVERED_WITHIN = 1.0, 2.0

FRONT = """[daemon]
service = httpd
port = {port}
engine = pool
[httpd]
root = .
upstream_timeout = 2s
[proxy]
/app = 127.0.0.1:%d
"""

WEBAPP = "[daemon]\nwsgi = daemons.webapp:Webapp\nport = {port}\nengine = pool\n"

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"

#: Of hostile clients, new ones a second.
RATE = 100.0

FORWARDED = b"GET /app/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

PAGE = "<p>A page.</p>\n"


class Upstream(socketserver.ThreadingTCPServer):
    """An upstream server that hangs, or sends single bytes, until it has recovered."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, fault: str) -> None:
        self.fault, self.recovered = fault, threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(socketserver.BaseRequestHandler):
    server: Upstream

    def handle(self) -> None:
        with suppress(OSError):
            while self.request.recv(65536):
                if self.server.fault == "trickling" and not self.server.recovered.is_set():
                    for byte in (HEAD + b"X: x\r\n" * 1000)[:-1]:
                        self.request.sendall(bytes((byte,)))
                        if self.server.recovered.wait(0.1):
                            return
                elif not self.server.recovered.wait(60.0):
                    return
                self.request.sendall(HEAD + b"\r\nfine")


def get(port: int, path: str, seconds: float = 10.0) -> tuple[int, str]:
    """Return the status and the body."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)) as client:
        client.request("GET", path)
        response = client.getresponse()
        return response.status, response.read().decode("utf-8", "replace")


def asking(port: int, path: str, body: str | None = None) -> Ask:
    """Return a visit that requests a path and, if `body` is given, compares the response."""

    def ask() -> bool:
        try:
            status, received = get(port, path)
        except http.client.HTTPException as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        return status == 200 and (body is None or received == body)

    return ask


def _late(name: str, before: Measured, found: Measured) -> list[str]:
    if found.lost:
        return [f"{name}: {len(found.lost)} of {found.asked} were not answered: {found.lost[0]}"]
    if found.percentile(0.99) > max(BAR, 5 * before.percentile(0.99)):
        return [f"{name}: p99 is {found.percentile(0.99):.0f} ms"]
    return []


def play_front(fault: str, seconds: float, newcomers: int = NEWCOMERS, clients: int = CLIENTS) -> list[str]:
    """Files while an upstream server hangs; print a line, and return the broken promises."""
    with Upstream(fault) as upstream:
        threading.Thread(target=upstream.serve_forever).start()
        try:
            ini = FRONT % upstream.server_address[1]
            with Lone(ini, files={"page.html": PAGE}) as daemon:
                ask = asking(daemon.port, "/page.html", PAGE)
                before = visit(ask, newcomers // 5, seconds)
                with Crowd("request", daemon.port, clients, RATE, FORWARDED):
                    opened = until(lambda: "circuit breaker" in daemon.log, 30.0)
                    # After the first timeouts: a refusal is immediate, but for the one trial a second.
                    refusals = []
                    for _ in range(20):
                        began = time.monotonic()
                        status, _ = get(daemon.port, "/app/")
                        if status == 503:
                            refusals.append(time.monotonic() - began)
                    found = visit(ask, newcomers, seconds)
                began = time.monotonic()
                upstream.recovered.set()
                recovered = until(lambda: get(daemon.port, "/app/")[0] == 200, 30.0, 0.02)
                took = time.monotonic() - began
        finally:
            upstream.recovered.set()
            upstream.shutdown()
    slowest = max(refusals, default=float("inf"))
    print(
        f"soak bulkheads: files beside a {fault} server: {found}; before p99 {before.percentile(0.99):.0f} ms; "
        f"{len(refusals)} of 20 refused within {slowest:.2f} s; recovered after {took:.1f} s",
        flush=True,
    )
    faults = _late(f"files beside a {fault} server", before, found)
    if not opened:
        faults.append(f"{fault}: the circuit breaker did not open")
    if slowest > REFUSED_WITHIN:
        faults.append(f"{fault}: 503 after {slowest:.1f} s")
    if not recovered or took > RECOVERED_WITHIN:
        faults.append(f"{fault}: used again after {took:.1f} s")
    return faults


def _guess(port: int) -> bytes:
    """Return a request with a wrong password and a valid token."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)) as client:
        client.request("GET", "/bank/login")
        response = client.getresponse()
        token = re.search('name="token" value="(.*?)"', response.read().decode())
        cookie = (response.headers["Set-Cookie"] or "").partition(";")[0]
    fields = {"username": "brandon", "password": "wrong", "token": token[1] if token else ""}
    body = urlencode(fields)
    return (
        f"POST /bank/login HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nCookie: {cookie}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def play_guesses(seconds: float, newcomers: int = NEWCOMERS, clients: int = CLIENTS) -> list[str]:
    """Pages while clients guess passwords; print a line, and return the broken promises."""
    with Lone(WEBAPP) as daemon:
        port = daemon.port
        ask = asking(port, "/time/")
        before = visit(ask, newcomers // 5, seconds)
        with Crowd("request", port, clients, RATE, _guess(port)) as crowd:
            crowd.wait(20.0)
            found = visit(ask, newcomers, seconds)
        guesses = daemon.log.count("POST /bank/login")
    print(
        f"soak bulkheads: pages beside {clients} guessers: {found}; before p99 {before.percentile(0.99):.0f} ms; "
        f"{guesses} guesses",
        flush=True,
    )
    if not guesses:
        return ["no password was guessed"]
    return _late("pages beside guessers", before, found)


def run(seconds: float, seed: int) -> int:
    """Play all cases; return the exit code.  Nothing is random: no seed."""
    share = seconds / 3
    print(f"soak bulkheads: {CLIENTS} clients, {seconds:g} s", flush=True)
    faults = [*play_front("hanging", share), *play_front("trickling", share), *play_guesses(share)]
    for fault in faults:
        print(f"FAULT  {fault}")
    print(f"soak bulkheads: {f'{len(faults)} faults' if faults else 'no faults'}")
    return 1 if faults else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    sys.exit(run(120.0, 0))

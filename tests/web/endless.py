"""Handlers and applications that write without end, and the exceptions raised in them."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from itertools import chain, repeat
from queue import SimpleQueue
from threading import Event
from typing import Any

BLOCK = b"x" * 65536

#: More than a response may have in memory.
LARGE = 16 * len(BLOCK)

#: Exceptions raised in handlers of this process.
raised: SimpleQueue[BaseException] = SimpleQueue()
#: Set by a handler when it is called, and by a test to let it write.
begun, may_write = Event(), Event()
may_write.set()


def write_without_end(write: Any) -> None:
    """Write until an exception is raised, and record it."""
    begun.set()
    may_write.wait(20)
    try:
        while True:
            write(BLOCK)
    except BaseException as error:
        raised.put(error)
        raise


def write_much(write: Any) -> None:
    """Write `LARGE` bytes."""
    begun.set()
    may_write.wait(20)
    for _ in range(LARGE // len(BLOCK)):
        write(BLOCK)


class Endless(BaseHTTPRequestHandler):
    """Endless pages, one of which ignores exceptions, and finite pages."""

    def do_GET(self) -> None:
        if not self.path.startswith("/flushed"):
            self.send_response(200)
            self.end_headers()
        getattr(self, self.path.strip("/"))()

    def endless(self) -> None:
        write_without_end(self.wfile.write)

    def stubborn(self) -> None:
        for _ in range(100):
            try:
                write_without_end(self.wfile.write)
            except Exception:
                continue

    def socket(self) -> None:
        write_without_end(self.request.sendall)

    def lines(self) -> None:
        write_without_end(lambda block: self.wfile.writelines([block] * 3))

    def hello(self) -> None:
        self.wfile.write(b"hello")

    def headers_without_end(self) -> None:
        while True:
            self.send_header("X", "y")

    def flushed_headers_without_end(self) -> None:
        self.send_response(200)
        while True:
            self.send_header("X", "y")
            self.flush_headers()

    def empty(self) -> None:
        for _ in range(100_000):
            self.wfile.write(b"")
        assert not self.wfile._parts  # type: ignore[attr-defined]

    def large(self) -> None:
        write_much(self.wfile.write)


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """The same pages for WSGI, with write() and with pieces."""
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    path = environ["PATH_INFO"].strip("/")
    if path == "endless":
        write_without_end(write)
    elif path == "stubborn":
        for _ in range(100):
            try:
                write_without_end(write)
            except Exception:
                continue
    elif path == "large":
        write_much(write)
        return []
    elif path in ("silent", "silent_later"):
        begun.set()
        return chain([b"hello"] if path == "silent_later" else [], repeat(b""))
    return [b"hello"]

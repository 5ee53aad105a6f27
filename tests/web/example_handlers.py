"""Handlers as one writes them for the standard library's server, and for no other: the tests serve them as they are."""

from __future__ import annotations

import shutil
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

#: More than a response may have in memory.
LARGE = 1_000_003


class Hello(BaseHTTPRequestHandler):
    """The handler of https://docs.python.org/3/library/http.server.html, with correct and incorrect responses."""

    def do_GET(self) -> None:
        getattr(self, self.path.partition("?")[0].strip("/") or "hello", self.missing)()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.respond(body.upper() + self.rfile.read())

    do_PUT = do_POST

    def respond(self, body: bytes, *headers: tuple[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def missing(self) -> None:
        self.send_error(404)

    def hello(self) -> None:
        self.respond(b"hello", ("Content-type", "text/plain"))

    def measured(self) -> None:
        self.respond(b"five!", ("Content-Length", "5"))

    def chunks(self) -> None:
        self.respond(b"2\r\nab\r\n0\r\n\r\n", ("Transfer-Encoding", "chunked"))

    def half_a_chunk(self) -> None:
        self.respond(b"2\r\na", ("Transfer-Encoding", "chunked"))

    def large(self) -> None:
        self.send_response(200)
        self.end_headers()
        shutil.copyfileobj(BytesIO(b"x" * LARGE), self.wfile)

    def leave(self) -> None:
        self.respond(b"bye", ("Connection", "close"))

    def stay(self) -> None:
        self.respond(b"well", ("Connection", "Keep-Alive"), status=999)

    def nothing(self) -> None:
        self.respond(b"this is not sent", ("Content-Length", "16"), status=204)

    def unchanged(self) -> None:
        self.respond(b"nor this", status=304)

    def hints(self) -> None:
        self.send_response_only(103)
        self.send_header("Link", "</style.css>")
        self.end_headers()
        self.hello()

    def old(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\nby hand")

    def through_the_socket(self) -> None:
        self.request.settimeout(1)
        self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\nsent")

    def too_much(self) -> None:
        self.respond(b"12345", ("Content-Length", "3"))

    def too_little(self) -> None:
        self.respond(b"12345", ("Content-Length", "9"))

    def address(self) -> None:
        self.respond(b"%s %d" % (self.client_address[0].encode(), self.client_address[1]))

    def echo(self) -> None:
        self.respond(repr(sorted(self.headers.items())).encode())

    # --- bugs --------------------------------------------------------------------------------------

    def fail(self) -> None:
        self.respond(b"half")
        raise RuntimeError("a secret of the handler")

    def twice(self) -> None:
        self.hello()
        self.missing()

    def leave_the_daemon(self) -> None:
        raise SystemExit(3)

    def silent(self) -> None:
        pass

    def without_end(self) -> None:
        self.send_response(200)

    def split(self) -> None:
        self.respond(b"", ("Location", "/\r\nSet-Cookie: a=b"))

    def measured_in_words(self) -> None:
        self.respond(b"", ("Content-Length", "five"))

    def text(self) -> None:
        self.respond("text")  # type: ignore[arg-type]

    def upgrade(self) -> None:
        self.respond(b"", status=101)


class Reading(BaseHTTPRequestHandler):
    """Reads its socket itself."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.readline())


class Older(Hello):
    """Calls the stock class by name instead of ``super()``."""

    def end_headers(self) -> None:
        BaseHTTPRequestHandler.send_header(self, "X-Older", "yes")
        BaseHTTPRequestHandler.end_headers(self)

    def send_response(self, code: int, message: str | None = None) -> None:
        BaseHTTPRequestHandler.send_response_only(self, code, message)


class Careful(Hello):
    """Has a resource per connection, releases it at the end, and logs its own lines."""

    journal: list[str] = []  # noqa: RUF012, that of all of them

    def __init__(self, *arguments: Any, word: str = "no word", **keywords: Any) -> None:
        self.word = word
        super().__init__(*arguments, **keywords)

    def setup(self) -> None:
        super().setup()
        self.journal.append("set up")

    def finish(self) -> None:
        super().finish()
        self.journal.append("finished")

    def end_headers(self) -> None:
        self.send_header("X-Word", self.word)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        self.journal.append(format % args)

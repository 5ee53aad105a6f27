"""A WSGI application's conversation without a socket."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.states import PENDING
from daemons.serving.pump import Pump
from daemons.web.handlers.server import WebServer
from daemons.web.wsgi.service import WSGIService
from tests.web import applications
from tests.web.applications import closed
from tests.web.talking import conversation_of

#: Fields of every response, which are not compared.
_EACH = re.compile(rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\nServer: camelot\r\n")

FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 26\r\n"
    b"Connection: close\r\n\r\n500 Internal Server Error\n"
)


def carried(application: Any, **more: Any) -> type[Pump]:
    return Pump.for_service(WSGIService.of(application, "page", **more)())


@contextmanager
def visit(application: Any = applications.page, address: Any = ("192.0.2.7", 4242), **more: Any) -> Iterator[Any]:
    """Open a conversation with `application`, and close it at the end."""
    closed.clear()
    with (
        WebServer(("127.0.0.1", 8001), carried(application, **more), bind_and_activate=False) as server,
        conversation_of(server, address) as conversation,
    ):
        yield conversation


def batches(conversation: Conversation, data: bytes) -> list[bytes]:
    """Return the batches of bytes sent in response to `data`."""
    heard = [conversation.receive(data)]
    while conversation.state == PENDING:
        heard.append(conversation.proceed())
    return heard


def said(conversation: Conversation, *pieces: bytes) -> bytes:
    """Return the bytes sent in response to `pieces` of input, without the fields of every response."""
    return _EACH.sub(b"", b"".join(b"".join(batches(conversation, piece)) for piece in pieces))


def get(path: str, *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    """Return a request without a body."""
    lines = [f"{method} /{path.replace(' ', '%20')} HTTP/{version}", "Host: localhost", *fields, ""]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def response(body: bytes, *fields: str, status: str = "200 OK", length: int | None = -1) -> bytes:
    """Return an expected response, by default with the length of `body`."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/plain", *fields]
    if length is not None:
        lines.insert(2, f"Content-Length: {len(body) if length < 0 else length}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body


def chunks(*pieces: bytes) -> bytes:
    said = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return response(said, "Transfer-Encoding: chunked", length=None)


def parts(octets: bytes) -> tuple[list[bytes], bytes]:
    """Return the lines of the head, sorted, and the body."""
    head, _, body = octets.partition(b"\r\n\r\n")
    return sorted(head.split(b"\r\n")), body

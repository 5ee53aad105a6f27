"""The other end of HTTP, strict, and a handler's conversation without a socket."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.states import PENDING
from daemons.web.handlers.server import WebServer

_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([0-9]{3}) ([\t -~\x80-\xff]*)\r\n")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([\t -~\x80-\xff]*)\r\n")


@dataclass(frozen=True)
class Response:
    """A response, with lower-case field names."""

    status: int
    fields: dict[str, str]
    body: bytes
    version: str


def responses(data: bytes, methods: Iterable[str] = ()) -> list[Response]:
    """Parse consecutive responses to requests with `methods`, GET after them.  Raises `AssertionError` for surplus
    bytes."""
    asked = iter(methods)
    found: list[Response] = []
    while data:
        status_line = _STATUS_LINE.match(data)
        assert status_line, data[:80]
        at = status_line.end()
        fields: dict[str, str] = {}
        while field := _FIELD.match(data, at):
            name, value = field[1].decode().lower(), field[2].decode("latin-1")
            assert name not in fields, f"two of {name}"
            fields[name] = value
            at = field.end()
        assert data.startswith(b"\r\n", at), data[at : at + 80]
        status, data = int(status_line[2]), data[at + 2 :]
        body = b""
        if status >= 200 and next(asked, "GET") != "HEAD" and status not in (204, 304):
            body, data = _body(fields, data)
        found.append(Response(status, fields, body, status_line[1].decode()))
    return found


def _body(fields: dict[str, str], data: bytes) -> tuple[bytes, bytes]:
    if fields.get("transfer-encoding") == "chunked":
        assert "content-length" not in fields
        body = b""
        while True:
            size, _, data = data.partition(b"\r\n")
            length = int(size, 16)
            body, ends, data = body + data[:length], data[length : length + 2], data[length + 2 :]
            assert ends == b"\r\n"
            if not length:
                return body, data
    if "content-length" not in fields:
        return data, b""
    length = int(fields["content-length"])
    return data[:length], data[length:]


@contextmanager
def conversation_of(server: WebServer, address: Any) -> Iterator[Conversation]:
    """Open a conversation of `server` on a connected socket, and close it at the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, address, 1.0)
        conversation = server.make_conversation(connection)
        assert conversation.open() == b""
        yield conversation
        conversation.close()


@contextmanager
def visit(handler: Any, address: Any = ("192.0.2.7", 4242)) -> Iterator[Conversation]:
    """Open a conversation with `handler`, and close it at the end."""
    with (
        WebServer(("127.0.0.1", 80), handler, bind_and_activate=False) as server,
        conversation_of(server, address) as conversation,
    ):
        yield conversation


def said(conversation: Conversation, *pieces: bytes) -> bytes:
    """Return all bytes sent in response to `pieces` of input."""
    heard = []
    for piece in pieces:
        heard.append(conversation.receive(piece))
        while conversation.state == PENDING:
            heard.append(conversation.proceed())
    return b"".join(heard)


def get(path: str, *fields: str, version: str = "1.1", method: str = "GET", body: bytes = b"") -> bytes:
    """Return a request."""
    lines = [
        f"{method} {path} HTTP/{version}",
        "Host: localhost",
        *fields,
        *([f"Content-Length: {len(body)}"] * bool(body)),
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body

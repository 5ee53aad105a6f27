"""Foreign servers with canned HTTP responses."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

from tests.clients.foreign import Foreign, until_delimiter

Capture = pytest.CaptureFixture[str]

OK = b"HTTP/1.1 200 OK\r\n"


def responding(*answers: bytes) -> Foreign:
    """Return a server that sends the next of `answers` to each client, the last one to all others, and closes."""

    def visit(client: socket.socket) -> None:
        foreign.received.append(until_delimiter(client, b"\r\n\r\n"))
        with suppress(ConnectionError):  # the client may close before it has read everything
            client.sendall(answers[min(len(foreign.received), len(answers)) - 1])

    foreign = Foreign(visit)
    return foreign


def response(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """Return a response with this body, further header fields and this status."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body

"""What handlers do with `rfile` and `connection`, in memory as with a socket."""

from __future__ import annotations

import io
import os
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from daemons.web.handlers.memory_socket import MemorySocket, RequestBody
from daemons.web.handlers.response_buffer import ResponseBuffer
from tests.web.talking import get, responses, said, visit

LARGE = bytes(range(256)) * 1024


class Sending(BaseHTTPRequestHandler):
    """Sends a file with the socket's sendfile(), or the request's body after a peek."""

    file: Path

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        with self.file.open("rb") as file:
            sent = self.connection.sendfile(file, **{name: int(value) for name, value in self._arguments()})
            self.wfile.write(b" %d %d" % (sent, file.tell()))

    def _arguments(self) -> list[tuple[str, str]]:
        words = self.path.strip("/").split("/")
        return list(zip(words[::2], words[1::2], strict=False))

    def do_POST(self) -> None:
        assert isinstance(self.rfile, io.BufferedReader | RequestBody)
        first = self.rfile.peek(1)[:1]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(first + b" " + self.rfile.read(int(self.headers["Content-Length"])) + self.rfile.peek())


@pytest.mark.parametrize("content", [b"0123456789", LARGE], ids=["short", "large"])
@pytest.mark.parametrize(
    ("path", "start", "end"),
    [
        ("/", 0, None),
        ("/offset/3", 3, None),
        ("/count/4", 0, 4),
        ("/offset/3/count/4", 3, 7),
        ("/count/900000", 0, None),
        ("/offset/900000", 900000, None),
    ],
)
def test_sendfile_sends_the_same_bytes_as_a_socket(
    content: bytes, path: str, start: int, end: int | None, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    handler = type("SendingFile", (Sending,), {"file": file})
    with visit(handler) as talk:
        (response,) = responses(said(talk, get(path)))
    expected = content[start:end]
    assert response.body == expected + b" %d %d" % (len(expected), start + len(expected))


@pytest.mark.parametrize(("mode", "count", "reason"), [("r", None, "text mode"), ("rb", 0, "at least 1")])
def test_sendfile_refuses_invalid_arguments(mode: str, count: int | None, reason: str) -> None:
    wfile: Any = None
    with open(__file__, mode) as file, pytest.raises(ValueError, match=reason):
        MemorySocket(None, None, wfile).sendfile(file, 0, count)


@pytest.mark.parametrize("body", [b"octets", LARGE], ids=["short", "large"])
def test_peek_does_not_consume_the_body(body: bytes) -> None:
    with visit(Sending) as talk:
        request = get("/", f"Content-Length: {len(body)}", method="POST") + body
        (response,) = responses(said(talk, request))
    assert response.body == body[:1] + b" " + body


def test_sendfile_reads_a_pipe_and_a_stream_from_their_position() -> None:
    readable, writable = os.pipe()
    with open(writable, "wb") as end:
        end.write(b"from a pipe")
    stream = io.BytesIO(b"0123")
    stream.read(1)
    wfile = ResponseBuffer()
    connection = MemorySocket(None, None, wfile)
    with open(readable, "rb") as pipe:
        assert connection.sendfile(pipe) == 11
    assert connection.sendfile(stream) == 3
    assert b"".join(part for part in wfile.content() if isinstance(part, bytes)) == b"from a pipe123"

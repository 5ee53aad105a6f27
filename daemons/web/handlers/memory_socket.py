"""What stands in the place of a handler's socket, while its request is a message and its answer another."""

from __future__ import annotations

import io
from typing import Any

from daemons.web.handlers.response_buffer import PIECE, ResponseBuffer


class RequestBody(io.BytesIO):
    """A handler's `rfile`: what an `io.BufferedReader` can do, over the body of one request."""

    __slots__ = ()

    def peek(self, size: int = 0, /) -> bytes:
        """Return the next bytes without consuming them, at most `PIECE`; none at the end.  `size` is ignored, as an
        `io.BufferedReader` may."""
        position = self.tell()
        data = self.read(PIECE)
        self.seek(position)
        return data


class MemorySocket:
    """What stock handlers do with `request` and `connection`, without a socket.  Reading gives the request's body,
    writing adds to the answer, and timeouts and options are the engine's own business."""

    __slots__ = ("_here", "_there", "rfile", "wfile")

    def __init__(self, here: Any, there: Any, wfile: ResponseBuffer) -> None:
        self._here = here
        self._there = there
        self.rfile = RequestBody()
        self.wfile = wfile

    def makefile(self, mode: str = "r", buffering: int | None = None, **keywords: Any) -> Any:
        """The body of the request that is answered, or the answer to it."""
        return self.wfile if "w" in mode else self.rfile

    def getsockname(self) -> Any:
        """The server's address."""
        return self._here

    def getpeername(self) -> Any:
        """The visitor's address."""
        return self._there

    def recv(self, size: int, flags: int = 0) -> bytes:
        """More of the body."""
        return self.rfile.read(size)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """More of the answer."""
        self.wfile.write(data)

    def send(self, data: Any, flags: int = 0) -> int:
        """More of the answer."""
        return self.wfile.write(data)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Add a file to the answer, from `offset` on and at most `count` bytes, as `socket.socket.sendfile` sends it;
        return the number of bytes, behind which the file is left.  Raises `ValueError` for a file in text mode, or a
        count below 1."""
        if "b" not in getattr(file, "mode", "b"):
            raise ValueError("the file is opened in text mode; a binary one is expected")
        if count is not None and count < 1:
            raise ValueError(f"count is {count}; a number of bytes is expected, at least 1")
        # As sendfile(2), whose offset counts from the beginning; what is no file is read on from where it is.
        if offset or (isinstance(file, (io.BufferedReader, io.FileIO)) and file.seekable()):
            file.seek(offset)
        before = self.wfile.size
        if count is None and self.wfile.write_file(file):
            sent = self.wfile.size - before
            file.seek(offset + sent)
            return sent
        sent = 0
        while data := file.read(PIECE if count is None else min(PIECE, count - sent)):
            self.wfile.write(data)
            sent += len(data)
        return sent

    def fileno(self) -> int:
        """There is none.  Raises `io.UnsupportedOperation`."""
        raise io.UnsupportedOperation("a handler in memory has no socket; one that overrides handle() is given one")

    def gettimeout(self) -> None:
        """Nobody waits."""

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        """Nothing is set."""
        return bytes(size) if size else 0

    def settimeout(self, timeout: float | None) -> None:
        """Nothing is waited for."""

    def setblocking(self, blocking: bool) -> None:
        """Nothing is waited for."""

    def setsockopt(self, *arguments: Any) -> None:
        """The daemon has set what it needs."""

    def shutdown(self, how: int) -> None:
        """The daemon ends the conversation."""

    def close(self) -> None:
        """The daemon ends the conversation."""

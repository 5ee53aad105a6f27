"""Stands in for a handler's socket: the request is in memory, and so is the response."""

from __future__ import annotations

import io
from typing import Any

from daemons.web.handlers.response_buffer import ResponseBuffer
from daemons.web.handlers.response_parts import PIECE


class RequestBody(io.BytesIO):
    """A handler's `rfile`: the body of one request, with the methods of `io.BufferedReader`."""

    __slots__ = ()

    def peek(self, size: int = 0, /) -> bytes:
        """Return the next bytes without consuming them, at most `PIECE`; none at the end.  `size` is ignored, as an
        `io.BufferedReader` may."""
        position = self.tell()
        data = self.read(PIECE)
        self.seek(position)
        return data


class MemorySocket:
    """A handler's `request` and `connection`: the methods of a socket that stock handlers call.

    Reading returns the request's body, and writing adds to the response.  Timeouts and options have no effect: the
    engine sets them on the real socket."""

    __slots__ = ("_here", "_there", "rfile", "wfile")

    def __init__(self, here: Any, there: Any, wfile: ResponseBuffer) -> None:
        self._here = here
        self._there = there
        self.rfile = RequestBody()
        self.wfile = wfile

    def makefile(self, mode: str = "r", buffering: int | None = None, **keywords: Any) -> Any:
        """Return the response for a mode that writes, else the request's body."""
        return self.wfile if "w" in mode else self.rfile

    def getsockname(self) -> Any:
        """Return the server's address."""
        return self._here

    def getpeername(self) -> Any:
        """Return the client's address."""
        return self._there

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return up to `size` bytes of the request's body."""
        return self.rfile.read(size)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Add `data` to the response."""
        self.wfile.write(data)

    def send(self, data: Any, flags: int = 0) -> int:
        """Add `data` to the response, and return its length in bytes."""
        return self.wfile.write(data)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Add a file to the response, from `offset` and at most `count` bytes, as `socket.socket.sendfile` sends it.

        Return the number of bytes, and leave the file positioned after them.  Raises `ValueError` for a file in text
        mode, or a count below 1."""
        if "b" not in getattr(file, "mode", "b"):
            raise ValueError("the file is opened in text mode; a binary one is expected")
        if count is not None and count < 1:
            raise ValueError(f"count is {count}; a number of bytes is expected, at least 1")
        # As in sendfile(2), the offset counts from the beginning; other objects are read from their current position.
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
        """Raises `io.UnsupportedOperation`: there is no descriptor."""
        raise io.UnsupportedOperation("a handler run in memory has no socket; override handle() to be given one")

    def gettimeout(self) -> None:
        """Return None: no call blocks."""

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        """Return 0, or `size` zero bytes: no option is set."""
        return bytes(size) if size else 0

    def settimeout(self, timeout: float | None) -> None:
        """Do nothing: no call blocks."""

    def setblocking(self, blocking: bool) -> None:
        """Do nothing: no call blocks."""

    def setsockopt(self, *arguments: Any) -> None:
        """Do nothing: the daemon sets the options of the real socket."""

    def shutdown(self, how: int) -> None:
        """Do nothing: the daemon ends the conversation."""

    def close(self) -> None:
        """Do nothing: the daemon ends the conversation."""

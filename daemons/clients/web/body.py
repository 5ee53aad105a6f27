"""Bodies of requests and responses."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx2

from daemons.clients import output
from daemons.clients.web import charset
from daemons.clients.web.common import Failure
from daemons.clients.web.content import decoded

#: Bytes per read from a file.
PIECE = 64 * 1024


class FileBody:
    """A regular file as a request body; it can be iterated again after a redirect.  Raises `Failure`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Without O_NONBLOCK, opening a FIFO would block until it has a writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise Failure(f"{path}: not a regular file")
            if not found.st_size and file.read(1):  # a file in /proc or /sys
                raise Failure(f"{path}: the system does not know its length; send a copy of it")
        self.size = found.st_size

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            # Data appended meanwhile is not sent: Content-Length has been sent already.
            left = self.size
            while left and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                yield piece
        if left:
            raise Failure(f"{self._path}: the file was truncated while it was sent")


def write_body(response: httpx2.Response) -> None:
    """Write the body of a response to standard output by `daemons.clients.output`, with the declared charset."""
    output.write_all(decoded(response), charset.declared_by(response))


def read_body(response: httpx2.Response, longest: int) -> bytes:
    """Return the whole body of a response.  Raises `Failure` if it has more than `longest` bytes."""
    body = bytearray()
    for piece in decoded(response):
        body += piece
        if len(body) > longest:
            raise Failure(f"{response.request.url}: the page is longer than {longest} bytes")
    return bytes(body)

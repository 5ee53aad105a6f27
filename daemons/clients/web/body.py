"""Bodies: the octets that are sent, and where those that come are put."""

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

#: Octets that are read of a file at a time.
PIECE = 64 * 1024


class FileBody:
    """A regular file, to be sent, as often as redirects ask for it.  Raises `Failure`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Without waiting: a FIFO that nobody writes to would be waited for without end.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise Failure(f"{path}: not a regular file")
        self.size = found.st_size

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            # What it has grown by meanwhile is not sent: its length has been told.
            left = self.size
            while left and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                yield piece
        if left:
            raise Failure(f"{self._path}: it has become shorter while it was sent")


def printed(response: httpx2.Response) -> None:
    """Write a body to standard output, as `daemons.clients.output` does; text is decoded as the response declares."""
    output.write_all(decoded(response), charset.declared_by(response))


def limited(response: httpx2.Response, longest: int) -> bytes:
    """The whole body.  Raises `Failure` where it has more than `longest` octets."""
    body = bytearray()
    for piece in decoded(response):
        body += piece
        if len(body) > longest:
            raise Failure(f"{response.request.url}: more than {longest} octets, which is no page")
    return bytes(body)

"""Bodies: the octets that are sent, and where those that come are put."""

from __future__ import annotations

import codecs
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx

from daemons.clients.web.common import Failure

#: Octets that are read of a file at a time.
PIECE = 64 * 1024

#: What could drive a terminal: all but tab and newline.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class FileBody:
    """A regular file, to be sent, as often as redirects ask for it.  Raises `Failure`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
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


def printed(response: httpx.Response) -> None:
    """A body on standard output: its octets; at a terminal as text, without what could drive it."""
    if not sys.stdout.isatty():
        for piece in response.iter_bytes():
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    last = ""
    for last in _text(response):
        sys.stdout.write(_CONTROL.sub(lambda match: ascii(match[0])[1:-1], last))
    sys.stdout.write("" if last.endswith("\n") or not last else "\n")
    sys.stdout.flush()


def _text(response: httpx.Response) -> Iterator[str]:
    charset = "utf-8"
    with suppress(LookupError):
        charset = codecs.lookup(response.charset_encoding or charset).name
    decoder = codecs.getincrementaldecoder(charset)("backslashreplace")
    for piece in response.iter_bytes():
        if text := decoder.decode(piece).replace("\r\n", "\n"):
            yield text


def limited(response: httpx.Response, longest: int) -> bytes:
    """The whole body.  Raises `Failure` where it has more than `longest` octets."""
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > longest:
            raise Failure(f"{response.request.url}: more than {longest} octets, which is no page")
    return bytes(body)

"""``wsgi.file_wrapper``: PEP 3333, "Optional Platform-Specific File Handling"."""

from __future__ import annotations

import os
import stat
from io import BufferedReader, FileIO
from typing import Any

from daemons.web.handlers.response_parts import PIECE


class FileWrapper:
    """Iterator over the rest of a file-like object, in pieces of `PIECE` bytes.  `block_size` is a hint that is
    ignored."""

    def __init__(self, file: Any, block_size: int = 8192) -> None:
        self._read = file.read
        self._left: int | None = _rest_of(file)
        if hasattr(file, "close"):
            self.close = file.close

    @property
    def length(self) -> int | None:
        """The remaining length in bytes; None if unknown.  Bytes appended to the file later are not sent."""
        return self._left

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        wanted = PIECE if self._left is None else min(PIECE, self._left)
        piece: bytes = self._read(wanted) if wanted else b""
        if not piece:
            raise StopIteration
        if self._left is not None:
            self._left -= len(piece)
        return piece


def _rest_of(file: Any) -> int | None:
    if type(file) not in (BufferedReader, FileIO):
        return None  # subclasses and wrappers may transform the contents of their file
    found = os.fstat(file.fileno())
    # Files of proc(5) have size 0, although they can be read.
    return max(0, found.st_size - file.tell()) if stat.S_ISREG(found.st_mode) and found.st_size else None

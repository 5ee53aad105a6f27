"""A response that is sent from memory and from open files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.guards import budget

#: Bytes read from a file at a time.
PIECE = 64 * 1024


class ResponseParts(Iterator[bytes | FileSlice]):
    """A response of bytes and file slices.  At its end it closes `descriptors`, which it owns, and releases the memory
    charged to `owner` (`daemons.serving.guards.budget`)."""

    #: For the log, if the responder sets it: the status, and the length of the body in bytes.
    status_and_size: tuple[int, int | None] = (0, None)

    def __init__(self, parts: list[bytes | FileSlice], descriptors: list[int], owner: object | None = None) -> None:
        self._parts = parts[::-1]
        self._descriptors = descriptors
        self._owner = owner

    def __next__(self) -> bytes | FileSlice:
        while self._parts:
            part = self._parts.pop()
            if part.left if isinstance(part, FileSlice) else part:
                return part
        self.close()
        raise StopIteration

    def read_all(self) -> Iterator[bytes]:
        """Yield the response as bytes, read from the files in pieces of `PIECE` bytes."""
        for part in self:
            if isinstance(part, bytes):
                yield part
                continue
            while part.left:
                yield part.read(PIECE)

    def close(self) -> None:
        """Close the files, and release the memory."""
        descriptors, self._descriptors = self._descriptors, []
        for descriptor in descriptors:
            with suppress(OSError):
                os.close(descriptor)
        if self._owner is not None:
            budget.PROCESS.release(self._owner)
            self._owner = None

    def __del__(self) -> None:
        self.close()

"""Part of a file as a piece of a reply, which an engine may send with sendfile(2)."""

from __future__ import annotations

import os


class FileSlice:
    """`left` bytes of a file, from offset `start`.  The creator of the slice owns the descriptor, and closes it."""

    __slots__ = ("descriptor", "left", "sendable", "start")

    def __init__(self, descriptor: int, start: int, left: int) -> None:
        self.descriptor = descriptor
        self.start = start
        self.left = left
        #: False once sendfile(2) has failed; the conversation then reads the rest with pread(2).  That succeeds if the
        #: file system does not support sendfile(2) (EINVAL, ENOSYS).  Any other error recurs in the read or the send,
        #: and is handled there.
        self.sendable = True

    def __repr__(self) -> str:
        return f"FileSlice({self.descriptor}, {self.start}, {self.left})"

    def take(self, count: int) -> None:
        """Remove `count` bytes, which have been sent, from the front.

        Raises `EOFError` if `count` is 0 and bytes are left: the file has been truncated.
        """
        if not count and self.left:
            raise EOFError(f"{self._path()}: file truncated while it was sent: {self.left} bytes missing")
        self.start += count
        self.left -= count

    def read(self, most: int) -> bytes:
        """Read and remove at most `most` bytes.  Raises `EOFError` as `take` does, and `OSError` with the path."""
        try:
            data = os.pread(self.descriptor, min(most, self.left), self.start)
        except OSError as error:
            error.filename = self._path()
            raise
        self.take(len(data))
        return data

    def _path(self) -> str:
        """Return the path of the file, for the log."""
        try:
            return os.readlink(f"/proc/self/fd/{self.descriptor}")
        except OSError:
            return f"the file of descriptor {self.descriptor}"

"""Octets in a file, as a piece of a reply: an engine may send them from there, sendfile(2), and nobody holds them."""

from __future__ import annotations

import os


class FileSlice:
    """`left` octets from `start` on, in the file of a descriptor, which belongs to whoever made this."""

    __slots__ = ("descriptor", "left", "sendable", "start")

    def __init__(self, descriptor: int, start: int, left: int) -> None:
        self.descriptor = descriptor
        self.start = start
        self.left = left
        #: Cleared when sendfile(2) has failed.  Some file systems refuse it (EINVAL, ENOSYS); and an error of it may be
        #: the file's or the socket's, which a read followed by a send shows.
        self.sendable = True

    def __repr__(self) -> str:
        return f"Span({self.descriptor}, {self.start}, {self.left})"

    def take(self, count: int) -> None:
        """So many of them have been sent.  Raises `EOFError` for none, where there should be some."""
        if not count and self.left:
            raise EOFError(f"{self._path()}: became shorter while it was sent, by {self.left} bytes")
        self.start += count
        self.left -= count

    def read(self, most: int) -> bytes:
        """The first of them, up to so many, which are then taken.  Raises `EOFError`, and `OSError` with the path."""
        try:
            data = os.pread(self.descriptor, min(most, self.left), self.start)
        except OSError as error:
            error.filename = self._path()
            raise
        self.take(len(data))
        return data

    def _path(self) -> str:
        """The path of the file, for the log."""
        try:
            return os.readlink(f"/proc/self/fd/{self.descriptor}")
        except OSError:
            return f"the file of descriptor {self.descriptor}"

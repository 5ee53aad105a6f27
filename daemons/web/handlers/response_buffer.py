"""Buffer of the response that a handler writes, sent when it is complete.

So its length is known before its first byte is sent, and a handler that raises an exception has sent nothing.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from collections.abc import Callable, Iterable
from typing import Any

from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.guards import budget
from daemons.serving.guards.limits import Limits
from daemons.settings.values import SIZE
from daemons.web.handlers.response_head import ResponseHead
from daemons.web.handlers.response_parts import PIECE, ResponseParts
from daemons.web.site.unnamed_file import unnamed_file

#: Bytes of one response that are kept in memory; more are moved to an unnamed file.
SPILL = 256 * 1024

#: Files of one response that are read as they are sent; each takes a descriptor. Further files are copied.
MOST_FILES = 16

#: Seconds between checks for a closed connection, while a handler writes less than `SPILL`.
CHECK_INTERVAL = 1.0


class ResponseTooLarge(Exception):
    """A handler has written more than ``[limits] response`` bytes before it returned."""


class Bounds:
    """Limits of the responses of one connection.

    limit
        Maximum bytes of a response, beyond which `write` raises `ResponseTooLarge`. Files that are not copied do not
        count.
    is_gone
        Returns True if the peer can receive nothing more; then `write` raises `BrokenPipeError`. Called for every
        `SPILL` bytes, and every `CHECK_INTERVAL` seconds.
    """

    __slots__ = ("is_gone", "limit", "threshold")

    def __init__(self, limit: int = Limits.response, is_gone: Callable[[], bool] = bool) -> None:
        self.limit = limit
        self.is_gone = is_gone
        #: Maximum bytes in memory, beyond which they are moved to a file.
        self.threshold = min(SPILL, limit)


class ResponseBuffer(ResponseHead):
    """A handler's `wfile` for one request.  Not a subclass of `io.BufferedIOBase`: its finalizer takes as long as all
    other work on a short response."""

    __slots__ = (
        "_bounds",
        "_descriptors",
        "_end",
        "_kept",
        "_next_check",
        "_owner",
        "_parts",
        "_spilled",
        "_threshold",
        "closed",
        "failure",
        "size",
    )

    def __init__(self, bounds: Bounds | None = None) -> None:
        super().__init__()
        self.closed = False
        self._bounds = bounds = bounds or Bounds()
        #: The threshold of `bounds`; -1 after a failure, so that every write calls `_spill`, which raises the failure.
        self._threshold = bounds.threshold
        #: Why the response cannot be sent, even if the handler caught the exception.
        self.failure: ResponseTooLarge | OSError | None = None
        #: Length of the body, in bytes.
        self.size = 0
        self._parts: list[bytes | FileSlice] = []
        #: Bytes in memory, after the last file slice.
        self._kept = 0
        #: Descriptor of the unnamed file that holds bytes moved out of memory, and its length.
        self._spilled: int | None = None
        self._end = 0
        #: Descriptors to close.  (`_owner` is set together with `_spilled`.  If that file is in memory, the budget of
        #: the process charges its bytes to `_owner`.)
        self._descriptors: list[int] = []

    def writable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return False."""
        return False

    seekable = isatty = readable

    def flush(self) -> None:
        """Do nothing: the response is sent when it is complete."""

    def close(self) -> None:
        """Set `closed`; the response is sent nevertheless."""
        self.closed = True

    def fileno(self) -> int:
        """Raises `io.UnsupportedOperation`: there is no descriptor."""
        raise io.UnsupportedOperation("a response in memory has no descriptor")

    def write(self, data: Any, /) -> int:
        """Add to the body. A handler that has written no head writes the whole response, which is sent unchanged.
        Raises `ResponseTooLarge`, `BrokenPipeError`, and `OSError` for a full disk."""
        if type(data) is not bytes:
            with memoryview(data) as view:
                data = view.tobytes()
        size = len(data)
        if size:
            self._parts.append(data)
            self.size += size
            self._kept += size
        if self._kept > self._threshold:
            self._spill()
        elif len(self._parts) > 1:
            self._check_peer()
        return size

    def writelines(self, lines: Iterable[Any], /) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def write_file(self, source: Any) -> bool:
        """Add the rest of an open file; a long one is read as it is sent.  Return False, and add nothing, for objects
        other than regular files."""
        if type(source) not in (io.BufferedReader, io.FileIO):
            return False  # subclasses and wrappers may transform the contents of their file
        found = os.fstat(source.fileno())
        # Files of proc(5) have size 0, although they can be read.
        if not (stat.S_ISREG(found.st_mode) and found.st_size) or len(self._descriptors) > MOST_FILES:
            return False
        start = source.tell()
        length = found.st_size - start
        if length <= PIECE:
            self.write(source.read(length) if length > 0 else b"")
            return True
        descriptor = os.dup(source.fileno())
        self._descriptors.append(descriptor)
        self._parts.append(FileSlice(descriptor, start, length))
        self._kept = 0
        self.size += length
        return True

    def content(self, most: int | None = None) -> list[bytes | FileSlice]:
        """Return the body, truncated to `most` bytes."""
        if most is None or most >= self.size:
            return self._parts
        parts: list[bytes | FileSlice] = []
        for part in self._parts:
            if isinstance(part, FileSlice):
                part = FileSlice(part.descriptor, part.start, min(most, part.left))
                most -= part.left
            else:
                part = part[:most]
                most -= len(part)
            parts.append(part)
        return parts

    @property
    def last_chunk(self) -> bool:
        """Whether the body ends with the last chunk of a chunked body without trailers (RFC 9112, section 7.1)."""
        return b"".join(part for part in self._parts[-4:] if isinstance(part, bytes)).endswith(b"0\r\n\r\n")

    def assemble(self, head: bytes, parts: list[bytes | FileSlice]) -> bytes | ResponseParts:
        """Return the response as a `Conversation` sends it: bytes if it is in memory, else `ResponseParts`."""
        if not self._descriptors:
            return b"".join((head, *parts))  # type: ignore[arg-type]  # all are bytes
        descriptors, self._descriptors = self._descriptors, []
        return ResponseParts([head, *parts], descriptors, getattr(self, "_owner", None))

    def discard(self) -> None:
        """Release files and memory: the response is not sent."""
        ResponseParts([], self._descriptors, getattr(self, "_owner", None)).close()
        self._descriptors = []
        self._spilled = None

    def _spill(self) -> None:
        """Move the bytes in memory to a file."""
        if self.failure is None and self._bounds.is_gone():
            self._fail(BrokenPipeError(errno.EPIPE, "the peer has closed the connection"))
        if self.failure is None and self._end + self._kept > self._bounds.limit:
            self._fail(ResponseTooLarge(f"more than [limits] response, {SIZE.show(self._bounds.limit)}, was written"))
        if self.failure is not None:
            self._parts = []
            self._kept = 0
            raise self.failure
        if self._spilled is None:
            self._spilled, in_memory = unnamed_file()
            self._owner = object() if in_memory else None
            self._descriptors.append(self._spilled)
        first = len(self._parts)
        while first and isinstance(self._parts[first - 1], bytes):
            first -= 1
        data = memoryview(b"".join(self._parts[first:]))  # type: ignore[arg-type]  # these are bytes
        self._parts[first:] = [FileSlice(self._spilled, self._end, len(data))]
        try:
            while data:
                written = os.pwrite(self._spilled, data, self._end)
                self._end += written
                data = data[written:]
        except OSError as error:
            # If the handler catches this and goes on, its response would have a gap.
            self._fail(error)
            raise
        self._kept = 0
        if self._owner is not None and not budget.PROCESS.charge(self._owner, self._end):
            budget.PROCESS.refuse(self._owner)
            self._fail(ResponseTooLarge("no temporary file can be written, and [limits] held has no room in memory"))
            self._spill()

    def _check_peer(self) -> None:
        now = time.monotonic()
        # The second write sets `_next_check`, since most handlers write only once.
        if now < getattr(self, "_next_check", 0.0):
            return
        if hasattr(self, "_next_check") and self._bounds.is_gone():
            self._spill()
        self._next_check = now + CHECK_INTERVAL

    def _fail(self, failure: ResponseTooLarge | OSError) -> None:
        """Discard the response. Every further write raises `failure`."""
        self.failure = failure
        self.discard()
        self._parts = []
        self._kept = self._end = 0
        self._threshold = -1


io.BufferedIOBase.register(ResponseBuffer)

"""What a handler in memory writes: kept until it is complete, then sent.

So its length is known before its first octet is sent, and a handler that fails has said nothing yet.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from daemons.framings.cache import FIELD, BoundedCache
from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.guards import budget
from daemons.serving.guards.limits import Limits
from daemons.settings.values import SIZE
from daemons.web.site.unnamed_file import unnamed_file

#: Octets of one answer that are kept in memory; what is beyond goes to a file without a name.
SPILL = 256 * 1024

#: Files of one answer that are read while they are sent; each takes a descriptor. Further ones are copied.
MOST_FILES = 16

#: Seconds between two looks whether the peer is still there, while a handler writes less than `SPILL`.
LOOK = 1.0

#: Header fields of one response, its status line included: some ten times as many as clients take.
MOST_FIELDS = 1000
TOO_MANY = f"more than {MOST_FIELDS} header fields in one response"

#: Octets that are read from a file at a time.  A file that has no more is copied at once.
PIECE = 64 * 1024


#: The lines of a head.  A status above 599 is nobody's, and some say it (RFC 9110, section 15).  In one with a line end
#: in its middle, or another control character, somebody reads two (section 5.5).
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2} [\t -~\x80-\xff]*\r\n)")
#: The blanks before a value are removed later: a repetition of blanks before one of blanks and others takes quadratic
#: time for a line that does not match.
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t -~\x80-\xff]*)\r\n")


#: Fields of up to so many octets that were found to be in order, and mean nothing to us: most are said again and again.
#: When there are so many they are forgotten.
REMEMBERED_LINE = 256
REMEMBERED_COUNT = 1024
_plain: set[bytes] = set()


#: Heads that came in one piece, and what became of them: the same one is sent again and again within a second, and then
#: with another Date.  By their lines: one with a line end in its middle has the octets of two.  Of up to so many octets
#: together.
REMEMBERED_HEAD = 2048
_heads: BoundedCache[tuple[bytes, ...], tuple[list[bytes], int, int | None, bool, bool]] = BoundedCache(
    REMEMBERED_COUNT
)


class ResponseTooLarge(Exception):
    """A handler has written more than ``[limits] response`` allows before any of it could be sent."""


class Bounds:
    """Bounds of the responses in one conversation; made once for all of them.

    limit
        Bytes that may be written; files that are sent from where they are do not count. Beyond it, writing raises
        `ResponseTooLarge`.
    is_gone
        Returns whether the peer can no longer be sent anything. Then writing raises `BrokenPipeError`; it is asked
        for every `SPILL` bytes, and every second.
    """

    __slots__ = ("is_gone", "limit", "threshold")

    def __init__(self, limit: int = Limits.response, is_gone: Callable[[], bool] = bool) -> None:
        self.limit = limit
        self.is_gone = is_gone
        #: Bytes in memory beyond which they are moved to a file.
        self.threshold = min(SPILL, limit)


class ResponseBuffer:
    """A handler's `wfile`, for one request: an `io.BufferedIOBase`, but for the finalizer, which would take as long as
    all else about a short answer."""

    __slots__ = (
        "_bounds",
        "_descriptors",
        "_end",
        "_kept",
        "_look_at",
        "_owner",
        "_parts",
        "_spilled",
        "_threshold",
        "announced",
        "chunked",
        "closed",
        "failure",
        "head",
        "headed",
        "keeps",
        "size",
        "status",
    )

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.closed = False
        self._bounds = bounds = bounds or Bounds()
        #: Of `bounds`; after a failure below 0, so that every write comes to `_spill`.
        self._threshold = bounds.threshold
        #: Why nothing of it can be sent, whatever the handler made of the exception.
        self.failure: ResponseTooLarge | OSError | None = None
        #: Whether the handler has said that the connection is kept.
        self.keeps = False
        #: The status line and fields so far, each with its end; the empty line is not among them.
        self.head: list[bytes] = []
        self.status = 0
        #: Whether the head is complete.
        self.headed = False
        #: Content-Length, where it is among the fields; and whether it is said that the body comes in chunks.
        self.announced: int | None = None
        self.chunked = False
        #: Octets of the body.
        self.size = 0
        self._parts: list[bytes | FileSlice] = []
        #: How many of them are in memory, behind the last span.
        self._kept = 0
        #: The file of what was too much for the memory, and where its end is.
        self._spilled: int | None = None
        self._end = 0
        #: All that must be closed.  (`_owner`, where there is such a file, is charged for it if it is in memory.)
        self._descriptors: list[int] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is not."""
        return False

    seekable = isatty = readable

    def flush(self) -> None:
        """Nothing is sent before all is there."""

    def close(self) -> None:
        """What is written is sent all the same."""
        self.closed = True

    def fileno(self) -> int:
        """There is none.  Raises `io.UnsupportedOperation`."""
        raise io.UnsupportedOperation("an answer in memory has no descriptor")

    def write_head(self, lines: list[bytes]) -> None:
        """Add to the head, up to its empty line.  Raises `ValueError` for a line that is none."""
        if self.status or lines[-1] != b"\r\n":
            self._write_head(lines)
            return
        key = tuple(lines)
        known = _heads.get(key)
        if known is not None:
            head, self.status, self.announced, self.chunked, self.keeps = known
            self.head = head.copy()
            self.headed = True
            return
        self._write_head(lines)
        if self.headed and sum(map(len, key)) <= REMEMBERED_HEAD:
            known = self.head.copy(), self.status, self.announced, self.chunked, self.keeps
            _heads.put(key, known, sum(map(len, key)) + FIELD * len(key))

    def _write_head(self, lines: list[bytes]) -> None:
        if len(self.head) + len(lines) > MOST_FIELDS + 1:  # and an empty line
            raise ValueError(TOO_MANY)
        for line in lines:
            if line in _plain and self.status:
                self.head.append(line)
            elif line == b"\r\n":
                self._end_head()
            elif self.status:
                self._write_field(line)
            elif status_line := _STATUS_LINE.fullmatch(line):
                self.status = int(status_line[1][:3])
                # The version is the server's: a client that is told 1.0 takes what follows for the end (RFC 9110,
                # section 6.2).
                self.head.append(b"HTTP/1.1 " + status_line[1])
            else:
                raise ValueError(f"a status line is expected, not {line!r}")

    def _write_field(self, line: bytes) -> None:
        field = _FIELD.fullmatch(line)
        if field is None:
            if _STATUS_LINE.fullmatch(line):
                raise ValueError(f"a second answer to one request: {line!r} behind one of status {self.status}")
            raise ValueError(f"a field is expected, without control characters, not {line!r}")
        name, value = field[1].lower(), field[2].lstrip(b" \t")
        if name == b"content-length":
            if not value.isdigit() or self.announced is not None:
                raise ValueError(f"Content-Length: {value!r}; a number of octets is expected, once")
            self.announced = int(value)
        elif name == b"transfer-encoding":
            self.chunked = True
        elif name == b"connection":
            if value.lower() in (b"close", b"keep-alive"):
                self.keeps = value[:1] in b"kK"
                return  # whether it is kept is said when the answer is complete
        elif len(line) <= REMEMBERED_LINE:
            if len(_plain) >= REMEMBERED_COUNT:
                _plain.clear()
            _plain.add(line)
        self.head.append(line)

    def _end_head(self) -> None:
        if self.status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise io.UnsupportedOperation("101: no other protocol is spoken in memory; override handle() for a socket")
        if self.status < 200:
            self.head, self.status = [], 0  # the request is here already, so there is nothing to wait for
        else:
            self.headed = True

    def write(self, data: Any, /) -> int:
        """Add to the body; or, where no head has been made, to an answer that is sent as it is. Raises
        `ResponseTooLarge`, `BrokenPipeError`, and `OSError` for a disk that is full."""
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
            self._look_now_and_then()
        return size

    def writelines(self, lines: Iterable[Any], /) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def write_file(self, source: Any) -> bool:
        """Add the rest of an open file, which is read while it is sent, where it is long.  Returns whether that can be
        done: not with what is no plain file."""
        if type(source) not in (io.BufferedReader, io.FileIO):
            return False  # what is read from others need not be what is in their file
        found = os.fstat(source.fileno())
        # Files of proc(5) have no size, whatever can be read from them.
        if not (stat.S_ISREG(found.st_mode) and found.st_size) or len(self._descriptors) > MOST_FILES:
            return False
        start = source.tell()  # which a pipe does not have
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
        """The body, up to so many octets."""
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
        """Whether it ends as a chunked body without trailers does, RFC 9112, section 7.1."""
        return b"".join(part for part in self._parts[-4:] if isinstance(part, bytes)).endswith(b"0\r\n\r\n")

    def reply(self, head: bytes, parts: list[bytes | FileSlice]) -> bytes | Parts:
        """The answer as a `Conversation` sends it: whole where it is in memory, else in pieces."""
        if not self._descriptors:
            return b"".join((head, *parts))  # type: ignore[arg-type]  # they are all bytes
        descriptors, self._descriptors = self._descriptors, []
        return Parts([head, *parts], descriptors, getattr(self, "_owner", None))

    def discard(self) -> None:
        """Nothing of it is to be sent."""
        Parts([], self._descriptors, getattr(self, "_owner", None)).close()
        self._descriptors = []
        self._spilled = None

    def _spill(self) -> None:
        """Move what is in memory to a file."""
        if self.failure is None and self._bounds.is_gone():
            self._fail(BrokenPipeError(errno.EPIPE, "the peer has closed the connection"))
        if self.failure is None and self._end + self._kept > self._bounds.limit:
            self._fail(
                ResponseTooLarge(f"more than [limits] response, {SIZE.show(self._bounds.limit)}, is written unsent")
            )
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
        data = memoryview(b"".join(self._parts[first:]))  # type: ignore[arg-type]  # these are
        self._parts[first:] = [FileSlice(self._spilled, self._end, len(data))]
        try:
            while data:
                written = os.pwrite(self._spilled, data, self._end)
                self._end += written
                data = data[written:]
        except OSError as error:
            # A handler that catches it and goes on would be sent with a gap.
            self._fail(error)
            raise
        self._kept = 0
        if self._owner is not None and not budget.PROCESS.charge(self._owner, self._end):
            budget.PROCESS.refuse(self._owner)
            self._fail(ResponseTooLarge("no temporary file can be written, and [limits] held has no room in memory"))
            self._spill()

    def _look_now_and_then(self) -> None:
        now = time.monotonic()
        # It is set by the second write: most answers have one.
        if now < getattr(self, "_look_at", 0.0):
            return
        if hasattr(self, "_look_at") and self._bounds.is_gone():
            self._spill()
        self._look_at = now + LOOK

    def _fail(self, failure: ResponseTooLarge | OSError) -> None:
        """Send nothing, and keep nothing. Every further write fails in the same way."""
        self.failure = failure
        self.discard()
        self._parts = []
        self._kept = self._end = 0
        self._threshold = -1


io.BufferedIOBase.register(ResponseBuffer)


class Parts(Iterator[bytes | FileSlice]):
    """An answer in pieces.  It has its descriptors to itself, and closes them at its end.  Then `owner`, which has been
    charged for memory, is released (`daemons.serving.guards.budget`)."""

    #: For the log, where it is not told by who made this: the status, and the octets of the body.
    told: tuple[int, int | None] = (0, None)

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

    def octets(self) -> Iterator[bytes]:
        """The same, read from the files."""
        for part in self:
            if isinstance(part, bytes):
                yield part
                continue
            while part.left:
                yield part.read(PIECE)

    def close(self) -> None:
        """Close the files."""
        descriptors, self._descriptors = self._descriptors, []
        for descriptor in descriptors:
            with suppress(OSError):
                os.close(descriptor)
        if self._owner is not None:
            budget.PROCESS.release(self._owner)
            self._owner = None

    def __del__(self) -> None:
        self.close()

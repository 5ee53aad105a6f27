"""Bodies: of a known length, in chunks, or until the close (RFC 9112, sections 6.2, 6.3 and 7.1).

A `Body` takes bytes, cut anywhere, and holds them in one buffer, since a list of pieces could have an object for each
byte.  `drain` empties the buffer, also before the body is complete.  The buffer grows with the received bytes: a
Content-Length alone allocates nothing.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable

from daemons.framings.http.grammar import FIELD_LINE, TOKEN
from daemons.framings.http.refusals import refusal
from daemons.framings.http.trailers import Trailers

CRLF = b"\r\n"

#: Maximum bytes of the line with the size and the extensions of a chunk.
SIZE_LINE = 256

#: The first `CHUNKS` chunks may have any size; further ones must have at least `SHORT_CHUNK` bytes on average.  A chunk
#: takes about 1.5 microseconds: a MiB of one-byte chunks would take more than a second; `CHUNKS` of them take 20 ms.
CHUNKS, SHORT_CHUNK = 16 * 1024, 64

#: RFC 9112, section 7.1.1, without the whitespace around an extension's ``;`` and ``=`` ("bad whitespace"), which
#: no sender writes and not every reader accepts.  More than sixteen digits would overflow 64-bit integers.
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,16})"
    rb'(?:\r\n|((?:;%b(?:=(?:%b|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?)+)\r\n)' % (TOKEN, TOKEN)
)
_TRAILER = re.compile(FIELD_LINE)


class Body(ABC):
    """Buffer for the received bytes of one body, and whether the body is complete."""

    __slots__ = ("complete", "octets")

    def __init__(self, octets: bytes | bytearray) -> None:
        self.octets = octets
        self.complete = False

    @abstractmethod
    def take(self, source: bytes | bytearray, start: int) -> int:
        """Take the bytes of the body from ``source[start:]``; return the end of the taken bytes.

        Until `complete`, the caller must pass the remaining bytes again, followed by more.  Raises `FramingError`.
        """

    def drain(self) -> bytes:
        """Return and drop the bytes received since the last call."""
        received = bytes(self.octets)
        self.octets = bytearray()
        return received


class SizedBody(Body):
    """A body of `length` bytes, at least 1."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        super().__init__(b"")
        self._left = length

    def take(self, source: bytes | bytearray, start: int) -> int:
        end = min(start + self._left, len(source))
        piece = source[start:end]
        self._left -= end - start
        self.complete = not self._left
        if self.octets:
            self.octets += piece
        else:
            # Most bodies arrive in one piece; the others need a buffer that can grow.
            self.octets = piece if self.complete else bytearray(piece)
        return end


class UntilCloseBody(Body):
    """All bytes until the connection is closed, in responses only (RFC 9112, section 6.3).

    limit
        Maximum length in bytes; None: unlimited.
    """

    __slots__ = ("_left",)

    octets: bytearray

    def __init__(self, limit: int | None) -> None:
        super().__init__(bytearray())
        self._left = limit

    def take(self, source: bytes | bytearray, start: int) -> int:
        if self._left is None:
            self.octets += source[start:]
        else:
            self.octets += source[start : start + self._left]
            if len(source) - start > self._left:
                raise refusal(413, "the body is longer than is allowed")
            self._left -= len(source) - start
        return len(source)


class ChunkedBody(Body):
    """Chunks up to an empty chunk, then trailers.  Trailers are checked and dropped; chunk extensions are dropped.

    limit
        Maximum length of all chunks together in bytes; None: unlimited.
    notes
        Maximum length of extensions and trailers together in bytes.
    """

    __slots__ = ("_count", "_left", "_limit", "_next", "_notes", "_size", "_trailers")

    octets: bytearray

    def __init__(self, limit: int | None, notes: int) -> None:
        super().__init__(bytearray())
        self._limit = limit
        #: Length of all chunks whose size is known.
        self._size = 0
        self._count = 0
        self._trailers: Trailers | None = None
        self._notes = notes
        #: Remaining bytes of the current chunk.
        self._left = 0
        #: Parser of the next element.  Not a bound method, which would be a reference cycle.
        self._next: Callable[[ChunkedBody, bytes | bytearray, int], int] = ChunkedBody._take_size

    def take(self, source: bytes | bytearray, start: int) -> int:
        while not self.complete:
            end = self._next(self, source, start)
            if end == start:
                break
            start = end
        return start

    def _take_size(self, source: bytes | bytearray, start: int) -> int:
        match = _SIZE.match(source, start, start + SIZE_LINE)
        if match is None:
            if source.find(b"\n", start, start + SIZE_LINE) >= 0:
                raise refusal(400, "a chunk's size is one to sixteen hexadecimal digits, and maybe extensions")
            if len(source) - start >= SIZE_LINE:
                raise refusal(400, f"no end of a chunk's size within {SIZE_LINE} bytes")
            return start
        end = match.end()
        self._left = left = int(match[1], 16)
        self._size += left
        self._count += 1
        if self._limit is not None:
            if self._size > self._limit:
                raise refusal(413, f"chunks of more than {self._limit} bytes")
            if self._count > CHUNKS + self._size // SHORT_CHUNK:
                raise refusal(400, f"more than {CHUNKS} chunks, and on average less than {SHORT_CHUNK} bytes in each")
        if match[2]:
            self._note(len(match[2]))
        if not left:
            self._next = ChunkedBody._take_trailer
        elif source.startswith(CRLF, end + left):  # a complete chunk: one step, since chunks may be short
            self.octets += source[end : end + left]
            return end + left + len(CRLF)
        else:
            self._next = ChunkedBody._take_data
        return end

    def _take_data(self, source: bytes | bytearray, start: int) -> int:
        end = min(start + self._left, len(source))
        self.octets += source[start:end]
        self._left -= end - start
        if not self._left:
            self._next = ChunkedBody._take_end
        return end

    def _take_end(self, source: bytes | bytearray, start: int) -> int:
        found = bytes(source[start : start + 2])
        if found == CRLF:
            self._next = ChunkedBody._take_size
            return start + 2
        if not CRLF.startswith(found):
            raise refusal(400, "a chunk is longer than its size says: no CRLF behind it")
        return start

    def _take_trailer(self, source: bytes | bytearray, start: int) -> int:
        # The final empty line does not count.
        limit = self._notes + len(CRLF)
        end = source.find(b"\n", start, start + limit) + 1
        if not end:
            if len(source) - start >= limit:
                raise refusal(431, "extensions of chunks and trailers are too long together")
            return start
        line = bytes(source[start:end])
        if line == CRLF:
            self.complete = True
        elif _TRAILER.fullmatch(line):
            self._trailers = self._trailers or Trailers()
            self._trailers.check(line)
            self._note(len(line))
        else:
            raise refusal(400, "a trailer is not a name, a colon and a value")
        return end

    def _note(self, length: int) -> None:
        self._notes -= length
        if self._notes < 0:
            raise refusal(431, "extensions of chunks and trailers are too long together")

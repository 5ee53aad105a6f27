"""The head of a handler's response: checked line by line."""

from __future__ import annotations

import io
import re
from http import HTTPStatus

from daemons.framings.cache import FIELD, BoundedCache

#: Maximum header fields of one response, its status line included: some ten times as many as clients accept.
MOST_FIELDS = 1000
TOO_MANY = f"more than {MOST_FIELDS} header fields in one response"

#: A status line.  Statuses above 599 are undefined, and some handlers use them (RFC 9110, section 15).  Control
#: characters are refused: some clients would read two lines (section 5.5).
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2} [\t -~\x80-\xff]*\r\n)")
#: A field line.  The whitespace before its value is stripped later: matching it separately here would take quadratic
#: time for lines that do not match.
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t -~\x80-\xff]*)\r\n")

#: Cache of valid field lines that need no processing; most lines are repeated.  Bytes of the longest line in it, and
#: number of lines at which it is cleared.
LONGEST_LINE = 256
CACHED = 1024
_plain: set[bytes] = set()

#: Cache of heads that were written at once, and bytes of the longest one.  Handlers repeat a head until its Date
#: changes.  The key is a tuple of lines: joined, one invalid line could have the bytes of two valid ones.
LONGEST_HEAD = 2048
_heads: BoundedCache[tuple[bytes, ...], tuple[list[bytes], int, int | None, bool, bool]] = BoundedCache(CACHED)


class ResponseHead:
    """Status line and header fields of one response."""

    __slots__ = ("announced", "chunked", "head", "headed", "keeps", "status")

    def __init__(self) -> None:
        #: The status line and fields so far, each with its line end, without the empty line.
        self.head: list[bytes] = []
        self.status = 0
        #: Whether the head is complete.
        self.headed = False
        #: Content-Length, if the head has it; and whether it has Transfer-Encoding.
        self.announced: int | None = None
        self.chunked = False
        #: Whether the head has ``Connection: keep-alive``.
        self.keeps = False

    def write_head(self, lines: list[bytes]) -> None:
        """Add lines to the head, up to its empty line.  Raises `ValueError` for a malformed line."""
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
        if self.headed and sum(map(len, key)) <= LONGEST_HEAD:
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
                # The version is the server's, not the handler's: with 1.0, clients would expect the connection to be
                # closed (RFC 9110, section 6.2).
                self.head.append(b"HTTP/1.1 " + status_line[1])
            else:
                raise ValueError(f"a status line is expected, not {line!r}")

    def _write_field(self, line: bytes) -> None:
        field = _FIELD.fullmatch(line)
        if field is None:
            if _STATUS_LINE.fullmatch(line):
                raise ValueError(f"a second response to one request: {line!r} after status {self.status}")
            raise ValueError(f"a header field without control characters is expected, not {line!r}")
        name, value = field[1].lower(), field[2].lstrip(b" \t")
        if name == b"content-length":
            if not value.isdigit() or self.announced is not None:
                raise ValueError(f"Content-Length: {value!r}; one number of bytes is expected")
            self.announced = int(value)
        elif name == b"transfer-encoding":
            self.chunked = True
        elif name == b"connection":
            if value.lower() in (b"close", b"keep-alive"):
                self.keeps = value[:1] in b"kK"
                return  # the field is added when the response is complete
        elif len(line) <= LONGEST_LINE:
            if len(_plain) >= CACHED:
                _plain.clear()
            _plain.add(line)
        self.head.append(line)

    def _end_head(self) -> None:
        if self.status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise io.UnsupportedOperation("101: there is no socket in memory; override handle() to be given one")
        if self.status < 200:
            self.head, self.status = [], 0  # an interim response is dropped: the request is already complete
        else:
            self.headed = True

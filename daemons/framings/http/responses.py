"""HTTP/1.1 responses as a client reads them, as strictly as requests are read (RFC 9112, sections 4 to 8).

A lenient reader passes on its guesses: a field behind a broken line is lost, and with it a cookie or
``Cache-Control: private``; two opinions about a length send one client's response to another.  So each leniency
that RFC 9112 leaves to a recipient is refused, but for these: the blank before an absent reason phrase may be missing,
which old servers leave out; and `ResponseDecoder` can be asked to unfold fields.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from daemons.framings.base import FramingError, Incomplete
from daemons.framings.http.bodies import Body, ChunkedBody, SizedBody, UntilCloseBody
from daemons.framings.http.grammar import (
    DISGUISED,
    END,
    FORBIDDEN_BYTE,
    check_codings,
    check_incomplete_head,
    describe_bad_lines,
    has_forbidden_byte,
    list_members,
    read_length,
    split_fields,
)
from daemons.framings.http.refusals import refusal

#: Statuses beside 1xx without a body, regardless of the fields (RFC 9112, section 6.3).
BODILESS = frozenset((204, 304))

_START = b"HTTP/1."
#: A status outside of 100 to 599 is invalid (RFC 9110, section 15); a reason has no control characters but tabs.
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*))?\r\n")

#: A line that goes on with the next one (RFC 9112, section 5.2).
_FOLD = re.compile(rb"\r\n[ \t]+")

#: Fields that decide where the response ends, and whether the connection is kept.
_JUDGED = frozenset((b"connection", b"content-length", b"transfer-encoding"))

#: Fields with one value that decide how a body is read or where a client goes next (RFC 9110, sections 8.3, 10.2.2 and
#: 14.4).  Of two, one reader takes the first and another the last.
_SINGLE = frozenset((b"content-range", b"content-type", b"location"))


class ResponseLimits(NamedTuple):
    """The longest response that is read.

    head
        Bytes of the status line and the fields, with their line ends; and once more for trailers and the extensions of
        chunks together.
    fields
        Fields of a head.
    body
        Bytes of the body; None: any number.
    interim
        Responses with a status of 1xx before the final one.
    """

    head: int = 64 * 1024
    fields: int = 1000
    body: int | None = None
    interim: int = 16


DEFAULT_LIMITS = ResponseLimits()


class ResponseHead(NamedTuple):
    """The head of a final response."""

    #: (1, 0) or (1, 1).
    version: tuple[int, int]
    #: 200 to 599.
    status: int
    #: Without control characters but tabs; may be empty.
    reason: bytes
    #: Names and values as received, in order, without the whitespace around a value.
    fields: tuple[tuple[bytes, bytes], ...]
    #: Length of the body in bytes; None: it comes in chunks, or lasts until the connection is closed.
    length: int | None
    #: Content-Length, also where no body follows: in the response to HEAD and in a 304 it is that of GET.
    announced: int | None
    chunked: bool
    #: Whether the connection can be used again when the response is complete (RFC 9112, section 9.3).
    keep_alive: bool


class ResponseDecoder:
    """Decode the response to one request.

    For any bytes, cut anywhere, `decode` returns the head and pieces of the body, or comes to one `error`; it never
    raises.  A response that was cut short is never `complete`.

    method
        That of the request: the response to HEAD has no body, and behind a 2xx to CONNECT the connection is a tunnel.
    unfold
        Replace a line end and the whitespace behind it by a blank, as user agents must; a gateway may refuse such a
        response, as is done by default (RFC 9112, section 5.2).

    A 1xx response is skipped.  A 101 is an error, since this decoder is for requests without Upgrade.
    """

    __slots__ = (
        *("_body", "_held", "_interim", "_limits", "_method", "_seen", "_unfold"),
        *("complete", "error", "head", "received", "rest"),
    )

    def __init__(self, method: str, limits: ResponseLimits = DEFAULT_LIMITS, *, unfold: bool = False) -> None:
        self._method = method
        self._limits = limits
        self._unfold = unfold
        #: Input that is not decoded yet: an incomplete head, or the incomplete line of a chunk.
        self._held = bytearray()
        #: How much of `_held` has been searched for the end of a head.
        self._seen = 0
        self._interim = 0
        self._body: Body | None = None
        #: The head of the final response; None: it has not come.
        self.head: ResponseHead | None = None
        #: Bytes of the body so far.
        self.received = 0
        #: Whether all of the response has come.
        self.complete = False
        #: Input behind the response, as it came: another response, a tunnel, or a mistake.
        self.rest = b""
        #: Why the input is no response.
        self.error: FramingError | None = None

    def decode(self, data: bytes) -> Sequence[ResponseHead | bytes]:
        """Take `data`, cut anywhere; return the head when it is complete, and pieces of the body as they come."""
        events: list[ResponseHead | bytes] = []
        if self.complete:
            self.rest += data
        elif self.error is None:
            self._held += data
            try:
                self._take(events)
            except FramingError as error:
                self._refuse(error)
        return events

    def finish(self) -> None:
        """The connection was closed: this completes a body without a length, and is an error elsewhere."""
        if self.error is not None or self.complete:
            return
        if isinstance(self._body, UntilCloseBody):
            self.complete = True
        elif self.head is None:
            self._refuse(Incomplete("in the middle of the head" if self._held else "without a response"))
        elif self.head.length is not None:
            self._refuse(Incomplete(f"{self.head.length - self.received} bytes before the end of the body"))
        else:
            self._refuse(Incomplete(f"in the middle of a chunked body, behind {self.received} bytes"))

    def _take(self, events: list[ResponseHead | bytes]) -> None:
        held = self._held
        start = 0
        while self.head is None:
            end = self._end_of_head(start)
            if end is None:
                del held[:start]
                return
            head = _parse(bytes(held[start:end]), self._method, self._limits, self._unfold)
            start, self._seen = end, 0
            if head.status >= 200:
                self._body = self._body_of(head)
                self.head = head
                events.append(head)
                break
            self._interim += 1
            if self._interim > self._limits.interim:
                raise refusal(400, f"more than {self._limits.interim} responses of 1xx")
        body = self._body
        if body is not None:
            try:
                start = body.take(held, start)
            finally:
                # The bytes before an error are good.
                if piece := body.drain():
                    self.received += len(piece)
                    events.append(piece)
        if body is None or body.complete:
            self.complete = True
            self.rest = bytes(held[start:])
            self._held = bytearray()
        else:
            del held[:start]

    def _end_of_head(self, start: int) -> int | None:
        """Return where the head that begins at `start` ends; None: it is incomplete.  Raises `FramingError` as soon as
        no head can come of it."""
        held, limit = self._held, self._limits.head
        seen = start + self._seen
        end = held.find(END, max(start, seen - len(END) + 1), start + limit)
        if end >= 0:
            return end + len(END)
        _check_start(held, start)
        if len(held) > start:
            check_incomplete_head(held, start, seen, limit)
        self._seen = len(held) - start
        return None

    def _body_of(self, head: ResponseHead) -> Body | None:
        if head.length == 0:
            return None
        limit = self._limits.body
        if head.length is None:
            return ChunkedBody(limit, self._limits.head) if head.chunked else UntilCloseBody(limit)
        if limit is not None and head.length > limit:
            raise refusal(413, f"a body of {head.length} bytes is announced; {limit} are allowed")
        return SizedBody(head.length)

    def _refuse(self, error: FramingError) -> None:
        error.apology = b""  # which is the response to a bad request
        self.error = error.with_traceback(None)  # its frames keep the input
        self._held = bytearray()
        self._body = None


def _check_start(source: bytes | bytearray, start: int) -> None:
    """Refuse other protocols with their first bytes, since they may not send an empty line."""
    if not _START.startswith(source[start : start + len(_START)]):
        raise refusal(400, "it does not begin with HTTP/1.")


def _parse(raw: bytes, method: str, limits: ResponseLimits, unfold: bool) -> ResponseHead:
    """Return the head in `raw`, which ends with its first empty line.  Raises `FramingError`."""
    _check_start(raw, 0)
    match = _STATUS_LINE.match(raw)
    if match is None:
        raise refusal(400, _describe(raw))
    if unfold:
        raw = raw[: match.end()] + _FOLD.sub(b" ", raw[match.end() :])
    fields = split_fields(raw, match.end())
    if fields is None:
        raise refusal(400, _describe(raw))
    if len(fields) > limits.fields:
        raise refusal(431, f"{len(fields)} header fields; {limits.fields} are allowed")
    judged: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        word = name.lower()
        if word in _JUDGED:
            judged.setdefault(word, []).append(value)
        elif word in _SINGLE:
            if word in judged:
                raise refusal(400, f"more than one {word.decode('ascii')}")
            judged[word] = [value]
        elif word in DISGUISED:
            raise refusal(400, "Content-Length or Transfer-Encoding with an underscore")
    minor, digits, reason = match.groups()
    version = (1, 0) if minor == b"0" else (1, 1)
    status = int(digits)
    if status == 101:
        raise refusal(400, "101 Switching Protocols, but the request had no Upgrade")
    tunnel = method == "CONNECT" and 200 <= status < 300
    # Behind a 2xx to CONNECT, a client must ignore both fields (RFC 9110, section 9.3.6).
    announced, chunked = (None, False) if tunnel else _framing(judged, version)
    framed = chunked or announced is not None
    if status < 200 and framed:
        raise refusal(400, "a 1xx response with a body (RFC 9110, section 8.6)")
    bodiless = tunnel or method == "HEAD" or status < 200 or status in BODILESS
    options = list_members(judged.get(b"connection", ()))
    kept = b"close" not in options and (version == (1, 1) or b"keep-alive" in options)
    if status == 204 and (chunked or announced):
        kept = False  # a body may follow that is none (RFC 9110, section 8.6; RFC 9112, section 6.1)
    return ResponseHead(
        version=version,
        status=status,
        reason=reason or b"",
        fields=fields,
        length=0 if bodiless else announced,
        announced=announced,
        chunked=chunked,
        keep_alive=kept and not tunnel and (bodiless or framed),
    )


def _framing(judged: dict[bytes, list[bytes]], version: tuple[int, int]) -> tuple[int | None, bool]:
    """Return Content-Length, or None, and whether the body is chunked: RFC 9112, section 6.3.  Raises
    `FramingError`."""
    codings = judged.get(b"transfer-encoding")
    lengths = judged.get(b"content-length")
    if codings is not None:
        check_codings(codings, lengths, version)
        return None, True
    return None if lengths is None else read_length(lengths), False


def _describe(raw: bytes) -> str:
    """Return for the log why this is no head."""
    if has_forbidden_byte(raw, 0, len(raw)):
        return FORBIDDEN_BYTE
    if not _STATUS_LINE.match(raw):
        return "the status line is not HTTP/1.1, a status of 100 to 599, and a reason, with one blank between them"
    return describe_bad_lines(raw[:-4].split(b"\r\n")[1:])

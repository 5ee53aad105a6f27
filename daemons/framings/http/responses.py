"""HTTP/1.1 responses as a client reads them, as strictly as requests are read (RFC 9112, sections 4 to 8).

A lenient reader guesses, and its guesses affect other clients.  A field after a malformed line may be lost, such as a
cookie or ``Cache-Control: private``.  If two readers disagree about a length, one client gets the response to another.
So input that RFC 9112 allows a recipient to accept or to reject is rejected here, with two exceptions: the blank before
an absent reason phrase may be missing, since old servers omit it; and `ResponseDecoder` unfolds fields on request.
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

#: Statuses other than 1xx whose responses never have a body, regardless of the fields (RFC 9112, section 6.3).
BODILESS = frozenset((204, 304))

_START = b"HTTP/1."
#: A status outside of 100 to 599 is invalid (RFC 9110, section 15); tabs are the only control characters in a reason.
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*))?\r\n")

#: Obsolete line folding: a line end followed by whitespace continues the field (RFC 9112, section 5.2).
_FOLD = re.compile(rb"\r\n[ \t]+")

#: Fields that determine the end of the response, and whether the connection persists.
_JUDGED = frozenset((b"connection", b"content-length", b"transfer-encoding"))

#: Fields with one value that determine how a body is decoded or to which location a client is redirected (RFC 9110,
#: sections 8.3, 10.2.2 and 14.4).  If there are two, one reader uses the first and another the last.
_SINGLE = frozenset((b"content-range", b"content-type", b"location"))


class ResponseLimits(NamedTuple):
    """Limits of a response.

    head
        Maximum size of the status line and the fields in bytes, including line ends.  Trailers and chunk extensions
        together have a separate limit of the same size.
    fields
        Maximum number of fields in a head.
    body
        Maximum size of the body in bytes; None: unlimited.
    interim
        Maximum number of 1xx responses before the final one.
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
    #: Tabs are its only control characters; may be empty.
    reason: bytes
    #: Names and values as received, in order, without the whitespace around a value.
    fields: tuple[tuple[bytes, bytes], ...]
    #: Length of the body in bytes; None: it is chunked, or ends when the connection is closed.
    length: int | None
    #: Value of Content-Length, even if no body follows: a response to HEAD and a 304 have the value for GET.
    announced: int | None
    chunked: bool
    #: Whether the connection persists after the response (RFC 9112, section 9.3).
    keep_alive: bool


class ResponseDecoder:
    """Decode the response to one request.

    For any bytes, cut anywhere, `decode` returns the head and pieces of the body, or sets one `error`; it never raises.
    A truncated response never becomes `complete`.

    method
        Method of the request.  A response to HEAD has no body; after a 2xx response to CONNECT the connection is a
        tunnel.
    unfold
        Replace obsolete line folding by a blank, as user agents must.  By default a folded line is an error, as it may
        be for a gateway (RFC 9112, section 5.2).

    1xx responses are skipped, except 101, which is an error, since this decoder is for requests without Upgrade.
    """

    __slots__ = (
        *("_body", "_held", "_interim", "_limits", "_method", "_seen", "_unfold"),
        *("complete", "error", "head", "received", "rest"),
    )

    def __init__(self, method: str, limits: ResponseLimits = DEFAULT_LIMITS, *, unfold: bool = False) -> None:
        self._method = method
        self._limits = limits
        self._unfold = unfold
        #: Input that is not decoded yet: an incomplete head, or an incomplete line of a chunked body.
        self._held = bytearray()
        #: Number of bytes of `_held` that have been searched for the end of a head.
        self._seen = 0
        self._interim = 0
        self._body: Body | None = None
        #: The head of the final response; None until it is complete.
        self.head: ResponseHead | None = None
        #: Number of body bytes received so far.
        self.received = 0
        #: Whether the response is complete.
        self.complete = False
        #: Input after the response, unchanged: another response, the data of a tunnel, or an error of the server.
        self.rest = b""
        #: Set once, if the input is not a valid response.
        self.error: FramingError | None = None

    def decode(self, data: bytes) -> Sequence[ResponseHead | bytes]:
        """Process `data`, cut anywhere; return the head when it is complete, and the received pieces of the body."""
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
        """End the input: this completes a body without a length; anywhere else it is an error."""
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
                # The bytes before an error are valid.
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
        """Return the end of the head that begins at `start`; None if it is incomplete.  Raises `FramingError` once the
        head cannot be valid."""
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
        error.apology = b""  # `refusal` sets a response for clients; here the peer is a server
        self.error = error.with_traceback(None)  # its frames refer to the received bytes
        self._held = bytearray()
        self._body = None


def _check_start(source: bytes | bytearray, start: int) -> None:
    """Refuse another protocol at its first bytes, since it may never send an empty line.  Raises `FramingError`."""
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
    # After a 2xx response to CONNECT, a client must ignore both fields (RFC 9110, section 9.3.6).
    announced, chunked = (None, False) if tunnel else _framing(judged, version)
    framed = chunked or announced is not None
    if status < 200 and framed:
        raise refusal(400, "a 1xx response with a body (RFC 9110, section 8.6)")
    bodiless = tunnel or method == "HEAD" or status < 200 or status in BODILESS
    options = list_members(judged.get(b"connection", ()))
    kept = b"close" not in options and (version == (1, 1) or b"keep-alive" in options)
    if status == 204 and (chunked or announced):
        kept = False  # the server may send a body all the same (RFC 9110, section 8.6; RFC 9112, section 6.1)
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
    """Return the value of Content-Length (None if absent), and whether the body is chunked (RFC 9112, section 6.3).

    Raises `FramingError`."""
    codings = judged.get(b"transfer-encoding")
    lengths = judged.get(b"content-length")
    if codings is not None:
        check_codings(codings, lengths, version)
        return None, True
    return None if lengths is None else read_length(lengths), False


def _describe(raw: bytes) -> str:
    """Return the error in an invalid head, for the log."""
    if has_forbidden_byte(raw, 0, len(raw)):
        return FORBIDDEN_BYTE
    if not _STATUS_LINE.match(raw):
        return "the status line is not HTTP/1.1, a status of 100 to 599, and a reason, with one blank between them"
    return describe_bad_lines(raw[:-4].split(b"\r\n")[1:])

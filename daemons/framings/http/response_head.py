"""Parser of response heads: status line and fields (RFC 9112, sections 4 to 6)."""

from __future__ import annotations

import re
from typing import NamedTuple

from daemons.framings.http.grammar import (
    DISGUISED,
    FORBIDDEN_BYTE,
    check_codings,
    describe_bad_lines,
    has_forbidden_byte,
    list_members,
    read_length,
    split_fields,
)
from daemons.framings.http.refusals import refusal

#: Statuses, other than 1xx, of responses that never have a body, regardless of the fields (RFC 9112, section 6.3).
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


class ResponseHead(NamedTuple):
    """The head of a response."""

    #: (1, 0) or (1, 1).
    version: tuple[int, int]
    #: 100 to 599.
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


def check_start(source: bytes | bytearray, start: int) -> None:
    """Refuse another protocol at its first bytes, since it may never send an empty line.  Raises `FramingError`."""
    if not _START.startswith(source[start : start + len(_START)]):
        raise refusal(400, "it does not begin with HTTP/1.")


def parse(raw: bytes, method: str, limits: ResponseLimits, unfold: bool) -> ResponseHead:
    """Return the head in `raw`, which ends with its first empty line.  Raises `FramingError`."""
    check_start(raw, 0)
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
    # The connection changes to another protocol.  After a 2xx response to CONNECT, a client must ignore Content-Length
    # and Transfer-Encoding (RFC 9110, section 9.3.6).
    tunnel = method == "CONNECT" and 200 <= status < 300
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
        keep_alive=kept and not tunnel and status != 101 and (bodiless or framed),
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

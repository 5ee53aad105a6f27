"""Lines and fields: the grammar that requests and responses share (RFC 9112, sections 2.2, 5 and 6).

No pattern has a possessive quantifier or an atomic group: `re` of CPython 3.11.2 mishandles them, ``(?:;a++)*+X``
matches ``;X``.  Without them matching is linear all the same, because the bytes that a repetition takes exclude the
byte that must follow it, so each position can be matched in one way only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from daemons.framings.http.refusals import refusal

#: The end of a head.
END = b"\r\n\r\n"

#: A length of more digits than these is refused: no disk holds so much, and a 64-bit reader would overflow.
DIGITS = 18

#: RFC 9110, section 5.6.2, as a regular expression.
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

#: A value has no control characters but tabs (RFC 9110, section 5.5).
FIELD_LINE = rb"%b:[\t -~\x80-\xff]*\r\n" % TOKEN

#: A line that is a field, with its name and its value; more whitespace before that than one blank is cut off later,
#: since a repetition of blanks before a repetition of blanks and others would make the time quadratic.
_FIELD = re.compile(rb"^(%b): ?([\t -~\x80-\xff]*)\r\n" % TOKEN, re.MULTILINE)
_NAME = re.compile(TOKEN)

#: The bytes that lines are made of; see `has_forbidden_byte`.
_LINES = re.compile(rb"(?:[\t -~\x80-\xff]+|\r\n)*")

#: A tab is optional whitespace like a blank, but some readers take it for a part of these values.
_TABBED = re.compile(rb"\n(?:content-length|transfer-encoding):(?: *\t|[^\r]*\t *\r)", re.IGNORECASE)

FORBIDDEN_BYTE = "a control character, or a CR or LF without the other"

#: CGI's HTTP_CONTENT_LENGTH stands for Content-Length and for Content_Length.
DISGUISED = frozenset((b"content_length", b"transfer_encoding"))


def has_forbidden_byte(source: bytes | bytearray, start: int, end: int) -> bool:
    """Whether ``source[start:end]`` has a byte that no head may have: a control character, a CR or LF without the
    other.  A CR at the very end may yet get its LF."""
    stop = _LINES.match(source, start, end)
    assert stop is not None, "the empty match is always possible"
    return stop.end() < end - (source[end - 1] == 13)


def check_incomplete_head(source: bytes | bytearray, start: int, seen: int, limit: int) -> None:
    """Refuse the first bytes of a head, from `start` on, as soon as no head of at most `limit` bytes can come of them.

    The bytes before `seen` have been checked before.  Raises `FramingError`.
    """
    have = len(source) - start
    # A CR that was the last byte is checked again, with the byte behind it.
    first = seen - (seen > start and source[seen - 1] == 13)
    if has_forbidden_byte(source, first, start + min(have, limit)):
        raise refusal(400, FORBIDDEN_BYTE)
    if have >= limit:
        raise refusal(431, f"no end of the head within {limit} bytes")


def split_fields(head: bytes, start: int) -> tuple[tuple[bytes, bytes], ...] | None:
    """Return the fields of a head, names and values without the whitespace around them; None: a line is no field.

    The fields begin at `start`, which is the beginning of a line, and end two bytes before the end of `head`.  Raises
    `FramingError` for a tab around the value of Content-Length or Transfer-Encoding.
    """
    fields: tuple[tuple[bytes, bytes], ...] = tuple(_FIELD.findall(head, start, len(head) - 2))
    # Each match is a whole line, so as many matches as line feeds leave no other line.
    if len(fields) != head.count(b"\n", start) - 1:
        return None
    tabs = b"\t" in head
    if tabs and _TABBED.search(head):
        raise refusal(400, "a tab around the value of Content-Length or Transfer-Encoding")
    if tabs or b" \r" in head or b":  " in head:  # rare
        return tuple((name, value.strip(b" \t")) for name, value in fields)
    return fields


def read_length(values: list[bytes]) -> int:
    """Return the value of Content-Length (RFC 9110, section 8.6).  Raises `FramingError`.

    A list of equal lengths, which a recipient may accept, is refused.
    """
    if len(values) > 1:
        raise refusal(400, "more than one Content-Length")
    (digits,) = values
    if not digits.isdigit() or len(digits) > DIGITS:
        raise refusal(400, f"Content-Length is not one to {DIGITS} digits")
    return int(digits)


def check_codings(codings: list[bytes], lengths: list[bytes] | None, version: tuple[int, int]) -> None:
    """Refuse each Transfer-Encoding but ``chunked`` alone, without Content-Length, in HTTP/1.1 (RFC 9112, section
    6.1).  Raises `FramingError`."""
    if lengths is not None:
        raise refusal(400, "both Content-Length and Transfer-Encoding")
    if version == (1, 0):
        raise refusal(400, "Transfer-Encoding in HTTP/1.0")
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise refusal(501, "a Transfer-Encoding other than chunked")


def list_members(values: Iterable[bytes]) -> set[bytes]:
    """Return the members of a comma-separated list, which may come in several fields; in lower case."""
    return {word for value in values for part in set(value.lower().split(b",")) if (word := part.strip(b" \t"))}


def describe_bad_lines(lines: Iterable[bytes]) -> str:
    """Return for the log the first of these lines that is no header field, by its number, and why."""
    for number, line in enumerate(lines, 1):
        name, colon, _ = line.partition(b":")
        if line.startswith((b" ", b"\t")):
            return f"header line {number} begins with a blank: lines are not folded"
        if not colon:
            return f"header line {number} has no colon"
        if not _NAME.fullmatch(name):
            return f"header line {number}: the bytes before the colon are not a field name"
    return "not a head"

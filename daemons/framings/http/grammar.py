"""Lines and fields: the grammar that requests and responses share (RFC 9112, sections 2.2, 5 and 6).

No pattern has a possessive quantifier or an atomic group, since `re` of CPython 3.11.2 mishandles them:
``(?:;a++)*+X`` matches ``;X``.  Matching takes linear time without them: no repetition accepts the byte that must
follow it, so each position can be matched in one way only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from daemons.framings.http.refusals import refusal

#: The end of a head.
END = b"\r\n\r\n"

#: Maximum number of digits of a length: no file is longer, and more digits could overflow a 64-bit integer.
DIGITS = 18

#: RFC 9110, section 5.6.2, as a regular expression.
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

#: A field line.  Tabs are the only control characters allowed in a value (RFC 9110, section 5.5).
FIELD_LINE = rb"%b:[\t -~\x80-\xff]*\r\n" % TOKEN

#: A field line, with groups for its name and value.  The pattern skips one blank before the value, and `split_fields`
#: strips further whitespace: two adjacent repetitions that both accept blanks would take quadratic time.
_FIELD = re.compile(rb"^(%b): ?([\t -~\x80-\xff]*)\r\n" % TOKEN, re.MULTILINE)
_NAME = re.compile(TOKEN)

#: Lines of allowed bytes; see `has_forbidden_byte`.
_LINES = re.compile(rb"(?:[\t -~\x80-\xff]+|\r\n)*")

#: A tab before or after these values.  It is optional whitespace, like a blank, but some readers treat it as part of
#: the value.
_TABBED = re.compile(rb"\n(?:content-length|transfer-encoding):(?: *\t|[^\r]*\t *\r)", re.IGNORECASE)

FORBIDDEN_BYTE = "a control character, or a CR or LF without the other"

#: Fields that CGI confuses with framing fields: HTTP_CONTENT_LENGTH means both Content-Length and Content_Length.
DISGUISED = frozenset((b"content_length", b"transfer_encoding"))


def has_forbidden_byte(source: bytes | bytearray, start: int, end: int) -> bool:
    """Return whether ``source[start:end]`` contains a byte that is not allowed in a head: a control character, or a CR
    or LF without the other.  A CR as the last byte is allowed, since its LF may follow."""
    stop = _LINES.match(source, start, end)
    assert stop is not None, "the empty match is always possible"
    return stop.end() < end - (source[end - 1] == 13)


def check_incomplete_head(source: bytes | bytearray, start: int, seen: int, limit: int) -> None:
    """Check the incomplete head that begins at `start`: raise `FramingError` once it cannot become a valid head of at
    most `limit` bytes.

    The bytes before `seen` were checked by an earlier call.
    """
    have = len(source) - start
    # If the last byte checked was a CR, check it again, with the byte after it.
    first = seen - (seen > start and source[seen - 1] == 13)
    if has_forbidden_byte(source, first, start + min(have, limit)):
        raise refusal(400, FORBIDDEN_BYTE)
    if have >= limit:
        raise refusal(431, f"no end of the head within {limit} bytes")


def split_fields(head: bytes, start: int) -> tuple[tuple[bytes, bytes], ...] | None:
    """Return the names and values of a head's fields, without surrounding whitespace; None if a line is not a field.

    The fields begin at `start`, the beginning of a line, and end before the empty line at the end of `head`.  Raises
    `FramingError` for a tab before or after the value of Content-Length or Transfer-Encoding.
    """
    fields: tuple[tuple[bytes, bytes], ...] = tuple(_FIELD.findall(head, start, len(head) - 2))
    # Each match is one whole line: if there are as many matches as lines, every line is a field.
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
    """Check Transfer-Encoding: only ``chunked`` is accepted, in HTTP/1.1, without Content-Length (RFC 9112, section
    6.1).  Raises `FramingError`."""
    if lengths is not None:
        raise refusal(400, "both Content-Length and Transfer-Encoding")
    if version == (1, 0):
        raise refusal(400, "Transfer-Encoding in HTTP/1.0")
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise refusal(501, "a Transfer-Encoding other than chunked")


def list_members(values: Iterable[bytes]) -> set[bytes]:
    """Return the members, in lower case, of a comma-separated list, which may be spread over several fields."""
    return {word for value in values for part in set(value.lower().split(b",")) if (word := part.strip(b" \t"))}


def describe_bad_lines(lines: Iterable[bytes]) -> str:
    """Return, for the log, the number of the first line that is not a header field, and the reason."""
    for number, line in enumerate(lines, 1):
        name, colon, _ = line.partition(b":")
        if line.startswith((b" ", b"\t")):
            return f"header line {number} begins with a blank: lines are not folded"
        if not colon:
            return f"header line {number} has no colon"
        if not _NAME.fullmatch(name):
            return f"header line {number}: the bytes before the colon are not a field name"
    return "not a head"

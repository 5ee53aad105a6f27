"""Range requests: RFC 9110, section 14.

Requests for many ranges, or for overlapping ranges longer than the representation, may be attacks, and get the whole
representation, as section 14.2 allows.
"""

from __future__ import annotations

import os
import re

#: Maximum ranges of one request.  PDF viewers request several at a time.
MOST = 16

_RANGES = re.compile(r"bytes=([0-9, \t-]+)", re.IGNORECASE)

#: Positions have at most 18 digits, enough for any file.
_RANGE = re.compile(r"[ \t]*(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))[ \t]*")

#: Start and end; the end is exclusive.
Range = tuple[int, int]


def ranges_of(value: str, size: int) -> list[Range] | None:
    """Return the requested ranges of a representation of `size` bytes.

    Return an empty list if none is satisfiable (416), and None if the whole representation is to be sent: the value is
    malformed, or has too many ranges, or the representation is empty.  Clients that resume a download of an empty file
    send ``bytes=0-``, which would otherwise be unsatisfiable."""
    match = _RANGES.fullmatch(value)
    if match is None or not size:
        return None
    parts = [part for part in match[1].split(",", 2 * MOST) if part.strip(" \t")]
    if not 0 < len(parts) <= MOST:
        return None
    found: list[Range] = []
    for part in parts:
        match = _RANGE.fullmatch(part)
        if match is None:
            return None
        first, last, suffix = match.groups()
        if suffix is not None:
            start, end = max(0, size - int(suffix)), size
        else:
            start, end = int(first), size if last is None else int(last) + 1
            if end <= start and last is not None:
                return None
            end = min(end, size)
        if start < end:
            found.append((start, end))
    return None if sum(end - start for start, end in found) > size else found


def content_range(found: Range, size: int) -> str:
    """Return the value of Content-Range."""
    return f"bytes {found[0]}-{found[1] - 1}/{size}"


class Multipart:
    """Several ranges in one body: multipart/byteranges, section 14.6."""

    def __init__(self, found: list[Range], size: int, media: str) -> None:
        # 96 random bits, which do not occur in the file.
        boundary = os.urandom(12).hex()
        self.media = f"multipart/byteranges; boundary={boundary}"
        #: The bytes before each range, and after the last.
        self.heads = [
            f"\r\n--{boundary}\r\nContent-Type: {media}\r\nContent-Range: {content_range(each, size)}\r\n\r\n".encode(
                "ascii"
            )
            for each in found
        ]
        self.end = f"\r\n--{boundary}--\r\n".encode("ascii")

"""Parts of a representation: RFC 9110, section 14.

What would be an attack is answered with the whole, as that section proposes: many small ranges, or ranges that overlap,
which together are longer than what they are ranges of.
"""

from __future__ import annotations

import os
import re

#: Ranges of one request.  A reader of PDF asks for some at a time; what asks for more can have it all.
MOST = 16

_RANGES = re.compile(r"bytes=([0-9, \t-]+)", re.IGNORECASE)

#: More digits than eighteen are no position in any file.
_RANGE = re.compile(r"[ \t]*(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))[ \t]*")

#: From where, and up to but without where.
Range = tuple[int, int]


def ranges_of(value: str, size: int) -> list[Range] | None:
    """What is asked for of `size` octets; nothing where none of it is there (416), and None where the whole is to be
    sent, since that is no range of octets, or too many of them.  Of an empty representation it is the whole: there are
    no positions in it, and clients that resume a download send ``bytes=0-`` (RFC 9110, section 14.2, allows it)."""
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
    """Content-Range."""
    return f"bytes {found[0]}-{found[1] - 1}/{size}"


class Multipart:
    """Several ranges in one body: multipart/byteranges, section 14.6."""

    def __init__(self, found: list[Range], size: int, media: str) -> None:
        # By chance in no file: 96 bits.
        boundary = os.urandom(12).hex()
        self.media = f"multipart/byteranges; boundary={boundary}"
        #: What stands before each range, and behind the last.
        self.heads = [
            f"\r\n--{boundary}\r\nContent-Type: {media}\r\nContent-Range: {content_range(each, size)}\r\n\r\n".encode(
                "ascii"
            )
            for each in found
        ]
        self.end = f"\r\n--{boundary}--\r\n".encode("ascii")

"""As it is, or compressed: Accept-Encoding, RFC 9110, section 12.5.3."""

from __future__ import annotations

import gzip
import re
import time

from daemons.web.field_cache import field_cache
from daemons.web.files.lookup import File

#: Octets of a file that is compressed when it is asked for: of fewer little would be saved, and more would take so long
#: (a few milliseconds) that others notice.  Those are compressed beforehand, by ``gzip -k``.
SHORTEST, LONGEST = 256, 256 * 1024

#: All that is remembered of what was compressed.
REMEMBERED = 16 * 1024 * 1024

#: Octets that a key takes, and its place; roughly.
KEY = 512

#: Nanoseconds after a change of a file in which another may leave it with the same time: the kernel's clock goes in
#: steps of up to 10 ms, and some file systems store whole seconds.
SETTLED = 2 * 10**9

#: Codings of one Accept-Encoding that are looked at: more than there are.
MOST = 32

_CODING = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?")


@field_cache
def prefers_gzip(value: str | None) -> bool:
    """Whether gzip is accepted, and identity is not preferred.  What cannot be read is not there."""
    weights: dict[str, float] = {}
    for part in (value or "").split(",", MOST)[:MOST]:
        if match := _CODING.fullmatch(part.strip(" \t")):
            weights[match[1].lower()] = float(match[2] or 1)
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return weight > 0 and weight >= weights.get("identity", 0.0)


class CompressionCache:
    """Files that were compressed, by what they were then.  When it is full it is emptied."""

    __slots__ = ("_known", "_size")

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], bytes | None] = {}
        self._size = 0

    def of(self, file: File) -> bytes | None:
        """What `file` is compressed; None where it is not to be, or would become no shorter.  Raises `OSError` and
        `EOFError`."""
        if not SHORTEST <= file.size <= LONGEST:
            return None
        key = (file.identity, file.size, file.modified, file.changed)
        try:
            return self._known[key]
        except KeyError:
            pass
        # Same octets, same result: without the time of day.
        data = gzip.compress(file.read(0, file.size), 6, mtime=0)
        shorter = data if len(data) < file.size else None
        # With what a key and its place take, so that there are not too many of those either.
        if 0 <= time.time_ns() - file.changed < SETTLED:
            return shorter
        size = KEY + len(shorter or b"")
        if self._size + size > REMEMBERED:
            self._known = {}
            self._size = 0
        self._known[key] = shorter
        self._size += size
        return shorter

"""Content coding negotiation: Accept-Encoding, RFC 9110, section 12.5.3."""

from __future__ import annotations

import gzip
import re
import time

from daemons.web.field_cache import field_cache
from daemons.web.files.lookup import File

#: Sizes, in bytes, of files that are compressed on request.  Shorter ones gain little; longer ones would delay other
#: responses by milliseconds, and should be compressed beforehand with ``gzip -k``.
SHORTEST, LONGEST = 256, 256 * 1024

#: Capacity of the cache, in bytes.
CAPACITY = 16 * 1024 * 1024

#: Approximate overhead of a cache entry, in bytes.
KEY = 512

#: Nanoseconds within which two changes of a file may have the same time: the kernel's clock advances in steps of up to
#: 10 ms, and some file systems store whole seconds.
SETTLED = 2 * 10**9

#: Maximum codings of one field that are considered.
MOST = 32

_CODING = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?")


@field_cache
def prefers_gzip(value: str | None) -> bool:
    """Return whether gzip is accepted, and identity is not preferred.  Malformed members are ignored."""
    weights: dict[str, float] = {}
    for part in (value or "").split(",", MOST)[:MOST]:
        if match := _CODING.fullmatch(part.strip(" \t")):
            weights[match[1].lower()] = float(match[2] or 1)
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return weight > 0 and weight >= weights.get("identity", 0.0)


class CompressionCache:
    """Cache of compressed files.  When it is full it is cleared."""

    __slots__ = ("_known", "_size")

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], bytes | None] = {}
        self._size = 0

    def of(self, file: File) -> bytes | None:
        """Return `file` compressed; None if it is too short or too long, or would not become shorter.  Raises `OSError`
        and `EOFError`."""
        if not SHORTEST <= file.size <= LONGEST:
            return None
        key = (file.identity, file.size, file.modified, file.changed)
        try:
            return self._known[key]
        except KeyError:
            pass
        # mtime=0: the same contents have the same result.
        data = gzip.compress(file.read(0, file.size), 6, mtime=0)
        shorter = data if len(data) < file.size else None
        # A file that changed a moment ago may change again without a new ctime.
        if 0 <= time.time_ns() - file.changed < SETTLED:
            return shorter
        size = KEY + len(shorter or b"")
        if self._size + size > CAPACITY:
            self._known = {}
            self._size = 0
        self._known[key] = shorter
        self._size += size
        return shorter

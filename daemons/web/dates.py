"""HTTP dates: RFC 9110, section 5.6.7."""

from __future__ import annotations

import time
from email.utils import formatdate

from daemons.framings.cache import BoundedCache

#: Cached dates; most are modification times of files.
REMEMBERED = 256
_texts: BoundedCache[int, str] = BoundedCache(REMEMBERED)

#: The first and last second of the years 1 to 9999, in seconds since 1970.
FIRST, LAST = -62_135_596_800, 253_402_300_799

#: The second of `http_date_now`, and its text.
_now: tuple[int, str] = (0, "")


def http_date(seconds: int) -> str:
    """Return the HTTP date of a time in seconds since 1970: ``Sun, 06 Nov 1994 08:49:37 GMT``.

    Times outside the years 1 to 9999, which some file systems can store, are clamped to that range."""
    seconds = max(FIRST, min(seconds, LAST))
    text = _texts.get(seconds)
    if text is None:
        text = formatdate(seconds, usegmt=True)
        _texts.put(seconds, text)
    return text


def http_date_now() -> str:
    """Return the HTTP date of the current second, formatted once per second."""
    global _now
    now = int(time.time())
    second, text = _now
    if second != now:
        text = formatdate(now, usegmt=True)
        _now = now, text
    return text

"""Times as HTTP writes them: RFC 9110, section 5.6.7."""

from __future__ import annotations

import time
from email.utils import formatdate

from daemons.framings.cache import BoundedCache

#: Of so many times, mostly those at which files were changed, the text is remembered.
REMEMBERED = 256
_texts: BoundedCache[int, str] = BoundedCache(REMEMBERED)

#: The first and the last second that a year of four digits has.
FIRST, LAST = -62_135_596_800, 253_402_300_799

#: The second of `now_written`, and its text.
_now: tuple[int, str] = (0, "")


def written(seconds: int) -> str:
    """A time in seconds since 1970: ``Sun, 06 Nov 1994 08:49:37 GMT``.  Of a time outside of the years 1 to 9999, which
    a file may have on some file systems, the nearest one."""
    seconds = max(FIRST, min(seconds, LAST))
    text = _texts.get(seconds)
    if text is None:
        text = formatdate(seconds, usegmt=True)
        _texts.put(seconds, text)
    return text


def now_written() -> str:
    """The time, made once a second."""
    global _now
    now = int(time.time())
    second, text = _now
    if second != now:
        text = formatdate(now, usegmt=True)
        _now = now, text
    return text

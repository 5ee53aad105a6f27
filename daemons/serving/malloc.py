"""Settings of glibc's malloc that return the memory of large messages to the system, mallopt(3)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

#: malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8

#: Minimum size of a block with its own memory mapping, which is unmapped when the block is freed.  By default the
#: threshold grows to the largest block freed so far, up to 32 MiB, and the process keeps the memory of large messages.
MMAP_THRESHOLD = 1024**2

#: Maximum free bytes at the end of the heap; more are returned to the system.
TRIM_THRESHOLD = 4 * 1024**2

#: Maximum number of arenas.  Each arena keeps free memory, and by default there are up to eight per core.  Few suffice,
#: because only one thread at a time runs Python code.
MAX_ARENAS = 2


#: malloc_trim(3), once `configure` has found it.
_trim: Callable[[int], object] | None = None


def configure() -> None:
    """Configure malloc to return freed memory to the system.  Call before threads start; without glibc do nothing."""
    global _trim
    library = ctypes.CDLL(None)
    _trim = getattr(library, "malloc_trim", None)
    mallopt = getattr(library, "mallopt", None)
    if mallopt is not None:
        for parameter, value in (
            (M_MMAP_THRESHOLD, MMAP_THRESHOLD),
            (M_TRIM_THRESHOLD, TRIM_THRESHOLD),
            (M_ARENA_MAX, MAX_ARENAS),
        ):
            mallopt(parameter, value)


def trim() -> None:
    """Return free pages between blocks in use to the system, if malloc was configured.

    Messages that grow in pieces leave many: up to a sixth of the memory budget.  This takes 1 to 10 ms."""
    if _trim is not None:
        _trim(0)

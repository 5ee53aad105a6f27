"""Settings of glibc's malloc that return the memory of large messages to the system, mallopt(3)."""

from __future__ import annotations

import ctypes

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


def configure() -> None:
    """Configure malloc to return freed memory to the system.  Call before threads start; without glibc do nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (
            (M_MMAP_THRESHOLD, MMAP_THRESHOLD),
            (M_TRIM_THRESHOLD, TRIM_THRESHOLD),
            (M_ARENA_MAX, MAX_ARENAS),
        ):
            mallopt(parameter, value)

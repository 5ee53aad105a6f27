"""Settings of glibc's malloc with which the memory of large messages goes back to the system, mallopt(3)."""

from __future__ import annotations

import ctypes

#: malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8

#: Bytes from which on a block is mapped for itself and given back when it is freed.  By default the threshold grows to
#: the largest block freed so far, up to 32 MiB: then what one large message took stays with the process.
MAPPED = 1024**2

#: Bytes free at the end of the heap beyond which they are given back; fewer are kept for the next reply.
KEPT = 4 * 1024**2

#: Heaps.  By default there are up to eight for each core, with free memory in all of them; only one thread at a time
#: runs Python.
HEAPS = 2


def give_back() -> None:
    """Have malloc give memory back to the system; before threads are started.  Without glibc, do nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((M_MMAP_THRESHOLD, MAPPED), (M_TRIM_THRESHOLD, KEPT), (M_ARENA_MAX, HEAPS)):
            mallopt(parameter, value)

"""Requests in progress at a server behind this one, counted over the processes of ``engine = forks``.

A table in a memfd that child processes share: one word for each request, with a record lock on its first byte, so that
the request of a child that was killed does not count for ever.
"""

from __future__ import annotations

import fcntl
import math
import os
import struct
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from daemons.serving.record_locks import is_locked, lock, unlock

#: Requests that the table can hold, among them those whose clients have paused: 32 KiB.
PLACES = 4094

#: Before the words of the requests: how many were refused since the last log line about that, and when (monotonic)
#: that was written.
_HEAD = struct.Struct("=dd")
_WORD = struct.Struct("=d")
_WORDS = struct.Struct(f"={PLACES}d")

#: Of a word: there is no request; and there is one that does not count as in progress.
_FREE, _UNCOUNTED = 0.0, -math.inf


class RequestTable:
    """Counts requests of the processes that are forked after it was made."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("requests", os.MFD_CLOEXEC)
        #: Close the descriptor; also when the table is garbage.
        self.close = weakref.finalize(self, os.close, self._descriptor)
        os.pwrite(self._descriptor, _HEAD.pack(0.0, -math.inf).ljust(_HEAD.size + _WORDS.size, b"\0"), 0)
        #: The places of this process.
        self._own: set[int] = set()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from this while the block runs; other threads are kept from it by the caller."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, 0)
        try:
            yield
        finally:
            unlock(self._descriptor, 0)

    def count_others(self, since: float) -> int:
        """Return how many requests other living processes have that wait, or have paused after `since` (monotonic)."""
        return sum(
            word > since and word != _FREE and place not in self._own and is_locked(self._descriptor, _offset(place))
            for place, word in enumerate(self._words())
        )

    def take(self) -> int | None:
        """Take a place for a request that waits; return None where all are taken.  Within `exclusive`."""
        for place, word in enumerate(self._words()):
            # A word that is not free may be left over from a process that was killed.
            if place in self._own or (word != _FREE and is_locked(self._descriptor, _offset(place))):
                continue
            if lock(self._descriptor, _offset(place)):
                self._own.add(place)
                self.put(place, math.inf)
                return place
        return None

    def put(self, place: int, paused: float | None) -> None:
        """Note since when (monotonic) a request has paused; infinite: it waits; None: it does not count."""
        word = _UNCOUNTED if paused is None else paused
        os.pwrite(self._descriptor, _WORD.pack(word), _offset(place))

    def release(self, place: int) -> None:
        """The request is over."""
        self._own.discard(place)
        self.put(place, _FREE)
        unlock(self._descriptor, _offset(place))

    def refuse(self) -> None:
        """Count a request that was refused.  Within `exclusive`."""
        refused, logged = self._head()
        os.pwrite(self._descriptor, _HEAD.pack(refused + 1, logged), 0)

    def take_refused(self, interval: float) -> int:
        """Return how many were refused since that was last asked, or 0 less than `interval` seconds after it.  Within
        `exclusive`."""
        refused, logged = self._head()
        now = time.monotonic()
        if now - logged < interval:
            return 0
        os.pwrite(self._descriptor, _HEAD.pack(0.0, now), 0)
        return int(refused)

    def _head(self) -> tuple[float, float]:
        refused, logged = _HEAD.unpack(os.pread(self._descriptor, _HEAD.size, 0))
        return refused, logged

    def _words(self) -> tuple[float, ...]:
        return _WORDS.unpack(os.pread(self._descriptor, _WORDS.size, _HEAD.size))


def _offset(place: int) -> int:
    return _HEAD.size + place * _WORD.size

"""State of an upstream server that all processes of ``engine = forks`` share: requests in progress, circuit breaker.

The table is in a memfd that child processes share.  Each request has a word, with a record lock on its first byte; the
kernel releases the lock if the process is killed, so that its requests no longer count.
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
from daemons.web.gateway.circuit_breaker import CircuitBreaker

#: Capacity of the table, including the requests of paused clients: 32 KiB.
PLACES = 4094

#: The head of the table: the number of requests refused since the last log line about them, and when (monotonic) that
#: was written.
_HEAD = struct.Struct("=dd")
#: The circuit breaker, after the head.
_BREAKER = struct.Struct(f"={len(CircuitBreaker._fields)}d")
_WORD = struct.Struct("=d")
_WORDS = struct.Struct(f"={PLACES}d")
_FIRST_WORD = _HEAD.size + _BREAKER.size

#: Words of a free place, and of a request that does not count as in progress.
_FREE, _UNCOUNTED = 0.0, -math.inf


class RequestTable:
    """Table of the requests of this process and its children.  To be created before they are forked."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("requests", os.MFD_CLOEXEC)
        #: Close the descriptor; called by the garbage collector, too.
        self.close = weakref.finalize(self, os.close, self._descriptor)
        os.pwrite(self._descriptor, _HEAD.pack(0.0, -math.inf).ljust(_FIRST_WORD + _WORDS.size, b"\0"), 0)
        #: The places of this process.
        self._own: set[int] = set()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock against other processes; the caller excludes other threads."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, 0)
        try:
            yield
        finally:
            unlock(self._descriptor, 0)

    def count_others(self, since: float) -> int:
        """Return the number of requests of other live processes that wait, or have paused after `since` (monotonic)."""
        return sum(
            word > since and word != _FREE and place not in self._own and is_locked(self._descriptor, _offset(place))
            for place, word in enumerate(self._words())
        )

    def take(self) -> int | None:
        """Take a place for a waiting request; return None if the table is full.  The caller holds `exclusive`."""
        for place, word in enumerate(self._words()):
            # A word without a lock is left over from a process that was killed.
            if place in self._own or (word != _FREE and is_locked(self._descriptor, _offset(place))):
                continue
            if lock(self._descriptor, _offset(place)):
                self._own.add(place)
                self.put(place, math.inf)
                return place
        return None

    def put(self, place: int, paused: float | None) -> None:
        """Set when (monotonic) a request has paused; infinite if it waits, None if it does not count."""
        word = _UNCOUNTED if paused is None else paused
        os.pwrite(self._descriptor, _WORD.pack(word), _offset(place))

    def release(self, place: int) -> None:
        """Free a place."""
        self._own.discard(place)
        self.put(place, _FREE)
        unlock(self._descriptor, _offset(place))

    def refuse(self) -> None:
        """Count a refused request.  The caller holds `exclusive`."""
        refused, logged = self._head()
        os.pwrite(self._descriptor, _HEAD.pack(refused + 1, logged), 0)

    def take_refused(self, interval: float) -> int:
        """Return and reset the number of refused requests; 0 within `interval` seconds after the last call that did so.
        The caller holds `exclusive`."""
        refused, logged = self._head()
        now = time.monotonic()
        if now - logged < interval:
            return 0
        os.pwrite(self._descriptor, _HEAD.pack(0.0, now), 0)
        return int(refused)

    def breaker(self) -> CircuitBreaker:
        """Return the state of the circuit breaker."""
        state, failures, *times = _BREAKER.unpack(os.pread(self._descriptor, _BREAKER.size, _HEAD.size))
        return CircuitBreaker(int(state), int(failures), *times)

    def put_breaker(self, breaker: CircuitBreaker) -> None:
        """Store the state of the circuit breaker.  The caller holds `exclusive`."""
        os.pwrite(self._descriptor, _BREAKER.pack(*breaker), _HEAD.size)

    def _head(self) -> tuple[float, float]:
        refused, logged = _HEAD.unpack(os.pread(self._descriptor, _HEAD.size, 0))
        return refused, logged

    def _words(self) -> tuple[float, ...]:
        return _WORDS.unpack(os.pread(self._descriptor, _WORDS.size, _FIRST_WORD))


def _offset(place: int) -> int:
    return _FIRST_WORD + place * _WORD.size

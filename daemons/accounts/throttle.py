"""Rate limits on password guessing."""

from __future__ import annotations

import hashlib
import math
import mmap
import secrets
import struct
import time
from collections.abc import Callable, Iterator
from threading import Lock
from typing import NamedTuple


class Rate(NamedTuple):
    """`burst` attempts at once, then one every `interval` seconds."""

    burst: int
    interval: float


#: For one name from one peer.  A person mistypes a password a few times, and a browser sends the right one on six
#: connections at once.  One attempt every ten seconds is 8,640 a day, too few to guess a password outside the lists of
#: the most common ones.
NAMED = Rate(10, 10.0)

#: For all names from one peer: several people may share an address.
PEER = Rate(30, 2.0)

#: For slow hashes, over all peers: the number that two threads can compute at the default cost.  In a daemon with a
#: process per connection this is the only limit on concurrent computations.
ALL = Rate(16, 0.0625)

#: The table is set-associative, with this many sets of this many entries: 64 KiB in all.
SETS, WAYS = 1024, 4

#: A key, and the time at which its full burst is available again.
_ENTRY = struct.Struct("=Qd")


class Throttle:
    """Counts attempts by the generic cell rate algorithm, with one number per key, in a table of fixed size.

    The table is in memory shared with child processes, so ``engine = forks`` counts all connections together.  Without
    a lock between processes, an attempt may be lost, but none is counted twice.  If all entries of a set are in use,
    the one that expires first is evicted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._table = mmap.mmap(-1, SETS * WAYS * _ENTRY.size)
        # Keyed, lest a peer choose names that share entries with another user.
        self._secret = secrets.token_bytes(16)
        self._lock = Lock()

    def take(self, network: str, name: str, *, slow: bool) -> float:
        """Count an attempt and return 0.0; or return the seconds to wait, without counting."""
        with self._lock:
            now = self._clock()
            found = [(key, rate, *self._find(key)) for key, rate in self._keys(network, name, slow)]
            wait = max(max(due, now) + rate.interval * (1 - rate.burst) - now for _, rate, _, due in found)
            if wait > 0:
                return wait
            for key, rate, place, due in found:
                _ENTRY.pack_into(self._table, place, key, max(due, now) + rate.interval)
            return 0.0

    def give_back(self, network: str, name: str) -> None:
        """Uncount a successful attempt, which was no guess.  Its computation remains counted."""
        with self._lock:
            for key, rate in self._keys(network, name, slow=False):
                place, due = self._find(key)
                if due:
                    _ENTRY.pack_into(self._table, place, key, due - rate.interval)

    def _keys(self, network: str, name: str, slow: bool) -> Iterator[tuple[int, Rate]]:
        yield self._key("named", network, name), NAMED
        yield self._key("peer", network), PEER
        if slow:
            yield self._key("all"), ALL

    def _key(self, *parts: str) -> int:
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=self._secret).digest(), "little") or 1

    def _find(self, key: int) -> tuple[int, float]:
        """Return the offset of the entry of `key`, or of the one to replace, and its time, 0.0 for a new entry."""
        first = key % SETS * WAYS * _ENTRY.size
        least = first, math.inf
        for place in range(first, first + WAYS * _ENTRY.size, _ENTRY.size):
            owner, due = _ENTRY.unpack_from(self._table, place)
            if owner == key:
                return place, due
            if due < least[1]:
                least = place, due
        return least[0], 0.0

"""Rates at which a peer may guess passwords."""

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


#: For one name from one peer.  A person mistypes a password a few times, and a browser shows the right one on six
#: connections at once; one try every ten seconds makes 8,640 guesses a day, which is nothing against a password that is
#: not among the most common.
NAMED = Rate(10, 10.0)

#: For all names from one peer: several people may share an address.
PEER = Rate(30, 2.0)

#: For all peers, where a try is slow: what two threads can compute of hashes of the default cost.  In a daemon with a
#: process for each connection this is the only bound on how many are computed at a time.
ALL = Rate(16, 0.0625)

#: The table has so many sets of so many entries, of which a key may take any: 64 KiB in all.
SETS, WAYS = 1024, 4

#: A key, and the time at which its allowance is whole again.
_ENTRY = struct.Struct("=Qd")


class Throttle:
    """Counts attempts by the generic cell rate algorithm, one number for each key, in a table of fixed size.

    The table is in memory that child processes share, so that ``engine = forks`` counts all its connections together.
    Two processes may lose an attempt of each other; none is counted twice.  Where all entries that a key may take are
    taken, the one with the most of its allowance is given up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._table = mmap.mmap(-1, SETS * WAYS * _ENTRY.size)
        # Keyed, lest a peer choose names that share an entry with another's.
        self._secret = secrets.token_bytes(16)
        self._lock = Lock()

    def take(self, network: str, name: str, *, slow: bool) -> float:
        """Count an attempt and return 0.0; or return the seconds to wait, and count nothing."""
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
        """Uncount an attempt that was no guess, having succeeded.  Its computation stays counted."""
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
        """Return the offset of the entry of `key`, or of the one that it may take; and its time, 0.0 for none."""
        first = key % SETS * WAYS * _ENTRY.size
        least = first, math.inf
        for place in range(first, first + WAYS * _ENTRY.size, _ENTRY.size):
            owner, due = _ENTRY.unpack_from(self._table, place)
            if owner == key:
                return place, due
            if due < least[1]:
                least = place, due
        return least[0], 0.0

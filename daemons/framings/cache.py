"""Bounded caches, which are emptied when they are full.  Thread-safe.

A peer that sends distinct inputs slows others down, but cannot exhaust memory.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

#: Bytes of the longest request head that is cached, and number of heads.  Browsers send about 700 bytes plus cookies.
HEAD = 2048
HEADS = 512

#: Bytes per cache, as estimated by the callers of `put`: about a hundred heads of browsers.  A daemon has a few caches;
#: together they must not exceed some megabytes, whatever peers send.
ROOM = 512 * 1024

#: Overhead in bytes of the objects for a header field (name, value, tuple), in addition to its characters.
FIELD = 200


class BoundedCache(Generic[K, V]):
    """Cache of at most `most` entries and `ROOM` bytes; it is emptied before an entry that would exceed either."""

    __slots__ = ("_size", "get", "most", "table")

    def __init__(self, most: int) -> None:
        self.most = most
        #: For lookups.  A plain dict, since Python's lookups in a subclass are slower.
        self.table: dict[K, V] = {}
        self.get = self.table.get
        #: Estimated bytes of all entries.
        self._size = 0

    def __len__(self) -> int:
        return len(self.table)

    def put(self, key: K, value: V, size: int = 0) -> None:
        """Store an entry.  `size` is an estimate of the bytes of key and value; with 0, only `most` counts."""
        if len(self.table) >= self.most or self._size + size > ROOM:
            self.clear()
        self._size += size
        self.table[key] = value

    def clear(self) -> None:
        self.table.clear()
        self._size = 0


class HeadCache(BoundedCache[bytes, V]):
    """Cache with heads of requests as keys."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(HEADS)

    def put(self, key: bytes, value: V, size: int = 0) -> None:
        """Store an entry, unless the head is longer than `HEAD`.  `size` 0: estimate it from the head."""
        if len(key) <= HEAD:
            # A copy as plain bytes: a `Request` would keep its body alive.
            super().put(bytes(key), value, size or size_of_head(key))


def size_of_head(head: bytes) -> int:
    """Return an estimate of the bytes of a head and of the objects parsed from it."""
    return 2 * len(head) + FIELD * head.count(b"\n")

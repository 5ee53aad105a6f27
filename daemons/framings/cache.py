"""What need not be found out again: tables whose bound is that they are emptied.

Who never says the same twice costs others speed, never memory.  From any thread.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

#: Heads of requests are remembered up to so many octets, a browser's having 700 and its cookies; and so many of them.
HEAD = 2048
HEADS = 512

#: Bytes of one table, as its user estimates them: some hundred heads of browsers.  A daemon has a few tables, which
#: must not grow by more than some megabytes together, whatever peers send.
ROOM = 512 * 1024

#: Bytes of a header field beside its characters, in objects made of it: names, values and tuples.
FIELD = 200


class BoundedCache(Generic[K, V]):
    """At most `most` entries, of `ROOM` bytes; when it is full, it is emptied first."""

    __slots__ = ("_size", "get", "most", "table")

    def __init__(self, most: int) -> None:
        self.most = most
        #: To be looked into.  A plain dict, since Python is quicker with those than with a subclass.
        self.table: dict[K, V] = {}
        self.get = self.table.get
        #: Bytes of all entries.
        self._size = 0

    def __len__(self) -> int:
        return len(self.table)

    def put(self, key: K, value: V, size: int = 0) -> None:
        """Remember this, too.  `size` is an estimate of the bytes that key and value take; 0: so few that `most`
        bounds them."""
        if len(self.table) >= self.most or self._size + size > ROOM:
            self.clear()
        self._size += size
        self.table[key] = value

    def clear(self) -> None:
        self.table.clear()
        self._size = 0


class HeadCache(BoundedCache[bytes, V]):
    """What was made of the heads of requests."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(HEADS)

    def put(self, key: bytes, value: V, size: int = 0) -> None:
        """Remember what was made of this head, unless it is a long one.  `size` is 0 for what grows with the head."""
        if len(key) <= HEAD:
            # The octets alone: a request would keep its body.
            super().put(bytes(key), value, size or size_of_head(key))


def size_of_head(head: bytes) -> int:
    """Estimate the bytes of a head and of what is made of it: itself, its characters once more, and objects."""
    return 2 * len(head) + FIELD * head.count(b"\n")

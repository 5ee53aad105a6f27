"""What need not be found out again: tables whose bound is that they are emptied.

Who never says the same twice costs others speed, never memory.  From any thread.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

#: Heads of requests are remembered up to so many octets, a browser's having 700 and its cookies; and so many of them,
#: which is 1 MiB at the very most beside what is made of them.
HEAD = 2048
HEADS = 512


class Remembered(Generic[K, V]):
    """At most `most` entries; when it is full, it is emptied first."""

    __slots__ = ("get", "most", "table")

    def __init__(self, most: int) -> None:
        self.most = most
        #: To be looked into.  A plain dict, since Python is quicker with those than with a subclass.
        self.table: dict[K, V] = {}
        self.get = self.table.get

    def __len__(self) -> int:
        return len(self.table)

    def keep(self, key: K, value: V) -> None:
        """Remember this, too."""
        if len(self.table) >= self.most:
            self.table.clear()
        self.table[key] = value


class ByHead(Remembered[bytes, V]):
    """What was made of the heads of requests."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(HEADS)

    def keep(self, key: bytes, value: V) -> None:
        """Remember what was made of this head, unless it is a long one."""
        if len(key) <= HEAD:
            # The octets alone: a request would keep its body.
            super().keep(bytes(key), value)

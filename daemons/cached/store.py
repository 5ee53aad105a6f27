"""Bounded store of items; the least recently used items give way to new ones.

No locks: the caller serializes all calls.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

#: Bytes counted for an item in addition to its key and its value: two objects of bytes, the item with its numbers, and
#: an entry of the dict.  Measured with CPython 3.11 on 64 bits.
OVERHEAD = 400

#: Longest expiration time in seconds that is relative; a greater number is a Unix time (protocol.txt, "Expiration
#: times").
LONGEST_RELATIVE = 60 * 60 * 24 * 30

#: States of an item, combined by ``|``: it was marked as stale; a client has been told to compute it again; its key was
#: sent in base64.
STALE, TOKEN_SENT, BINARY_KEY = 1, 2, 4

#: Bytes after the value in `Item.reply`.
TAIL = b"\r\nEND\r\n"


class Item:
    """A value, kept as the reply to ``get``, which is then sent without a copy."""

    __slots__ = ("cas", "expires", "read", "reply", "state", "stored")

    #: ``VALUE <key> <flags> <length>``, CR LF, the value, and `TAIL`.
    reply: bytes
    #: Time at which the item expires; infinity: never.
    expires: float
    #: Number that changes with each change of the value.
    cas: int
    #: Time at which the value was stored.
    stored: float
    #: Time of the last read; 0: none.
    read: float
    #: `STALE`, `TOKEN_SENT` and `BINARY_KEY`.
    state: int

    @property
    def accessed(self) -> float:
        """Time of the last read or write."""
        return self.read or self.stored


def reply_of(key: bytes, flags: bytes, value: bytes) -> bytes:
    """Return the reply to a ``get`` for an item."""
    return b"VALUE %b %b %d\r\n%b\r\nEND\r\n" % (key, flags, len(value), value)


def size_of(key: bytes, item: Item) -> int:
    """Return the bytes counted for an item."""
    return len(key) + len(item.reply) + OVERHEAD


class Store:
    """Items by key, in the order of their use, with at most `limit` bytes, including `OVERHEAD` for each item.

    `clock` returns a monotonic time in seconds.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.clock = clock
        #: The least recently used item is the first.
        self.items: OrderedDict[bytes, Item] = OrderedDict()
        #: The same, unless all items will be removed at `flush_at`: then empty.  For readers that know only of the
        #: expiration time of an item.
        self.unflushed: Mapping[bytes, Item] = self.items
        self.bytes = 0
        #: Time at which all items will be removed, also those stored until then.
        self.flush_at = math.inf
        self._last_cas = 0
        self.reset_counters()

    def reset_counters(self) -> None:
        """Set the counters of stored, evicted and expired items to 0."""
        self.total = self.evictions = self.expired = 0

    def next_cas(self) -> int:
        """Return a number greater than all before."""
        self._last_cas += 1
        return self._last_cas

    def fetch(self, key: bytes) -> Item | None:
        """Return a live item and mark it as used; None if there is none."""
        item = self.peek(key)
        if item is not None:
            item.read = self.clock()
            self.items.move_to_end(key)
        return item

    def peek(self, key: bytes) -> Item | None:
        """Return a live item without marking it as used; None if there is none."""
        now = self.clock()
        if now >= self.flush_at:
            self.clear()
        item = self.items.get(key)
        if item is not None and item.expires <= now:
            self.remove(key)
            self.expired += 1
            return None
        return item

    def put(self, key: bytes, reply: bytes, expires: float, state: int = 0) -> Item:
        """Store a value, given as `reply_of` makes it, and remove the least recently used items while there is no room.

        Raises `MemoryError` if the item alone is larger than `limit`; then the old one is removed."""
        now = self.clock()
        if now >= self.flush_at:
            self.clear()
        item = self.items.get(key)
        if item is None:
            size = len(key) + len(reply) + OVERHEAD
            if size > self.limit:
                raise MemoryError(f"an item of {size} bytes; the store has {self.limit}")
            self.items[key] = item = Item()
            self.bytes += size
        else:
            self.items.move_to_end(key)
            self.bytes += len(reply) - len(item.reply)
        item.reply = reply
        item.expires = expires
        item.stored = now
        item.read = 0.0
        item.state = state
        self._last_cas = item.cas = self._last_cas + 1
        self.total += 1
        if self.bytes > self.limit:
            self._evict(now)
            if key not in self.items:
                raise MemoryError(f"an item of {size_of(key, item)} bytes; the store has {self.limit}")
        return item

    def _evict(self, now: float) -> None:
        while self.bytes > self.limit:
            key, item = self.items.popitem(last=False)
            self.bytes -= size_of(key, item)
            if item.expires <= now:
                self.expired += 1
            else:
                self.evictions += 1

    def remove(self, key: bytes) -> None:
        """Remove an item.  Raises `KeyError` if there is none."""
        item = self.items.pop(key)
        self.bytes -= size_of(key, item)

    def clear(self) -> None:
        """Remove all items."""
        self.items.clear()
        self.bytes = 0
        self.flush_at = math.inf
        self.unflushed = self.items
        self.next_cas()  # as memcached does

    def clear_after(self, exptime: int) -> None:
        """Remove all items, also those stored until then, at the time that `deadline` returns for `exptime`."""
        self.flush_at = self.deadline(exptime)
        self.unflushed = {}

    def deadline(self, exptime: int) -> float:
        """Return the time at which an item with the expiration time `exptime` of the protocol expires."""
        if not exptime:
            return math.inf
        if 0 < exptime <= LONGEST_RELATIVE:
            return self.clock() + exptime
        return self.clock() + max(0.0, exptime - time.time())

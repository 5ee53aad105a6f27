"""Changes of items: storage commands and arithmetic."""

from __future__ import annotations

import math

from daemons.cached.statistics import Statistics
from daemons.cached.store import STALE, TAIL, TOKEN_SENT, Item, Store, reply_of
from daemons.cached.words import (
    BAD_CHUNK,
    BAD_FORMAT,
    ERROR,
    TOO_LARGE,
    is_key,
    is_length,
    signed32,
    split,
    unsigned32,
    unsigned64,
)

STORED, NOT_STORED, EXISTS, NOT_FOUND = b"STORED\r\n", b"NOT_STORED\r\n", b"EXISTS\r\n", b"NOT_FOUND\r\n"
OUT_OF_MEMORY = b"SERVER_ERROR out of memory storing object\r\n"

ZERO, CR = b"0\r"

NEVER = math.inf


class Updates:
    """Changes of items.  Not thread-safe: the caller serializes all calls."""

    def __init__(self, store: Store, statistics: Statistics, longest_value: int) -> None:
        self._store = store
        self._statistics = statistics
        self._longest_value = longest_value

    def set(self, message: bytes) -> bytes:
        """As `respond`, for a message that begins with ``set`` and a space."""
        end = message.find(b"\n") + 1
        words = message[4:end].split(b" ")
        if len(words) == 4 and end < len(message) and message[-2:] == b"\r\n":
            key, flags, exptime, length = words
            # The usual case.  The reply to get contains the message from the length on, which must be as get writes it:
            # with CR, without a sign or a leading zero.
            if flags == b"0" and length[0] > ZERO and length[-2] == CR and (exptime == b"0" or exptime.isdigit()):
                store = self._store
                if key in store.items or is_key(key):
                    reply = b"".join((b"VALUE ", key, b" 0 ", message[end - len(length) :], b"END\r\n"))
                    self._statistics.cmd_set += 1
                    try:
                        store.put(key, reply, NEVER if exptime == b"0" else store.deadline(int(exptime[:10])))
                    except MemoryError:
                        return self._out_of_memory()
                    return STORED
        return self.respond(message)

    def respond(self, message: bytes) -> bytes:
        """Return the reply to a storage command with its block of data, or without it if the block was too long."""
        end = message.find(b"\n") + 1
        words = split(message[:end])
        least = 6 if words[0] == b"cas" else 5
        if not least <= len(words) <= least + 1:
            return ERROR
        reply = self._checked_update(words, message[end:])
        return b"" if words[-1] == b"noreply" else reply

    def _put(self, key: bytes, reply: bytes, expires: float, state: int = 0) -> bytes:
        try:
            self._store.put(key, reply, expires, state)
        except MemoryError:
            return self._out_of_memory()
        return STORED

    def _out_of_memory(self) -> bytes:
        self._statistics.store_no_memory += 1
        return OUT_OF_MEMORY

    def _checked_update(self, words: list[bytes], block: bytes) -> bytes:
        name, key, flags, exptime = words[0], words[1], unsigned32(words[2]), signed32(words[3])
        cas = unsigned64(words[5]) if name == b"cas" else 0
        if not is_key(key) or flags is None or exptime is None or cas is None or not is_length(words[4]):
            return BAD_FORMAT
        if not block:
            if name == b"set":
                self.discard(key)
            self._statistics.store_too_large += 1
            return TOO_LARGE
        self._statistics.cmd_set += 1
        if not block.endswith(b"\r\n"):
            return BAD_CHUNK
        return self.store(name, key, b"%d" % flags, block[:-2], self._store.deadline(exptime), cas)

    def discard(self, key: bytes) -> None:
        """Remove an item, if it exists: its new value cannot be stored, so it is out of date."""
        if self._store.peek(key) is not None:
            self._store.remove(key)

    def store(
        self,
        name: bytes,
        key: bytes,
        flags: bytes,
        value: bytes,
        expires: float,
        cas: int = 0,
        state: int = 0,
        may_be_stale: bool = False,
    ) -> bytes:
        """Store a value as the command `name` requires: set, add, replace, append, prepend or cas.

        Args:
            cas: for cas, append and prepend: the number that the item must have; 0: any
            state: the state of the new item
            may_be_stale: for cas: whether a value older than that of the item is stored as well, and marked as stale

        Returns STORED, NOT_STORED, EXISTS, NOT_FOUND, or OUT_OF_MEMORY.
        """
        store = self._store
        if name != b"set":
            old = store.peek(key)
            if old is None:
                if name == b"cas":
                    self._statistics.cas_misses += 1
                    return NOT_FOUND
                if name != b"add":
                    return NOT_STORED
            elif name == b"add":
                store.items.move_to_end(key)
                return NOT_STORED
            elif name == b"cas":
                if old.cas == cas:
                    self._statistics.cas_hits += 1
                elif may_be_stale and 0 < cas < old.cas:
                    expires, state = old.expires, state | STALE | old.state & TOKEN_SENT
                else:
                    self._statistics.cas_badval += 1
                    return EXISTS
            elif name != b"replace":
                if cas and cas != old.cas:
                    return EXISTS
                old_flags, old_value = parts(key, old)
                value = old_value + value if name == b"append" else value + old_value
                if len(value) > self._longest_value:
                    return NOT_STORED
                flags, expires, state = old_flags, old.expires, 0
        return self._put(key, reply_of(key, flags, value), expires, state)

    def add(self, key: bytes, item: Item, delta: int, increment: bool) -> bytes | None:
        """Increment the number in an item by `delta`, modulo 2**64, or decrement it, to 0 at the least.

        Return the number; None if the value is not a number."""
        flags, value = parts(key, item)
        old = unsigned64(value)
        if old is None:
            return None
        result = b"%d" % ((old + delta) % 2**64 if increment else max(0, old - delta))
        self._statistics.count_arithmetic(increment, True)
        # As in memcached, a number that is not longer than the old one is padded with spaces to its length, and the
        # item stays the same otherwise.
        state = item.state if len(result) <= len(value) else 0
        self._store.put(key, reply_of(key, flags, result.ljust(len(value))), item.expires, state)
        return result


def parts(key: bytes, item: Item) -> tuple[bytes, bytes]:
    """Return the flags and the value of an item."""
    reply = item.reply
    start = reply.find(b"\r\n", len(key) + 6)
    return reply[len(key) + 7 : reply.find(b" ", len(key) + 7)], reply[start + 2 : -len(TAIL)]

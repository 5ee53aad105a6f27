"""Counters, and the command ``stats``."""

from __future__ import annotations

import os
import resource
import struct
import time

from daemons.cached.store import Store

#: Protocol level for clients that use a command only from some version of memcached on.
VERSION = b"1.6.18-camelot"

#: Counters of commands that ``stats`` shows, with memcached's names.
COUNTERS = (
    *("cmd_set", "cmd_flush", "cmd_touch", "cmd_meta", "get_hits", "get_misses", "delete_misses", "delete_hits"),
    *("incr_misses", "incr_hits", "decr_misses", "decr_hits", "cas_misses", "cas_hits", "cas_badval"),
    *("touch_hits", "touch_misses", "store_too_large", "store_no_memory"),
)


class Statistics:
    """Counters of commands.  `store` counts its items itself."""

    cmd_set: int
    cmd_flush: int
    cmd_touch: int
    cmd_meta: int
    get_hits: int
    get_misses: int
    delete_misses: int
    delete_hits: int
    incr_misses: int
    incr_hits: int
    decr_misses: int
    decr_hits: int
    cas_misses: int
    cas_hits: int
    cas_badval: int
    touch_hits: int
    touch_misses: int
    store_too_large: int
    store_no_memory: int

    __slots__ = (*COUNTERS, "_item", "_started", "_store")

    def __init__(self, store: Store, item: int) -> None:
        self._store = store
        self._item = item
        self._started = time.monotonic()
        self.reset()

    def reset(self) -> None:
        """Set all counters to 0."""
        for name in COUNTERS:
            setattr(self, name, 0)
        self._store.reset_counters()

    def count_get(self, hit: bool) -> None:
        if hit:
            self.get_hits += 1
        else:
            self.get_misses += 1

    def count_touch(self, hit: bool) -> None:
        self.cmd_touch += 1
        if hit:
            self.touch_hits += 1
        else:
            self.touch_misses += 1

    def count_arithmetic(self, positive: bool, hit: bool) -> None:
        name = ("incr_" if positive else "decr_") + ("hits" if hit else "misses")
        setattr(self, name, getattr(self, name) + 1)

    def respond(self, words: list[bytes]) -> bytes:
        """Return the reply to ``stats``, ``stats settings``, ``stats items`` or ``stats reset``."""
        match words[1:]:
            case []:
                return _lines(self._general())
            case [b"settings", *_]:
                return _lines(self._settings())
            case [b"items", *_]:
                return _lines(self._items())
            case [b"reset", *_]:
                self.reset()
                return b"RESET\r\n"
        return b"ERROR\r\n"

    def _general(self) -> dict[str, object]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        store = self._store
        return {
            "pid": os.getpid(),
            "uptime": int(time.monotonic() - self._started),
            "time": int(time.time()),
            "version": VERSION.decode(),
            "pointer_size": 8 * struct.calcsize("P"),
            "rusage_user": f"{usage.ru_utime:.6f}",
            "rusage_system": f"{usage.ru_stime:.6f}",
            "cmd_get": self.get_hits + self.get_misses,
            **{name: getattr(self, name) for name in COUNTERS},
            "get_expired": store.expired,
            "limit_maxbytes": store.limit,
            "bytes": store.bytes,
            "curr_items": len(store.items),
            "total_items": store.total,
            "evictions": store.evictions,
        }

    def _settings(self) -> dict[str, object]:
        return {
            "maxbytes": self._store.limit,
            "udpport": 0,
            "evictions": "on",
            "cas_enabled": "yes",
            "item_size_max": self._item,
            "flush_enabled": "yes",
            "binding_protocol": "ascii",
        }

    def _items(self) -> dict[str, object]:
        """The figures of all items, as those of one slab class."""
        store = self._store
        oldest = next(iter(store.items.values()), None)
        if oldest is None:
            return {}
        return {
            "items:1:number": len(store.items),
            "items:1:age": int(store.clock() - oldest.accessed),
            "items:1:mem_requested": store.bytes,
            "items:1:evicted": store.evictions,
            "items:1:outofmemory": self.store_no_memory,
        }


def _lines(figures: dict[str, object]) -> bytes:
    return b"".join(f"STAT {name} {value}\r\n".encode() for name, value in figures.items()) + b"END\r\n"

"""Simulated kernel: a clock, a table of descriptors, and a hook between system calls.

Everything is deterministic: the only source of chance is the random number generator passed to `Kernel`.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Protocol

#: The lowest descriptor.  No real descriptor has such a number: a system call that escapes the simulation fails.
FIRST = 1_000_000


class Watched(Protocol):
    """A file that an epoll instance can watch."""

    watchers: list[Watcher]

    def mask(self) -> int: ...


class Watcher(Protocol):
    """The entry of a file in the interest list of an epoll instance."""

    def wake(self, events: int) -> None: ...
    def remove(self) -> None: ...


class Kernel:
    """State shared by all files of one simulated process."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        #: Monotonic time in seconds.
        self.now = 1000.0
        self.files: dict[int, Watched] = {}
        self._free: list[int] = []
        #: Called before each system call of the process that is chosen by `rng`: other hosts act meanwhile.
        self.interrupt: Callable[[], None] = lambda: None
        #: Called before each recv(2) of the process.
        self.receiving: Callable[[], None] = lambda: None
        #: Mean number of system calls between two interrupts; 0: none.
        self.interval = 0
        self._fuse = 0
        #: System calls that the process may not make, in the order in which it made them.
        self.errors: list[str] = []

    def monotonic(self) -> float:
        return self.now

    def enter(self) -> None:
        """Begin a system call."""
        if self.interval:
            self._fuse -= 1
            if self._fuse < 0:
                self._fuse = self.rng.randrange(2 * self.interval)
                self.interrupt()

    def open(self, file: Watched) -> int:
        """Return the lowest free descriptor, as open(2) does, for `file`."""
        descriptor = heapq.heappop(self._free) if self._free else FIRST + len(self.files)
        self.files[descriptor] = file
        return descriptor

    def close(self, descriptor: int) -> None:
        """Free a descriptor.  Its file leaves all interest lists, epoll(7)."""
        file = self.files.pop(descriptor)
        for watcher in list(file.watchers):
            watcher.remove()
        heapq.heappush(self._free, descriptor)

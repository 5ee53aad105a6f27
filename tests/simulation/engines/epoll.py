"""Simulated epoll(7), level-triggered and edge-triggered.

As in fs/eventpoll.c, an instance has a list of entries that may be ready.  A file adds its entry when its state
changes; `poll` asks each file in the list for its current events.  A level-triggered entry stays in the list after it
was reported, an edge-triggered one does not: it returns with the next change, or with `modify`.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable

from tests.simulation.engines.kernel import Kernel, Watched, Watcher

#: Events that are always reported, epoll_ctl(2).
ALWAYS = select.EPOLLERR | select.EPOLLHUP

#: Called by `Epoll.poll` with the instance, the timeout in seconds (None: none) and the maximum number of events.
Sleep = Callable[["Epoll", float | None, int], list[tuple[int, int]]]


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Entry:
    """Entry of a file in the interest list."""

    __slots__ = ("_epoll", "descriptor", "events", "file")

    def __init__(self, epoll: Epoll, descriptor: int, file: Watched, events: int) -> None:
        self._epoll = epoll
        self.descriptor = descriptor
        self.file = file
        self.events = events | ALWAYS

    def wake(self, events: int) -> None:
        """Handle a change of the file.  `events` are those that it may have caused; 0: any."""
        if not events or events & self.events:
            self._epoll.ready[self] = None

    def remove(self) -> None:
        del self._epoll.entries[self.descriptor]
        self._epoll.ready.pop(self, None)
        self.file.watchers.remove(self)


class Epoll:
    """An epoll instance with the interface of `select.epoll`."""

    def __init__(self, kernel: Kernel, sleep: Sleep | None = None) -> None:
        self._kernel = kernel
        self._sleep = sleep
        self.entries: dict[int, Entry] = {}
        #: Entries that may have events, in the order of their changes.
        self.ready: dict[Entry, None] = {}
        self.watchers: list[Watcher] = []
        self.closed = False
        self.descriptor = kernel.open(self)

    def fileno(self) -> int:
        return self.descriptor

    def mask(self) -> int:
        return select.EPOLLIN if self.collect(1) else 0

    def register(self, descriptor: int, events: int) -> None:
        self._kernel.enter()
        if (file := self._kernel.files.get(descriptor)) is None:
            raise _error(errno.EBADF)
        if descriptor in self.entries:
            raise _error(errno.EEXIST)
        entry = self.entries[descriptor] = Entry(self, descriptor, file, events)
        file.watchers.append(entry)
        self._check(entry)

    def modify(self, descriptor: int, events: int) -> None:
        self._kernel.enter()
        entry = self._find(descriptor)
        entry.events = events | ALWAYS
        self._check(entry)

    def unregister(self, descriptor: int) -> None:
        self._kernel.enter()
        self._find(descriptor).remove()

    def _find(self, descriptor: int) -> Entry:
        if descriptor not in self._kernel.files:
            raise _error(errno.EBADF)
        if (entry := self.entries.get(descriptor)) is None:
            raise _error(errno.ENOENT)
        return entry

    def _check(self, entry: Entry) -> None:
        if entry.file.mask() & entry.events:
            self.ready[entry] = None

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Return at most `maxevents` events, in random order."""
        self._kernel.enter()
        return self.collect(maxevents) if self._sleep is None else self._sleep(self, timeout, maxevents)

    def collect(self, most: int) -> list[tuple[int, int]]:
        """Return at most `most` events without waiting; -1: all."""
        ready = self.ready
        if not ready:
            return []
        events: list[tuple[int, int]] = []
        level: list[Entry] = []
        entries = list(ready)
        if len(entries) > 1:
            self._kernel.rng.shuffle(entries)
        for entry in entries:
            if len(events) == most:
                break
            del ready[entry]
            if mask := entry.file.mask() & entry.events:
                events.append((entry.descriptor, mask))
                if not entry.events & select.EPOLLET:
                    level.append(entry)
        for entry in level:
            ready[entry] = None
        return events

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for entry in list(self.entries.values()):
            entry.remove()
        self._kernel.close(self.descriptor)


class Poll:
    """Replaces `select.poll`, for one file."""

    def register(self, file: Watched, events: int) -> None:
        self._file, self._events = file, events

    def poll(self, timeout: float) -> int:
        """Return the events, which are not 0 if there are any."""
        return self._file.mask() & (self._events | ALWAYS)

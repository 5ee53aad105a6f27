"""The one place where a daemon waits: epoll(7), and what to do for each descriptor that is ready."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable
from typing import Protocol


class HasFileno(Protocol):
    """What has a descriptor."""

    def fileno(self) -> int: ...


#: What can be watched: a descriptor, or what has one.
Source = int | HasFileno

#: Events taken per epoll_wait(2).  One at a time costs a busy loop a sixth of its speed.
BATCH = 256


class Poller:
    """Level-triggered epoll: calls an action whenever a descriptor can be read."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._actions: dict[int, Callable[[], None]] = {}
        #: When (monotonic) the last wait ended.
        self.woke = time.monotonic()

    def watch(self, source: Source, action: Callable[[], None]) -> None:
        """Call `action` whenever `source` can be read, or has closed."""
        descriptor = _descriptor(source)
        self._epoll.register(descriptor, select.EPOLLIN)
        self._actions[descriptor] = action

    def forget(self, source: Source) -> None:
        """Stop watching `source`; before it is closed."""
        descriptor = _descriptor(source)
        self._epoll.unregister(descriptor)
        del self._actions[descriptor]

    def wait(self, patience: float) -> bool:
        """Wait at most `patience` seconds for something to be ready, and do what is due.  Returns whether
        this thread still leads."""
        events = self._epoll.poll(None if patience == math.inf else patience, BATCH)
        self.woke = time.monotonic()
        for descriptor, _ in events:
            # An action may have forgotten a descriptor whose event is in the same batch.
            if (action := self._actions.get(descriptor)) is not None:
                action()
        return True

    def look_anew(self) -> None:
        """Of the events of the last `wait`, some may not have been dealt with: have the next tell of them again.
        Level-triggered, it does."""

    def fileno(self) -> int:
        """What can be read when something is ready: a poller may be watched by another, epoll(7)."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the epoll descriptor; what it watched stays open."""
        self._epoll.close()


def _descriptor(source: Source) -> int:
    return source if isinstance(source, int) else source.fileno()

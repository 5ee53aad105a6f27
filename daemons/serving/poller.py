"""Event loop primitive: epoll(7) with an action for each descriptor."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from daemons.serving.safe_call import call_safely


class HasFileno(Protocol):
    """An object with a file descriptor."""

    def fileno(self) -> int: ...


#: A file descriptor, or an object that has one.
Source = int | HasFileno

#: Maximum events per epoll_wait(2).  With one event per call a busy loop is a sixth slower.
MAX_EVENTS = 256


class Poller:
    """Level-triggered epoll that calls an action whenever a descriptor is readable."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._actions: dict[int, Callable[[], None]] = {}
        #: When (monotonic) the last wait ended.
        self.woke = time.monotonic()

    def watch(self, source: Source, action: Callable[[], None]) -> None:
        """Call `action` whenever `source` is readable or closed by the peer."""
        descriptor = _descriptor(source)
        self._epoll.register(descriptor, select.EPOLLIN)
        self._actions[descriptor] = action

    def forget(self, source: Source) -> None:
        """Stop watching `source`.  Must be called before it is closed."""
        descriptor = _descriptor(source)
        self._epoll.unregister(descriptor)
        del self._actions[descriptor]

    def call_when_writable(self, source: Source, action: Callable[[], None]) -> None:
        """Call `action` once, when `source` can be written to.  Thread-safe.  Raise `OSError` if it is closed."""
        descriptor = _descriptor(source)
        # It stays until `forget_writable`: an action that removed itself might remove its successor, set meanwhile.
        self._actions[descriptor] = partial(call_safely, action)
        try:
            self._epoll.modify(descriptor, select.EPOLLOUT | select.EPOLLONESHOT)
        except FileNotFoundError:
            self._epoll.register(descriptor, select.EPOLLOUT | select.EPOLLONESHOT)

    def forget_writable(self, source: Source) -> None:
        """Undo `call_when_writable`, if it was called.  Must be called before `source` is closed."""
        self._actions.pop(_descriptor(source), None)

    def attach(self, daemon: Any) -> None:
        """Set the daemon that runs this loop.  Called once."""

    def wait(self, patience: float) -> bool:
        """Wait at most `patience` seconds for events, and run their actions.

        Return False if another thread took the lead meanwhile, which only the poller of a pool allows."""
        events = self._epoll.poll(None if patience == math.inf else patience, MAX_EVENTS)
        self.woke = time.monotonic()
        for descriptor, _ in events:
            # An earlier action in this batch may have stopped watching the descriptor.
            if (action := self._actions.get(descriptor)) is not None:
                action()
        return True

    def rearm(self) -> None:
        """Make the next `wait` report unhandled events again.  Nothing to do if level-triggered."""

    def fileno(self) -> int:
        """Return the epoll descriptor, which another poller may watch, epoll(7)."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the epoll descriptor; the watched descriptors stay open."""
        self._epoll.close()


def _descriptor(source: Source) -> int:
    return source if isinstance(source, int) else source.fileno()

"""Timers of a daemon's loop."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable

from daemons.serving.safe_call import call_safely


class Timer:
    """A call at a certain time.  `action` is None once it was called or canceled."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Do not call the action.  A second call does nothing."""
        self.action = None


class Timers:
    """Calls in the order of their times.  Leading thread only."""

    def __init__(self) -> None:
        #: Time (monotonic), tie-breaker and timer; a heap.
        self.heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()

    def call_at(self, when: float, action: Callable[[], None]) -> Timer:
        """Call `action` once, as soon as the monotonic time is `when`.  Its exceptions are logged."""
        timer = Timer(action)
        heapq.heappush(self.heap, (when, next(self._numbers), timer))
        return timer

    def run(self) -> float:
        """Call all actions that are due.  Return the seconds until the next one; infinite if there is none."""
        heap = self.heap
        now = time.monotonic()
        while heap:
            when, _, timer = heap[0]
            if timer.action is not None:
                if when > now:
                    return when - now
                action, timer.action = timer.action, None
                heapq.heappop(heap)
                call_safely(action)
            else:
                heapq.heappop(heap)
        return math.inf

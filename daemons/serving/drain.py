"""Deadlines of a daemon that stops.  All times are monotonic, in seconds."""

from __future__ import annotations

import math

#: Maximum fraction of drain_timeout for accepting connections from the kernel's queue.
QUEUE_SHARE = 0.25

#: Seconds for connections to write their access lines after they were cut.  Then the daemon ends, even if a service has
#: not returned.
AFTER_CUT = 1.0


class Drain:
    """The deadlines; infinite until `begin`."""

    def __init__(self) -> None:
        #: End of the time to accept connections from the kernel's queue.
        self.queue_until = math.inf
        #: End of the time for connections to finish; after that, the time when they were cut.
        self._until = math.inf
        self._was_cut = False

    def begin(self, now: float, timeout: float) -> None:
        """Set the deadlines; a second call can only shorten the time."""
        self._until = min(self._until, now + timeout)
        self.queue_until = min(self.queue_until, now + timeout * QUEUE_SHARE)

    @property
    def begun(self) -> bool:
        return self._until < math.inf

    def must_cut(self, now: float) -> bool:
        """Return whether the open connections must be cut, which may be repeated until `must_end`."""
        if now < self._until:
            return False
        if not self._was_cut:
            self._was_cut = True
            self._until = now
        return True

    def must_end(self, now: float) -> bool:
        """Return whether the daemon must end although connections that were cut are still open."""
        return self._was_cut and now >= self._until + AFTER_CUT

    def patience(self, now: float) -> float:
        """Return the maximum seconds to wait for connections to finish before the next check."""
        if self._was_cut:
            return AFTER_CUT / 4
        return max(0.0, self._until - now)

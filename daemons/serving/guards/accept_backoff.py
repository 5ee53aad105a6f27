"""Pauses of the accept loop: after a failed accept, and when `Limits.max_rate` is exceeded."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from daemons.serving.guards.limits import TokenBucket
from daemons.serving.safe_logger import SafeLogger

log = SafeLogger(__name__)

#: accept(2): "EMFILE The per-process limit on the number of open file descriptors has been reached",
#: ENFILE the same for the system, ENOBUFS and ENOMEM "Not enough free memory".  The connection stays
#: in the queue, so the listener stays readable: without a pause the loop would busy-wait.
CAPACITY = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

#: accept(2): "Linux accept() passes already-pending network errors on the new socket as an error code
#: from accept().  […] Application should […] treat them like EAGAIN by retrying."
TRANSIENT = frozenset(
    (
        errno.EAGAIN,
        errno.EINTR,
        errno.ECONNABORTED,
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.EPERM,
    )
)

#: Seconds to pause after a failed accept; the same as trio's.
PAUSE = 0.1

#: Minimum seconds between two log lines about the rate.  At a high rate there are many pauses a second.
REPORT_INTERVAL = 10.0


class NoResourcesError(Exception):
    """A connection was accepted, but no thread, process or poller entry could be had for it.

    The text says which, and why.  The connection is intact, and `process_request` may be called again."""


class AcceptBackoff:
    """The pauses of one server."""

    def __init__(self) -> None:
        #: End (monotonic) of the pause after a failed accept; 0.0: none.
        self.until = 0.0
        #: Whether the last failed accept concerned one connection only, so that the queue may hold others.
        self.retry = False
        #: Called when a pause because of the rate begins.
        self.on_pause: Callable[[], None] = lambda: None
        self._rate: TokenBucket | None = None
        self._pausing = False
        self._pauses = 0
        self._next_report = 0.0

    def after(self, error: BaseException) -> None:
        """Begin a pause after a failed accept, unless the error concerns only that connection."""
        if isinstance(error, OSError) and error.errno in TRANSIENT:
            self.retry = error.errno != errno.EAGAIN
            return
        self.retry = False
        self.until = time.monotonic() + PAUSE
        if isinstance(error, NoResourcesError):
            log.error("accept: %s; accepted connections wait; next attempt in %d ms", error, PAUSE * 1000)
        elif isinstance(error, OSError) and error.errno in CAPACITY:
            log.error("accept: %s; pausing for %d ms", error.strerror, PAUSE * 1000)
        else:
            log.error("accept: failed; pausing for %d ms", PAUSE * 1000, exc_info=error)

    def reset_rate(self) -> None:
        """Forget the connections counted until now, because `max_rate` has changed."""
        self._rate = None
        self._pausing = False

    def count(self) -> None:
        """Count an accepted connection."""
        if self._rate is not None:
            self._rate.take()

    def wait(self, max_rate: float | None) -> float:
        """Return the seconds until the server may be polled again; 0.0: now."""
        if not self.until and not max_rate:
            return 0.0
        rest = max(0.0, self.until - time.monotonic())
        if max_rate:
            if self._rate is None:
                self._rate = TokenBucket(max_rate)
            pause = self._rate.wait()
            if pause and not self._pausing:
                self._begin_pause(max_rate)
            self._pausing = pause > 0
            rest = max(rest, pause)
        return rest

    def _begin_pause(self, max_rate: float) -> None:
        self.on_pause()
        self._pauses += 1
        if time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + REPORT_INTERVAL
            log.warning(
                "accept: max_rate of %g per second reached; new connections wait in the kernel's queue "
                "(pauses since the last report: %d)",
                max_rate,
                self._pauses,
            )
            self._pauses = 0

    def end(self) -> None:
        """End the pause."""
        self.until = 0.0

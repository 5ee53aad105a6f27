"""When a server must not be polled: after an accept that failed, and when its rate of visitors is used up."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from daemons.serving.guards.limits import TokenBucket
from daemons.serving.safe_logger import SafeLogger

log = SafeLogger(__name__)

#: accept(2): "EMFILE The per-process limit on the number of open file descriptors has been reached",
#: ENFILE the same for the system, ENOBUFS and ENOMEM "Not enough free memory".  The connection stays
#: in the queue, so the listener stays readable: without a rest the loop would spin.
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

#: Seconds.  Long enough to cost nothing, short enough that nobody notices (the same as trio's).
REST = 0.1


#: Seconds between two lines that say the rate is used up.  At a high rate there are many pauses a second.
NEWS = 10.0


class AcceptBackoff:
    """The rests of one server."""

    def __init__(self) -> None:
        #: Until when (monotonic); 0.0: it does not rest.
        self.until = 0.0
        #: Called when the rate is used up, and a pause begins.
        self.on_pause: Callable[[], None] = lambda: None
        self._rate: TokenBucket | None = None
        self._pausing = False
        self._pauses = 0
        self._next_news = 0.0

    def after(self, error: BaseException) -> None:
        """An accept has failed: rest, unless that was the visitor's own."""
        if isinstance(error, OSError) and error.errno in TRANSIENT:
            return
        self.until = time.monotonic() + REST
        if isinstance(error, OSError) and error.errno in CAPACITY:
            log.error("accept: %s; resting %d ms", error.strerror, REST * 1000)
        else:
            log.error("accept failed; resting %d ms", REST * 1000, exc_info=error)

    def count(self) -> None:
        """Somebody has come in."""
        if self._rate is not None:
            self._rate.take()

    def wait(self, max_rate: float | None) -> float:
        """Seconds until the server should be polled again, 0.0 if now."""
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
        if time.monotonic() >= self._next_news:
            self._next_news = time.monotonic() + NEWS
            log.warning(
                "max_rate of %g a second used up; the next ones wait unaccepted (pauses since the last such line: %d)",
                max_rate,
                self._pauses,
            )
            self._pauses = 0

    def end(self) -> None:
        """It is polled again."""
        self.until = 0.0

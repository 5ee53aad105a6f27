"""Circuit breaker of an upstream server: https://martinfowler.com/bliki/CircuitBreaker.html.  No sockets, no clock.

The breaker is a value: each event returns the next one, so it can be stored in memory shared by processes.  Closed, it
counts failures in a row; after `FAILURES` of them it opens, and requests are refused.  Open, it admits one trial
request per `PAUSE`, and is half-open until the trial ends.  The first response closes it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: States.  Half-open: a trial request is in progress.
CLOSED: Final = 0
OPEN: Final = 1
HALF_OPEN: Final = 2

#: Failures in a row that open the breaker.  A client that repeats one failing request a few times does not open it.
FAILURES = 5

#: Seconds between two trial requests: an upstream server that has recovered is used again within this time.
PAUSE = 1.0


class Trial(NamedTuple):
    """A request sent while the breaker is not closed.

    patience
        Maximum seconds until the head of its response.
    long
        Whether that is the full timeout.  One trial at a time is long, so that a slow server can respond; further ones
        wait `PAUSE`, so that a server which ignores the long one is tried again.
    """

    patience: float
    long: bool


class CircuitBreaker(NamedTuple):
    """State of the breaker.  All times are in seconds, on the clock of the caller."""

    state: int = CLOSED
    #: Failures in a row.
    failures: int = 0
    #: When the next trial request may be sent.
    next_trial: float = 0.0
    #: When the current long trial times out.
    long_until: float = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until a request may be sent; 0 if it may be sent now."""
        return 0.0 if self.state == CLOSED else max(0.0, self.next_trial - now)

    def begin(self, now: float, timeout: float, *, repeatable: bool) -> tuple[CircuitBreaker, Trial | None]:
        """Begin a request that may be sent now; return the next state, and the trial unless the breaker is closed.

        `timeout` is the maximum wait for the head of a response.  A request that is not `repeatable` is not given less,
        since its outcome would be unknown."""
        if self.state == CLOSED:
            return self, None
        long = now >= self.long_until or not repeatable
        changed = self._replace(state=HALF_OPEN, next_trial=now + PAUSE)
        if long:
            changed = changed._replace(long_until=now + timeout)
        return changed, Trial(timeout if long else min(PAUSE, timeout), long)

    def respond(self) -> CircuitBreaker:
        """Record the head of a response.  It closes the breaker, but until a response is complete (`complete`) the
        next failure opens it again."""
        return self if self.state == CLOSED else CircuitBreaker(CLOSED, FAILURES - 1)

    def complete(self) -> CircuitBreaker:
        """Record a complete response."""
        return CircuitBreaker()

    def fail(self, now: float, trial: Trial | None) -> CircuitBreaker:
        """Record a failure or timeout of a request, and its trial, if it was one."""
        if self.state == CLOSED:
            failures = self.failures + 1
            if failures < FAILURES:
                return self._replace(failures=failures)
            return CircuitBreaker(OPEN, failures, now + PAUSE)
        return self.abandon(trial)  # a request sent before the breaker opened does not count

    def abandon(self, trial: Trial | None) -> CircuitBreaker:
        """Record the end of a request that shows nothing of the server, for example since its client has left."""
        if self.state == CLOSED or trial is None:
            return self
        return self._replace(state=OPEN, long_until=0.0 if trial.long else self.long_until)

"""An upstream server: requests to it, limited in number and time, over persistent connections."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from daemons.serving.conversation.peer import Peer
from daemons.serving.guards.upstream_counter import UPSTREAMS
from daemons.web.gateway.circuit_breaker import CLOSED, PAUSE, CircuitBreaker
from daemons.web.gateway.exchange import LEAVING, PAUSED, Exchange, StaleError, UpstreamError
from daemons.web.gateway.request_table import RequestTable
from daemons.web.gateway.upstream_address import UpstreamAddress, UpstreamLimits
from daemons.web.gateway.upstream_socket import UpstreamSocket

log = logging.getLogger(__name__)

#: Maximum idle connections, and the seconds for which they are kept.  Node.js, uvicorn and Apache close an idle
#: connection after 5 s: a POST sent at that moment would be 502, since it cannot be repeated.
IDLE, KEPT = 16, 4.0

#: Maximum responses to paused clients, per request that may be in progress.  Each holds a connection and up to
#: 64 KiB; beyond the limit, the response that has paused longest is cut short.
PAUSED_RESPONSES = 16

#: Minimum seconds between log lines about refused requests.
QUIET = 1.0

#: Methods that may be repeated (RFC 9110, section 9.2.2).
IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS"))


class Upstream:
    """An upstream server with its limits."""

    def __init__(self, address: UpstreamAddress, limits: UpstreamLimits) -> None:
        self._address = address
        self.limits = limits
        self._idle: deque[UpstreamSocket] = deque()
        self._closed = False
        self._lock = threading.Lock()
        self._exchanges: set[Exchange] = set()
        #: The requests of all processes under ``engine = forks``; otherwise None.
        self.table: RequestTable | None = None
        #: Requests refused since the last log line about them, and when (monotonic) that was written.
        self._refused = 0
        self._logged = float("-inf")
        self._own_breaker = CircuitBreaker()
        UPSTREAMS.add(self)

    def __str__(self) -> str:
        return self._address.text

    def ask(
        self, method: str, target: bytes, fields: Sequence[tuple[bytes, bytes]], body: bytes, peer: Peer
    ) -> Exchange:
        """Send a request of the client `peer`, and return its exchange when the head of the response has been received.

        Raises `UpstreamError`, immediately if too many requests are in progress or the circuit breaker is open; and
        `PeerLeft` if the client leaves."""
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        request = b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method.encode("ascii"), target, lines, body)
        exchange = self._admit(method, peer)
        try:
            connection = self._take_kept()
            if connection is not None:
                try:
                    exchange.run(connection, request, bool(body))
                except StaleError:
                    if method not in IDEMPOTENT:
                        # The server may have processed the request before it closed the connection.
                        raise UpstreamError(502, "closed a kept connection after a request was sent") from None
                else:
                    return exchange
                exchange.restart()
            exchange.run(self._connect(), request, bool(body))
        except BaseException as error:
            if isinstance(error, UpstreamError) and error.is_outage:
                exchange.outage = error
            exchange.close()
            raise
        return exchange

    def keep(self, connection: UpstreamSocket) -> None:
        """Keep a connection for another request, or close it if there are enough."""
        connection.used = time.monotonic()
        if len(self._idle) < IDLE and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()

    def resume(self, exchange: Exchange) -> bool:
        """Count an exchange as in progress again, before a thread waits for more of its response.

        Return False if too many others are in progress: clients that pause, and then all continue at once, must not
        occupy all threads."""
        with self._exclusive():
            if not exchange.in_progress and self.is_full():
                return False
            exchange.wait_on()
        return True

    def release(self, exchange: Exchange) -> None:
        """Remove an exchange that has ended, and record its outcome in the circuit breaker.  May be called again."""
        with self._lock:
            self._exchanges.discard(exchange)
            if self.table is not None and exchange.place is not None:
                place, exchange.place = exchange.place, None
                self.table.release(place)
        if exchange.outage is not None:
            reason, exchange.outage = str(exchange.outage), None
            self._record(lambda breaker: breaker.fail(time.monotonic(), exchange.trial), reason)
        elif exchange.complete:
            self._record(CircuitBreaker.complete)
        elif exchange.trial is not None:
            self._record(lambda breaker: breaker.abandon(exchange.trial))
        exchange.trial = None

    @property
    def breaker(self) -> CircuitBreaker:
        """The state of the circuit breaker, of this process or of all that share the table."""
        return self._own_breaker if self.table is None else self.table.breaker()

    def record_head(self, exchange: Exchange) -> None:
        """Record in the circuit breaker that the server has responded."""
        exchange.trial = None
        self._record(CircuitBreaker.respond)

    def is_full(self) -> bool:
        """Return whether as many requests are in progress as are allowed."""
        count = sum(each.in_progress for each in list(self._exchanges))
        if self.table is not None:
            count += self.table.count_others(time.monotonic() - PAUSED)
        return count >= self.limits.requests

    def take_refused(self) -> int:
        """Return and reset the number of refused requests; 0 within `QUIET` seconds after the last call that did so."""
        with self._exclusive():
            if self.table is not None:
                return self.table.take_refused(QUIET)
            now = time.monotonic()
            if now - self._logged < QUIET:
                return 0
            self._logged = now
            refused, self._refused = self._refused, 0
            return refused

    @property
    def is_open(self) -> bool:
        """Whether the circuit breaker refuses requests, except trial requests."""
        return self.breaker.state != CLOSED

    def share_with_children(self) -> None:
        """Count the requests of all processes forked from now on together."""
        self.table = self.table or RequestTable()

    def close(self) -> None:
        """Close the idle connections, and keep no more."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        if self.table is not None and not self._exchanges:
            self.table.close()
            self.table = None

    def _admit(self, method: str, peer: Peer) -> Exchange:
        exchange = Exchange(self, method, peer)
        with self._exclusive():
            now = time.monotonic()
            breaker = self.breaker
            if breaker.wait(now):
                self._refuse()
                raise UpstreamError(503, "the circuit breaker is open")
            full = self.is_full() and not self._drop_leaving()
            if not full and self.table is not None:
                exchange.place = self.table.take()
                full = exchange.place is None
            if full:
                self._refuse()
                raise UpstreamError(503, f"{self.limits.requests} requests are in progress (upstream_requests)")
            if len(self._exchanges) >= self.limits.requests * (1 + PAUSED_RESPONSES):
                oldest = min(self._exchanges, key=lambda each: each.paused_since)
                oldest.cut("too many clients have paused, and its client for the longest time")
                self._exchanges.discard(oldest)
            self._exchanges.add(exchange)
            after, exchange.trial = breaker.begin(now, self.limits.pause, repeatable=method in IDEMPOTENT)
            if after is not breaker:
                self._put(after)
        return exchange

    def _drop_leaving(self) -> bool:
        """Cut the waiting requests of clients that have closed their sending half; return whether there were any.  In
        other processes, exchanges notice it themselves."""
        leaving = [each for each in self._exchanges if each.in_progress and each.may_be_dropped]
        for each in leaving:
            each.cut(LEAVING)
            self._exchanges.discard(each)
        return bool(leaving)

    def _record(self, event: Callable[[CircuitBreaker], CircuitBreaker], reason: str = "") -> None:
        """Apply an event to the circuit breaker, and log a change between closed and open."""
        if event(before := self.breaker) == before:
            return
        with self._exclusive():
            before = self.breaker
            after = event(before)
            self._put(after)
        if before.state == CLOSED != after.state:
            UPSTREAMS.opened += 1
            log.warning(
                "upstream server %s: circuit breaker open after %d failures in a row: %s; a trial request every %g s",
                *(self, after.failures, reason, PAUSE),
            )
        elif before.state != CLOSED == after.state:
            log.warning("upstream server %s: circuit breaker closed: the server responds", self)

    def _put(self, breaker: CircuitBreaker) -> None:
        if self.table is None:
            self._own_breaker = breaker
        else:
            self.table.put_breaker(breaker)

    def _refuse(self) -> None:
        if self.table is not None:
            self.table.refuse()
        else:
            self._refused += 1

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the lock against other threads, and against other processes that share the table."""
        with self._lock, nullcontext() if self.table is None else self.table.exclusive():
            yield

    def _connect(self) -> UpstreamSocket:
        try:
            return UpstreamSocket(self._address)
        except TimeoutError as error:
            raise UpstreamError(504, "no connection in time", is_outage=True) from error
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise UpstreamError(502, f"{reason.lower()} while connecting", is_outage=True) from error

    def _take_kept(self) -> UpstreamSocket | None:
        """Return the connection used last, so that surplus ones expire; None if there is none."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            # A readable connection was closed by the server, or has bytes that belong to no response.
            if time.monotonic() - connection.used < KEPT and connection.wait(0.0, writing=False) is None:
                return connection
            connection.close()

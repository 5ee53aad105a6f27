"""Admission: decides when a daemon's listeners are polled.

At the limit of connections, or during a pause, no connection is accepted: new ones wait in the kernel's queue.  At the
limit, a listener is polled only to find out whether an open connection must give way to a new one.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING

from daemons.serving.guards.eviction import MOST, Eviction
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from daemons.serving.interfaces import Leader, Served

log = SafeLogger(__name__)

#: Maximum connections accepted from one listener in one turn of the loop.
ACCEPT_BATCH = 64

#: Minimum seconds between two log lines about the limit of connections.
REPORT_INTERVAL = 10.0


class Admission:
    """Adds listeners to the poller and removes them.  Leading thread only."""

    def __init__(self, daemon: Leader) -> None:
        self._daemon = daemon
        self._polled: set[Served] = set()
        #: Servers with a listener that is polled at the limit of connections.
        self._polled_at_limit: set[Served] = set()
        self._eviction = Eviction(daemon)
        self._evicted = 0
        self._was_full = False
        #: Servers whose queue has not been emptied yet, for the state QUEUE.
        self._queued = set(daemon.servers)
        self._last_report = -math.inf

    @property
    def full(self) -> bool:
        """Whether the limit of connections is reached."""
        return self._room <= 0

    @property
    def _room(self) -> int:
        return self._daemon.servers[0].max_connections - self._daemon.active

    def update_polling(self, server: Served) -> float:
        """Poll the listener of `server` if a connection can be accepted, or an open one evicted; else stop polling it.

        Return the seconds until the next call is needed."""
        daemon = self._daemon
        daemon.wake_on_end = full = self.full
        if full:
            full = self.full  # again: a connection that ended before `wake_on_end` was set did not wake the loop
        rest = server.wait()
        if not full and not rest:
            if server not in self._polled:
                self._was_full = False
                self.stop_polling(server)
                server.backoff.end()
                if server.deferred:
                    server.retry()
                    if rest := server.wait():
                        return rest
                daemon.watch(server, partial(self._accept, server))
                self._polled.add(server)
            return math.inf
        if server in self._polled:
            self.stop_polling(server)
        now = time.monotonic()
        if full and server.max_connections > 1:
            self._report(server, now)
        if server.deferred and not rest:
            server.backoff.end()
            server.retry()
            rest = server.wait()
        if rest or (wait := self._eviction.wait(now)):
            self.stop_polling(server)
            return rest or wait
        if server not in self._polled_at_limit:
            self._daemon.watch(server, partial(self._make_room, server))
            self._polled_at_limit.add(server)
        return math.inf

    def stop_polling(self, server: Served) -> None:
        """Stop polling the listener of `server`."""
        for polled in (self._polled, self._polled_at_limit):
            if server in polled:
                self._daemon.forget(server)
                polled.discard(server)

    def _report(self, server: Served, now: float) -> None:
        """Count and log that the limit is reached."""
        if not self._was_full and server.metrics is not None:
            server.metrics.fill()
        self._was_full = True
        if now - self._last_report > REPORT_INTERVAL:
            self._last_report = now
            log.warning(
                "accept: limit of %d connections reached; new ones wait in the kernel's queue, and connections that "
                "wait for their peer give way (%d since the last report)",
                server.max_connections,
                self._evicted,
            )
            self._evicted = 0

    def _make_room(self, server: Served) -> None:
        """At the limit, with new connections in the queue of `server`: evict as many, and accept."""
        now = time.monotonic()
        queued = min(server.queued(1), MOST)
        self._daemon.note_activity()
        for _ in range(queued):
            self._evicted += self._eviction.make_room(1, now)
            if self.full:
                # Other threads or processes close the evicted connections, and then wake the loop.
                self._evicted += self._eviction.make_room(queued, now)
                return
            if not server.accept() or server.wait():
                return

    def take_queues(self, until: float) -> float:
        """Accept the connections in the kernel's queues, within the limit and until the monotonic time `until`.

        Return the seconds until the next call is needed; infinite if the loop will be woken, or if `queues_taken`."""
        return min((self._take_queue(server, until) for server in list(self._queued)), default=math.inf)

    @property
    def queues_taken(self) -> bool:
        """Whether all queues are empty."""
        return not self._queued

    def _accept(self, server: Served) -> None:
        self._daemon.note_activity()
        server.accept_many(min(self._room, ACCEPT_BATCH))

    def _take_queue(self, server: Served, until: float) -> float:
        self.stop_polling(server)
        if server.deferred:
            if rest := server.wait():
                return rest
            server.backoff.end()
            server.retry()
        # Datagrams may arrive as fast as they are answered, so that the queue never becomes empty: hence `until`.
        while not self.full and time.monotonic() < until:
            if rest := server.wait():
                return rest
            if not (server.accept() or server.wait() or server.backoff.retry or server.deferred):
                self._queued.discard(server)
                break
        return math.inf

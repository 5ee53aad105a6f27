"""Admission: decides when a daemon's listeners are polled.

At the limit of connections, or during a pause, a listener is not polled: connections wait in the kernel's queue instead
of being accepted and refused.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING

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

    def admit(self, server: Served) -> float:
        """Poll `server` if and only if it can accept a connection now.

        Return the seconds until the next call is needed."""
        daemon = self._daemon
        daemon.wake_on_end = full = self.full
        if full:
            full = self.full  # again: a connection that ended before `wake_on_end` was set did not wake the loop
        rest = server.wait()
        if not full and not rest:
            if server not in self._polled:
                server.backoff.end()
                daemon.watch(server, partial(self._accept, server))
                self._polled.add(server)
            return math.inf
        self.stop_polling(server)
        if full and server.max_connections > 1 and time.monotonic() - self._last_report > REPORT_INTERVAL:
            self._last_report = time.monotonic()
            log.warning(
                "accept: limit of %d connections reached; new ones wait in the kernel's queue", server.max_connections
            )
        return rest or math.inf

    def stop_polling(self, server: Served) -> None:
        """Stop polling the listener of `server`."""
        if server in self._polled:
            self._daemon.forget(server)
            self._polled.discard(server)

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
        # Datagrams may arrive as fast as they are answered, so that the queue never becomes empty: hence `until`.
        while not self.full and time.monotonic() < until:
            if rest := server.wait():
                return rest
            if not server.accept() and not server.wait() and not server.backoff.retry:
                self._queued.discard(server)
                break
        return math.inf

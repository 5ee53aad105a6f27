"""Admission: when a daemon's listeners are polled, so that nobody is accepted only to be refused.

When it is full, or a server rests, the listener is not in the poller, and the kernel's queue is the queue.
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

#: Connections taken from one listener before the loop looks at anything else.
ACCEPT_BATCH = 64

#: Seconds between two lines that say the daemon is full.
FULL_NEWS = 10.0


class Admission:
    """Who is polled for new connections.  All of it in the leading thread."""

    def __init__(self, daemon: Leader) -> None:
        self._daemon = daemon
        self._polled: set[Served] = set()
        #: Those with a queue that has yet to be taken, when the daemon is told to stop.
        self._queued = set(daemon.servers)
        self._full_told = -math.inf

    @property
    def full(self) -> bool:
        """Whether nobody more can be accepted now."""
        return self._room <= 0

    @property
    def _room(self) -> int:
        return self._daemon.servers[0].max_connections - self._daemon.active

    def admit(self, server: Served) -> float:
        """Have `server` polled if and only if it can take a connection now.  Returns in how many seconds
        to look again."""
        daemon = self._daemon
        daemon.wants_news = full = self.full
        if full:
            full = self.full  # once more: a conversation that ends from here on has seen that it is awaited
        rest = server.wait()
        if not full and not rest:
            if server not in self._polled:
                server.rest.end()
                daemon.watch(server, partial(self._accept, server))
                self._polled.add(server)
            return math.inf
        self.refrain(server)
        if full and server.max_connections > 1 and time.monotonic() - self._full_told > FULL_NEWS:
            self._full_told = time.monotonic()
            log.warning("full: %d connections; the next ones wait in the kernel's queue", daemon.active)
        return rest or math.inf

    def refrain(self, server: Served) -> None:
        """Poll it no more."""
        if server in self._polled:
            self._daemon.forget(server)
            self._polled.discard(server)

    def take_queues(self, until: float) -> float:
        """Accept who is in the queues, as far as there is room, until then (monotonic).  Returns in how many
        seconds to go on; none, where `queues_taken`."""
        return min((self._take_queue(server, until) for server in list(self._queued)), default=math.inf)

    @property
    def queues_taken(self) -> bool:
        """Whether all have come to their ends."""
        return not self._queued

    def _accept(self, server: Served) -> None:
        self._daemon.visited()
        server.accept_several(min(self._room, ACCEPT_BATCH))

    def _take_queue(self, server: Served, until: float) -> float:
        self.refrain(server)
        # Datagrams may come as fast as they are answered: then the queue has no end.
        while not self.full and time.monotonic() < until:
            if rest := server.wait():
                return rest
            if not server.accept() and not server.wait():
                self._queued.discard(server)
                break
        return math.inf

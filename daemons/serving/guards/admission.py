"""Admission: decides when a daemon's listeners are polled.

At the limit of connections, or during a pause, no connection is accepted: new ones wait in the kernel's queue.  At the
limit, a listener is polled only to find out whether an open connection must give way to a new one.  A datagram does
not wait for its peer, so one may be answered at the limit, too, and any number in the leading thread (`Served.spare`).

If several listeners have connections in their queues, and there is not room for all, the listeners are served in turn.
epoll reports them in the same order again and again, so that otherwise the first would take every place.
"""

from __future__ import annotations

import math
import select
import time
from collections import deque
from collections.abc import Collection
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
        #: All servers, in the order of their turns: the one that has accepted last is at the end.
        self._turns = deque(daemon.servers)
        #: With room for so many, every listener can accept a full batch.
        self._ample = ACCEPT_BATCH * len(daemon.servers)
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
            # Again: a connection that ended before `wake_on_end` was set did not wake the loop.
            full = self.full and not server.spare
        rest = server.wait()
        if not full and not rest:
            if server not in self._polled:
                self._was_full &= self.full
                self.stop_polling(server)
                server.backoff.end()
                if server.deferred:
                    server.retry()
                    if rest := server.wait():
                        return rest
                several = len(daemon.servers) > 1
                daemon.watch(server, partial(self._accept_in_turn if several else self._accept, server))
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
        """At the limit, with new connections in the queue of `server`: evict as many, and accept in turn."""
        now = time.monotonic()
        waiting = self._waiting(self._polled_at_limit)
        queued = min(sum(each.queued(1) for each in waiting), MOST)
        self._daemon.note_activity()
        for _ in range(queued):
            if self.full:
                self._evicted += self._eviction.make_room(1, now)
            if self.full:
                # Other threads or processes close the evicted connections, and then wake the loop.
                self._evicted += self._eviction.make_room(queued, now)
                return
            server = waiting.popleft()
            self._end_turn(server)
            if server.accept() and not server.wait():
                waiting.append(server)
            elif not waiting:
                return

    def _waiting(self, polled: Collection[Served]) -> deque[Served]:
        """Return those of the `polled` servers that have connections in their queue, in the order of their turns."""
        if len(polled) == 1:
            return deque(polled)
        poll = select.poll()
        for server in polled:
            poll.register(server, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(0)}
        return deque(server for server in self._turns if server in polled and server.fileno() in ready)

    def _end_turn(self, server: Served) -> None:
        self._turns.remove(server)
        self._turns.append(server)

    def take_queues(self, until: float) -> float:
        """Accept connections in the kernel's queues, in turn, within the limit and until the monotonic time `until`.

        Return the seconds until the next call is needed; infinite if the loop will be woken, or if `queues_taken`."""
        rests = [self._prepare_queue(server) for server in self._queued]
        waiting = deque(server for server in self._turns if server in self._queued and not server.wait())
        # Datagrams may arrive as fast as they are answered, so that the queue never becomes empty: hence `until`, and
        # a batch for each call, because meanwhile no message is answered.
        for _ in range(ACCEPT_BATCH * len(waiting)):
            if time.monotonic() >= until:
                break
            full = self.full
            while waiting and full and not waiting[0].spare:
                waiting.popleft()  # the loop is woken when there is room
            if not waiting:
                break
            server = waiting.popleft()
            accepted = server.accept()
            if rest := server.wait():
                rests.append(rest)
            elif accepted or server.backoff.retry or server.deferred:
                waiting.append(server)
            else:
                self._queued.discard(server)
        return 0.0 if waiting else min(filter(None, rests), default=math.inf)

    def _prepare_queue(self, server: Served) -> float:
        """Process the deferred connections of a server if its pause is over; return the rest of its pause, or 0.0."""
        self.stop_polling(server)
        if server.deferred and not server.wait():
            server.backoff.end()
            server.retry()
        return server.wait()

    @property
    def queues_taken(self) -> bool:
        """Whether all queues are empty."""
        return not self._queued

    def _accept(self, server: Served) -> None:
        """Accept from the only listener."""
        self._daemon.note_activity()
        server.accept_many(min(self._room, ACCEPT_BATCH))

    def _accept_in_turn(self, server: Served) -> None:
        """Accept from one of several listeners; if there is not room for all, from each in turn."""
        self._daemon.note_activity()
        room = self._room
        if room >= self._ample or server.spare >= ACCEPT_BATCH:
            server.accept_many(ACCEPT_BATCH)
            return
        if room <= 0:
            server.accept_many(server.spare)
            return
        waiting = self._waiting([each for each in self._polled if each.spare < ACCEPT_BATCH])
        for left in range(len(waiting), 0, -1):
            if (room := self._room) <= 0:
                break
            server = waiting.popleft()
            self._end_turn(server)
            server.accept_many(min(max(1, room // left), ACCEPT_BATCH))

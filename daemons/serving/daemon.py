"""A daemon: one or more servers behind one selector, and its life from the first accept to the last reply.

One thread, the daemon's own, accepts, keeps the deadlines and hears the signals; it never waits for a
conversation.  (A bare server without an engine serves in this thread, as stock ones do.)
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import socketserver
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from daemons.serving import signals
from daemons.serving.journal import Journal
from daemons.serving.waker import Waker

if TYPE_CHECKING:
    from daemons.serving.server import StreamServer


class HasFileno(Protocol):
    """What has a descriptor."""

    def fileno(self) -> int: ...


log = Journal(__name__)

#: What a selector can watch: a descriptor, or what has one.
Source = int | HasFileno

#: Seconds between two looks at the deadlines, at most.  A deadline is kept to within this or a quarter
#: of itself, whichever is less.
TICK = 1.0

#: Part of drain_timeout that may go into accepting those who were already in the queue.
QUEUE_SHARE = 0.25

#: Seconds to drain when the parent process has died: an orphan must leave its port to the next one.
ORPHAN_DRAIN = 1.0

#: Seconds that conversations have, once they were cut, to write their access lines.  One that is lost in
#: its own code does not keep the daemon from leaving.
PARTING = 0.5

#: Connections taken from one listener before the loop looks at anything else.
ACCEPT_BATCH = 64

#: Seconds between two lines that say the daemon is full.
FULL_NEWS = 10.0


class Daemon:
    """Serves `servers` until told to stop.

    parent
        The process to leave with: when it is no longer this one's parent, the daemon drains and ends.
    poll_interval
        Seconds between two calls of a `service_actions` that a server overrides.
    """

    def __init__(
        self, servers: Sequence[StreamServer], *, parent: int | None = None, poll_interval: float = 0.5
    ) -> None:
        self.servers = list(servers)
        self.parent = parent
        #: Called in the daemon's thread with the number of a signal that is not its own to handle.
        self.on_signal: Callable[[int], None] = lambda number: None
        self._poll_interval = poll_interval
        self._waker = Waker()
        self._selector = selectors.DefaultSelector()
        self._polled: set[StreamServer] = set()
        #: Until when (monotonic) to drain; None: not stopping.
        self._until: float | None = None
        self._stop_now = False
        #: Whether the end of a conversation must wake this loop: it is full, or draining.
        self._wants_news = False
        self._full_told = -math.inf
        self._hears_signals = False
        self._thread: int | None = None
        self._ended = threading.Event()
        self.watch(self._waker, self._hear)
        for server in self.servers:
            server.daemon = self

    # --- from outside ------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Stop accepting and end `serve_forever` without draining, as `BaseServer.shutdown` does; from
        any thread.  Waits for the end, except in the daemon's own thread, where the stock class waits
        for ever."""
        self._stop_now = True
        self._waker.wake()
        if self._thread is not None and self._thread != threading.get_ident():
            self._ended.wait()

    def left(self) -> None:
        """A conversation has ended; from any thread."""
        if self._wants_news:
            self._waker.wake()

    def watch(self, source: Source, action: Callable[[], None]) -> None:
        """Call `action` in the daemon's thread whenever `source` can be read."""
        self._selector.register(source, selectors.EVENT_READ, action)

    def forget(self, source: Source) -> None:
        """Stop watching `source`; before it is closed."""
        self._selector.unregister(source)

    def hear_signals(self) -> None:
        """Let SIGTERM and SIGINT stop this daemon, and pass SIGHUP to `on_signal`.  In the main thread."""
        signals.hear(self._waker)
        self._hears_signals = True

    def abandon(self) -> None:
        """In a forked child: let go of everything that is the parent's too."""
        for server in self.servers:
            server.stop_listening()
        self._close()

    # --- the loop ----------------------------------------------------------------------------------

    def serve_forever(self) -> None:
        """Accept and serve until stopped; after `stop`, drain first."""
        self._thread = threading.get_ident()
        try:
            while not self._stop_now and self._until is None:
                self._turn()
            if self._until is not None:
                self._take_queue(self._until)
                self._finish()
        finally:
            self._close()

    def see_out(self) -> None:
        """Accept nobody; return when no conversation is left.  Deadlines, signals and the parent are
        heeded as ever."""
        self._thread = threading.get_ident()
        try:
            self._finish()
        finally:
            self._close()

    def stop(self, drain: float | None = None) -> None:
        """Begin to drain, for at most `drain` seconds (by default `Limits.drain_timeout`); told a second
        time, end everything now.  In the daemon's own thread."""
        now = time.monotonic()
        if self._until is None:
            timeout = self.servers[0].limits.drain_timeout if drain is None else drain
            self._until = now + timeout
            log.info("stopping; conversations under way: %d, and %g s to finish them", self._active(), timeout)
            for server in self.servers:
                server.drain()
        else:
            self._until = min(self._until, now)

    def _turn(self) -> None:
        """Wait for something to happen, and deal with it."""
        patience = self._patience()
        for server in self.servers:
            patience = min(patience, self._admit(server))
        self._wait(patience)
        for server in self.servers:
            _guarded(server.service_actions)

    def _wait(self, patience: float) -> None:
        """Sleep at most `patience` seconds, do what is due, and keep the deadlines."""
        for key, _ in self._selector.select(None if patience == math.inf else patience):
            key.data()
        now = time.monotonic()
        for server in self.servers:
            server.sweep(now)
        if self.parent is not None and os.getppid() != self.parent:
            log.warning("the parent process %d has gone; leaving too", self.parent)
            self.parent = None
            self.stop(ORPHAN_DRAIN)

    def _hear(self) -> None:
        for number in self._waker.heard():
            if number in (signal.SIGTERM, signal.SIGINT):
                self.stop()
            else:
                _guarded(self.on_signal, number)

    def _accept(self, server: StreamServer) -> None:
        for _ in range(ACCEPT_BATCH):
            # Full at once, if another listener was ready in the same turn of the loop.
            if self._full() or server.wait() or not server.accept():
                break

    def _patience(self) -> float:
        """Seconds that may pass before something must be looked at; infinite if nothing must."""
        patience = math.inf
        if self._active():
            patience = min(TICK, *(server.limits.shortest / 4 for server in self.servers))
        if self.parent is not None:
            patience = min(patience, TICK)
        for server in self.servers:
            if type(server).service_actions is not socketserver.BaseServer.service_actions:
                patience = min(patience, self._poll_interval)
        return patience

    def _admit(self, server: StreamServer) -> float:
        """Have `server` in the selector if and only if it can take a connection now.  Returns in how
        many seconds to look again."""
        # In this order: a conversation that ends between the two lines has seen that it is awaited.
        self._wants_news = self._full()
        full = self._full()
        rest = server.wait()
        if not full and not rest:
            if server not in self._polled:
                server.rests_until = 0.0
                self.watch(server, lambda: self._accept(server))
                self._polled.add(server)
            return math.inf
        self._unpoll(server)
        if full and server.max_connections > 1 and time.monotonic() - self._full_told > FULL_NEWS:
            self._full_told = time.monotonic()
            log.warning("full: %d connections; the next ones wait in the kernel's queue", self._active())
        return rest or math.inf

    def _unpoll(self, server: StreamServer) -> None:
        if server in self._polled:
            self.forget(server)
            self._polled.discard(server)

    def _take_queue(self, until: float) -> None:
        """Accept who was in the queue when the stop came (a closed listener would reset them), then
        close the listeners."""
        self._wants_news = True
        now = time.monotonic()
        queue_until = now + (until - now) * QUEUE_SHARE
        for server in self.servers:
            self._unpoll(server)
            # Told to stop a second time, `_until` is now.
            while (left := min(queue_until, self._until or 0.0) - time.monotonic()) > 0:
                rest = server.wait()
                if rest or self._full():
                    self._wait(min(rest or left, left, self._patience()))
                elif not server.accept() and not server.wait():
                    break
            server.stop_listening()

    def _finish(self) -> None:
        """Keep watch until no conversation is left; at the end of the time to drain, cut them."""
        self._wants_news = True
        while self._active():
            now = time.monotonic()
            left = math.inf if self._until is None else self._until - now
            if left <= 0:
                for server in self.servers:
                    server.cut()
                if left < -PARTING:
                    log.error("%d conversations did not end when they were cut", self._active())
                    return
                left += PARTING
            self._wait(min(self._patience(), max(0.0, left)))

    def _active(self) -> int:
        return sum(server.active for server in self.servers)

    def _full(self) -> bool:
        return self._active() >= self.servers[0].max_connections

    def _close(self) -> None:
        if self._hears_signals:
            signals.deafen()
        self._selector.close()
        self._waker.close()
        self._ended.set()


def _guarded(action: Callable[..., None], *args: object) -> None:
    """Nothing that somebody overrides can end the loop."""
    try:
        action(*args)
    except Exception:
        log.exception("%s failed", getattr(action, "__qualname__", action))

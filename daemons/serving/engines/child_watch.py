"""Deadlines and signals of one connection in a child process of ``engine = forks``."""

from __future__ import annotations

import _thread
import os
import signal
import time
from collections import deque
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol

from daemons.serving import signals
from daemons.serving.connection import Connection
from daemons.serving.conversation.endings import Ending, Refusal
from daemons.serving.daemon import TICK, Daemon
from daemons.serving.engines.stall_monitor import STALL, CallProbe, StallMonitor
from daemons.serving.guards.eviction import Rank, makes_progress, rank
from daemons.serving.interfaces import Served
from daemons.serving.safe_logger import SafeLogger

log = SafeLogger(__name__)


class ForkedServer(Served, Protocol):
    """The server in a child process, with the one connection of the child."""

    connections: dict[Any, Connection]

    def shutdown_request(self, request: Any) -> None: ...
    def flush_metrics(self) -> None: ...


class ChildWatchdog:
    """In a child: run a `Daemon` in a thread for deadlines and signals, while the main thread serves.

    The thread is started only when needed: at a signal, or when a deadline has passed.  Until then SIGALRM provides the
    ticks, and its handler checks whether the thread is needed.  A signal handler may interrupt the service anywhere, so
    it must not wait for a lock or raise: code that may do either runs in the thread.
    """

    def __init__(self, server: ForkedServer, request: Any, parent: int) -> None:
        self._server = server
        self._request = request
        self._connection = server.connections[request]
        self._parent = parent
        self._call = CallProbe(server, _thread.get_ident())
        self._daemon: Daemon | None = None
        #: Received signals that have not been passed to the daemon yet.
        self._pending: deque[int] = deque()
        #: Held once the thread has been started.
        self._begun = _thread.allocate_lock()
        #: Whether ticks come from SIGALRM, without a thread.
        self._alarmed = False

    def install_handlers(self, *, alarm: bool) -> None:
        """Install the signal handlers; start the thread when a tick finds it needed or, without `alarm`, at once."""
        for number in (signal.SIGTERM, signals.CUT, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, self._handle_signal)
        for request in (signals.GIVE_WAY, signals.GIVE_WAY_IDLE):
            signal.signal(request, self._give_way)
        # A terminal sends Ctrl-C and Ctrl-\ to the parent and its children.  The parent handles these signals, and
        # signals each child once.
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*signals.SIGNALS, signal.SIGALRM))
        self._alarmed = alarm
        if alarm:
            self._set_alarm()
        else:
            signal.raise_signal(signal.SIGALRM)

    def _set_alarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, min(TICK, self._server.limits.shortest / 4))

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM and self._alarmed and not self._pending and self._nothing_is_due():
            self._set_alarm()
            return
        self._pending.append(number)
        if not self._begun.acquire(blocking=False):
            self._forward()
            return
        try:
            # Not threading.Thread, which waits for a lock that the interrupted service may hold.
            _thread.start_new_thread(self._watch, ())
        except RuntimeError:  # the limit of threads is reached
            self._begun.release()
            self._set_alarm()

    def _give_way(self, number: int, frame: FrameType | None) -> None:
        """Cut the connection, if it is waiting for its peer, to make room for a new one.  Wait for no lock."""
        connection = self._connection
        found = rank(connection, self._server.limits, time.monotonic())
        least = Rank.UNREAD if number == signals.GIVE_WAY_IDLE else Rank.PARTIAL
        if found is not None and found[0] <= least and not makes_progress(connection):
            connection.refuse(Refusal.FULL)
            connection.cut(Ending.REFUSED)

    def _nothing_is_due(self) -> bool:
        """At a tick, update the metrics, and return whether the thread is not needed yet."""
        now = time.monotonic()
        since = self._call.stuck_since(now)
        if since is not None and now - since >= STALL:
            return False
        if os.getppid() != self._parent or (self._connection.timed and now >= self._connection.deadline):
            return False
        if (metrics := self._server.metrics) is not None:
            metrics.beat(now)
            metrics.count_open((self._connection,), wait=False)
        return True

    def _forward(self) -> None:
        if self._daemon is not None:
            with suppress(IndexError):
                while True:
                    self._daemon.handle_signal(self._pending.popleft())

    def _watch(self) -> None:
        server = self._server
        try:
            daemon = Daemon([server], parent=self._parent)
            daemon.stop_request.once = True
        except OSError as error:
            log.error("deadline watchdog could not start: %s; next attempt at the next tick", error)
            self._begun.release()
            self._set_alarm()
            return
        if server.metrics is not None:
            server.metrics.attach(daemon)
        monitor = StallMonitor(daemon, self._call)
        monitor.attach()
        self._daemon = daemon
        self._forward()
        monitor.sample(time.monotonic())
        daemon.drain()
        if server.connections:
            # The connection was cut, but the service has not returned.
            server.shutdown_request(self._request)
            server.flush_metrics()
            os._exit(0)

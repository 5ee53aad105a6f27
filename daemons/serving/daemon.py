"""A daemon: one or more servers with one poller, from the first accept to the last reply.

One thread at a time, the leading thread, accepts connections, enforces deadlines and handles signals.  It does not
block on a conversation, with one exception: a server without an engine serves its conversations in this thread, like a
server of socketserver.

The daemon passes through these states; `turn` is one iteration of the loop:

    SERVING    accept connections until a stop signal, or a call of `stop`
    QUEUE      accept the connections in the kernel's queue: closing the listener would reset them
    FINISHING  accept no connections; wait for the open ones to end
    OVER       no connection is open, or drain_timeout has passed
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from daemons.serving import malloc, signals
from daemons.serving.drain import AFTER_CUT, Drain
from daemons.serving.guards import budget
from daemons.serving.guards.admission import Admission
from daemons.serving.parent_watch import ParentWatch
from daemons.serving.poller import Source
from daemons.serving.safe_call import call_safely
from daemons.serving.safe_logger import SafeLogger
from daemons.serving.service_life import ServiceLife
from daemons.serving.timers import Timers
from daemons.serving.waker import Waker

if TYPE_CHECKING:
    from daemons.serving.interfaces import Served

log = SafeLogger(__name__)

SERVING, QUEUE, FINISHING, OVER = range(4)

#: Maximum seconds between two checks of the deadlines.  The interval is a quarter of the shortest timeout, but at most
#: this; a deadline is enforced late by at most one interval.
TICK = 1.0

#: Seconds to pause after a failed turn, because the next may fail too.
BUG_PAUSE = 0.1


class Daemon:
    """Run `servers`, all of the same engine, until `stop` or `shutdown`.

    parent
        Process ID of the parent: when it changes, the daemon drains and ends.
    poll_interval
        Seconds between two calls of an overridden `service_actions`.
    """

    def __init__(self, servers: Sequence[Served], *, parent: int | None = None, poll_interval: float = 0.5) -> None:
        self.servers = list(servers)
        self.parent = parent
        #: Called by the leading thread with the number of each signal that does not stop the daemon.  After
        #: `stop`, SIGHUP is ignored.
        self.on_signal: Callable[[int], None] = lambda number: None
        self.state = SERVING
        #: Seconds without a connection after which the daemon stops; None: never.
        self.idle_exit: float | None = None
        self._idle_until = math.inf
        #: Called by the leading thread at each tick with the monotonic time.  Without any, an idle daemon has no ticks.
        self.on_tick: list[Callable[[float], None]] = []
        #: Called once, before the poller is closed: when the daemon ends, or when a forked child abandons it.
        self.on_close: list[Callable[[], None]] = []
        #: Called once, when the parent process has ended.
        self.on_orphaned: list[Callable[[], None]] = []
        self._poll_interval = poll_interval
        self._waker = Waker()
        #: Called by the leading thread after each `wake`, and after each signal.
        self.on_wake: list[Callable[[], None]] = []
        self.timers = Timers()
        self.poller = self.servers[0].make_poller()
        self.poller.attach(self)
        #: Whether the end of a connection must wake the loop, because the daemon is at its limit or draining.
        self.wake_on_end = False
        self._handles_signals = False
        #: Detects a repeated SIGTERM, SIGINT or SIGQUIT: the first drains, a repeated one cuts all connections.
        self.stop_request = signals.StopRequest(once=parent is not None)
        #: Seconds between two checks of the deadlines; computed at the start and at each tick, since the limits may
        #: change.
        self._tick = TICK
        self._next_tick = 0.0
        self._access_log = self.servers[0].access_log
        self._admission = Admission(self)
        self._drain = Drain()
        self._parent_watch = ParentWatch(self)
        #: Servers of subclasses that override `service_actions`.
        self._with_service_actions = [server for server in self.servers if server.overrides_service_actions]
        self._thread: int | None = None
        self._ended = threading.Event()
        self.watch(self._waker, self._handle_signals)
        for server in self.servers:
            server.daemon = self

    # --- control -----------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Stop `serve_forever` without draining, and wait until it has returned.  Thread-safe.

        In the daemon's own thread it does not wait; there `BaseServer.shutdown` would deadlock."""
        self.state = OVER
        self._waker.wake()
        if self._thread is not None and self._thread != threading.get_ident():
            self._ended.wait()

    def wake(self) -> None:
        """Interrupt the wait of the leading thread.  Thread-safe."""
        self._waker.wake()

    def handle_signal(self, number: int) -> None:
        """Pass a signal that was caught elsewhere to the leading thread.  Thread-safe."""
        self._waker.wake(number)

    def watch(self, source: Source, action: Callable[[], None]) -> None:
        """Call `action` in the leading thread whenever `source` is readable."""
        self.poller.watch(source, partial(call_safely, action))

    def forget(self, source: Source) -> None:
        """Stop watching `source`.  Must be called before it is closed."""
        self.poller.forget(source)

    def watch_lifeline(self, lifeline: int) -> None:
        """Drain and end when the parent process has ended, which closes the other end of the pipe `lifeline`."""
        self._parent_watch.watch_lifeline(lifeline)

    def install_handlers(self) -> None:
        """Stop on SIGTERM, SIGINT and SIGQUIT, and pass other signals to `on_signal`.  Main thread only."""
        signals.install_handlers(self._waker)
        self._handles_signals = True

    def abandon(self) -> None:
        """In a forked child: close all resources inherited from the parent."""
        for server in self.servers:
            server.stop_listening()
        self.wake_on_end = False
        if self._handles_signals:
            signals.reset_signals()
        self._release()

    # --- the loop ----------------------------------------------------------------------------------

    def serve_forever(self) -> None:
        """Accept and serve until `shutdown`, or until the drain after `stop` has finished."""
        self._thread = threading.get_ident()
        budget.PROCESS.limit = self.servers[0].limits.held
        self._tick = self._interval()
        life = ServiceLife(self)
        try:
            life.start()
            self.servers[0].lead(self)
        finally:
            life.close()
            self._close()

    def drain(self) -> None:
        """Accept no connections, and return when the open ones have ended.

        Deadlines, signals and the end of the parent are handled as usual."""
        self.state = FINISHING
        self.wake_on_end = True
        self.serve_forever()

    def stop(self, drain: float | None = None) -> None:
        """Drain for at most `drain` seconds (default: `Limits.drain_timeout`; 0: cut all connections now).

        A second call can only shorten the time.  Leading thread only."""
        timeout = self.servers[0].limits.drain_timeout if drain is None else drain
        first = not self._drain.begun
        self._drain.begin(time.monotonic(), timeout)
        if first:
            log.info("stopping: draining %d connections for at most %g s", self.active, timeout)
            self.state = max(self.state, QUEUE)
            self.wake_on_end = True
            for server in self.servers:
                server.drain()

    def turn_safely(self) -> None:
        """Run one turn.  Log an exception instead of raising it, so that the daemon continues to accept after a bug."""
        try:
            self.turn()
        except BaseException as error:
            # SystemExit and KeyboardInterrupt end the daemon if they are raised in the main thread.  Raised in another
            # thread, they would end only the leader of a pool, and the pool could not continue without it.
            if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                raise
            log.exception("event loop: iteration failed; next one in %d ms", BUG_PAUSE * 1000)
            self.poller.rearm()
            time.sleep(BUG_PAUSE)

    def turn(self) -> None:
        """Run one iteration of the loop: act on the state, wait for events, and handle them."""
        if self.idle_exit is not None and self.state == SERVING:
            self._leave_if_idle(self.idle_exit)
        patience = self._patience()
        if self.state == SERVING:
            for server in self.servers:
                patience = min(patience, self._admission.update_polling(server))
        elif self.state == QUEUE:
            patience = min(patience, self._admission.take_queues(self._drain.queue_until))
            if self._admission.queues_taken or time.monotonic() >= self._drain.queue_until:
                self._close_listeners()
        if self.state == FINISHING and self._finished():
            self.state = OVER
            return
        if not self.poller.wait(patience):
            return  # another thread leads now
        now = time.monotonic()
        if self._access_log is not None and now >= self._access_log.first_due:
            self._access_log.flush_all()
        if now >= self._next_tick:
            self._tick = self._interval()
            self._next_tick = now + self._tick
            for server in self.servers:
                server.sweep(now)
            self._parent_watch.check()
            if budget.PROCESS.pressed:
                malloc.trim()
            for action in self.on_tick:
                call_safely(action, now)
        for server in self._with_service_actions:
            call_safely(server.service_actions)

    @property
    def thread(self) -> int | None:
        """Identifier of the thread that runs the loop; None before it runs."""
        return self._thread

    @property
    def accepts(self) -> bool:
        """Whether the daemon accepts connections, so that it is not stopping."""
        return self.state == SERVING

    @property
    def active(self) -> int:
        """Number of open connections."""
        active = 0
        for server in self.servers:  # computed in each turn: faster than sum() of a generator
            active += server.active
        return active

    def _interval(self) -> float:
        """Return the seconds between two checks of the deadlines under the current limits."""
        return min(TICK, *(server.limits.shortest / 4 for server in self.servers))

    def _patience(self) -> float:
        """Return the maximum seconds to wait for events; infinite if no timer is due."""
        patience = math.inf
        if self.on_tick or self.parent is not None or self.active:
            patience = self._tick
        if self.timers.heap:
            patience = min(patience, self.timers.run())
        if self._with_service_actions:
            patience = min(patience, self._poll_interval)
        if self._access_log is not None and (due := self._access_log.first_due) < math.inf:
            patience = min(patience, max(0.0, due - time.monotonic()))
        if self.state == SERVING and self._idle_until < math.inf:
            patience = min(patience, max(0.0, self._idle_until - time.monotonic()))
        elif self.state == QUEUE:
            patience = min(patience, max(0.0, self._drain.queue_until - time.monotonic()))
        elif self.state == FINISHING:
            patience = min(patience, self._drain.patience(time.monotonic()))
        return patience

    def _handle_signals(self) -> None:
        numbers = self._waker.receive()
        for action in self.on_wake:
            call_safely(action)
        for number in numbers:
            if number == signals.CUT or (number in signals.STOPPING and self.stop_request.repeated(time.monotonic())):
                self.stop(0.0)
            elif number in signals.STOPPING:
                self.stop()
            elif number != signal.SIGHUP or not self._drain.begun:
                self.on_signal(number)

    def note_activity(self) -> None:
        """Restart the idle time for `idle_exit`: a connection is being accepted."""
        self._idle_until = math.inf

    def _leave_if_idle(self, seconds: float) -> None:
        """Stop after `seconds` without a connection; inetd or systemd keeps the listener and starts another daemon."""
        now = time.monotonic()
        if self.active:
            self._idle_until = math.inf
        elif self._idle_until == math.inf:
            self._idle_until = now + seconds
        elif now >= self._idle_until:
            log.info("idle: no connection for %g s; stopping", seconds)
            self.stop()

    def _close_listeners(self) -> None:
        for server in self.servers:
            self._admission.stop_polling(server)
            server.stop_listening()
        self.state = FINISHING

    def _finished(self) -> bool:
        """Return whether the daemon may end; cut the open connections when the time to drain has passed.

        The daemon may end when no connection is open, or `AFTER_CUT` seconds after the connections were cut."""
        if not self.active:
            return True
        now = time.monotonic()
        if not self._drain.must_cut(now):
            return False
        for server in self.servers:
            server.cut()
        if not self._drain.must_end(now):
            return False
        log.error("stopping: %d connections still open %g s after they were cut", self.active, AFTER_CUT)
        return True

    def _close(self) -> None:
        if self._handles_signals:
            signals.reset_signals()
        if self._access_log is not None:
            self._access_log.flush_all()
        self._release()
        self._ended.set()

    def _release(self) -> None:
        for action in self.on_close:
            call_safely(action)
        self.poller.close()
        self._waker.close()

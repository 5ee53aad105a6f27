"""A daemon: one or more servers behind one poller, and its life from the first accept to the last reply.

One thread at a time leads: it accepts, keeps the deadlines and hears the signals, and it never waits for
a conversation.  (A bare server without an engine serves in this thread, as stock ones do.)

Life is a line of states, and `turn` is one step along it:

    SERVING    accept, until told to stop
    QUEUE      accept who was in the kernel's queue at that moment: a closed listener would reset them
    FINISHING  accept nobody; see every conversation out
    OVER       nobody is left, or the time to drain has passed
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from daemons.serving import signals
from daemons.serving.guards import budget
from daemons.serving.guards.admission import Admission
from daemons.serving.listening.listen import share
from daemons.serving.poller import Source
from daemons.serving.safe_logger import SafeLogger
from daemons.serving.waker import Waker

if TYPE_CHECKING:
    from daemons.serving.interfaces import Served

log = SafeLogger(__name__)

SERVING, QUEUE, FINISHING, OVER = range(4)

#: Seconds between two looks at the deadlines, at most.  A deadline is kept to within this or a quarter
#: of itself, whichever is less.
TICK = 1.0

#: Part of drain_timeout that may go into accepting those who were already in the queue.
QUEUE_SHARE = 0.25

#: Seconds to drain when the parent process has died: an orphan must leave its port to the next one.
ORPHAN_DRAIN = 1.0

#: Seconds that an orphaned worker goes on accepting.  Its parent is started again meanwhile, and binds the port beside
#: it: so that no client is refused in between.
HANDOVER = 1.5

#: Seconds that conversations have, once they were cut, to write their access lines.  One that is lost in
#: its own code does not keep the daemon from leaving.
PARTING = 1.0

#: Seconds to rest after a turn that failed: the next may fail too.
BUG_REST = 0.1


class Daemon:
    """Serves `servers`, all of one engine, until told to stop.

    parent
        The process to leave with: when it is no longer this one's parent, the daemon drains and ends.
    poll_interval
        Seconds between two calls of a `service_actions` that a server overrides.
    """

    def __init__(self, servers: Sequence[Served], *, parent: int | None = None, poll_interval: float = 0.5) -> None:
        self.servers = list(servers)
        self.parent = parent
        #: Called by the leading thread with the number of a signal that is not the daemon's own to handle; with SIGHUP
        #: only until it stops.
        self.on_signal: Callable[[int], None] = lambda number: None
        self.state = SERVING
        #: Seconds without a conversation after which to leave; None: stay.
        self.idle_exit: float | None = None
        self._idle_until = math.inf
        #: Called by the leading thread at each tick, with the time; where there are any, ticks never cease.
        self.on_tick: list[Callable[[float], None]] = []
        #: Called once, when the poller is closed: at the end, and in a forked child that lets go of it.
        self.on_close: list[Callable[[], None]] = []
        #: Called once, when the parent process has gone.
        self.on_orphaned: list[Callable[[], None]] = []
        self._poll_interval = poll_interval
        self._waker = Waker()
        self.poller = self.servers[0].make_poller()
        #: Until when (monotonic) to drain, and to take who was in the queue.
        self._until = math.inf
        self._queue_until = math.inf
        #: When (monotonic) to leave, as an orphan.
        self._leave_at = math.inf
        #: Whether the end of a conversation must wake this loop: it is full, or draining.
        self.wants_news = False
        self._hears_signals = False
        #: Whether a repeated SIGTERM or SIGINT ends everything at once.
        self.stop_request = signals.StopRequest(once=parent is not None)
        self._next_tick = 0.0
        self._access_log = self.servers[0].access_log
        self._admission = Admission(self)
        self._was_cut = False
        #: Who has something to do in `service_actions`, which in the stock classes is nothing.
        self._active_services = [server for server in self.servers if server.acts]
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
        self.state = OVER
        self._waker.wake()
        if self._thread is not None and self._thread != threading.get_ident():
            self._ended.wait()

    def wake(self) -> None:
        """Have the leading thread look around; from any thread."""
        self._waker.wake()

    def tell(self, number: int) -> None:
        """Deal with a signal that was caught elsewhere; from any thread."""
        self._waker.wake(number)

    def watch(self, source: Source, action: Callable[[], None]) -> None:
        """Call `action` in the leading thread whenever `source` can be read."""
        self.poller.watch(source, partial(_guarded, action))

    def forget(self, source: Source) -> None:
        """Stop watching `source`; before it is closed."""
        self.poller.forget(source)

    def leave_with(self, lifeline: int) -> None:
        """Drain and end when the process that has the other end of the pipe `lifeline` has gone; where others can
        listen on the same ports, after `HANDOVER`."""

        def orphaned() -> None:
            self.forget(lifeline)
            shared = [share(server.socket) for server in self.servers]
            parent, self.parent = self.parent, None
            log.warning("the parent process %s has gone; leaving too", parent)
            if all(shared) and self.state == SERVING:
                self._leave_at = time.monotonic() + HANDOVER
            else:
                self.stop(ORPHAN_DRAIN)

        self.watch(lifeline, orphaned)

    def hear_signals(self) -> None:
        """Let SIGTERM, SIGINT and SIGQUIT stop this daemon, and pass others to `on_signal`.  In the main thread."""
        signals.hear(self._waker)
        self._hears_signals = True

    def abandon(self) -> None:
        """In a forked child: let go of everything that is the parent's too."""
        for server in self.servers:
            server.stop_listening()
        self.wants_news = False
        if self._hears_signals:
            signals.deafen()
        self._let_go()

    # --- the loop ----------------------------------------------------------------------------------

    def serve_forever(self) -> None:
        """Accept and serve until stopped; after `stop`, drain first."""
        self._thread = threading.get_ident()
        budget.PROCESS.limit = self.servers[0].limits.held
        try:
            self.servers[0].lead(self)
        finally:
            self._close()

    def see_out(self) -> None:
        """Accept nobody; return when no conversation is left.  Deadlines, signals and the parent are
        heeded as ever."""
        self.state = FINISHING
        self.wants_news = True
        self.serve_forever()

    def stop(self, drain: float | None = None) -> None:
        """Begin to drain, for at most `drain` seconds (by default `Limits.drain_timeout`; 0: end everything now).
        Called again, it can only shorten that.  In the leading thread."""
        now = time.monotonic()
        timeout = self.servers[0].limits.drain_timeout if drain is None else drain
        if self._until == math.inf:
            self._until = now + timeout
            self._queue_until = now + timeout * QUEUE_SHARE
            log.info("draining: %d open connections, timeout %g s", self.active, timeout)
            self.state = max(self.state, QUEUE)
            self.wants_news = True
            for server in self.servers:
                server.drain()
        else:
            self._until = min(self._until, now + timeout)
            self._queue_until = min(self._queue_until, now + timeout * QUEUE_SHARE)

    def turn_safely(self) -> None:
        """A turn; a bug in it must not leave a process that lives with a port that is deaf."""
        try:
            self.turn()
        except BaseException as error:
            # The main thread may end in this way, and the daemon with it; a pool could not go on without its leader.
            if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                raise
            log.exception("a turn of the loop failed; the next is in %d ms", BUG_REST * 1000)
            self.poller.look_anew()
            time.sleep(BUG_REST)

    def turn(self) -> None:
        """One step: see what state we are in, wait for something to happen, and deal with it."""
        if self.idle_exit is not None and self.state == SERVING:
            self._leave_if_idle(self.idle_exit)
        patience = self._patience()
        if self.state == SERVING:
            for server in self.servers:
                patience = min(patience, self._admission.admit(server))
        elif self.state == QUEUE:
            patience = min(patience, self._admission.take_queues(self._queue_until))
            if self._admission.queues_taken or time.monotonic() >= self._queue_until:
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
            self._next_tick = now + self._tick()
            for server in self.servers:
                server.sweep(now)
            if self.parent is not None and os.getppid() != self.parent:
                log.warning("the parent process %d has gone; leaving too", self.parent)
                self.parent = None
                self.stop(ORPHAN_DRAIN)
                for orphaned in self.on_orphaned:
                    _guarded(orphaned)
            if now >= self._leave_at:
                self._leave_at = math.inf
                self.stop(ORPHAN_DRAIN)
            for action in self.on_tick:
                _guarded(action, now)
        for server in self._active_services:
            _guarded(server.service_actions)

    @property
    def thread(self) -> int | None:
        """The thread that takes it through its life; None before that."""
        return self._thread

    @property
    def active(self) -> int:
        """Conversations under way."""
        active = 0
        for server in self.servers:  # asked at each turn, and there is mostly one: no sum() of a generator
            active += server.active
        return active

    def _tick(self) -> float:
        """Seconds between two looks at the deadlines."""
        tick = TICK
        for server in self.servers:
            tick = min(tick, server.limits.shortest / 4)
        return tick

    def _patience(self) -> float:
        """Seconds that may pass before something must be looked at; infinite if nothing must."""
        patience = math.inf
        if self.on_tick or self.parent is not None or self.active:
            patience = self._tick()
        if self._active_services:
            patience = min(patience, self._poll_interval)
        if self._leave_at < math.inf:
            patience = min(patience, TICK / 4)
        if self._access_log is not None and (due := self._access_log.first_due) < math.inf:
            patience = min(patience, max(0.0, due - time.monotonic()))
        if self.state == SERVING and self._idle_until < math.inf:
            patience = min(patience, max(0.0, self._idle_until - time.monotonic()))
        elif self.state == QUEUE:
            patience = min(patience, max(0.0, self._queue_until - time.monotonic()))
        elif self.state == FINISHING and self._until < math.inf:
            left = max(0.0, self._until - time.monotonic())
            patience = min(patience, PARTING / 4 if self._was_cut else left)
        return patience

    def _hear(self) -> None:
        for number in self._waker.heard():
            if number == signals.CUT or (number in signals.STOPPING and self.stop_request.repeated(time.monotonic())):
                self.stop(0.0)
            elif number in signals.STOPPING:
                self.stop()
            elif number != signal.SIGHUP or self._until == math.inf:
                self.on_signal(number)

    def visited(self) -> None:
        """Somebody has come: `idle_exit` is counted anew."""
        self._idle_until = math.inf

    def _leave_if_idle(self, seconds: float) -> None:
        """Whoever handed the listener over (inetd, systemd) keeps it, and starts another for the next visitor."""
        now = time.monotonic()
        if self.active:
            self._idle_until = math.inf
        elif self._idle_until == math.inf:
            self._idle_until = now + seconds
        elif now >= self._idle_until:
            log.info("no conversation for %g s; leaving", seconds)
            self.stop()

    def _close_listeners(self) -> None:
        for server in self.servers:
            self._admission.refrain(server)
            server.stop_listening()
        self.state = FINISHING

    def _finished(self) -> bool:
        """Whether every conversation has ended, or has had its time."""
        if not self.active:
            return True
        now = time.monotonic()
        if now < self._until:
            return False
        if not self._was_cut:
            self._was_cut = True
            self._until = now
        for server in self.servers:
            server.cut()
        if now < self._until + PARTING:
            return False
        log.error("%d conversations did not end when they were cut", self.active)
        return True

    def _close(self) -> None:
        if self._hears_signals:
            signals.deafen()
        if self._access_log is not None:
            self._access_log.flush_all()
        self._let_go()
        self._ended.set()

    def _let_go(self) -> None:
        for action in self.on_close:
            _guarded(action)
        self.poller.close()
        self._waker.close()


def _guarded(action: Callable[..., None], *args: object) -> None:
    """Nothing that somebody overrides can end the loop."""
    try:
        action(*args)
    except BaseException as error:
        if signals.is_from_handler(error):
            raise
        log.exception("%s failed", getattr(action, "__qualname__", action))

"""``processes = N``: any engine, N times, on the same listening sockets.

The parent forks the workers before there is any thread, replaces those that die, and does nothing else:
it accepts nobody and runs no service.  `daemons.serving.engines.worker_table` decides, and this module makes the
system calls.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from daemons.serving import signals
from daemons.serving.daemon import ORPHAN_DRAIN, TICK
from daemons.serving.engines.worker_table import WorkerTable
from daemons.serving.poller import Source
from daemons.serving.safe_logger import SafeLogger
from daemons.serving.waker import Waker

log = SafeLogger(__name__)


class Prefork:
    """Keeps `processes` workers alive until told to stop.

    work
        Run in each worker; is given what to call when it accepts, and the pid of this process, with which
        it must leave.  Returns the worker's exit code.
    parent
        The process to leave with, as in `Daemon`.
    """

    def __init__(
        self,
        work: Callable[[Callable[[], None], int], int],
        processes: int,
        drain_timeout: float,
        parent: int | None = None,
    ) -> None:
        self._parent = parent
        self._work = work
        self.table = WorkerTable(processes, drain_timeout, self._start, self._send)
        #: Read ends of the pipes into which workers write when they accept, by pid.
        self._reports: dict[int, int] = {}
        self._waker = Waker()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._waker, selectors.EVENT_READ, self._handle_signals)
        #: A pipe whose write end only this process has: a worker reads its end of file when this process is gone.
        self.lifeline, self._lifeline_end = os.pipe()
        self._stop_request = signals.StopRequest(once=parent is not None)
        self._announced = self._stopped = False
        #: As in `Daemon`, but called about once a second, and in each worker that lets go of what is ours.
        self.on_tick: list[Callable[[float], None]] = []
        self.on_close: list[Callable[[], None]] = []
        self._next_tick = 0.0
        #: Called at SIGHUP, unless the daemon is stopping; it may call `renew`, at once or later.
        self.on_hangup: Callable[[], None] = lambda: None
        #: Called with the number of a signal that is not handled here.  SIGUSR1 goes to the workers too.
        self.on_signal: Callable[[int], None] = lambda number: None
        #: Called when a child process, not necessarily a worker, has ended.
        self.on_child: list[Callable[[], None]] = []
        #: Called once, when the parent process has gone.
        self.on_orphaned: list[Callable[[], None]] = []
        #: Called once, when the daemon begins to stop.
        self.on_stop: list[Callable[[], None]] = []

    def run(self, announce: Callable[[], None]) -> int:
        """Start the workers, call `announce` once, when all of them accept, and supervise them until
        SIGTERM or SIGINT.  Returns the exit code: that of a worker which failed before it was ready, or 0."""
        signals.hear(self._waker, signal.SIGCHLD)
        try:
            self.table.begin(time.monotonic())
            while not self.table.ended:
                self._turn(announce)
        finally:
            self.table.kill()
            signals.deafen()
            self.close()
        return self.table.code

    def watch(self, source: Source, action: Callable[[], None]) -> None:
        """Call `action` whenever `source` can be read; it must not raise."""
        self._selector.register(source, selectors.EVENT_READ, action)

    def forget(self, source: Source) -> None:
        """Stop watching `source`; before it is closed."""
        self._selector.unregister(source)

    def renew(self) -> None:
        """Replace the workers by new ones, one after the other; not while the daemon is stopping."""
        self.table.renew(time.monotonic())

    @property
    def stopping(self) -> bool:
        return self.table.stopping

    def close(self) -> None:
        """Close everything, at the end."""
        self.let_go()
        os.close(self.lifeline)

    def let_go(self) -> None:
        """Close everything but `lifeline`: in a child, to which nothing else of it belongs."""
        for action in self.on_close:
            action()
        self._selector.close()
        self._waker.close()
        for report in self._reports.values():
            os.close(report)
        self._reports.clear()
        os.close(self._lifeline_end)

    def _turn(self, announce: Callable[[], None]) -> None:
        now = time.monotonic()
        self.table.tick(now)
        if self._parent is not None and os.getppid() != self._parent:
            log.warning("the parent process %d has gone; leaving too", self._parent)
            self._parent = None
            self.table.stop(now, ORPHAN_DRAIN)
            for orphaned in self.on_orphaned:
                orphaned()
        patience = self.table.next_deadline - now
        if self._parent is not None or self.on_tick:
            patience = min(patience, TICK)
        for key, _ in self._selector.select(None if patience == math.inf else max(0.0, patience)):
            key.data()
        if (now := time.monotonic()) >= self._next_tick:
            self._next_tick = now + TICK
            for each in self.on_tick:
                each(now)
        if self.table.complete and not self._announced:
            self._announced = True
            announce()
        if self.stopping and not self._stopped:
            self._stopped = True
            for action in self.on_stop:
                action()

    def _start(self) -> int:
        """Fork a worker; returns its pid."""
        report, ready = os.pipe()
        # A signal that came between the fork and the worker's own handlers would be taken for ours.
        with signals.held_back():
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                os.close(report)
                self._become_worker(ready, parent)
        os.close(ready)
        self._reports[pid] = report
        self._selector.register(report, selectors.EVENT_READ, partial(self._receive_report, pid))
        return pid

    def _become_worker(self, ready: int, parent: int) -> None:
        """In the child: close the parent's descriptors, work, and never return."""
        code = 1
        try:
            signals.deafen()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signals.await_start(parent)
            self.let_go()
            code = self._work(partial(_report, ready), parent)
        except BaseException:
            log.exception("the worker failed")
        finally:
            os._exit(code)

    def _receive_report(self, pid: int) -> None:
        """The worker accepts; or it has died before it did, which SIGCHLD reports too."""
        report = self._reports.get(pid)
        if report is None:
            return  # its end was handled in the same turn of the loop
        ready = bool(os.read(report, 1))
        self._close_report(pid)
        if ready:
            self.table.ready(pid, time.monotonic())

    def _close_report(self, pid: int) -> None:
        if (report := self._reports.pop(pid, None)) is not None:
            self._selector.unregister(report)
            os.close(report)

    def _reap(self) -> None:
        """Reap the workers that have ended, each by its own pid: this process may have other children."""
        for pid in list(self.table.workers):
            try:
                reaped, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # reaped by other code in this process
                reaped, status = pid, 0
            if reaped:
                self._close_report(pid)
                self.table.died(pid, os.waitstatus_to_exitcode(status), time.monotonic())

    def _handle_signals(self) -> None:
        numbers = set(self._waker.heard())
        # First: of a SIGTERM to the whole process group and the SIGCHLD it leads to, the kernel may deliver the
        # second first.
        now = time.monotonic()
        stop = not numbers.isdisjoint(signals.STOPPING)
        if signals.CUT in numbers or (stop and self._stop_request.repeated(now)):
            self.table.cut(now)
        elif stop:
            self.table.stop(now)
        for number in sorted(numbers - {*signals.STOPPING, signals.CUT, signal.SIGHUP, signal.SIGCHLD}):
            self.on_signal(number)
            if number == signals.REOPEN:
                for pid in self.table.workers:
                    self._send(pid, signals.REOPEN)
        if signal.SIGHUP in numbers and not self.stopping:
            self.on_hangup()
        if signal.SIGCHLD in numbers:
            self._reap()
            for action in self.on_child:
                action()

    def _send(self, pid: int, number: signal.Signals) -> None:
        # Not reaped yet, so the pid is still its own.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _report(ready: int) -> None:
    """In a worker: it accepts now."""
    os.write(ready, b"r")
    os.close(ready)

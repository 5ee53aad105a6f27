"""``processes = N``: N worker processes with any engine on the same listening sockets.

The parent forks the workers before it starts any thread, and replaces those that die; it accepts no connections and
runs no service.  `daemons.serving.engines.worker_table` makes the decisions, this module the system calls.
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
from daemons.serving.daemon import TICK
from daemons.serving.engines.worker_table import WorkerTable
from daemons.serving.parent_watch import ORPHAN_DRAIN
from daemons.serving.poller import Source
from daemons.serving.safe_logger import SafeLogger
from daemons.serving.waker import Waker

log = SafeLogger(__name__)


class Prefork:
    """Keep `processes` workers running until told to stop.

    work
        Function run in each worker.  Its arguments are a function to call when the worker accepts connections, and the
        process ID of the parent; the worker must end when the parent has ended.  It returns the worker's exit code.
    parent
        Process ID of this process's own parent, as in `Daemon`.
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
        #: A pipe whose write end only this process has: workers see the end of file when this process has ended.
        self.lifeline, self._lifeline_end = os.pipe()
        self._stop_request = signals.StopRequest(once=parent is not None)
        self._announced = self._stopped = False
        #: As in `Daemon`: `on_tick` is called about once a second, `on_close` also in each worker.
        self.on_tick: list[Callable[[float], None]] = []
        self.on_close: list[Callable[[], None]] = []
        self._next_tick = 0.0
        #: Called at SIGHUP, unless the daemon is stopping; it may call `renew`, at once or later.
        self.on_hangup: Callable[[], None] = lambda: None
        #: Called with the number of a signal that is not handled here.  SIGUSR1 goes to the workers too.
        self.on_signal: Callable[[int], None] = lambda number: None
        #: Called when a child process, not necessarily a worker, has ended.
        self.on_child: list[Callable[[], None]] = []
        #: Called once, when the parent process has ended.
        self.on_orphaned: list[Callable[[], None]] = []
        #: Called once, when the daemon begins to stop.
        self.on_stop: list[Callable[[], None]] = []

    def run(self, announce: Callable[[], None]) -> int:
        """Start the workers, call `announce` once when all of them accept connections, and supervise them until
        SIGTERM or SIGINT.

        Return the exit code: that of a worker that failed before it was ready, else 0."""
        signals.install_handlers(self._waker, signal.SIGCHLD)
        try:
            self.table.begin(time.monotonic())
            while not self.table.ended:
                self._turn(announce)
        finally:
            self.table.kill()
            signals.reset_signals()
            self.close()
        return self.table.code

    def watch(self, source: Source, action: Callable[[], None]) -> None:
        """Call `action`, which must not raise, whenever `source` is readable."""
        self._selector.register(source, selectors.EVENT_READ, action)

    def forget(self, source: Source) -> None:
        """Stop watching `source`.  Must be called before it is closed."""
        self._selector.unregister(source)

    def renew(self) -> None:
        """Replace the workers by new ones, one after the other; do nothing while the daemon is stopping."""
        self.table.renew(time.monotonic())

    @property
    def stopping(self) -> bool:
        return self.table.stopping

    def close(self) -> None:
        """Close all resources."""
        self.release()
        os.close(self.lifeline)

    def release(self) -> None:
        """Close all resources except the read end of `lifeline`, the only one that a child needs."""
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
            log.warning("parent process %d has ended; stopping", self._parent)
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
        """Fork a worker, and return its pid."""
        report, ready = os.pipe()
        # Until the worker has its own handlers, its signals would be written to the parent's waker: block them.
        with signals.blocked():
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
            signals.reset_signals()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signals.await_start(parent)
            self.release()
            code = self._work(partial(_report, ready), parent)
        except BaseException:
            log.exception("the worker failed")
        finally:
            os._exit(code)

    def _receive_report(self, pid: int) -> None:
        """Read the ready report of a worker.  End of file means that it died first, which SIGCHLD handles."""
        report = self._reports.get(pid)
        if report is None:
            return  # the worker was reaped earlier in this turn
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
        numbers = set(self._waker.receive())
        # Stop before handling SIGCHLD: after a SIGTERM to the process group, the SIGCHLD of a worker may arrive first.
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
        # The worker has not been reaped, so its pid has not been reused.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _report(ready: int) -> None:
    """In a worker: report to the parent that it accepts connections."""
    os.write(ready, b"r")
    os.close(ready)

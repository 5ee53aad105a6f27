"""``processes = N``: N worker processes with any engine on the same listening sockets.

The parent forks the workers before it starts any thread, and replaces those that die; it accepts no connections and
runs no service.  `daemons.serving.engines.worker_table` makes the decisions, this module carries them out, and
`daemons.serving.engines.system` has the system calls.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from daemons.serving import signals
from daemons.serving.daemon import TICK
from daemons.serving.engines.system import System
from daemons.serving.engines.worker import Log, Send, Start
from daemons.serving.engines.worker_table import WorkerTable
from daemons.serving.parent_watch import ORPHAN_DRAIN
from daemons.serving.poller import Source
from daemons.serving.safe_call import call_safely
from daemons.serving.safe_logger import SafeLogger

log = SafeLogger(__name__)

#: Maximum seconds to wait for killed workers after an exception.
KILL_LIMIT = 1.0


class Prefork:
    """Keep `processes` workers running until a stop signal.

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
        system: System | None = None,
    ) -> None:
        self._parent = parent
        self._work = work
        self._system = System() if system is None else system
        self.table = WorkerTable(processes, drain_timeout)
        #: Read ends of the pipes into which workers write when they accept, with the worker's pid; 0 before its fork.
        self._reports: dict[int, int] = {}
        self._waker = self._system.make_waker()
        self._selector = self._system.make_selector()
        self._selector.register(self._waker, selectors.EVENT_READ, self._handle_signals)
        #: A pipe whose write end only this process has: workers see the end of file when this process has ended.
        self.lifeline, self._lifeline_end = self._system.pipe()
        self._stop_request = signals.StopRequest(once=parent is not None)
        self._announced = self._stopped = False
        #: Returns a number for each worker, by pid, that changes with each turn of its event loop; see
        #: `WorkerTable.turned`.  Without it no worker is ever considered stuck.
        self.turns: Callable[[], Mapping[int, int]] = dict
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
        #: Called when a worker has died and will be replaced.
        self.on_restart: Callable[[], None] = lambda: None

    def run(self, announce: Callable[[], None]) -> int:
        """Start the workers, call `announce` once when all of them accept connections, and supervise them until
        SIGTERM or SIGINT.

        Return the exit code: that of a worker that failed before it was ready, else 0."""
        system = self._system
        system.install_handlers(self._waker)
        try:
            self.table.begin(system.monotonic())
            while not self.table.ended:
                self._turn(announce)
        finally:
            self._kill_all()
            system.reset_signals()
            self.close()
        return self.table.code

    def watch(self, source: Source, action: Callable[[], None]) -> None:
        """Call `action` whenever `source` is readable."""
        self._selector.register(source, selectors.EVENT_READ, action)

    def forget(self, source: Source) -> None:
        """Stop watching `source`.  Must be called before it is closed."""
        self._selector.unregister(source)

    def renew(self) -> None:
        """Replace the workers by new ones, one after the other; do nothing while the daemon is stopping."""
        self.table.renew(self._system.monotonic())

    @property
    def stopping(self) -> bool:
        return self.table.stopping

    def close(self) -> None:
        """Close all resources."""
        self.release()
        self._system.close(self.lifeline)

    def release(self) -> None:
        """Close all resources except the read end of `lifeline`, the only one that a child needs."""
        for action in self.on_close:
            call_safely(action)
        self._selector.close()
        self._waker.close()
        for report in self._reports:
            self._system.close(report)
        self._reports.clear()
        self._system.close(self._lifeline_end)

    def _turn(self, announce: Callable[[], None]) -> None:
        now = self._system.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK
            self._tick(now)
        self.table.tick(now)
        self._act()
        until = now if self.table.ended else min(self.table.next_deadline, self._next_tick)
        patience = until - self._system.monotonic()
        for key, _ in self._selector.select(max(0.0, patience)):
            call_safely(key.data)
        self._act()
        if self.table.complete and not self._announced:
            self._announced = True
            announce()
        if self.stopping and not self._stopped:
            self._stopped = True
            for action in self.on_stop:
                call_safely(action)

    def _tick(self, now: float) -> None:
        """Run the actions of a tick, about once a second."""
        # The waker may have been full when one of these signals arrived.
        self._reap()
        if self._system.cut_requested():
            self.table.cut(now)
        elif not self.stopping and self._system.stop_requested():
            self.table.stop(now)
        for pid, turn in self.turns().items():
            self.table.turned(pid, turn, now)
        if self._parent is not None and self._system.getppid() != self._parent:
            log.warning("parent process %d has ended; stopping", self._parent)
            self._parent = None
            self.table.stop(now, ORPHAN_DRAIN)
            for orphaned in self.on_orphaned:
                call_safely(orphaned)
        for action in self.on_tick:
            call_safely(action, now)

    def _kill_all(self) -> None:
        """After an exception: kill the workers, and reap them."""
        until = self._system.monotonic() + KILL_LIMIT
        self.table.kill(until - KILL_LIMIT)
        self._act()
        while self.table.workers and self._system.monotonic() < until:
            self._selector.select(KILL_LIMIT / 100)
            self._waker.receive()
            self._reap()

    def _act(self) -> None:
        """Carry out the actions of the table, also those that follow from them."""
        table = self.table
        while table.actions:
            match table.actions.popleft():
                case Start() as start:
                    try:
                        pid = self._start()
                    except OSError as error:
                        table.start_failed(start, error.strerror or str(error), self._system.monotonic())
                    else:
                        table.started(start, pid, self._system.monotonic())
                case Send(pid, number):
                    self._send(pid, number)
                case Log(level, text, arguments):
                    log.log(level, text, *arguments)
                case _:
                    call_safely(self.on_restart)

    def _start(self) -> int:
        """Fork a worker, and return its pid.  Raises `OSError`."""
        system = self._system
        report, ready = system.pipe()
        try:
            # Before the fork: if it fails, there is no worker.
            self._selector.register(report, selectors.EVENT_READ, partial(self._receive_report, report))
            self._reports[report] = 0
            # Until the worker has its own handlers, its signals would be written to the parent's waker: block them.
            with system.blocked():
                parent = system.getpid()
                pid = system.fork()
                if pid == 0:
                    self._become_worker(ready, parent)
        except OSError:
            if report in self._reports:
                self._close_report(report)
            else:
                system.close(report)
            raise
        finally:
            system.close(ready)
        self._reports[report] = pid
        return pid

    def _become_worker(self, ready: int, parent: int) -> None:
        """In the child: close the parent's descriptors, work, and never return."""
        code = 1
        try:
            signals.reset_signals()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signals.install_import_handlers(parent)
            self.release()
            code = self._work(partial(_report, ready), parent)
        except BaseException:
            log.exception("the worker failed")
        finally:
            os._exit(code)

    def _receive_report(self, report: int) -> None:
        """Read the ready report of a worker.  End of file means that it died first, which SIGCHLD handles."""
        if (pid := self._reports.get(report)) is None:
            return  # the worker was reaped earlier in this turn
        ready = bool(self._system.read(report, 1))
        self._close_report(report)
        if ready:
            self.table.ready(pid, self._system.monotonic())

    def _close_report(self, report: int) -> None:
        del self._reports[report]
        self._selector.unregister(report)
        self._system.close(report)

    def _reap(self) -> None:
        """Reap the workers that have ended, each by its own pid: this process may have other children."""
        for pid in list(self.table.workers):
            try:
                reaped, status = self._system.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # reaped by other code in this process
                reaped, status = pid, 0
            if reaped:
                for report in [report for report, writer in self._reports.items() if writer == pid]:
                    self._close_report(report)
                self.table.died(pid, os.waitstatus_to_exitcode(status), self._system.monotonic())

    def _handle_signals(self) -> None:
        numbers = set(self._waker.receive())
        # Stop before handling SIGCHLD: after a SIGTERM to the process group, the SIGCHLD of a worker may arrive first.
        now = self._system.monotonic()
        stop = not numbers.isdisjoint(signals.STOPPING)
        if signals.CUT in numbers or (stop and self._stop_request.repeated(now)):
            self.table.cut(now)
        elif stop:
            self.table.stop(now)
        for number in sorted(numbers - {*signals.STOPPING, signals.CUT, signal.SIGHUP, signal.SIGCHLD}):
            call_safely(self.on_signal, number)
            if number == signals.REOPEN:
                for pid in self.table.workers:
                    self._send(pid, signals.REOPEN)
        if signal.SIGHUP in numbers and not self.stopping:
            call_safely(self.on_hangup)
        if signal.SIGCHLD in numbers:
            self._reap()
            for action in self.on_child:
                call_safely(action)

    def _send(self, pid: int, number: signal.Signals) -> None:
        # The worker has not been reaped, so its pid has not been reused.  It may have executed a set-user-ID program,
        # which this process must not signal.
        with suppress(ProcessLookupError, PermissionError):
            self._system.kill(pid, number)


def _report(ready: int) -> None:
    """In a worker: report to the parent that it accepts connections."""
    with suppress(BrokenPipeError):  # the parent has ended, and the lifeline shows it
        os.write(ready, b"r")
    os.close(ready)

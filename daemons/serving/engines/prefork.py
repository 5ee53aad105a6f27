"""``processes = N``: any engine, N times, on the same listening sockets.

The parent forks the workers before there is any thread, replaces those that die, and does nothing else:
it accepts nobody and runs no service.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from daemons.serving import signals
from daemons.serving.journal import Journal
from daemons.serving.poller import Source
from daemons.serving.waker import Waker

log = Journal(__name__)

#: Seconds that a worker must have lived to be replaced at once.  One that dies sooner is likely to die
#: again: its successor comes when this time is over.
SHORT_LIFE = 1.0

#: Seconds between two looks at whether the parent still lives.
TICK = 1.0

#: Seconds beyond the time to drain, before workers that do not end are killed.
GRACE = 1.5


@dataclass
class Worker:
    """One worker process.  `news` is the read end of a pipe into which it writes when it accepts."""

    pid: int
    news: int
    started: float
    #: The pid of the worker that ends when this one accepts; 0: of none.
    replaces: int = 0
    ready: bool = False


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
        self._processes = processes
        #: May change, with the limits of the workers.
        self.drain_timeout = drain_timeout
        self._workers: dict[int, Worker] = {}
        self._waker = Waker()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._waker, selectors.EVENT_READ, self._hear)
        #: When (monotonic) to start the workers that died young.
        self._due: list[float] = []
        self._announced = False
        self._until: float | None = None
        self._code = 0
        #: As in `Daemon`, but called about once a second, and in each worker that lets go of what is ours.
        self.on_tick: list[Callable[[float], None]] = []
        self.on_close: list[Callable[[], None]] = []
        self._next_tick = 0.0
        #: Called when a worker has died and will be replaced.
        self.on_restart: Callable[[], None] = lambda: None
        #: Called with the number of a signal that is not handled here.  SIGUSR1 goes to the workers too.
        self.on_signal: Callable[[int], None] = lambda number: None
        #: Asked at SIGHUP whether the workers are to be replaced, one by one, by new ones.
        self.may_renew: Callable[[], bool] = lambda: False
        #: Workers that are to be replaced, and those that were told to end because they have been.
        self._outdated: list[int] = []
        self._retiring: set[int] = set()

    def run(self, announce: Callable[[], None]) -> int:
        """Start the workers, call `announce` once, when all of them accept, and supervise them until
        SIGTERM or SIGINT.  Returns the exit code: that of a worker which failed before it was ready, or 0."""
        signals.hear(self._waker, signal.SIGCHLD)
        try:
            for _ in range(self._processes):
                self._start()
            while self._workers or self._due:
                self._turn(announce)
        finally:
            self._signal_all(signal.SIGKILL)
            signals.deafen()
            for action in self.on_close:
                action()
            self._selector.close()
            self._waker.close()
        return self._code

    def watch(self, source: Source, action: Callable[[], None]) -> None:
        """Call `action` whenever `source` can be read; it must not raise."""
        self._selector.register(source, selectors.EVENT_READ, action)

    def _turn(self, announce: Callable[[], None]) -> None:
        now = time.monotonic()
        if self._until is not None and now >= self._until:
            log.error("%d workers did not end in time and are killed", len(self._workers))
            self._signal_all(signal.SIGKILL)
            self._until = math.inf
        due = [when for when in self._due if when <= now]
        for when in due:
            self._due.remove(when)
            self._start()
        if self._parent is not None and os.getppid() != self._parent:
            log.warning("the parent process %d has gone; leaving too", self._parent)
            self._parent = None
            self._stop()
        patience = min([*self._due, math.inf if self._until is None else self._until]) - now
        if self._parent is not None or self.on_tick:
            patience = min(patience, TICK)
        for key, _ in self._selector.select(None if patience == math.inf else max(0.0, patience)):
            key.data()
        if (now := time.monotonic()) >= self._next_tick:
            self._next_tick = now + TICK
            for action in self.on_tick:
                action(now)
        if not self._announced and len(self._workers) == self._processes and self._all_ready():
            self._announced = True
            announce()

    def _all_ready(self) -> bool:
        return all(worker.ready for worker in self._workers.values())

    def _start(self, replaces: int = 0) -> None:
        news, report = os.pipe()
        # A signal that came between the fork and the worker's own handlers would be taken for ours.
        with signals.held_back():
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._become_worker(report, parent)
        os.close(report)
        worker = self._workers[pid] = Worker(pid, news, time.monotonic(), replaces)
        self._selector.register(news, selectors.EVENT_READ, partial(self._listen_to, worker))

    def _become_worker(self, report: int, parent: int) -> None:
        """In the child: let go of what is the parent's, work, and never return."""
        code = 1
        try:
            signals.deafen()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for action in self.on_close:
                action()
            self._selector.close()
            self._waker.close()
            code = self._work(partial(_report, report), parent)
        except BaseException:
            log.exception("the worker failed")
        finally:
            os._exit(code)

    def _listen_to(self, worker: Worker) -> None:
        """It accepts; or it has died before it did, which SIGCHLD tells too."""
        if worker.news < 0:
            return  # and has told, in the same turn of the loop
        worker.ready = bool(os.read(worker.news, 1))
        self._hang_up(worker)
        if worker.ready and worker.replaces:
            if worker.replaces in self._workers:
                self._retiring.add(worker.replaces)
                os.kill(worker.replaces, signal.SIGTERM)
            self._renew()

    def _renew(self) -> None:
        """Start a successor for the next outdated worker, which ends when the successor accepts."""
        self._outdated = [pid for pid in self._outdated if pid in self._workers]
        if self._outdated:
            self._start(replaces=self._outdated.pop(0))

    def _succeeded(self) -> set[int]:
        """The workers, dead or alive, whose successor is starting."""
        return {worker.replaces for worker in self._workers.values() if worker.replaces and not worker.ready}

    def _hang_up(self, worker: Worker) -> None:
        if worker.news >= 0:
            self._selector.unregister(worker.news)
            os.close(worker.news)
            worker.news = -1

    def _reap(self) -> None:
        """Bury the dead, each by its own pid: other children of this process are none of ours."""
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._bury(worker, os.waitstatus_to_exitcode(status))

    def _bury(self, worker: Worker, code: int) -> None:
        self._hang_up(worker)
        del self._workers[worker.pid]
        if self._until is not None:
            return
        if worker.pid in self._retiring:
            self._retiring.discard(worker.pid)
            return
        if worker.replaces in self._workers and not worker.ready:
            log.error("worker %d could not start (%d); the old ones stay", worker.pid, code)
            self._outdated.clear()
            return
        if worker.pid in self._succeeded():
            log.error("worker %d died; its successor is starting already", worker.pid)
            return
        if not self._announced and code > 0:
            # It could not even start, so nor could another.
            self._code = code
            self._stop()
            return
        died = f"died of signal {-code}" if code < 0 else f"ended with {code}"
        log.error("worker %d %s; starting a replacement", worker.pid, died)
        self.on_restart()
        now = time.monotonic()
        self._due.append(now if now - worker.started > SHORT_LIFE else worker.started + SHORT_LIFE)

    def _hear(self) -> None:
        numbers = set(self._waker.heard())
        # First: of a SIGTERM to all of us and the SIGCHLD it leads to, the kernel may deliver the second first.
        if numbers & {*signals.STOPPING}:
            self._stop()
        for number in sorted(numbers - {*signals.STOPPING, signal.SIGHUP, signal.SIGCHLD}):
            self.on_signal(number)
            if number == signals.REOPEN:
                self._signal_all(signals.REOPEN)
        if signal.SIGHUP in numbers and self._until is None and self.may_renew():
            # One that is about to be replaced will be, though its successor, begun before, is outdated too.
            succeeded = self._succeeded()
            self._outdated = [pid for pid in self._workers if pid not in self._retiring | succeeded]
            if not succeeded:
                self._renew()
        if signal.SIGCHLD in numbers:
            self._reap()

    def _stop(self) -> None:
        """Pass it on: a worker told a second time ends at once."""
        self._due.clear()
        self._signal_all(signal.SIGTERM)
        if self._until is None:
            self._until = time.monotonic() + self.drain_timeout + GRACE

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._workers:
            # Not reaped yet, so the pid is still its own.
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _report(report: int) -> None:
    """In a worker: it accepts now."""
    os.write(report, b"r")
    os.close(report)

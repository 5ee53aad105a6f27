"""States of the workers of ``processes = N``: when to start one, to signal one, and to kill one.

There are no system calls and no clock here: each event has its time (monotonic, in seconds) as an argument, and
`WorkerTable` acts by calling two functions.  `Prefork` connects it to the kernel.

    STARTING ──► READY ──► DRAINING ──► CUTTING ──► KILLED

A worker may skip states, but never goes back, and gets one signal for each state.  So a worker that drains for its
successor is not signaled again when the whole daemon stops.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from daemons.serving import signals
from daemons.serving.safe_logger import SafeLogger

log = SafeLogger(__name__)

#: Minimum lifetime in seconds of a worker to be replaced at once.  If the worker dies sooner, its replacement is
#: delayed until this time has passed, because it is likely to die too.
SHORT_LIFE = 1.0

#: Seconds from CUTTING to KILLED.  A worker needs about half a second to cut its conversations and log them.
KILL_DELAY = 1.5

#: Seconds for the successor of a live worker to become ready.  The import was tested before with a limit of ten
#: seconds, so this leaves room for a busy host.
START_LIMIT = 30.0


class State(IntEnum):
    """State of a worker, in order."""

    STARTING = 0
    READY = 1
    DRAINING = 2
    CUTTING = 3
    KILLED = 4


#: The signal by which a worker enters a state.
SIGNAL_OF = {State.DRAINING: signal.SIGTERM, State.CUTTING: signals.CUT, State.KILLED: signal.SIGKILL}


@dataclass
class Worker:
    """One worker process."""

    pid: int
    started: float
    #: Pid of the worker to drain when this one is ready; 0: none, or done.
    replaces: int = 0
    state: State = State.STARTING
    #: When (monotonic) `WorkerTable.tick` moves it to a later state.
    deadline: float = math.inf
    #: Drains because its successor is ready, so its end needs no replacement.
    retiring: bool = False


class WorkerTable:
    """Keep `processes` workers running until told to stop.

    start
        Function that starts a worker and returns its pid, or raises `OSError`.
    send
        Function that sends a signal to a worker that has not been reaped.
    """

    def __init__(
        self,
        processes: int,
        drain_timeout: float,
        start: Callable[[], int],
        send: Callable[[int, signal.Signals], None],
    ) -> None:
        self._processes = processes
        #: Seconds for a worker to drain; may be changed.
        self.drain_timeout = drain_timeout
        self._start = start
        self._send = send
        #: Workers by pid, until `died`.
        self.workers: dict[int, Worker] = {}
        #: When (monotonic) to start replacements of workers that died young.
        self._due: list[float] = []
        #: Pids of workers to replace, one after the other.
        self._outdated: list[int] = []
        self.stopping = False
        #: Whether all workers have been ready at the same time.
        self.complete = False
        #: Exit code of the daemon: that of a worker that failed before the daemon was complete, else 0.
        self.code = 0
        #: Called when a worker has died and will be replaced.
        self.on_restart: Callable[[], None] = lambda: None

    @property
    def ended(self) -> bool:
        """Whether no worker is left and none will be started."""
        return not self.workers and not self._due

    @property
    def next_deadline(self) -> float:
        """When (monotonic) `tick` has something to do; infinite if never."""
        return min([*self._due, *(worker.deadline for worker in self.workers.values())], default=math.inf)

    # --- events ------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start all workers.  Raises `OSError`."""
        for _ in range(self._processes):
            self._add(now)

    def ready(self, pid: int, now: float) -> None:
        """Record that a worker accepts connections, and drain the worker that it replaces."""
        worker = self.workers.get(pid)
        if worker is None or worker.state is not State.STARTING:
            return  # it received a stop signal before it was ready
        worker.state, worker.deadline = State.READY, math.inf
        if worker.replaces:
            if (old := self.workers.get(worker.replaces)) is not None:
                old.retiring = True
                self._enter(old, State.DRAINING, now + self.drain_timeout)
            worker.replaces = 0
            self._replace_next(now)
        # Count READY workers only: during a renewal, others are starting or draining.
        accepting = sum(each.state is State.READY for each in self.workers.values())
        self.complete = self.complete or accepting >= self._processes

    def died(self, pid: int, code: int, now: float) -> None:
        """Record that a worker was reaped; `code` is its exit code, or the negative number of the fatal signal."""
        worker = self.workers.pop(pid)
        if self.stopping or worker.retiring:
            return
        if worker.replaces in self.workers:
            log.error("worker %d could not start (%d); the old workers stay", pid, code)
            self._outdated.clear()
            return
        if pid in self._succeeded():
            log.error("worker %d died; its successor is starting already", pid)
            return
        if not self.complete and code > 0:
            # A replacement would fail to start too.
            self.code = code
            self.stop(now)
            return
        died = f"died of signal {-code}" if code < 0 else f"ended with {code}"
        log.error("worker %d %s; starting a replacement", pid, died)
        self.on_restart()
        self._due.append(now if now - worker.started > SHORT_LIFE else worker.started + SHORT_LIFE)

    def renew(self, now: float) -> None:
        """Replace all workers, one after the other."""
        if self.stopping:
            return
        # Skip a worker whose successor is starting: that successor is outdated too, and is listed instead.
        succeeded = self._succeeded()
        self._outdated = [pid for pid, worker in self.workers.items() if not worker.retiring and pid not in succeeded]
        if not succeeded:
            self._replace_next(now)

    def stop(self, now: float, drain: float | None = None) -> None:
        """Start no more workers, and drain them for at most `drain` seconds (default: `drain_timeout`).

        A second call can only shorten the time."""
        drain = self.drain_timeout if drain is None else drain
        self.stopping = True
        self._due.clear()
        self._outdated.clear()
        for worker in self.workers.values():
            self._enter(worker, State.DRAINING, now + drain)

    def cut(self, now: float) -> None:
        """Start no more workers, and have them cut their connections now."""
        self.stop(now, 0.0)
        for worker in self.workers.values():
            self._enter(worker, State.CUTTING, now + KILL_DELAY)

    def kill(self) -> None:
        """Kill all remaining workers."""
        for worker in self.workers.values():
            self._enter(worker, State.KILLED, math.inf)

    def tick(self, now: float) -> None:
        """Act on the deadlines that have passed."""
        for when in [when for when in self._due if when <= now]:
            self._due.remove(when)
            try:
                self._add(now)
            except OSError as error:
                log.error("worker could not be started: %s; next attempt in %g s", error.strerror, SHORT_LIFE)
                self._due.append(now + SHORT_LIFE)
        killed = 0
        for worker in self.workers.values():
            if worker.deadline > now:
                continue
            if worker.state is State.DRAINING:
                self._enter(worker, State.CUTTING, now + KILL_DELAY)
                continue
            if worker.state is State.STARTING:
                log.error("worker %d was not ready within %g s and is killed", worker.pid, START_LIMIT)
            else:
                killed += 1
            self._enter(worker, State.KILLED, math.inf)
        if killed:
            log.error("%d workers did not end in time and are killed", killed)

    # --- helpers -----------------------------------------------------------------------------------

    def _enter(self, worker: Worker, state: State, deadline: float) -> None:
        """Move a worker to a later state, and signal it; if it is in that state already, only shorten its deadline."""
        if worker.state < state:
            worker.state, worker.deadline = state, deadline
            self._send(worker.pid, SIGNAL_OF[state])
        elif worker.state is state:
            worker.deadline = min(worker.deadline, deadline)

    def _add(self, now: float, replaces: int = 0) -> None:
        pid = self._start()
        deadline = now + START_LIMIT if replaces else math.inf
        self.workers[pid] = Worker(pid, now, replaces, deadline=deadline)

    def _replace_next(self, now: float) -> None:
        """Start a successor for the next outdated worker."""
        if self.stopping:
            return
        self._outdated = [pid for pid in self._outdated if pid in self.workers]
        if self._outdated:
            try:
                self._add(now, replaces=self._outdated.pop(0))
            except OSError as error:
                log.error("worker could not be started: %s; the old workers stay", error.strerror)
                self._outdated.clear()

    def _succeeded(self) -> set[int]:
        """Return the pids of workers, dead or alive, with a successor that is starting.

        A successor killed before it was ready counts until it is reaped, which leads to another replacement."""
        return {worker.replaces for worker in self.workers.values()} - {0}

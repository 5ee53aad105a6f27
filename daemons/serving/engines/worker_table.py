"""States of the workers of ``processes = N``: when to start one, to signal one, and to kill one.

There are no system calls, no clock and no log here.  Each event has its time (monotonic, in seconds) as an argument.
`WorkerTable` records its decisions in `WorkerTable.actions`; `Prefork` carries them out.

    STARTING ──► READY ──► DRAINING ──► CUTTING ──► KILLED

A worker may skip states, but never goes back, and gets one signal for each state.  So a worker that drains for its
successor is not signaled again when the whole daemon stops.  In every state a worker has a deadline.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable

from daemons.serving.engines.worker import (
    ABANDON,
    CUTTING,
    DRAINING,
    FIRST_START_LIMIT,
    KILL_DELAY,
    KILLED,
    LATE,
    READY,
    SHORT_LIFE,
    SIGNAL_OF,
    START_LIMIT,
    STARTING,
    STUCK,
    Action,
    Log,
    Restart,
    Send,
    Start,
    State,
    Worker,
)


class WorkerTable:
    """Keep `processes` workers running until `stop`; never more than twice as many.

    drain_timeout
        Seconds for a worker to drain.
    """

    def __init__(self, processes: int, drain_timeout: float) -> None:
        self._processes = processes
        #: May be changed.
        self.drain_timeout = drain_timeout
        #: To be carried out by the caller, in this order, after each event.
        self.actions: deque[Action] = deque()
        #: Workers by pid, until `died`.
        self.workers: dict[int, Worker] = {}
        #: When (monotonic) to start replacements of workers that died young.
        self._due: list[float] = []
        #: Pids of workers to replace, one after the other.
        self._outdated: list[int] = []
        #: Recorded `Start`s without a reported result.
        self._starts: list[Start] = []
        self._ticked = math.inf
        self.stopping = False
        #: Whether all workers have been ready at the same time.
        self.complete = False
        #: Exit code of the daemon: that of a worker that failed before the daemon was complete, else 0.
        self.code = 0

    @property
    def ended(self) -> bool:
        """Whether no worker is left and none will be started."""
        return not self.workers and not self._due and not self._starts

    @property
    def next_deadline(self) -> float:
        """When (monotonic) `tick` has something to do; infinite if never."""
        first = min(self._due, default=math.inf)
        for worker in self.workers.values():
            if worker.deadline < first:
                first = worker.deadline
        return first

    # --- events ------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start all workers."""
        self._ticked = now
        for _ in range(self._processes):
            self._start(Start())

    def started(self, start: Start, pid: int, now: float) -> None:
        """Record that the action `start` has forked a worker."""
        self._starts.remove(start)
        limit = START_LIMIT if start.replaces else FIRST_START_LIMIT
        self.workers[pid] = Worker(pid, now, start.replaces, now + limit)

    def start_failed(self, start: Start, reason: str, now: float) -> None:
        """Record that the action `start` has failed."""
        self._starts.remove(start)
        if start.replaces in self.workers:
            self._log(logging.ERROR, "worker could not be started: %s; the old workers stay", reason)
            self._outdated.clear()
        else:
            text = "worker could not be started: %s; next attempt in %g s"
            self._log(logging.ERROR, text, reason, SHORT_LIFE)
            self._due.append(now + SHORT_LIFE)
            self._replace_next()

    def ready(self, pid: int, now: float) -> None:
        """Record that a worker accepts connections, and drain the worker that it replaces."""
        worker = self.workers.get(pid)
        if worker is None or worker.state is not STARTING:
            return  # it received a stop signal before it was ready
        worker.state, worker.was_ready = READY, True
        worker.deadline = math.inf if worker.turn < 0 else now + STUCK
        if worker.replaces:
            if (old := self.workers.get(worker.replaces)) is not None:
                old.retiring = True
                self._enter(old, DRAINING, now + self.drain_timeout)
            worker.replaces = 0
            self._replace_next()
        # Count READY workers only: during a renewal, others are starting or draining.
        accepting = sum(each.state is READY for each in self.workers.values())
        self.complete = self.complete or accepting >= self._processes

    def turned(self, pid: int, turn: int, now: float) -> None:
        """Record the last turn of a worker's event loop: any number that changes with each turn.

        A worker is stuck if the number has not changed for `STUCK` seconds; a worker without numbers never is.  The
        time counts from this call, since this process may have been stopped for some time as well."""
        worker = self.workers.get(pid)
        if worker is not None and worker.turn != turn:
            worker.turn = turn
            if worker.state is READY:
                worker.deadline = now + STUCK

    def died(self, pid: int, code: int, now: float) -> None:
        """Record that a worker was reaped; `code` is its exit code, or the negative number of the fatal signal."""
        worker = self.workers.pop(pid)
        # From now on the pid may belong to another process.
        self._revoke(action for action in self.actions if isinstance(action, Send) and action.pid == pid)
        if self.stopping:
            return
        if worker.retiring:
            pass
        elif worker.replaces in self.workers:
            self._log(logging.ERROR, "worker %d could not start: exit code %d; the old workers stay", pid, code)
            self._outdated.clear()
        elif pid in self._with_successor():
            self._log(logging.ERROR, "worker %d died; its successor is starting already", pid)
        elif not self.complete and code > 0 and not worker.was_ready:
            # A replacement would fail to start too.
            self.code = code
            self.stop(now)
            return
        else:
            died = f"died of signal {-code}" if code < 0 else f"ended with {code}"
            self._log(logging.ERROR, "worker %d %s; starting a replacement", pid, died)
            self.actions.append(Restart())
            self._due.append(now if now - worker.started > SHORT_LIFE else worker.started + SHORT_LIFE)
        self._replace_next()  # the renewal may have waited for this end

    def renew(self, now: float) -> None:
        """Replace all workers, one after the other."""
        if self.stopping:
            return
        # Skip a worker whose successor is starting: that successor is outdated too, and is listed instead.
        with_successor = self._with_successor()
        self._outdated = [
            pid for pid, worker in self.workers.items() if not worker.retiring and pid not in with_successor
        ]
        if not with_successor:
            self._replace_next()
            if not self._starts and self._outdated:
                draining = sum(worker.retiring for worker in self.workers.values())
                self._log(logging.INFO, "new workers wait until one of %d draining workers has ended", draining)

    def stop(self, now: float, drain: float | None = None) -> None:
        """Start no more workers, and drain them for at most `drain` seconds (default: `drain_timeout`).

        A second call can only shorten the time."""
        drain = self.drain_timeout if drain is None else drain
        self.stopping = True
        self._due.clear()
        self._outdated.clear()
        self._revoke(self._starts)
        self._starts.clear()
        for worker in self.workers.values():
            self._enter(worker, DRAINING, now + drain)

    def cut(self, now: float) -> None:
        """Start no more workers, and have them cut their connections now."""
        self.stop(now, 0.0)
        for worker in self.workers.values():
            self._enter(worker, CUTTING, now + KILL_DELAY)

    def kill(self, now: float) -> None:
        """Start no more workers, and kill those that remain."""
        self.stop(now, 0.0)
        for worker in self.workers.values():
            self._enter(worker, KILLED, now + ABANDON)

    def tick(self, now: float) -> None:
        """Act on the deadlines that have passed.  To be called at least once a second."""
        if (gap := now - self._ticked) > LATE:
            # The workers may have been stopped too, and get as much time as they had then.
            for worker in self.workers.values():
                if worker.state in (STARTING, KILLED):
                    worker.deadline += gap
                elif worker.state is READY and worker.turn >= 0:
                    worker.deadline = min(worker.deadline + gap, now + STUCK)
        self._ticked = now
        if self._due:
            for _ in [when for when in self._due if when <= now]:
                self._start(Start())
            self._due = [when for when in self._due if when > now]
        for worker in list(self.workers.values()):
            if worker.deadline <= now:
                self._expire(worker, now)

    # --- helpers -----------------------------------------------------------------------------------

    def _expire(self, worker: Worker, now: float) -> None:
        """Move a worker to its next state, after its deadline."""
        match worker.state:
            case State.STARTING:
                limit = START_LIMIT if worker.replaces else FIRST_START_LIMIT
                self._log(logging.ERROR, "worker %d was not ready within %g s and is killed", worker.pid, limit)
                self._enter(worker, KILLED, now + ABANDON)
                if not self.complete and not worker.replaces:
                    self.code = 1
                    self.stop(now)
            case State.READY:
                # It accepts nothing, so there is nothing to win by keeping it until its successor is ready.
                self._log(logging.ERROR, "worker %d has made no turn for %g s and is replaced", worker.pid, STUCK)
                self._enter(worker, CUTTING, now + KILL_DELAY)
            case State.DRAINING:
                self._enter(worker, CUTTING, now + KILL_DELAY)
            case State.CUTTING:
                self._log(logging.ERROR, "worker %d did not end in time and is killed", worker.pid)
                self._enter(worker, KILLED, now + ABANDON)
            case State.KILLED:
                worker.deadline = math.inf
                self._log(logging.ERROR, "worker %d was killed and does not end: it waits for I/O", worker.pid)
                if self.stopping:
                    del self.workers[worker.pid]

    def _enter(self, worker: Worker, state: State, deadline: float) -> None:
        """Move a worker to a later state, and signal it; if it is in that state already, only shorten its deadline."""
        if worker.state < state:
            worker.state, worker.deadline = state, deadline
            self.actions.append(Send(worker.pid, SIGNAL_OF[state]))
        elif worker.state is state:
            worker.deadline = min(worker.deadline, deadline)

    def _start(self, start: Start) -> None:
        self._starts.append(start)
        self.actions.append(start)

    def _replace_next(self) -> None:
        """Start a successor for the next outdated worker, unless one is starting or too many old workers drain."""
        if self._with_successor():
            return
        self._outdated = [pid for pid in self._outdated if pid in self.workers]
        if self._outdated and sum(worker.retiring for worker in self.workers.values()) < self._processes:
            self._start(Start(replaces=self._outdated.pop(0)))

    def _with_successor(self) -> set[int]:
        """Return the pids of workers, dead or alive, with a successor that is starting.

        A successor killed before it was ready counts until it is reaped, which leads to another replacement."""
        replaced = {worker.replaces for worker in self.workers.values()}
        return (replaced | {start.replaces for start in self._starts}) - {0}

    def _revoke(self, actions: Iterable[Action]) -> None:
        """Remove actions that were not carried out yet."""
        for action in list(actions):
            self.actions.remove(action)

    def _log(self, level: int, text: str, *arguments: object) -> None:
        self.actions.append(Log(level, text, arguments))

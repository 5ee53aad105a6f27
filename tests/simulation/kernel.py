"""A kernel for `Prefork` without processes and without time: the simulated counterpart of `System`.

Child processes, pipes, signals and the clock are simulated; a random number generator decides how each child behaves,
and in which order things happen.  The kernel records every violation of the promises about several processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from errno import EAGAIN
from random import Random

from daemons.serving import signals
from daemons.serving.daemon import TICK
from daemons.serving.engines.worker import KILL_DELAY, STUCK
from daemons.serving.parent_watch import ORPHAN_DRAIN
from tests.simulation.machine import CHLD, CUT, Machine

TERM, KILL = signal.SIGTERM, signal.SIGKILL

#: Seconds that an action of the parent may be late: the interval of its tick, and the CPU time that it waits for.
SLACK = TICK + 0.5

#: Process ID of the simulated parent, and of its own parent.
PID, PARENT = 2, 1


class Child:
    """One worker process."""

    __slots__ = (
        "alive",
        "cut_at",
        "deaf",
        "forked",
        "hung",
        "pid",
        "ready",
        "report",
        "reported",
        "sent",
        "status",
        "term_at",
        "turn",
    )

    def __init__(self, pid: int, forked: float, report: int) -> None:
        self.pid, self.forked, self.report = pid, forked, report
        #: Whether it accepts connections, and whether the parent knows.
        self.alive, self.ready, self.reported = True, False, False
        #: When the event loop stopped to make turns; 0: it makes turns.
        self.hung = 0.0
        #: Ignores SIGTERM and the signal to cut.
        self.deaf = False
        self.status = 0
        self.sent: list[int] = []
        self.term_at = self.cut_at = 0.0
        self.turn = 0

    @property
    def responsive(self) -> bool:
        return self.ready and not self.hung and not self.deaf


class Kernel(Machine):
    """The machine with its processes: the workers, and their parent."""

    def __init__(self, rng: Random, processes: int, drain: float) -> None:
        super().__init__(rng)
        self.processes, self.drain = processes, drain
        self.children: dict[int, Child] = {}
        #: The worker that writes to a pipe, by its read end.
        self._writers: dict[int, Child] = {}
        self._next_pid = 10
        self.parent = PARENT
        #: Number of calls of fork(2) that will fail.
        self.failing_forks = 0
        #: Whether new children start well from now on.
        self.calm = False
        #: Called when the next worker is ready, at the same moment.
        self.with_ready: Callable[[], None] | None = None
        #: Workers reaped by other code of the parent.
        self._stolen: set[int] = set()
        #: When the last renewal began.
        self.renewed_at = 0.0
        self.announced = False
        #: Exit codes of workers that failed to start before the daemon was announced, and the first of them.
        self.exit_codes: set[int] = set()
        self.expected_code = 0

    def read(self, descriptor: int, size: int) -> bytes:
        if descriptor not in self._data:
            self.violate(f"read of descriptor {descriptor} would block")
        child = self._writers[descriptor]
        child.reported = child.ready
        return b"r" if child.ready else b""

    def getpid(self) -> int:
        return PID

    def getppid(self) -> int:
        if self.parent != PARENT:
            self.stop_at = self.stop_at or self.now
        return self.parent

    def pipe(self) -> tuple[int, int]:
        # The lifeline, and at most one pipe for each worker that was not reaped by the parent.
        if len(self.open_descriptors) > 2 + len(self.children) + len(self._stolen):
            self.violate(f"descriptors left open: {self.open_descriptors}")
        return super().pipe()

    def fork(self) -> int:
        random = self.random
        if random() < 0.3:
            self.pass_until(self.now + 0.05 * random())
        if self.failing_forks:
            self.failing_forks -= 1
            self.start_failed = True
            raise OSError(EAGAIN, "Resource temporarily unavailable")
        if self.stop_at:
            self.violate("start after a stop")
        if len(self.children) >= 2 * self.processes:
            self.violate(f"more than {2 * self.processes} workers")
        self._next_pid += 1
        child = Child(self._next_pid, self.now, self.last_pipe[0])
        self.children[child.pid] = self._writers[child.report] = child
        chance = 0.0 if self.calm else random()
        if chance < 0.88:
            self.after(0.02 + 0.5 * random(), self._become_ready, child)
        elif chance < 0.92:
            self.after(20.0 * random(), self._become_ready, child)
        elif chance < 0.95:
            self.after(0.1 * random(), self.die, child, self.rng.choice((1, 100, 111)) << 8)
        elif chance < 0.987:
            self.after(0.1 * random(), self.die, child, self.rng.choice((9, 11)))
        else:
            child.hung = self.now
        child.deaf = not self.calm and random() < 0.05
        if self.trace is not None:
            self.note(f"worker {child.pid} is forked{', and ignores signals' if child.deaf else ''}")
        return child.pid

    def _become_ready(self, child: Child) -> None:
        if child.alive and TERM not in child.sent:
            child.ready = True
            child.turn = int(self.now * 10)
            if self.trace is not None:
                self.note(f"worker {child.pid} is ready")
            self.make_readable(child.report)
            if (action := self.with_ready) is not None:
                self.with_ready = None
                action()

    def die(self, child: Child, status: int) -> None:
        if child.alive:
            child.alive, child.status = False, status
            if self.trace is not None:
                self.note(f"worker {child.pid} dies with status {status}")
            self.make_readable(child.report)
            if self.random() < 0.01:
                self._stolen.add(child.pid)  # reaped by other code of the process
                self.start_failed = self.start_failed or not child.reported
                del self.children[child.pid]
            self.deliver(CHLD)

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        assert options == os.WNOHANG
        child = self.children.get(pid)
        if child is None:
            if pid not in self._stolen:
                self.violate(f"waitpid of {pid}, which was reaped")
            raise ChildProcessError
        if child.alive:
            return 0, 0
        del self.children[pid]
        if not child.reported:
            self.start_failed = True
            code = child.status >> 8
            if code and not self.stop_at and not self.announced:
                self.exit_codes.add(code)
                self.expected_code = self.expected_code or code
        return pid, child.status

    def turns(self) -> dict[int, int]:
        """Return the last turn of each worker; they make one each second."""
        for child in self.children.values():
            if child.ready and not child.hung and self.now > self.frozen_until + 0.9:
                child.turn = int(self.now * 10)
        return {child.pid: child.turn for child in self.children.values() if child.turn and child.alive}

    def hang(self, child: Child) -> None:
        if child.alive and child.ready and not child.hung:
            child.hung = self.now
            self.after(STUCK + KILL_DELAY + 2 * SLACK + TICK, self._expect_replaced, child)

    def _expect_replaced(self, child: Child) -> None:
        if child.alive and not self.stop_at and self.frozen_until < child.hung and not child.term_at:
            self.violate(f"worker {child.pid} is stuck since {child.hung - 100.0:.3f} s")

    def kill(self, pid: int, number: int) -> None:
        child = self.children.get(pid)
        if child is None:
            if pid not in self._stolen:
                self.violate(f"signal {number} to {pid}, which was reaped")
            raise ProcessLookupError
        if number == signals.REOPEN:
            return
        if self.trace is not None:
            self.note(f"the parent sends signal {number} to {pid}")
        self._check_signal(child, number)
        child.sent.append(number)
        if number == KILL and not child.ready and not self.announced:
            self.exit_codes.add(1)
        self.signal_child(child, number)

    def _check_signal(self, child: Child, number: int) -> None:
        """Record a violation if the parent must not send this signal now."""
        if number in child.sent:
            self.violate(f"signal {number} to {child.pid} for the second time")
        elif number == TERM and (CUT in child.sent or KILL in child.sent):
            self.violate(f"SIGTERM to {child.pid} after a stronger signal")
        if not child.responsive or number == TERM or not child.alive:
            return
        drain = min(self.drain, ORPHAN_DRAIN) if self.parent != PARENT else self.drain
        if number == CUT and not self.cut_at and not (child.term_at and self.now >= child.term_at + drain - 1e-6):
            self.violate(f"worker {child.pid} is cut without its time to drain")
        elif number == KILL and not (child.cut_at and self.now >= child.cut_at + KILL_DELAY - 1e-6):
            self.violate(f"worker {child.pid} is killed, which would have ended")

    def signal_child(self, child: Child, number: int) -> None:
        """Let a child act on a signal."""
        random = self.random
        if number == KILL:
            self.after(0.05 * random(), self.die, child, KILL)
        elif number == CUT:
            child.cut_at = child.cut_at or self.now
            if child.hung and random() < 0.5:
                self.after(0.5, self.die, child, 1 << 8)
            elif not child.hung and not child.deaf:
                self.after(1.2 * random(), self.die, child, 0)
        elif number == TERM:
            child.term_at = child.term_at or self.now
            if not child.ready:
                if not child.deaf:
                    self.after(0.01, self.die, child, TERM)
            elif child.responsive:
                self.after((self.drain + 0.8) * random(), self.die, child, 0)

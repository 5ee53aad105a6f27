"""A kernel for `Prefork` without processes and without time: the simulated counterpart of `System`.

Child processes, pipes, signals and the clock are simulated; a random number generator decides how each child behaves,
and in which order things happen.  The kernel records every violation of the promises about several processes.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EAGAIN, EMFILE
from heapq import heapify, heappop, heappush
from random import Random
from typing import Any

from daemons.serving import signals
from daemons.serving.daemon import ORPHAN_DRAIN, TICK
from daemons.serving.engines.system import System
from daemons.serving.engines.worker import GRACE, STUCK

TERM, CUT, KILL, CHLD = signal.SIGTERM, signals.CUT, signal.SIGKILL, signal.SIGCHLD

#: Seconds that an action of the parent may be late: the interval of its tick, and the CPU time that it waits for.
SLACK = TICK + 0.5

#: Maximum calls of select(2) in a run; the longest runs make some hundred.
MAX_TURNS = 4000

#: Process ID of the simulated parent, and of its own parent.
PID, PARENT = 2, 1


class EndlessError(BaseException):
    """The parent does not end.  Not an Exception, which the parent may catch."""


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


class Key:
    """As `selectors.SelectorKey`."""

    __slots__ = ("data",)

    def __init__(self, data: Callable[[], None]) -> None:
        self.data = data


class Kernel(System):
    """System, selector and waker in one."""

    def __init__(self, rng: Random, processes: int, drain: float) -> None:
        self.rng = rng
        self.random = rng.random
        self.processes, self.drain = processes, drain
        self.now = 100.0
        self.violations: list[str] = []
        #: What happened, if that is recorded.
        self.trace: list[str] | None = None
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self.children: dict[int, Child] = {}
        self._next_pid, self._next_descriptor = 10, 3
        self._open: set[int] = set()
        #: The read end of each pipe, by its write end.
        self._read_end: dict[int, int] = {}
        self._write_end = 0
        self._writers: dict[int, Child] = {}
        self._data: set[int] = set()
        self._keys: dict[Any, Key] = {}
        self._readable: set[Any] = set()
        self._received: list[int] = []
        self._full = self._blocked = False
        self._pending: set[int] = set()
        self._turns = 0
        self.parent = PARENT
        #: Numbers of calls of fork(2) and pipe(2) that will fail.
        self.failing_forks = self.failing_pipes = 0
        #: Whether new children start well from now on.
        self.calm = False
        #: Called when the next worker is ready, at the same moment.
        self.with_ready: Callable[[], None] | None = None
        self.stolen: set[int] = set()
        self.exit_codes: set[int] = set()
        #: When the parent learned that it has to stop, or to cut; 0: not yet.
        self.stop_at = self.cut_at = 0.0
        self.first_stop = 0.0
        self.once = True
        self._stop_signal = self._cut_signal = False
        #: When the renewal after the last SIGHUP began.
        self.renewed_at = 0.0
        #: Whether a start has failed since then.
        self.start_failed = False
        self.frozen_until = 0.0
        self.announced = False
        #: The code with which the first worker failed to start; only exact without a SIGHUP.
        self.expected_code = 0

    # --- events ------------------------------------------------------------------------------------

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heappush(self._events, (self.now + seconds, self._number, action, arguments))

    def _pass(self, until: float) -> None:
        """Let time pass, with all its events."""
        events = self._events
        while events and events[0][0] <= until:
            when, _, action, arguments = heappop(events)
            if when > self.now:
                self.now = when
            action(*arguments)
        if until > self.now:
            self.now = until

    def freeze(self, seconds: float) -> None:
        """Stop all processes for some seconds, as SIGSTOP to the process group does."""
        self.now += seconds
        # In place: `select` and `_pass` hold the list.
        self._events[:] = [(event[0] + seconds, *event[1:]) for event in self._events]
        heapify(self._events)
        self.frozen_until = self.now
        if self.stop_at:
            self.stop_at += seconds
        if self.cut_at:
            self.cut_at += seconds

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now - 100.0:8.3f} s  {text}")

    def violate(self, text: str) -> None:
        self.violations.append(f"at {self.now - 100.0:.3f} s: {text}")
        self.note(f"VIOLATION {text}")

    # --- clock, selector, waker --------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.now

    def make_selector(self) -> selectors.BaseSelector:
        return self  # type: ignore[return-value]

    def make_waker(self) -> Any:
        return Waker(self)

    def register(self, source: Any, events: int, data: Callable[[], None]) -> None:
        self._keys[source] = Key(data)
        if source in self._data:
            self._readable.add(source)

    def unregister(self, source: Any) -> None:
        del self._keys[source]
        self._readable.discard(source)

    def select(self, timeout: float) -> list[tuple[Key, int]]:
        self._turns += 1
        if self._turns > MAX_TURNS:
            raise EndlessError
        until = self.now + timeout
        events, readable = self._events, self._readable
        while not readable:
            if not events or events[0][0] > until:
                self.now = max(self.now, until)
                return []
            self._pass(events[0][0])
        if (chance := self.random()) < 0.2:
            self._pass(self.now + (0.1 if chance < 0.18 else 0.5) * self.random())  # the parent waits for the CPU
        sources = sorted(readable, key=hash)
        if len(sources) > 1:
            self.rng.shuffle(sources)
        keys = self._keys
        return [(keys[source], 1) for source in sources]

    # --- signals -----------------------------------------------------------------------------------

    def install_handlers(self, waker: Any) -> None:
        self._waker = waker

    def reset_signals(self) -> None:
        pass

    @contextmanager
    def blocked(self) -> Iterator[None]:
        self._blocked = True
        try:
            yield
        finally:
            self._blocked = False
            pending, self._pending = self._pending, set()
            for number in sorted(pending):
                self.deliver(number)

    def deliver(self, number: int) -> None:
        """Deliver a signal to the parent."""
        if self.trace is not None:
            self.note(f"signal {number} arrives{', but the waker is full' if self._full else ''}")
        if self._blocked:
            self._pending.add(number)
            return
        if number in signals.STOPPING:
            self._stop_signal = True
        elif number == CUT:
            self._cut_signal = True
        if self._full or (number == CHLD and CHLD in self._received and self.random() < 0.5):
            return
        self._received.append(number)
        self._make_readable(self._waker)

    def flood(self) -> None:
        """Fill the waker, so that it loses signals until it is read."""
        self._received.append(signal.SIGUSR2)
        self._make_readable(self._waker)
        self._full = True

    def receive(self) -> list[int]:
        numbers, self._received, self._full = self._received, [], False
        self._data.discard(self._waker)
        self._readable.discard(self._waker)
        for number in numbers:
            if number == CUT:
                self.stop_at = self.stop_at or self.now
                self.cut_at = self.cut_at or self.now
            elif number in signals.STOPPING:
                self.stop_at = self.stop_at or self.now
                self.first_stop = self.first_stop or self.now
                if not self.once and self.now - self.first_stop >= signals.REPEAT:
                    self.cut_at = self.cut_at or self.now
        return numbers

    def stop_requested(self) -> bool:
        if self._stop_signal:
            self.stop_at = self.stop_at or self.now
        return self._stop_signal

    def cut_requested(self) -> bool:
        if self._cut_signal:
            self.stop_at = self.stop_at or self.now
            self.cut_at = self.cut_at or self.now
        return self._cut_signal

    # --- descriptors -------------------------------------------------------------------------------

    def pipe(self) -> tuple[int, int]:
        if self.failing_pipes:
            self.failing_pipes -= 1
            self.start_failed = True
            raise OSError(EMFILE, "Too many open files")
        read, write = self._next_descriptor, self._next_descriptor + 1
        self._next_descriptor += 2
        self._open |= {read, write}
        self._read_end[write] = read
        self._write_end = write
        return read, write

    def close(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            return  # the selector
        if descriptor not in self._open:
            self.violate(f"close of descriptor {descriptor}, which is not open")
        if descriptor in self._keys:
            self.violate(f"close of descriptor {descriptor}, which is polled")
        self._open.discard(descriptor)

    def read(self, descriptor: int, size: int) -> bytes:
        if descriptor not in self._data:
            self.violate(f"read of descriptor {descriptor} would block")
        child = self._writers[descriptor]
        child.reported = child.ready
        return b"r" if child.ready else b""

    @property
    def open_descriptors(self) -> list[int]:
        return sorted(self._open)

    # --- processes ---------------------------------------------------------------------------------

    def getpid(self) -> int:
        return PID

    def getppid(self) -> int:
        if self.parent != PARENT:
            self.stop_at = self.stop_at or self.now
        return self.parent

    def fork(self) -> int:
        random = self.random
        if random() < 0.3:
            self._pass(self.now + 0.05 * random())
        if self.failing_forks:
            self.failing_forks -= 1
            self.start_failed = True
            raise OSError(EAGAIN, "Resource temporarily unavailable")
        if self.stop_at:
            self.violate("start after a stop")
        if len(self.children) >= 2 * self.processes:
            self.violate(f"more than {2 * self.processes} workers")
        self._next_pid += 1
        child = Child(self._next_pid, self.now, self._read_end[self._write_end])
        self.children[child.pid] = self._writers[child.report] = child
        chance = 0.0 if self.calm else random()
        if chance < 0.88:
            self.after(0.02 + 0.5 * random(), self._become_ready, child)
        elif chance < 0.92:
            self.after(20.0 * random(), self._become_ready, child)
        elif chance < 0.95:
            self.after(0.1 * random(), self.die, child, self.rng.choice((1, 100, 111)) << 8)
        elif chance < 0.98:
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
            self._make_readable(child.report)
            if (action := self.with_ready) is not None:
                self.with_ready = None
                action()

    def _make_readable(self, source: Any) -> None:
        self._data.add(source)
        if source in self._keys:
            self._readable.add(source)

    def die(self, child: Child, status: int) -> None:
        if child.alive:
            child.alive, child.status = False, status
            if self.trace is not None:
                self.note(f"worker {child.pid} dies with status {status}")
            self._make_readable(child.report)
            if self.random() < 0.01:
                self.stolen.add(child.pid)  # reaped by other code of the process
                self.start_failed = self.start_failed or not child.reported
                del self.children[child.pid]
            self.deliver(CHLD)

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        assert options == os.WNOHANG
        child = self.children.get(pid)
        if child is None:
            if pid not in self.stolen:
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
            self.after(STUCK + GRACE + 2 * SLACK + TICK, self._expect_replaced, child)

    def _expect_replaced(self, child: Child) -> None:
        if child.alive and not self.stop_at and self.frozen_until < child.hung and not child.term_at:
            self.violate(f"worker {child.pid} is stuck since {child.hung - 100.0:.3f} s")

    def kill(self, pid: int, number: int) -> None:
        child = self.children.get(pid)
        if child is None:
            if pid not in self.stolen:
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
        elif number == KILL and not (child.cut_at and self.now >= child.cut_at + GRACE - 1e-6):
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


class Waker:
    """As `daemons.serving.waker.Waker`."""

    def __init__(self, kernel: Kernel) -> None:
        self.receive = kernel.receive

    def close(self) -> None:
        pass

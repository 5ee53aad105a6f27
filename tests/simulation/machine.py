"""Clock, selector, pipes and signals of a simulated process: part of `tests.simulation.kernel`."""

from __future__ import annotations

import selectors
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EMFILE
from functools import partial
from heapq import heapify, heappop, heappush
from random import Random
from typing import Any

from daemons.serving import signals
from daemons.serving.engines.system import System

CUT, CHLD = signals.CUT, signal.SIGCHLD

#: Maximum calls of select(2) in a run; the longest runs make some hundred.
MAX_TURNS = 4000


class EndlessError(BaseException):
    """The parent does not end.  Not an Exception, which the parent may catch."""


class Key:
    """As `selectors.SelectorKey`."""

    __slots__ = ("data",)

    def __init__(self, data: Callable[[], None]) -> None:
        self.data = data


class Machine(System):
    """System, selector and waker of the parent in one."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.random = rng.random
        self.now = 100.0
        self.violations: list[str] = []
        #: What happened, if that is recorded.
        self.trace: list[str] | None = None
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._keys: dict[Any, Key] = {}
        #: Sources with data, and those of them that are polled.
        self._data: set[Any] = set()
        self._readable: set[Any] = set()
        self._turns = 0
        self._next_descriptor = 3
        self._open: set[int] = set()
        #: The last pipe: read end, write end.
        self.last_pipe = (0, 0)
        #: Number of calls of pipe(2) that will fail.
        self.failing_pipes = 0
        self._received: list[int] = []
        self._full = self._blocked = False
        self._pending: set[int] = set()
        self._stop_signal = self._cut_signal = False
        #: When the parent learned that it has to stop, or to cut; 0: not yet.
        self.stop_at = self.cut_at = 0.0
        self._first_stop = 0.0
        #: Whether a repeated signal to stop means the same as the first.
        self.once = True
        self.frozen_until = 0.0
        #: Whether the start of a worker has failed since the last renewal began.
        self.start_failed = False

    # --- events ------------------------------------------------------------------------------------

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heappush(self._events, (self.now + seconds, self._number, action, arguments))

    def pass_until(self, until: float) -> None:
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
        # In place: `select` and `pass_until` hold the list.
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
        self._keys[source] = Key(partial(self._call, data))
        if source in self._data:
            self._readable.add(source)

    def _call(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # which the parent would only log
            self.violate(f"{error!r}")

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
            self.pass_until(events[0][0])
        if (chance := self.random()) < 0.2:
            self.pass_until(self.now + (0.1 if chance < 0.18 else 0.5) * self.random())  # the parent waits for the CPU
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
        self.make_readable(self._waker)

    def flood(self) -> None:
        """Fill the waker, so that it loses signals until it is read."""
        self._received.append(signal.SIGUSR2)
        self.make_readable(self._waker)
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
                self._first_stop = self._first_stop or self.now
                if not self.once and self.now - self._first_stop >= signals.REPEAT:
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
        self.last_pipe = pipe = (self._next_descriptor, self._next_descriptor + 1)
        self._next_descriptor += 2
        self._open.update(pipe)
        return pipe

    def close(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            self._keys.clear()  # the selector is closed
            return
        if descriptor not in self._open:
            self.violate(f"close of descriptor {descriptor}, which is not open")
        if descriptor in self._keys:
            self.violate(f"close of descriptor {descriptor}, which is polled")
        self._open.discard(descriptor)

    @property
    def open_descriptors(self) -> list[int]:
        return sorted(self._open)

    def make_readable(self, source: Any) -> None:
        self._data.add(source)
        if source in self._keys:
            self._readable.add(source)


class Waker:
    """As `daemons.serving.waker.Waker`."""

    def __init__(self, machine: Machine) -> None:
        self.receive = machine.receive

    def close(self) -> None:
        pass

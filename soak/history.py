"""Histories of operations on a store, and the check that acknowledged operations are kept.

Clients record when they invoke an operation and when they learn its outcome; the test records crashes.  Afterwards the
check compares this with the content of the store.  An operation with an unknown outcome, because the connection or the
process ended first, may or may not be in the store.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf


@dataclass
class Operation:
    """One operation; `key` identifies it in the store.  Times are monotonic, in seconds."""

    key: str
    invoked: float
    #: When the outcome was known; infinite if it never was.
    answered: float = inf
    #: Whether the store acknowledged it.
    acknowledged: bool = False


@dataclass(frozen=True)
class Violation:
    """A promise that was broken; the text names the operation and the crashes near it."""

    text: str

    def __str__(self) -> str:
        return self.text


class History:
    """Operations and crashes, in the order of their times.  Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._begin = clock()
        self.operations: dict[str, Operation] = {}
        #: Time and name of each crash.
        self.crashes: list[tuple[float, str]] = []

    def invoke(self, key: str) -> None:
        """Record that a client begins an operation.  Raise `ValueError` if the key was used before."""
        with self._lock:
            if key in self.operations:
                raise ValueError(f"operation {key!r} was invoked before; keys must be unique")
            self.operations[key] = Operation(key, self._clock())

    def answer(self, key: str, *, acknowledged: bool) -> None:
        """Record the outcome of an operation.  Not called if it is unknown."""
        with self._lock:
            operation = self.operations[key]
            operation.answered, operation.acknowledged = self._clock(), acknowledged

    def crash(self, name: str) -> None:
        """Record that a process was killed."""
        with self._lock:
            self.crashes.append((self._clock(), name))

    @property
    def acknowledged(self) -> int:
        """Number of acknowledged operations."""
        return sum(operation.acknowledged for operation in self.operations.values())

    def first_violation(self, stored: Sequence[str]) -> Violation | None:
        """Return the first broken promise, or None.  `stored` has the keys in the store, in the store's order.

        The promises: every stored operation was invoked; none is stored twice; an acknowledged one is stored; and
        operations that did not overlap are stored in the order in which they were performed."""
        counts = Counter(stored)
        found = [*self._invented(counts), *self._lost(counts), *self._misplaced(stored)]
        return min(found, key=lambda pair: pair[0])[1] if found else None

    def _invented(self, counts: Counter[str]) -> list[tuple[float, Violation]]:
        return [
            (inf, Violation(f"{key!r} is stored, but was never invoked"))
            for key in counts
            if key not in self.operations
        ]

    def _lost(self, counts: Counter[str]) -> list[tuple[float, Violation]]:
        found = []
        for operation in self.operations.values():
            if counts[operation.key] > 1:
                text = f"{self._name(operation)} is stored {counts[operation.key]} times"
                found.append((operation.invoked, Violation(text)))
            elif operation.acknowledged and not counts[operation.key]:
                found.append((operation.answered, Violation(f"{self._name(operation)} is not stored")))
        return found

    def _misplaced(self, stored: Sequence[str]) -> list[tuple[float, Violation]]:
        """Find operations that were answered before another one was invoked, but are stored behind it."""
        latest: Operation | None = None
        found = []
        for operation in (self.operations[key] for key in dict.fromkeys(stored) if key in self.operations):
            if latest is not None and operation.answered < latest.invoked:
                text = f"{self._name(operation)} is stored behind {self._name(latest)}, which was invoked later"
                found.append((operation.answered, Violation(text)))
            if latest is None or operation.invoked > latest.invoked:
                latest = operation
        return found

    def _name(self, operation: Operation) -> str:
        """Return a description of the operation and of the crash before its end that is nearest to it."""
        answered = "without an answer"
        if operation.answered < inf:
            answered = f"{'acknowledged' if operation.acknowledged else 'refused'} at {self._show(operation.answered)}"
        name = f"{operation.key!r} (invoked at {self._show(operation.invoked)}, {answered}"
        if self.crashes:
            moment, crashed = min(self.crashes, key=lambda crash: abs(crash[0] - min(operation.answered, crash[0])))
            name += f"; nearest crash: {crashed} at {self._show(moment)}"
        return f"{name})"

    def _show(self, moment: float) -> str:
        return f"{moment - self._begin:.3f} s"

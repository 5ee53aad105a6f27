"""The threads that compute slow hashes: two for a process, whatever asks for them.

scrypt takes all of a core and 16 MiB, and malloc(3) keeps that memory for the thread that has used it.  Computed by
the threads that serve, it would stay with each of them; and each that waits for its turn is one that does not serve.
So two threads compute, a few wait for them, and the verdict on all other requests is at once that they are too many.
"""

from __future__ import annotations

import math
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from daemons.serving.guards.wait_limit import DEFAULT, PROCESS

#: Threads that compute.
THREADS = 2

#: Computations under way, and those of one network: all together take less than a second, and a peer that guesses with
#: many connections leaves half of them to others.
TASKS, TASKS_PER_NETWORK = 8, 4

#: Threads that wait for a computation, and those of one network.  Half of the 16 threads of ``engine = pool``; a
#: browser opens six connections to a host.
WAITING, WAITING_PER_NETWORK = DEFAULT, 6

#: Seconds after which a thread waits no longer: hashes may be ten times as slow as by default.
PATIENCE = 10.0

#: Above 0, the kernel prefers other threads (nice(1)): a login may take longer, all other requests must not.  At 5 a
#: thread gets a third of the time of others on a busy core; at 19 logins would starve there.
NICE = 5


class Busy(Exception):
    """There is no verdict now; `seconds` is when to ask again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = max(1, math.ceil(seconds))


class Verifier:
    """Computes whether passwords match.  From any thread; the threads that compute are started when first needed, and
    anew in a child process."""

    def __init__(self) -> None:
        self._reset()

    @property
    def waiting(self) -> int:
        """The most threads that wait; 0 if the thread that asks serves every connection."""
        return PROCESS.threads

    @waiting.setter
    def waiting(self, threads: int) -> None:
        PROCESS.threads = threads

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._tasks: dict[bytes, Future[bool]] = {}
        #: Tasks, and waiting threads, of each network.
        self._running: Counter[str] = Counter()
        self._waiters: Counter[str] = Counter()

    def verify(
        self,
        task: bytes,
        network: str,
        admit: Callable[[], None],
        matches: Callable[[], bool],
        done: Callable[[bool], None],
    ) -> bool:
        """Return what `matches` returns.  Calls with the same `task` share one computation; before it `admit` is
        called, which may raise `Busy`, and at its end `done` with the result, in its thread.

        Raises `Busy` where there is too much to do, or where no thread may wait; what `matches` raises; and
        `RuntimeError` where no thread can be started."""
        if self._pid != os.getpid():
            self._reset()  # threads do not survive a fork
        with self._lock:
            if self.waiting and not self._may_wait(network):
                raise Busy(1)
            future = self._tasks.get(task)
            if future is None:
                if len(self._tasks) >= TASKS or self._running[network] >= TASKS_PER_NETWORK:
                    raise Busy(1)
                admit()
                future = self._start(task, network, matches, done)
            if not self.waiting:
                raise Busy(1)
            self._waiters[network] += 1
        try:
            return future.result(PATIENCE)
        except TimeoutError:
            raise Busy(PATIENCE) from None
        finally:
            with self._lock:
                _uncount(self._waiters, network)

    def close(self) -> None:
        """End the threads when all tasks are done."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None and self._pid == os.getpid():
            executor.shutdown()

    def _may_wait(self, network: str) -> bool:
        return self._waiters.total() < self.waiting and self._waiters[network] < WAITING_PER_NETWORK

    def _start(
        self, task: bytes, network: str, matches: Callable[[], bool], done: Callable[[bool], None]
    ) -> Future[bool]:
        def compute() -> bool:
            try:
                matched = matches()
                done(matched)
                return matched
            finally:
                with self._lock:
                    if self._tasks.pop(task, None) is not None:
                        _uncount(self._running, network)

        if self._executor is None:
            self._executor = ThreadPoolExecutor(THREADS, "password", _be_nice)
        try:
            future = self._executor.submit(compute)
        except RuntimeError:
            # No thread could be started; if this one runs all the same, nothing counts it.
            self._executor = None
            raise
        self._tasks[task] = future
        self._running[network] += 1
        return future


def _uncount(counter: Counter[str], key: str) -> None:
    """Count one less; a key without a count is not kept."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _be_nice() -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


#: The verifier of this process.
shared = Verifier()

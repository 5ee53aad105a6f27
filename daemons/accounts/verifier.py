"""Threads that compute slow hashes: two per process, shared by all accounts.

scrypt takes a whole core and 16 MiB, which malloc(3) keeps for the thread that allocated it.  In the serving threads,
that memory would be kept for each of them, and a thread that waits for a computation serves no connection.  So two
threads compute, a few may wait for them, and all further requests are refused as busy at once.
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

#: Computing threads.
THREADS = 2

#: Maximum number of pending computations, in all and per network.  All together take less than a second; a peer that
#: guesses over many connections leaves half of them to others.
TASKS, TASKS_PER_NETWORK = 8, 4

#: Maximum number of threads waiting for a computation, in all and per network.  Half of the 16 threads of ``engine =
#: pool``; a browser opens six connections to a host.
WAITING, WAITING_PER_NETWORK = DEFAULT, 6

#: Maximum seconds to wait: a hash may be ten times as slow as by default.
PATIENCE = 10.0

#: Niceness (nice(1)) of the computing threads: logins may take longer, other requests must not.  At 5 a thread gets a
#: third of the time of others on a busy core; at 19 logins would starve.
NICE = 5


class Busy(Exception):
    """No verdict is available yet; retry after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = max(1, math.ceil(seconds))


class Verifier:
    """Computes whether passwords match.  Thread-safe.  The computing threads are started on first use, and again in a
    child process."""

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
        #: Number of tasks and of waiting threads per network.
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
        """Return the result of `matches`.  Calls with the same `task` share one computation.  `admit` is called before
        it, and may raise `Busy`; `done` is called with the result in the computing thread.

        Raises `Busy` if there are too many tasks or no thread may wait, any exception of `matches`, and `RuntimeError`
        if no thread can be started."""
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
        """Stop the threads after all tasks are done."""
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
            # No thread could be started.  If this task runs all the same, it is not counted.
            self._executor = None
            raise
        self._tasks[task] = future
        self._running[network] += 1
        return future


def _uncount(counter: Counter[str], key: str) -> None:
    """Decrement a count, and remove it at zero."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _be_nice() -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


#: The verifier of this process.
shared = Verifier()

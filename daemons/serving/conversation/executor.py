"""Replies that come later: from a function in a thread, or from a coroutine."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Executor:
    """Calls functions in at most `threads` threads, and runs coroutines in one more; at most `pending` calls wait.

    Unlike those of `concurrent.futures.ThreadPoolExecutor`, the threads do not keep the process from ending: a function
    that hangs would otherwise delay the end of a daemon for ever."""

    def __init__(self, threads: int, pending: int) -> None:
        self._most = threads
        self._pending = pending
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        #: Threads that wait for a job.
        self._idle = 0
        self._loop: AbstractEventLoop | None = None
        #: A fork copies no threads, so another process needs another object.
        self.process = os.getpid()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Call ``function(*arguments)`` in a thread, and return the future of its result.

        Raises `queue.Full` if too many calls wait, and `RuntimeError` if no thread can be started."""
        future: Future[Any] = Future()
        with self._lock:
            waiting = self._jobs.qsize()
            if waiting >= self._idle and len(self._threads) < self._most:
                self._start()
            elif waiting - self._idle >= self._pending:
                raise queue.Full(f"{waiting} calls wait for one of {self._most} threads")
            self._jobs.put((future, function, arguments))
        return future

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine in an asyncio loop, which has a thread of its own, and return the future of its result."""
        import asyncio  # its import takes 50 ms

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run_loop, args=(self._loop,), name="asyncio", daemon=True)
                thread.start()
                self._threads.append(thread)
                self._most += 1
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """End all threads, without waiting for a function that has not returned."""
        with self._lock:
            threads, self._threads = self._threads, []
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
            for _ in threads:
                self._jobs.put(None)
        for thread in threads:
            thread.join(JOIN_TIMEOUT)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="executor", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # pthread_create(3): EAGAIN
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
            if job is None:
                return
            _run(*job)
            del job  # it refers to the arguments


def _run(future: Future[Any], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*arguments)
    except BaseException as failure:
        future.set_exception(failure)
    else:
        future.set_result(result)


def _run_loop(loop: AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


#: Seconds to wait for a thread when the daemon ends.
JOIN_TIMEOUT = 0.1

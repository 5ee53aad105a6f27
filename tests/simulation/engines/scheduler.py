"""Threads of which only one runs at a time, chosen by the seed.

A simulated thread is a real thread that runs only while it holds the turn.  It passes the turn on when it waits, and at
`Scheduler.give_way`, which the simulated system calls and queues call.  So a run can be repeated exactly.
"""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Killed(BaseException):
    """The simulation is over, and with it this thread."""


def _never() -> bool:
    return False


class Task:
    """A simulated thread, with the interface of `threading.Thread`."""

    def __init__(
        self,
        scheduler: Scheduler,
        target: Callable[..., None] | None = None,
        args: tuple[Any, ...] = (),
        name: str = "",
        daemon: bool = False,
    ) -> None:
        self._scheduler = scheduler
        self._target = target
        self._args = args
        self.name = name
        self.daemon = daemon
        self.turn = threading.Lock()
        self.turn.acquire()
        #: The condition and the time that the thread waits for; it runs at the earlier of the two.
        self.condition: Callable[[], bool] = _never
        self.until = -math.inf
        self.done = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._scheduler.tasks.append(self)
        self._thread.start()

    def _run(self) -> None:
        self.turn.acquire()
        with suppress(Killed):
            if self._target is not None and not self._scheduler.over:
                self._target(*self._args)
        self.done = True
        self._scheduler.tasks.remove(self)
        self._scheduler.leave()

    def join(self, timeout: float | None = None) -> None:
        self._scheduler.wait(lambda: self.done, timeout)

    def join_thread(self) -> None:
        """Wait for the real thread."""
        if self._thread.ident is not None:
            self._thread.join()


class Scheduler:
    """Passes the turn from thread to thread.  `idle` is called with the next deadline when all threads wait."""

    def __init__(self, rng: random.Random, clock: Callable[[], float], idle: Callable[[float], None]) -> None:
        self._rng = rng
        self._clock = clock
        self._idle = idle
        self.main = Task(self, name="main")
        self.main.condition = _never
        self.current = self.main
        self.tasks = [self.main]
        self.all: list[Task] = []
        self.over = False
        self._idling = False

    def thread(self, **arguments: Any) -> Task:
        """Replace `threading.Thread`."""
        task = Task(self, **arguments)
        self.all.append(task)
        return task

    def give_way(self) -> None:
        """Let another thread run, perhaps."""
        if self.over or self._idling:
            return
        self.current.until = -math.inf
        self._switch()

    def wait(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `condition` holds; return False after `timeout` seconds.  Raise `Killed` at the end of the run."""
        me = self.current
        me.condition = condition
        until = math.inf if timeout is None else self._clock() + timeout
        while True:
            me.until = until
            self._switch()
            if self.over:
                raise Killed
            # While all threads wait, events run in one of them, and `give_way` in these ends its wait early.
            if condition() or self._clock() >= until:
                break
        me.condition = _never
        return condition()

    def _next(self) -> Task:
        """Return a thread that can run; let time pass until there is one."""
        while True:
            if self.over:
                return self.tasks[-1]
            now = self._clock()
            if ready := [task for task in self.tasks if now >= task.until or task.condition()]:
                return self._rng.choice(ready)
            # Clients act now.  Their calls must not end the wait of the thread that is current here.
            self._idling = True
            try:
                self._idle(min(task.until for task in self.tasks))
            finally:
                self._idling = False

    def _switch(self) -> None:
        me, task = self.current, self._next()
        if task is not me:
            self.current = task
            task.turn.release()
            me.turn.acquire()

    def leave(self) -> None:
        """Pass on the turn at the end of a thread."""
        task = self.current = self._next()
        task.turn.release()

    def close(self) -> None:
        """End all threads.  Called by the main thread."""
        self.over = True
        while self.tasks[-1] is not self.main:
            self._switch()
        for task in self.all:
            task.join_thread()


class Event:
    """Replaces `threading.Event`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._scheduler.give_way()
        self._set = True

    def clear(self) -> None:
        self._scheduler.give_way()
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        return self._scheduler.wait(self.is_set, timeout)


class Lock:
    """Replaces `threading.Lock` and `threading.RLock`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._holder: Task | None = None
        self._depth = 0

    def __enter__(self) -> None:
        me = self._scheduler.current
        if self._holder not in (None, me):
            self._scheduler.wait(lambda: self._holder is None)
        self._holder = me
        self._depth += 1

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._holder = None


class Queue:
    """Replaces `queue.SimpleQueue`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._items: deque[Any] = deque()

    def put(self, item: object) -> None:
        self._scheduler.give_way()
        self._items.append(item)
        self._scheduler.give_way()

    def get(self) -> Any:
        self._scheduler.wait(lambda: bool(self._items))
        return self._items.popleft()

    def qsize(self) -> int:
        return len(self._items)


class SharedDict(dict[Any, Any]):
    """A dictionary of several threads: another one may run before and after each change."""

    scheduler: Scheduler

    def __setitem__(self, key: object, value: object) -> None:
        self.scheduler.give_way()
        super().__setitem__(key, value)
        self.scheduler.give_way()

    def pop(self, *arguments: Any) -> Any:
        self.scheduler.give_way()
        try:
            return super().pop(*arguments)
        finally:
            self.scheduler.give_way()

    def popitem(self) -> Any:
        self.scheduler.give_way()
        try:
            return super().popitem()
        finally:
            self.scheduler.give_way()


class SharedDeque(deque[Any]):
    """Likewise for a deque."""

    scheduler: Scheduler

    def append(self, item: object) -> None:
        self.scheduler.give_way()
        super().append(item)
        self.scheduler.give_way()

    def popleft(self) -> Any:
        self.scheduler.give_way()
        return super().popleft()

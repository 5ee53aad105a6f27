"""Leak detection: a `Snapshot` taken before a test is compared with the process afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Seconds for threads and children to end: a thread that has just closed its connection still runs, and a
#: child that was just killed still exists.
SETTLING = 5.0


#: Children (by pid), descriptors and threads of the session, which no single test owns and the session ends.
KEPT_CHILDREN: set[int] = set()
KEPT_DESCRIPTORS: set[int] = set()
KEPT_THREADS: set[threading.Thread] = set()


@dataclass(frozen=True)
class Snapshot:
    """Resources and state of this process that a test could leak or change."""

    threads: frozenset[threading.Thread]
    descriptors: dict[int, str]
    children: dict[int, str]
    handlers: dict[int, Any]
    wakeup: int
    blocked: frozenset[int]

    @staticmethod
    def take() -> Snapshot:
        """Return the current state.  To be called in the main thread."""
        wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup)
        return Snapshot(
            threads=frozenset(threading.enumerate()),
            descriptors=_descriptors(),
            children=_children(),
            # SIGALRM is changed by pytest-timeout, which restores it after a failed test.
            handlers={number: signal.getsignal(number) for number in signal.valid_signals() - {signal.SIGALRM}},
            wakeup=wakeup,
            blocked=frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        )

    def leaks(self, settling: float = SETTLING) -> list[str]:
        """Return one line for each new resource that is not released within `settling` seconds."""
        until = time.monotonic() + settling
        while (found := self._compare(Snapshot.take())) and time.monotonic() < until:
            time.sleep(0.01)
        return found

    def _compare(self, now: Snapshot) -> list[str]:
        found = [f"a thread: {thread.name}" for thread in now.threads - self.threads - KEPT_THREADS]
        found += [
            f"a descriptor: {number} -> {target}"
            for number, target in now.descriptors.items()
            if self.descriptors.get(number) != target and number not in KEPT_DESCRIPTORS
        ]
        found += [
            f"a child process: {pid} {name}"
            for pid, name in now.children.items()
            if pid not in self.children and pid not in KEPT_CHILDREN
        ]
        found += [
            f"a handler of {signal.Signals(number).name}: {handler}"
            for number, handler in now.handlers.items()
            if handler != self.handlers[number]
        ]
        if now.wakeup != self.wakeup:
            found.append(f"a wakeup descriptor for signals: {now.wakeup}")
        if now.blocked != self.blocked:
            found.append(f"blocked signals: {sorted(now.blocked)}")
        return found


def clear(before: Snapshot) -> None:
    """Kill leaked child processes and restore signal handlers."""
    for pid in _children().keys() - before.children.keys() - KEPT_CHILDREN:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    for number, handler in before.handlers.items():
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)
    signal.set_wakeup_fd(before.wakeup)
    signal.pthread_sigmask(signal.SIG_SETMASK, before.blocked)


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    for entry in Path("/proc/self/fd").iterdir():
        # The descriptor of the listing itself is closed by now.
        with suppress(FileNotFoundError):
            found[int(entry.name)] = os.readlink(entry)
    return found


def _children() -> dict[int, str]:
    """Return the name of each child process by pid, including zombies."""
    found: dict[int, str] = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            for pid in (task / "children").read_text().split():
                found[int(pid)] = "(gone)"
                with suppress(FileNotFoundError, ProcessLookupError):
                    found[int(pid)] = Path(f"/proc/{pid}/comm").read_text().strip()
    return found

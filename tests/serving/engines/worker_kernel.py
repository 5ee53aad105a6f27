"""A clock and a kernel that are made up: no process is started, and nothing waits."""

from __future__ import annotations

import signal

from daemons.serving import signals
from daemons.serving.engines.worker import (
    Log,
    Send,
    Start,
)
from daemons.serving.engines.worker_table import WorkerTable

DRAIN = 10.0
TERM, CUT, KILL = signal.SIGTERM, signals.CUT, signal.SIGKILL


class WorkerKernel:
    """Carries out the actions of a table: numbers the processes that are started, and records the signals."""

    def __init__(self, processes: int) -> None:
        self.now = 100.0
        self.sent: list[tuple[int, signal.Signals]] = []
        self.log: list[str] = []
        self.started = self.restarts = 0
        self.fails = False
        self.table = WorkerTable(processes, DRAIN)

    def act(self) -> None:
        while self.table.actions:
            match self.table.actions.popleft():
                case Start() as start if self.fails:
                    self.table.start_failed(start, "Resource temporarily unavailable", self.now)
                case Start() as start:
                    self.started += 1
                    self.table.started(start, self.started, self.now)
                case Send(pid, number):
                    self.sent.append((pid, number))
                case Log(_, text, arguments):
                    self.log.append(text % arguments)
                case _:
                    self.restarts += 1

    def begin(self) -> None:
        self.table.begin(self.now)
        self.act()

    def ready(self, pid: int) -> None:
        self.table.ready(pid, self.now)
        self.act()

    def all_ready(self) -> None:
        for pid in list(self.table.workers):
            self.ready(pid)

    def died(self, pid: int, code: int) -> None:
        self.table.died(pid, code, self.now)
        self.act()

    def renew(self) -> None:
        self.table.renew(self.now)
        self.act()

    def stop(self, drain: float | None = None) -> None:
        self.table.stop(self.now, drain)
        self.act()

    def cut(self) -> None:
        self.table.cut(self.now)
        self.act()

    def turned(self, *pids: int) -> None:
        for pid in pids:
            self.table.turned(pid, int(self.now), self.now)

    def tick(self, seconds: float) -> None:
        """Let time pass, with a tick at each second, and one at the end."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 1.0, until)
            self.table.tick(self.now)
            self.act()
        self.table.tick(self.now)
        self.act()

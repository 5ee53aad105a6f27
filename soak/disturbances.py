"""Disturbances of the daemons under load: reloads, kill -9, restarts, connection floods."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from daemons.operating.metrics import stats
from soak.hostile import CROWDS
from soak.load import Record
from soak.place import LIMITS, WORKERS, Place, until
from soak.talking import Wrong

#: Seconds to wait for a new worker, a restarted daemon or a drained one.
MENDING_SECONDS = 60.0

#: A reloaded worker closes idle connections until it has drained.
DRAINING = float(LIMITS["drain_timeout"].rstrip("s"))


class Disturbances:
    """Disturbances, applied one after the other, each until the daemon has recovered."""

    def __init__(self, place: Place, record: Record, rng: random.Random) -> None:
        self._place, self._record, self._rng = place, record, rng
        self._turn = 0
        self.done: Counter[str] = Counter()
        #: Number of killed processes that may have buffered log lines, by daemon.
        self.kills: Counter[str] = Counter()
        #: Counters of earlier runs of a daemon, which starts at zero after a restart.
        self.former: dict[str, list[stats.Figures]] = {}
        #: Begin of the disturbance by reloads; workers drain for some seconds after the last one.
        self._renewed: dict[str, float] = {}
        #: Time of the last reload.
        self._reloaded = 0.0

    def next(self) -> None:
        """Apply the next disturbance.  Every other one is a reload of all daemons."""
        others = (
            *(self._kill_worker, self._stop_within_reload, self._crowd, self._signal_group),
            *(self._restart, self._kill_child, self._crowd, self._kill_daemon),
        )
        if self._turn % 2 == 0:
            self._reload()
        else:
            others[self._turn // 2 % len(others)]()
        self._turn += 1

    def tick(self) -> None:
        """End the disturbance of daemons whose old workers have drained by now."""
        for name, began in list(self._renewed.items()):
            if time.monotonic() > self._reloaded + DRAINING + 2:
                del self._renewed[name]
                self._record.end_disturbance(name, began)

    def finish(self) -> None:
        """Wait until all disturbances have ended."""
        while self._renewed:
            self.tick()
            time.sleep(0.1)

    def _reload(self) -> None:
        for name in self._place.ports:
            if name in WORKERS and name not in self._renewed:
                self._renewed[name] = self._record.begin_disturbance(name)
            os.kill(self._place.figures(name).pid, signal.SIGHUP)
        self._reloaded = time.monotonic()
        self.done["SIGHUP to all"] += 1

    def _kill_worker(self) -> None:
        """Kill one of several workers with kill -9: the others continue, and it is replaced."""
        if not (names := [name for name in WORKERS if name in self._place.ports]):
            return
        name = self._rng.choice(names)
        # A worker that dies during a renewal is not replaced, since its successor is starting already.
        while name in self._renewed:
            self.tick()
            time.sleep(0.1)
        before = self._place.figures(name)
        workers = [process.pid for process in before.processes if process.role == "worker"]
        if not workers:
            return
        began = self._record.begin_disturbance(name)
        with suppress(ProcessLookupError):
            os.kill(self._rng.choice(workers), signal.SIGKILL)
        self.kills[name] += 1
        if not until(lambda: self._place.figures(name).worker_restarts > before.worker_restarts, MENDING_SECONDS):
            self._record.fault(f"{name}: a killed worker was not replaced within {MENDING_SECONDS:g} s")
        self._record.end_disturbance(name, began)
        self.done["kill -9 of a worker"] += 1

    def _kill_child(self) -> None:
        """Kill a process that serves a single connection with kill -9."""
        for name in self._place.ports:
            children = [each.pid for each in self._place.figures(name).processes if each.role == "child"]
            if children:
                began = self._record.begin_disturbance(name)
                with suppress(ProcessLookupError):
                    os.kill(children[0], signal.SIGKILL)
                self.kills[name] += 1
                self._record.end_disturbance(name, began)
                self.done["kill -9 of a child"] += 1
                return

    def _restart(self) -> None:
        """Restart a daemon with ``supervisorctl restart NAME``: it drains and starts again."""
        name = self._rng.choice(list(self._place.ports))
        self._again(name, lambda: self._place.control("restart", name))
        self.done["restart"] += 1

    def _kill_daemon(self) -> None:
        """Kill a daemon of one process with kill -9: supervisord starts it again."""
        names = [name for name in self._place.ports if name not in WORKERS]
        if not names:
            return
        name = self._rng.choice(names)
        pid = self._place.figures(name).pid
        self.kills[name] += 1
        self._again(name, lambda: os.kill(pid, signal.SIGKILL))
        self.done["kill -9 of a daemon"] += 1

    def _stop_within_reload(self) -> None:
        """SIGTERM during a reload: the daemon drains and ends, and supervisord starts it again."""
        name = self._rng.choice(list(self._place.ports))

        def do() -> None:
            pid = self._place.figures(name).pid
            os.kill(pid, signal.SIGHUP)
            time.sleep(self._rng.uniform(0.0, 0.5))
            os.kill(pid, signal.SIGTERM)

        self._again(name, do)
        self.done["SIGTERM after SIGHUP"] += 1

    def _signal_group(self) -> None:
        """SIGTERM to the process group of a daemon: its workers and children receive it twice."""
        name = self._rng.choice(list(self._place.ports))
        pid = self._place.figures(name).pid
        self._again(name, lambda: os.killpg(pid, signal.SIGTERM))  # supervisord has called setpgrp(2)
        self.done["SIGTERM to a group"] += 1

    def _again(self, name: str, do: object) -> None:
        """Restart a daemon by calling `do`, and keep the counters of the ended run.  The new run replaces the metrics
        file by rename, so an open descriptor still refers to the old one."""
        began = self._record.begin_disturbance(name)
        pid = self._place.figures(name).pid
        with (self._place.path / "run" / f"{name}.metrics").open("rb") as counted:
            assert callable(do)
            do()
            until(lambda: self._successor(name, pid), MENDING_SECONDS)
            if not until(lambda: self._place.is_ready(name), MENDING_SECONDS):
                self._record.fault(f"{name}: not ready within {MENDING_SECONDS:g} s after a restart")
            self.former.setdefault(name, []).append(stats.read(Path(f"/proc/self/fd/{counted.fileno()}")))
        self._record.end_disturbance(name, began)

    def _successor(self, name: str, pid: int) -> bool:
        try:
            return self._place.figures(name).pid != pid
        except stats.UnreadableError:
            return False

    def _crowd(self) -> None:
        """Open more connections than the limits allow; meanwhile, others wait."""
        if not (crowds := [visit for visit in CROWDS if visit.daemon in self._place.ports]):
            return
        try:
            self._rng.choice(crowds).hold(self._place, self._rng)
        except Wrong as error:
            self._record.fault(str(error))
        self.done["crowd"] += 1

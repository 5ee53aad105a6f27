"""Faults that are put into `WorkerTable` and `Prefork` on purpose, to show that the simulation finds them.

Each is one replacement in the text of a module.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from daemons.serving.engines import prefork, worker_table
from tests.simulation.supervision import Make, make_prefork, violated


class Fault(NamedTuple):
    name: str
    module: ModuleType
    text: str
    replacement: str


TABLE, LOOP = worker_table, prefork

FAULTS = (
    Fault(
        "a retiree is signaled again by a stop",
        TABLE,
        "            self._enter(worker, DRAINING, now + drain)\n",
        "            self._enter(worker, DRAINING, now + drain)\n"
        "            if worker.retiring: self.actions.append(Send(worker.pid, SIGNAL_OF[DRAINING]))\n",
    ),
    Fault("a stop leaves replacements due", TABLE, "        self._due.clear()\n", ""),
    Fault("a stop leaves recorded starts", TABLE, "        self._revoke(self._starts)\n", ""),
    Fault(
        "a renewal begins after a stop",
        TABLE,
        "        if self.stopping:\n            return\n        # Skip",
        "        # Skip",
    ),
    Fault(
        "a death after a stop starts a worker",
        TABLE,
        "        if self.stopping:\n            return\n        if worker.retiring",
        "        if worker.retiring",
    ),
    Fault(
        "a stop forgets a starting worker",
        TABLE,
        "            self._enter(worker, DRAINING, now + drain)\n",
        "            if worker.state is not STARTING: self._enter(worker, DRAINING, now + drain)\n",
    ),
    Fault("a reaped worker is signaled", TABLE, "            self.actions.remove(action)\n", "            pass\n"),
    Fault(
        "a signal has no deadline",
        TABLE,
        "worker.state, worker.deadline = state, deadline\n",
        "worker.state, worker.deadline = state, math.inf\n",
    ),
    Fault(
        "a retiree has no deadline",
        TABLE,
        "self._enter(old, DRAINING, now + self.drain_timeout)",
        "self._enter(old, DRAINING, math.inf)",
    ),
    Fault(
        "a retiree has no time to drain",
        TABLE,
        "self._enter(old, DRAINING, now + self.drain_timeout)",
        "self._enter(old, CUTTING, now)",
    ),
    Fault("a start has no limit", TABLE, "now + limit)", "math.inf)"),
    Fault(
        "a cut worker is killed at once",
        TABLE,
        "                self._enter(worker, CUTTING, now + KILL_DELAY)\n            case State.CUTTING",
        "                self._enter(worker, CUTTING, now)\n            case State.CUTTING",
    ),
    Fault("a stuck worker is not noticed", TABLE, "            worker.turn = turn\n", "            return\n"),
    Fault(
        "a stuck worker is drained",
        TABLE,
        "            case State.READY:\n",
        "            case State.READY:\n"
        "                self._enter(worker, DRAINING, math.inf)\n"
        "                return\n",
    ),
    Fault("time in which the parent was stopped counts", TABLE, "> LATE:", "> math.inf:"),
    Fault(
        "a worker that becomes ready late goes back to READY",
        TABLE,
        "if worker is None or worker.state is not STARTING:",
        "if worker is None:",
    ),
    Fault(
        "the number of processes has no bound",
        TABLE,
        "if self._outdated and sum(worker.retiring for worker in self.workers.values()) < self._processes:",
        "if self._outdated:",
    ),
    Fault(
        "a renewal that waits for a place is forgotten",
        TABLE,
        "        self._replace_next()  # the renewal may have waited for this end\n",
        "",
    ),
    Fault(
        "a worker in succession is replaced twice",
        TABLE,
        "if not worker.retiring and pid not in with_successor\n",
        "if not worker.retiring\n",
    ),
    Fault(
        "a dead worker is replaced though its successor starts",
        TABLE,
        "elif pid in self._with_successor():",
        "elif False:",
    ),
    Fault("the death of a retiree starts a worker", TABLE, "        if worker.retiring:\n", "        if False:\n"),
    Fault(
        "a dead worker is not replaced",
        TABLE,
        "            self._due.append(now if now",
        "            [].append(now if now",
    ),
    Fault("a failed fork is not repeated", TABLE, "            self._due.append(now + SHORT_LIFE)\n", ""),
    Fault("the exit code is lost", TABLE, "            self.code = code\n", ""),
    Fault(
        "a worker that fails later ends the daemon",
        TABLE,
        "elif not self.complete and code > 0 and not worker.was_ready:",
        "elif code > 0:",
    ),
    Fault(
        "a failed fork leaks a pipe",
        LOOP,
        "                self._close_report(report)\n            else:",
        "                pass\n            else:",
    ),
    Fault("the write end of the pipe stays open", LOOP, "            system.close(ready)\n", "            pass\n"),
    Fault(
        "a lost SIGCHLD stays lost",
        LOOP,
        "        self._reap()\n        if self._system",
        "        if self._system",
    ),
    Fault(
        "a lost SIGTERM stays lost", LOOP, "elif not self.stopping and self._system.stop_requested():", "elif False:"
    ),
    Fault("a lost signal to cut stays lost", LOOP, "if self._system.cut_requested():", "if False:"),
    Fault("a repeated SIGTERM cuts no connection", LOOP, "(stop and self._stop_request.repeated(now))", "False"),
    Fault("the end of the parent's parent is not noticed", LOOP, "self._system.getppid() != self._parent", "False"),
)


def make_faulty(fault: Fault) -> Make:
    """Return the maker of a parent with this fault."""
    assert fault.module.__file__ is not None
    source = Path(fault.module.__file__).read_text("utf-8")
    assert source.count(fault.text) == 1, (
        f"{fault.name}: {source.count(fault.text)} times in {fault.module.__name__}: {fault.text}"
    )
    faulty = ModuleType(fault.module.__name__)
    exec(compile(source.replace(fault.text, fault.replacement), fault.module.__file__, "exec"), faulty.__dict__)

    def make(*arguments: object) -> prefork.Prefork:
        if fault.module is LOOP:
            faulty.log.logger.setLevel(prefork.log.logger.level)
            return faulty.Prefork(lambda ready, parent: 0, *arguments)  # type: ignore[no-any-return]
        made = make_prefork(*arguments)  # type: ignore[arg-type]
        made.table = faulty.WorkerTable(*arguments[:2])
        return made

    return make


def find(fault: Fault, seeds: int) -> int | None:
    """Return the first seed that finds the fault, if one of the first `seeds` does."""
    make = make_faulty(fault)
    return next((seed for seed in range(seeds) if violated(seed, make)), None)

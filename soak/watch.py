"""What the daemons hold of the machine: processes, threads, descriptors, memory, time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from daemons.operating.metrics.stats import Figures

PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
TICKS = os.sysconf("SC_CLK_TCK")

#: A process may hold so much more than after the warm-up: what is remembered (replies, heads) up to its bound, the
#: stacks of threads that begin later, and pages that malloc(3) keeps of the longest message, up to a few MiB each.
#: A conversation that left one KiB behind would add more in the thousands of visits of five minutes.
MORE_KIB = 8 * 1024

#: twoway holds a stream to its end, and `no reader` sends it 4 MiB: each of its 16 threads may keep the pages of one,
#: since malloc(3) has an arena for each.
MORE_KIB_FOR = {"twoway": 16 * 4 * 1024}

#: front keeps idle connections to its upstream servers, at most `daemons.web.gateway.upstream.IDLE`.
MORE_DESCRIPTORS_FOR = {"front": 16}


@dataclass(frozen=True)
class Held:
    """What one daemon holds, all its processes together."""

    processes: int
    threads: int
    descriptors: int
    rss_kib: int
    """Of the largest of its processes: those that only supervise are small."""


def held(figures: Figures) -> Held:
    """By the processes that live."""
    processes = threads = descriptors = rss = 0
    for process in figures.processes:
        folder = Path(f"/proc/{process.pid}")
        with suppress(OSError):  # it has just ended
            count = len(os.listdir(folder / "fd"))
            tasks = len(os.listdir(folder / "task"))
            resident = int((folder / "statm").read_text().split()[1]) * PAGE_KIB
            processes, threads, descriptors = processes + 1, threads + tasks, descriptors + count
            rss = max(rss, resident)
    return Held(processes, threads, descriptors, rss)


def complaints(name: str, before: Held, after: Held) -> Iterator[str]:
    """What has grown."""
    if after.processes != before.processes:
        yield f"{name}: {before.processes} processes have become {after.processes}"
    if after.threads > before.threads:
        yield f"{name}: {before.threads} threads have become {after.threads}"
    if after.descriptors > before.descriptors + MORE_DESCRIPTORS_FOR.get(name, 0):
        yield f"{name}: {before.descriptors} descriptors have become {after.descriptors}"
    if after.rss_kib > before.rss_kib + MORE_KIB_FOR.get(name, MORE_KIB):
        yield f"{name}: {before.rss_kib / 1024:.1f} MiB have become {after.rss_kib / 1024:.1f} MiB"


class Clock:
    """The share of a core that we and the daemons have taken since the last look."""

    def __init__(self, pids: list[int]) -> None:
        self._then = time.monotonic()
        self._spent = {pid: _spent(pid) for pid in [os.getpid(), *pids]}

    def share(self, pids: list[int]) -> float:
        """1.0 is one core."""
        now = time.monotonic()
        spent = {pid: _spent(pid) for pid in [os.getpid(), *pids]}
        # Of a process that has begun since, all; what one that has ended spent last is not known.
        ticks = sum(max(0, many - self._spent.get(pid, 0)) for pid, many in spent.items())
        share = ticks / TICKS / max(1e-3, now - self._then)
        self._then, self._spent = now, spent
        return share


def _spent(pid: int) -> int:
    """Ticks of user and system time."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])

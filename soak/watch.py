"""Resources used by the daemons: processes, threads, descriptors, memory, CPU time."""

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

#: Allowed growth of a process after the warm-up: caches up to their limits, stacks of new threads, and pages that
#: malloc(3) keeps of the longest message, up to a few MiB each.  A leak of one KiB per conversation would exceed it in
#: the thousands of visits of five minutes.
MORE_KIB = 8 * 1024

#: twoway buffers a whole stream, and `no reader` sends it 4 MiB: each of its 16 threads may keep the pages of one,
#: since malloc(3) has an arena per thread.
MORE_KIB_FOR = {"twoway": 16 * 4 * 1024}

#: front keeps idle connections to its upstream servers, at most `daemons.web.gateway.upstream.IDLE`.
MORE_DESCRIPTORS_FOR = {"front": 16}


@dataclass(frozen=True)
class Held:
    """Resources of one daemon, over all its processes."""

    processes: int
    threads: int
    descriptors: int
    rss_kib: int
    """Of its largest process: supervising processes are small."""


def held(figures: Figures) -> Held:
    """Return the resources of the running processes."""
    processes = threads = descriptors = rss = 0
    for process in figures.processes:
        folder = Path(f"/proc/{process.pid}")
        with suppress(OSError):  # the process has ended
            count = len(os.listdir(folder / "fd"))
            tasks = len(os.listdir(folder / "task"))
            resident = int((folder / "statm").read_text().split()[1]) * PAGE_KIB
            processes, threads, descriptors = processes + 1, threads + tasks, descriptors + count
            rss = max(rss, resident)
    return Held(processes, threads, descriptors, rss)


def complaints(name: str, before: Held, after: Held) -> Iterator[str]:
    """Yield a complaint for each resource that has grown."""
    if after.processes != before.processes:
        yield f"{name}: {before.processes} processes before the load, {after.processes} after"
    if after.threads > before.threads:
        yield f"{name}: {before.threads} threads before the load, {after.threads} after"
    if after.descriptors > before.descriptors + MORE_DESCRIPTORS_FOR.get(name, 0):
        yield f"{name}: {before.descriptors} descriptors before the load, {after.descriptors} after"
    if after.rss_kib > before.rss_kib + MORE_KIB_FOR.get(name, MORE_KIB):
        yield f"{name}: {before.rss_kib / 1024:.1f} MiB before the load, {after.rss_kib / 1024:.1f} MiB after"


class Clock:
    """CPU use of this process and the daemons since the last call."""

    def __init__(self, pids: list[int]) -> None:
        self._then = time.monotonic()
        self._spent = {pid: _spent(pid) for pid in [os.getpid(), *pids]}

    def share(self, pids: list[int]) -> float:
        """Return the CPU use in cores: 1.0 is one core."""
        now = time.monotonic()
        spent = {pid: _spent(pid) for pid in [os.getpid(), *pids]}
        # All time of a new process is counted; the last time of an ended one is unknown.
        ticks = sum(max(0, many - self._spent.get(pid, 0)) for pid, many in spent.items())
        share = ticks / TICKS / max(1e-3, now - self._then)
        self._then, self._spent = now, spent
        return share


def _spent(pid: int) -> int:
    """Return the user and system time in clock ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])

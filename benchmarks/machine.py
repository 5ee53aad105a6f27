"""The machine: its description, the two cores in use, and the CPU time of cores and processes."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True)
class Cores:
    """The core of the server and that of the generator."""

    server: int
    load: int


def choose_cores() -> Cores:
    """Return two cores that share no execution units, if there are any."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise SystemExit("benchmarks: two cores are needed, one for the server and one for the load")
    server = allowed[0]
    siblings = _siblings(server)
    apart = [core for core in allowed[1:] if core not in siblings]
    return Cores(server, (apart or allowed[1:])[0])


def _siblings(core: int) -> set[int]:
    """Return the hardware threads of a core in the kernel's notation: 0,4 or 0-1."""
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text()
    except OSError:
        return {core}
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Pin processes started inside the block, and their children, to `core`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Moment:
    """CPU seconds used by a process tree and by two cores so far."""

    at: float
    tree: float
    server_core: float
    load_core: float


def moment(root: int, cores: Cores) -> Moment:
    """Return the current values for the tree below process `root`."""
    busy = _busy()
    return Moment(time.monotonic(), _tree_cpu(root), busy.get(cores.server, 0.0), busy.get(cores.load, 0.0))


def _busy() -> dict[int, float]:
    """Return the seconds for which each core was busy, including time taken by the hypervisor."""
    found = {}
    for line in (PROC / "stat").read_text().splitlines():
        name, *values = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, values[:8])
            found[int(name[3:])] = (user + nice + system + irq + softirq + steal) / TICKS
    return found


def tree(root: int) -> dict[int, list[str]]:
    """Return the processes from `root` down, each with the fields of its stat line from the state on."""
    processes: dict[int, list[str]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # the process has ended
                # The name in parentheses may contain any character, the following fields cannot.
                processes[int(folder.name)] = (folder / "stat").read_text().rpartition(")")[2].split()
    children: dict[int, list[int]] = {}
    for pid, fields in processes.items():
        children.setdefault(int(fields[1]), []).append(pid)
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        if pid in processes and pid not in found:
            found[pid] = processes[pid]
            waiting += children.get(pid, [])
    return found


def _tree_cpu(root: int) -> float:
    """Return the user and system seconds of the processes and of their reaped children."""
    return sum(
        max(sum(map(int, fields[11:13])) / TICKS, _main_thread_cpu(pid)) + sum(map(int, fields[13:15])) / TICKS
        for pid, fields in tree(root).items()
    )


def _main_thread_cpu(pid: int) -> float:
    """Return CPU seconds with a resolution of 1 ns: with 64 young children, a quarter is lost in truncated ticks."""
    try:
        return int((PROC / str(pid) / "schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def memory_kib(root: int) -> float:
    """Return the memory of a process tree in KiB; a shared page is counted proportionally."""
    return sum(_process_kib(pid) for pid in tree(root))


def _process_kib(pid: int) -> float:
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in (PROC / str(pid) / name).read_text().splitlines():
                if line.startswith(key):
                    return float(line.split()[1])
    return 0.0


def describe() -> dict[str, str]:
    """Return the description of the machine for the report."""
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "congestion control": _line("/proc/sys/net/ipv4/tcp_congestion_control"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"

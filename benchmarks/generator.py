"""Run the load generator against a server and measure what both use: one sample."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loads import Load, Measurement
from benchmarks.machine import Cores, Moment, memory_kib, moment, pinned
from benchmarks.servers import Server

WARM_UP_SECONDS = 0.3
MARGIN_SECONDS = 15.0  # beyond window and warm-up; the generator stops earlier

# If the generator is busy while the server is idle, the generator itself is measured. In between, both are near
# saturation: the rate is still that of the server, and the rate per CPU second estimates its capacity.
GENERATOR_FULL = 0.95
SERVER_IDLE = 0.80
# Above this share of a core used by other processes, a sample is repeated.
DISTURBED = 0.08


@dataclass(frozen=True)
class Sample:
    """One window of one contestant under one load."""

    measured: Measurement
    server_cpu: float
    """CPU use of the server's process tree, as a share of one core."""
    foreign: float
    """CPU time taken by other processes on the server's or the generator's core, the larger of both, as a share."""

    @property
    def rate(self) -> float:
        """Requests or conversations per second."""
        return self.measured.rate

    @property
    def capacity(self) -> float:
        """Rate per second of the server's CPU time: the rate it would reach if it never waited."""
        return self.rate / self.server_cpu if self.server_cpu else 0.0

    @property
    def generator_bound(self) -> bool:
        """Whether the generator was the bottleneck."""
        return self.measured.cpu > GENERATOR_FULL and self.server_cpu < SERVER_IDLE

    @property
    def disturbed(self) -> bool:
        """Whether other processes were busy on the cores used."""
        return self.foreign > DISTURBED


@contextlib.contextmanager
def asking(command: list[str], core: int) -> Iterator[subprocess.Popen[str]]:
    """Run the generator for the length of a with block."""
    with pinned(core):
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def sample(program: Path, load: Load, server: Server, cores: Cores, seconds: float) -> Sample:
    """Measure one window of `seconds` after a warm-up."""
    window = ("-d", str(seconds), "-w", str(WARM_UP_SECONDS))
    command = [str(program), *load.words, *window, server.host, server.port]
    with asking(command, cores.load) as process:
        start = _mark(process, "measuring", server, cores)
        end = _mark(process, "measured", server, cores)
        output, trouble = process.communicate(timeout=MARGIN_SECONDS)
    if process.returncode:
        raise RuntimeError(f"the load generator failed: {trouble.strip()}")
    return watched(Measurement(**json.loads(output)), start, end)


def watched(measured: Measurement, start: Moment, end: Moment) -> Sample:
    """Return the sample for the generator's output between two moments."""
    wall = end.at - start.at
    server_cpu = (end.tree - start.tree) / wall
    foreign = max(
        (end.server_core - start.server_core) / wall - server_cpu,
        (end.load_core - start.load_core) / wall - measured.cpu,
        0.0,
    )
    return Sample(measured, server_cpu, foreign)


def _mark(process: subprocess.Popen[str], word: str, server: Server, cores: Cores) -> Moment:
    """Wait for a line of the generator, or for its end, by its own alarm at the latest."""
    assert process.stderr is not None
    line = process.stderr.readline().strip()
    if line != word:
        raise RuntimeError(f"the load generator wrote {line!r} instead of {word!r}")
    return moment(server.pid, cores)


def idle_kib(program: Path, connections: int, server: Server, cores: Cores) -> float:
    """Return the KiB of the server's memory for each idle connection, after one question each."""
    ask = [str(program), "persistent", "-c", "8", "-d", "0.2", "-w", "0", server.host, server.port]
    with asking(ask, cores.load) as process:  # first, so that memory for the first connections is not counted
        process.communicate(timeout=MARGIN_SECONDS)
    before = memory_kib(server.pid)
    hold = [str(program), "idle", "-c", str(connections), server.host, server.port]
    with asking(hold, cores.load) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        held = json.loads(line) if line else {}
        after = memory_kib(server.pid)
        output, _ = process.communicate(timeout=MARGIN_SECONDS)  # closing its input ends the connections
    if held.get("open") != connections or held.get("wrong") or json.loads(output)["lost"]:
        raise RuntimeError(f"not all of {connections} connections were held: {line.strip()} {output.strip()}")
    return (after - before) / connections

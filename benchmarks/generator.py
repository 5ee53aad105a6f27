"""Runs the load generator against a server and watches what both cost: one sample."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loads import Heard, Load
from benchmarks.machine import Cores, Moment, memory_kib, moment, pinned
from benchmarks.servers import Server

WARM_UP_SECONDS = 0.3
MARGIN_SECONDS = 15.0  # beyond window and warm-up; the generator ends itself before

# A generator that has no time left while the server has some measures itself. Between busy and idle lies the
# zone where both are near their end; there the rate still tells of the server, "per CPU" of what it has left.
GENERATOR_FULL = 0.95
SERVER_IDLE = 0.80
# A machine is rarely ours alone. Above this share of a core for others, a sample is taken again.
DISTURBED = 0.08


@dataclass(frozen=True)
class Sample:
    """One window of one contestant under one load."""

    heard: Heard
    server_cpu: float
    """The server's process tree, as a share of one core."""
    foreign: float
    """What others took of the core of the server or of the generator, whichever lost more, as a share."""

    @property
    def rate(self) -> float:
        """Per second."""
        return self.heard.rate

    @property
    def capacity(self) -> float:
        """Per second of the server's CPU: what it would do with nobody to wait for."""
        return self.rate / self.server_cpu if self.server_cpu else 0.0

    @property
    def generator_bound(self) -> bool:
        """True where the figure is the generator's, not the server's."""
        return self.heard.cpu > GENERATOR_FULL and self.server_cpu < SERVER_IDLE

    @property
    def disturbed(self) -> bool:
        """True where others were busy on our cores."""
        return self.foreign > DISTURBED


@contextlib.contextmanager
def asking(command: list[str], core: int) -> Iterator[subprocess.Popen[str]]:
    """The generator for the length of a with block."""
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
    """Measures one window of `seconds` after a warm-up."""
    window = ("-d", str(seconds), "-w", str(WARM_UP_SECONDS))
    command = [str(program), *load.words, *window, server.host, server.port]
    with asking(command, cores.load) as process:
        start = _mark(process, "measuring", server, cores)
        end = _mark(process, "measured", server, cores)
        output, trouble = process.communicate(timeout=MARGIN_SECONDS)
    if process.returncode:
        raise RuntimeError(f"the load generator failed: {trouble.strip()}")
    return watched(Heard(**json.loads(output)), start, end)


def watched(heard: Heard, start: Moment, end: Moment) -> Sample:
    """What was heard between two moments, and what it cost."""
    wall = end.at - start.at
    server_cpu = (end.tree - start.tree) / wall
    foreign = max(
        (end.server_core - start.server_core) / wall - server_cpu,
        (end.load_core - start.load_core) / wall - heard.cpu,
        0.0,
    )
    return Sample(heard, server_cpu, foreign)


def _mark(process: subprocess.Popen[str], word: str, server: Server, cores: Cores) -> Moment:
    """Waits for the generator's word: it comes, or the generator ends, by its own alarm at the latest."""
    assert process.stderr is not None
    said = process.stderr.readline().strip()
    if said != word:
        raise RuntimeError(f"the load generator said {said!r} instead of {word!r}")
    return moment(server.pid, cores)


def idle_kib(program: Path, connections: int, server: Server, cores: Cores) -> float:
    """KiB of the server's memory for each of so many connections, after one question each, in silence."""
    ask = [str(program), "persistent", "-c", "8", "-d", "0.2", "-w", "0", server.host, server.port]
    with asking(ask, cores.load) as process:  # what only the first visitors cost
        process.communicate(timeout=MARGIN_SECONDS)
    before = memory_kib(server.pid)
    hold = [str(program), "idle", "-c", str(connections), server.host, server.port]
    with asking(hold, cores.load) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        held = json.loads(line) if line else {}
        after = memory_kib(server.pid)
        output, _ = process.communicate(timeout=MARGIN_SECONDS)  # ends its standard input, and so the holding
    if held.get("open") != connections or held.get("wrong") or json.loads(output)["lost"]:
        raise RuntimeError(f"not all of {connections} connections were held: {line.strip()} {output.strip()}")
    return (after - before) / connections

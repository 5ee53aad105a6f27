"""Measurement of all selected cells in interleaved rounds, so that drift of the machine affects all of them alike."""

from __future__ import annotations

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.generator import WARM_UP_SECONDS, Sample, idle_kib, sample
from benchmarks.loads import IDLE_CONNECTIONS, LOADS, Load
from benchmarks.machine import Cores
from benchmarks.rows import Cell
from benchmarks.servers import Server, Unavailable, running
from benchmarks.tools import install
from benchmarks.web import write_files
from benchmarks.wrk import web_sample

OVERHEAD_SECONDS = 0.4  # to start and stop a contestant, and to receive replies still in flight
IDLE_SECONDS = 2.0
AGAIN_SHARE = 10  # one sample in this many may be repeated because of other processes


@dataclass
class Results:
    """Samples, and reasons for missing ones."""

    samples: dict[Cell, list[Sample | None]] = field(default_factory=lambda: defaultdict(list))
    """Samples by cell, one for each round; None for a failed round."""
    idle: dict[str, float] = field(default_factory=dict)
    """KiB for each idle connection, by contestant."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Unavailable contestants, with the reasons."""
    notes: list[str] = field(default_factory=list)


class Laboratory:
    """The programs, the cores and a scratch folder for one run."""

    def __init__(
        self,
        load: Path,
        wrk: str,
        reference: Path,
        cores: Cores,
        scratch: Path,
        loads: Mapping[str, Load] = LOADS,
    ) -> None:
        self._load = load
        self._loads = loads
        self._wrk = wrk
        self._reference = reference
        self._cores = cores
        self._scratch = scratch
        self._files = scratch / "files"
        write_files(self._files)
        self.results = Results()
        self._again = 0

    def run(self, grid: dict[str, list[str]], idlers: list[str], rounds: int, seconds: float) -> Results:
        """Measure each load in turn, and under each load every contestant in turn, `rounds` times."""
        self._prepare({name for names in grid.values() for name in names} | set(idlers))
        total = sum(map(len, grid.values())) * rounds
        self._again = total // AGAIN_SHARE
        windows = rounds * sum(len(names) * self._loads[load].window(seconds) for load, names in grid.items())
        expected = windows + total * (WARM_UP_SECONDS + OVERHEAD_SECONDS) + IDLE_SECONDS * len(idlers)
        print(f"about {expected:.0f} s", flush=True)
        for load, names in grid.items():
            print(f"{self._loads[load].what}:", flush=True)
            for turn in range(1, rounds + 1):
                print(f"  round {turn} of {rounds}:", end="", flush=True)
                for name in names if turn % 2 else reversed(names):  # to even out effects of the order
                    if name not in self.results.left_out:
                        self._measure(load, CONTESTANTS[name], seconds)
                print(flush=True)
        for name in idlers:
            if name not in self.results.left_out:
                self._weigh(CONTESTANTS[name])
        return self.results

    def _prepare(self, names: set[str]) -> None:
        for name in CONTESTANTS:
            if name in names and (reason := next(filter(None, map(install, CONTESTANTS[name].packages)), None)):
                self._leave_out(name, reason)

    def _leave_out(self, name: str, reason: str) -> None:
        self.results.left_out[name] = reason
        print(f"\n  {name} is left out: {reason}", flush=True)

    def _measure(self, load: str, contestant: Contestant, seconds: float) -> None:
        try:
            taken: Sample | None = self._sample(load, contestant, seconds)
            if taken and taken.disturbed and self._again:
                self._again -= 1
                print(f" ({contestant.name} again)", end="", flush=True)
                taken = min(taken, self._sample(load, contestant, seconds), key=lambda one: one.foreign)
        except Unavailable as reason:
            self._leave_out(contestant.name, str(reason))
            return
        except RuntimeError as trouble:
            taken = None
            self.results.notes.append(f"{contestant.name} {load}: {trouble}")
        self.results.samples[load, contestant.name].append(taken)
        print(f" {contestant.name} {f'{taken.rate:,.0f}/s' if taken else 'failed'}", end="", flush=True)

    def _sample(self, load: str, contestant: Contestant, seconds: float) -> Sample:
        with self._running(contestant) as server:
            if self._loads[load].request is not None:
                return web_sample(self._wrk, self._loads[load], server, self._cores, seconds)
            return sample(self._load, self._loads[load], server, self._cores, seconds)

    @contextlib.contextmanager
    def _running(self, contestant: Contestant) -> Iterator[Server]:
        notes = self.results.notes
        with (
            tempfile.TemporaryDirectory(dir=self._scratch) as own,
            running(contestant, self._reference, self._cores.server, Path(own), self._files, notes) as server,
        ):
            yield server

    def _weigh(self, contestant: Contestant) -> None:
        try:
            with self._running(contestant) as server:
                kib = idle_kib(self._load, IDLE_CONNECTIONS, server, self._cores)
        except Unavailable as reason:
            self._leave_out(contestant.name, str(reason))
        except RuntimeError as trouble:
            self.results.notes.append(f"{contestant.name} idle: {trouble}")
        else:
            self.results.idle[contestant.name] = kib
            print(f"{IDLE_CONNECTIONS:,} idle connections: {contestant.name} {kib:.2f} KiB each", flush=True)

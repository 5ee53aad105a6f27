"""All places taken, or all turns: hostile clients hold connections or keep the daemon busy, and newcomers are answered.

Under each engine half messages exceed `max_connections` and are refilled; then 200 endless pipelines, and 200 peers
that never read.  ``python -m soak.full`` plays one case, for example with another rate.
"""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import dataclass

from soak.crowd import KINDS, Crowd
from soak.lone import LAUNCELOT, Lone
from soak.newcomers import Measured, ask_launcelot, visit

ENGINES = ("loop", "pool", "threads", "forks")

NEWCOMERS = 1000

#: Seconds for a crowd to connect.
GATHER = 60.0


@dataclass(frozen=True)
class Case:
    """One engine and one crowd."""

    engine: str
    kind: str
    count: int
    #: Replacements per second for connections that were closed.
    rate: float
    #: Allowed p99 in milliseconds, or five times as long as without the crowd.
    bar: float
    extra: str = ""

    def __str__(self) -> str:
        return f"{self.engine}: {self.count} x {self.kind}, refilled at {self.rate:g}/s"


#: The sizes are those of the limits: 10,000, 1,000 and 200 connections.  Under forks each connection costs 6 to 8 ms of
#: processor time, so the rate is low, and pipelines take places that never give way.
CASES = (
    Case("loop", "half", 12_000, 500, 300),
    Case("pool", "half", 12_000, 500, 300),
    Case("threads", "half", 1_200, 200, 300),
    Case("forks", "half", 220, 10, 300),
    *(
        Case(engine, kind, 50 if engine == "forks" else 200, 100, 150)
        for kind in ("pipeline", "never-reader")
        for engine in ENGINES
    ),
)


def play(case: Case, newcomers: int, seconds: float) -> tuple[Measured, Measured]:
    """Play one case.  Return the visits without and with the crowd."""
    ini = LAUNCELOT + "[limits]\nmessage_timeout = 5m\n" + case.extra
    with Lone(ini, "--engine", case.engine) as daemon:
        ask = ask_launcelot(daemon.port)
        before = visit(ask, newcomers // 5, seconds)
        with Crowd(case.kind, daemon.port, case.count, case.rate) as crowd:
            crowd.wait(GATHER)
            found = visit(ask, newcomers, seconds)
        return before, found


def fault(case: Case, before: Measured, found: Measured) -> str:
    """Return the broken promise; empty if there is none."""
    if found.lost:
        return f"{len(found.lost)} of {found.asked} newcomers were not answered: {found.lost[0]}"
    if found.percentile(0.99) > max(case.bar, 5 * before.percentile(0.99)):
        return f"p99 is {found.percentile(0.99):.0f} ms, above {case.bar:g} ms"
    return ""


def play_all(cases: tuple[Case, ...], newcomers: int, seconds: float) -> int:
    """Play the cases, `seconds` together; print a line for each.  Return the exit code."""
    faults = 0
    for case in cases:
        before, found = play(case, newcomers, seconds / len(cases))
        print(f"soak full: {case!s:52} {found}; before p99 {before.percentile(0.99):.0f} ms", flush=True)
        if broken := fault(case, before, found):
            faults += 1
            print(f"FAULT  {case}: {broken}", flush=True)
    print(f"soak full: {f'{faults} faults' if faults else 'no faults'}")
    return 1 if faults else 0


def run(seconds: float, seed: int) -> int:
    """Play all cases.  Nothing is random: no seed."""
    print(f"soak full: {len(CASES)} cases, {seconds:g} s", flush=True)
    return play_all(CASES, NEWCOMERS, seconds)


def main(arguments: list[str]) -> int:
    """Play one case."""
    parser = argparse.ArgumentParser(prog="python -m soak.full", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--engine", choices=ENGINES, default="loop")
    add("--kind", choices=KINDS, default="half")
    add("--count", type=int, default=12_000, help="hostile connections (12000)")
    add("--rate", type=float, default=500, help="replacements a second for closed ones (500)")
    add("--newcomers", type=int, default=NEWCOMERS)
    add("--seconds", type=float, default=120.0, help="at most, for the newcomers (120)")
    add("--bar", type=float, default=300.0, help="allowed p99 in ms (300)")
    add("--limits", default="", help="further lines of [limits]")
    options = parser.parse_args(arguments)
    extra = options.limits.replace(",", "\n") + "\n"
    case = Case(options.engine, options.kind, options.count, options.rate, options.bar, extra)
    return play_all((case,), options.newcomers, options.seconds)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    sys.exit(main(sys.argv[1:]))

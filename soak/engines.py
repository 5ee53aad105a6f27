"""Many seeds of the simulation of the event-driven engines, in `tests/simulation/engines`.

``make soak ARGS=engines`` runs consecutive seeds for some time.  ``python -m soak.engines`` runs a number of
them, or one again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterable

from tests.simulation.engines.pool_world import PoolWorld
from tests.simulation.engines.properties import Violation
from tests.simulation.engines.push_world import PushPoolWorld, PushWorld
from tests.simulation.engines.world import World

SEEDS, EVENTS = 10_000, 1000

ENGINES = {"loop": World, "pool": PoolWorld, "loop-push": PushWorld, "pool-push": PushPoolWorld}


def simulate(engine: str, seeds: Iterable[int], events: int = EVENTS, seconds: float | None = None) -> int:
    """Run the seeds, for at most so many seconds; print each violation and the rate.  Return the number of
    violations."""
    began = time.monotonic()
    done = violations = 0
    for seed in seeds:
        if seconds is not None and time.monotonic() - began > seconds:
            break
        done += 1
        try:
            ENGINES[engine](seed, events).run()
        except Violation as violation:
            violations += 1
            print(f"FAULT  seed {seed}: {violation}")
            print(f"       python -m soak.engines --engine {engine} --first {seed} --seeds 1 --events {events}")
    took = max(time.monotonic() - began, 1e-9)
    print(
        f"soak engines: {engine}, {done} seeds of {events} events in {took:.1f} s, "
        f"{done * events / took:,.0f} events/s, {f'{violations} faults' if violations else 'no faults'}",
        flush=True,
    )
    return violations


def run(seconds: float, seed: int) -> int:
    """Simulate each engine for its share of `seconds`, with the seeds from `seed` on.  Return the exit code."""
    return 1 if sum(simulate(each, itertools.count(seed), EVENTS, seconds / len(ENGINES)) for each in ENGINES) else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m soak.engines", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--engine", choices=ENGINES, default="loop", help="engine to simulate (loop)")
    add("--seeds", type=int, default=SEEDS, metavar="N", help=f"number of seeds ({SEEDS})")
    add("--first", type=int, default=0, metavar="SEED", help="the first seed (0)")
    add("--events", type=int, default=EVENTS, metavar="N", help=f"events of each seed ({EVENTS})")
    return parser


def main(arguments: list[str]) -> int:
    """Run a number of seeds.  Return 0 without violations, else 1."""
    options = _options().parse_args(arguments)
    seeds = range(options.first, options.first + options.seeds)
    return 1 if simulate(options.engine, seeds, options.events) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

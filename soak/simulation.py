"""Many seeds of the simulation of the event-driven engines (`tests/simulation`): ``python -m soak.simulation``."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.pool_world import PoolWorld
from tests.simulation.world import Violation, World

SEEDS, EVENTS = 10_000, 1000

ENGINES = {"loop": World, "pool": PoolWorld}


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m soak.simulation", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--engine", choices=ENGINES, default="loop", help="engine to simulate (loop)")
    add("--seeds", type=int, default=SEEDS, metavar="N", help=f"number of seeds ({SEEDS})")
    add("--first", type=int, default=0, metavar="SEED", help="the first seed; with --seeds 1, replay one (0)")
    add("--events", type=int, default=EVENTS, metavar="N", help=f"events of each seed ({EVENTS})")
    return parser


def main(arguments: list[str]) -> int:
    """Run the seeds, and print each violation and the rate.  Return 0 without violations, else 1."""
    options = _options().parse_args(arguments)
    kind = ENGINES[options.engine]
    began, violations = time.monotonic(), 0
    for seed in range(options.first, options.first + options.seeds):
        try:
            kind(seed, options.events).run()
        except Violation as violation:
            violations += 1
            print(f"seed {seed}: {violation}")
            print(f"    replay: python -m soak.simulation --engine {options.engine} --first {seed} --seeds 1")
    seconds = time.monotonic() - began
    rate = options.seeds * options.events / seconds
    print(
        f"{options.engine}: {options.seeds} seeds of {options.events} events in {seconds:.1f} s "
        f"({rate:,.0f} events/s): {violations} violations"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

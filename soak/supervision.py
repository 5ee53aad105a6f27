"""The parent of several processes on a simulated kernel and clock, for many seeds.  Described in docs/design.md."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.simulation.supervision import quiet, report, violated

#: Runs by default: less than a minute on one core.
SEEDS = 100_000


def main(arguments: list[str]) -> int:
    """Run the simulations.  Returns 0 without violations, else 1."""
    parser = argparse.ArgumentParser(prog="python -m soak.supervision", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"number of runs ({SEEDS})")
    parser.add_argument("--first", type=int, help="the first seed; by default a random one, which is printed")
    parser.add_argument("--seed", type=int, help="run only this seed, and show what happens")
    options = parser.parse_args(arguments)
    quiet()
    if options.seed is not None:
        print(report(options.seed))
        return 1 if violated(options.seed) else 0
    first = random.SystemRandom().randrange(2**32) if options.first is None else options.first
    began = time.monotonic()
    for seed in range(first, first + options.seeds):
        if violated(seed):
            print(f"FAULT  {report(seed)}")
            return 1
    took = time.monotonic() - began
    print(f"supervision: {options.seeds} simulated runs, no violation, seeds from {first}, {took:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

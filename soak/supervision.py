"""Many seeds of the simulation of the parent of several processes, in `tests/simulation/supervision.py`.

``make soak ARGS=supervision`` runs consecutive seeds for some time.  ``python -m soak.supervision`` runs a number of
them, or one again.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Iterable

from tests.simulation.supervision import quiet, report, violated

#: Runs by default: less than a minute on one core.
SEEDS = 100_000


def simulate(seeds: Iterable[int], seconds: float | None = None) -> int:
    """Run the seeds, for at most so many seconds, until the first violation.  Return the exit code."""
    quiet()
    began = time.monotonic()
    done = 0
    for seed in seeds:
        if seconds is not None and time.monotonic() - began > seconds:
            break
        if violated(seed):
            print(f"FAULT  {report(seed)}")
            return 1
        done += 1
    print(f"soak supervision: {done} seeds in {time.monotonic() - began:.1f} s, no faults", flush=True)
    return 0


def run(seconds: float, seed: int) -> int:
    """Run the seeds from `seed` on for `seconds`.  Return the exit code."""
    return simulate(itertools.count(seed), seconds)


def main(arguments: list[str]) -> int:
    """Run a number of seeds.  Return 0 without violations, else 1."""
    parser = argparse.ArgumentParser(prog="python -m soak.supervision", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"number of seeds ({SEEDS})")
    parser.add_argument("--first", type=int, help="the first seed; by default a random one, which is printed")
    parser.add_argument("--seed", type=int, help="run only this seed, and show what happens")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        quiet()
        print(report(options.seed))
        return 1 if violated(options.seed) else 0
    first = random.SystemRandom().randrange(2**32) if options.first is None else options.first
    print(f"soak supervision: seeds from {first}", flush=True)
    return simulate(range(first, first + options.seeds))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

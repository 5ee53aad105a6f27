"""Soak test: valid and hostile load on all daemons at once, and checks afterwards.  Other parts are named by an
argument, such as ``payments``.  Described in docs/soak.md."""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
import time
from collections.abc import Callable

from soak import bulkheads, engines, failures, full, hangs, held, kills, payments, supervision
from soak.load import HONEST_CLIENTS, HOSTILE_CLIENTS
from soak.place import Place, PlaceError
from soak.run import Run

SECONDS, RATE, DEADLINE = 300.0, 40.0, 10.0

#: Parts besides the load.  Called with the seconds and the seed; each returns the exit code.
PARTS: dict[str, Callable[[float, int], int]] = {
    "bulkheads": bulkheads.run,
    "engines": engines.run,
    "failures": failures.run,
    "full": full.run,
    "hangs": hangs.run,
    "held": held.run,
    "kills": kills.run,
    "payments": payments.run,
    "supervision": supervision.run,
}


def _number(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"from {least:g} to {most:g}")
        return value

    return parse


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("part", nargs="?", choices=["load", *PARTS], default="load", help="by default load on all daemons")
    add(
        "--seconds",
        type=_number(1, 86_400),
        default=SECONDS,
        help=f"seconds of load after a warm-up ({SECONDS:g})",
    )
    add(
        "--rate",
        type=_number(1, 1000),
        default=RATE,
        help=f"regular clients per second, half as many hostile ({RATE:g})",
    )
    add("--deadline", type=_number(1, 600), default=DEADLINE, help=f"seconds for a regular client ({DEADLINE:g})")
    add("--seed", type=int, help="of the random number generator; by default a new one, which is printed")
    add("--only", nargs="+", default=[], metavar="NAME", help="daemons to test; by default all of conf/")
    add("--keep", action="store_true", help="keep the folder with the logs")
    return parser


def main(arguments: list[str]) -> int:
    """Run the soak test.  Returns 0 without faults, 1 with faults, 2 for a setup error, 130 when interrupted."""
    options = _options().parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
    if options.part in PARTS:
        return PARTS[options.part](options.seconds, seed)
    began = time.monotonic()
    try:
        place = Place(options.only)
    except PlaceError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    print(f"soak: {len(place.ports)} daemons, {options.seconds:g} s, seed {seed}, in {place.path}", flush=True)
    print(f"soak: {HONEST_CLIENTS} regular and {HOSTILE_CLIENTS} hostile clients", flush=True)
    run = Run(place, random.Random(seed), options.rate, options.deadline)
    try:
        run.whole(options.seconds)
    except KeyboardInterrupt:
        print("soak: interrupted; all processes have been stopped", file=sys.stderr)
        return 130
    except PlaceError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    finally:
        run.load.stop()
        place.end(keep=options.keep)
    print("\n".join(run.report()))
    faults = run.faults()
    for fault in faults:
        print(f"FAULT  {fault}")
    took = time.monotonic() - began
    print(f"soak: {f'{len(faults)} faults' if faults else 'no faults'}, seed {seed}, {took:.0f} s in total")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Honest and hostile load on every daemon at once, and what must be true afterwards. Explained in docs/soak.md."""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
import time

from soak.load import HONEST_VISITORS, HOSTILE_VISITORS
from soak.place import Place, PlaceError
from soak.run import Run

SECONDS, RATE, DEADLINE = 300.0, 40.0, 10.0


def _number(least: float, most: float) -> object:
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
    add("--seconds", type=_number(1, 86_400), default=SECONDS, help=f"of load, after a warm-up ({SECONDS:g})")  # type: ignore[arg-type]
    add("--rate", type=_number(1, 1000), default=RATE, help=f"honest visits a second; half as many hostile ({RATE:g})")  # type: ignore[arg-type]
    add("--deadline", type=_number(1, 600), default=DEADLINE, help=f"seconds for an honest visit ({DEADLINE:g})")  # type: ignore[arg-type]
    add("--seed", type=int, help="of all that is left to chance; else a new one, which is printed")
    add("--only", nargs="+", default=[], metavar="NAME", help="these daemons; else all of conf/")
    add("--keep", action="store_true", help="leave the folder, with its logs, where it is")
    return parser


def main(arguments: list[str]) -> int:
    """0 where all is as it must be, 1 where it is not, 130 when it was interrupted."""
    options = _options().parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is running is ended as upon Ctrl-C
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
    began = time.monotonic()
    try:
        place = Place(options.only)
    except PlaceError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    print(f"soak: {len(place.ports)} daemons, {options.seconds:g} s, seed {seed}, in {place.path}", flush=True)
    print(f"soak: {HONEST_VISITORS} honest and {HOSTILE_VISITORS} hostile visitors", flush=True)
    run = Run(place, random.Random(seed), options.rate, options.deadline)
    try:
        run.whole(options.seconds)
    except KeyboardInterrupt:
        print("soak: interrupted; nothing is left running", file=sys.stderr)
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
    print(f"soak: {f'{len(faults)} faults' if faults else 'no faults'}, seed {seed}, {took:.0f} s in all")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

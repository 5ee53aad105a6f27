"""Benchmarks of the suite and of comparable servers: `python -m benchmarks`. Described in benchmarks/README.md."""

from __future__ import annotations

import argparse
import re
import resource
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import chapter7
from benchmarks.loads import LOADS
from benchmarks.machine import choose_cores, describe
from benchmarks.report import BEGIN, TITLE, picture, record, whole, write_json
from benchmarks.rounds import Laboratory
from benchmarks.rows import ROWS, cells, idlers
from benchmarks.tools import HERE, ROOT, compile_program, find_wrk

# Chosen so that the whole table takes less than ten minutes and the quick one less than two.
ROUNDS, SECONDS = 3, 1.4
QUICK_ROUNDS, QUICK_SECONDS = 1, 1.0


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"not a regular expression: {error}") from error
    return text


def _rounds(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError("from 1 to 100")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0.2 <= value <= 60:
        raise argparse.ArgumentTypeError("from 0.2 to 60")
    return value


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--quick", action="store_true", help="only rows with a target, in two minutes; of chapter 7 less"
    )
    parser.add_argument(
        "--chapter-7",
        action="store_true",
        help="instead, the curves of docs/chapter-7.md: every engine, 1 to 1024 clients",
    )
    parser.add_argument("--only", type=_pattern, metavar="PATTERN", help='regular expression in "CONTESTANT LOAD"')
    parser.add_argument(
        "--rounds", type=_rounds, help=f"rounds ({ROUNDS}; quick: {QUICK_ROUNDS}; chapter 7: {chapter7.ROUNDS})"
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        help=f"of a window ({SECONDS}; quick: {QUICK_SECONDS}; chapter 7: {chapter7.SECONDS})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="for every sample (results/DATE.json)")
    parser.add_argument(
        "--record",
        action="store_true",
        help="put the figures and pictures into benchmarks/README.md, or docs/chapter-7.md",
    )
    return parser


def main(arguments: list[str]) -> int:
    """Run the benchmarks. Returns 0 when done, also with missed targets, and 130 when interrupted."""
    options = _options().parse_args(arguments)
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if options.quick else (ROUNDS, SECONDS)
    if options.chapter_7:
        rounds, seconds = chapter7.ROUNDS, chapter7.SECONDS
        loads, idle = chapter7.LOADS, []
        grid = chapter7.cells(options.only, options.quick)
    else:
        loads, idle = LOADS, idlers(options.only, options.quick)
        grid = cells(options.only, options.quick)
    rounds, seconds = options.rounds or rounds, options.seconds or seconds
    if not grid and not idle:
        raise SystemExit(f"benchmarks: nothing matches {options.only!r}")
    wrk = find_wrk() if any(loads[load].request for load in grid) else ""
    how = shlex.join(["python", "-m", "benchmarks", *arguments])
    machine = describe()
    cores = choose_cores()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # 5,000 connections on either side
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        programs = Path(scratch)
        load, reference = (compile_program(name, programs) for name in ("load", "reference"))
        try:
            results = Laboratory(load, wrk, reference, cores, programs, loads).run(grid, idle, rounds, seconds)
        except KeyboardInterrupt:
            print("\nbenchmarks: interrupted; nothing is left running", file=sys.stderr)
            return 130
    file = options.json or HERE / "results" / time.strftime("%Y%m%d-%H%M%S.json")
    if options.chapter_7:
        text, pictures = chapter7.whole(results, machine, how), chapter7.pictures(results)
        page, mark = ROOT / "docs" / "chapter-7.md", chapter7.BEGIN
    else:
        text, pictures = whole(results, machine, how), {"figures": picture(results)}
        page, mark = HERE / "README.md", BEGIN
    print(f"\n{text}")
    write_json(results, machine, how, file, () if options.chapter_7 else ROWS)
    for name, drawn in pictures.items():
        file.with_name(f"{file.stem}-{name}.svg").write_text(drawn)
    if options.record:
        for name, drawn in pictures.items():
            (page.parent / f"{name}.svg").write_text(drawn)
        shown = "\n\n".join(f"![{chapter7.TITLES.get(name, TITLE)}]({name}.svg)" for name in pictures)
        record(f"{shown}\n\n{text}", page, mark)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

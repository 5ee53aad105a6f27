"""Reports: tables for a terminal and for README.md, and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks.contestants import CONTESTANTS, Side
from benchmarks.loads import GATHER_SECONDS, IDLE_CONNECTIONS, LOADS, Load, Measurement
from benchmarks.rounds import Results
from benchmarks.rows import MEMORY_BAR, ROWS, Row
from benchmarks.svg import Bars, bars
from benchmarks.verdicts import judge, judge_memory, kept, mostly_generator_bound, paired_ratios

BAR_WIDTH = 20  # characters for the reference, unless the longest bar would exceed the maximum
LONGEST_BAR = 30
LONGEST_NAME = 50  # characters beside a bar in a picture
BEGIN = "<!-- figures: written by `python -m benchmarks --record` -->"
END = "<!-- end of figures -->"
TITLE = "Requests, or conversations, a second"

Table = list[list[str]]


def aligned(table: Table) -> str:
    """Return a table in Markdown, aligned for terminals."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    rule = ["-" * width for width in widths]
    lines = (
        [cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [table[0], rule, *table[1:]]
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _rivals(row: Row) -> str:
    names = [CONTESTANTS[name].what for name in row.rivals]
    return names[0] if len(names) == 1 else f"the best of {', '.join(names)}"


def promises(results: Results) -> str:
    """Return the table of targets, with the rows for which samples exist."""
    table = [["promise", "ratio", "lowest to highest", "per CPU", "at least", "verdict"]]
    chosen = set(results.samples) | {(load, name) for load, _ in results.samples for name in results.left_out}
    for row in ROWS:
        if (row.load, row.ours) not in chosen:
            continue
        found = judge(results, row)
        spread = "" if found.ratio is None else f"{_ratio(found.lowest)} to {_ratio(found.highest)}"
        what = f"{CONTESTANTS[row.ours].what}; {LOADS[row.load].what}; against {_rivals(row)}"
        bound = found.word == "generator-bound"  # no valid comparison
        table.append(
            [
                what,
                "" if bound else _ratio(found.ratio),
                "" if bound else spread,
                _ratio(found.capacity_ratio),
                f"{row.bar:.2f}{' per CPU' if row.per_cpu else ''}",
                found.word + (f": {found.reason}" if found.reason else ""),
            ]
        )
    if "loop" in results.idle:
        kib = f"{results.idle['loop']:.2f} KiB"
        what = f"Launcelot, engine = loop; memory for each of {IDLE_CONNECTIONS:,} idle connections"
        table.append([what, kib, "", "", f"≤ {MEMORY_BAR:.0f} KiB", judge_memory(results)])
    return aligned(table) if len(table) > 1 else "No promise was measured."


def _bar(ratio: float | None, largest: float) -> str:
    if ratio is None:
        return ""
    length = round(ratio * min(BAR_WIDTH, LONGEST_BAR / largest))
    return "█" * length if length else "▏"


def load_table(results: Results, load: str) -> str:
    """Return the table of all contestants under one load, with medians."""
    names = [name for cell, name in results.samples if cell == load]
    unit, reference = LOADS[load].unit, LOADS[load].reference
    # wrk has no figures for single connections.
    each_seen = LOADS[load].request is None
    columns = [
        f"of {'C' if reference == 'c' else reference}",
        "p50 µs",
        "p99 µs",
        "max µs",
        "CPU",
        "CPU of load",
        *(["all answered ms", "starved"] if each_seen else []),
        "drawn",
    ]
    table = [["", f"{unit} / s", *columns]]
    ratios = {name: _median_ratio(results, load, name) for name in names}
    largest = max(filter(None, ratios.values()), default=1.0)
    for name in names:
        samples = kept(results.samples[load, name])
        if not samples:
            table.append([CONTESTANTS[name].what, "failed", *[""] * len(columns)])
            continue
        measured = [one.measured for one in samples]
        table.append(
            [
                CONTESTANTS[name].what,
                f"{median(one.rate for one in measured):,.0f}{' ᵍ' if mostly_generator_bound(samples) else ''}",
                _ratio(ratios[name]),
                *(f"{median(each):,.0f}" for each in _latencies(measured)),
                f"{median(one.server_cpu for one in samples):.0%}",
                f"{median(one.cpu for one in measured):.0%}",
                *([_first_answers(measured), f"{median(one.starved for one in measured):.0f}"] if each_seen else []),
                _bar(ratios[name], largest),
            ]
        )
    return aligned(table)


def _median_ratio(results: Results, load: str, name: str) -> float | None:
    ratios = [rate for rate, _ in paired_ratios(results, load, name, LOADS[load].reference)]
    return median(ratios) if ratios else None


def _latencies(measured: Sequence[Measurement]) -> list[list[float]]:
    return [[one.p50_us for one in measured], [one.p99_us for one in measured], [one.max_us for one in measured]]


def _first_answers(measured: Sequence[Measurement]) -> str:
    known = [one.all_answered_ms for one in measured if one.all_answered_ms is not None]
    return f"{median(known):,.0f}" if len(known) == len(measured) else f"> {GATHER_SECONDS * 1000:,.0f}"


def remarks(results: Results, loads: Mapping[str, Load] = LOADS) -> list[str]:
    """Return notes that a reader needs to interpret the tables."""
    found = [f"{CONTESTANTS[name].what} is left out: {reason}" for name, reason in results.left_out.items()]
    found += results.notes
    found += [
        f"{CONTESTANTS[name].what}, {loads[load].what}: answers lost, or later than two seconds: {errors}."
        for (load, name), samples in results.samples.items()
        if loads[load].request and (errors := sum(one.measured.errors for one in kept(samples)))
    ]
    everything = [one for samples in results.samples.values() for one in kept(samples)]
    if disturbed := sum(one.disturbed for one in everything):
        found.append(f"{disturbed} of {len(everything)} samples were taken while other processes used the same cores.")
    if any(mostly_generator_bound(kept(samples)) for samples in results.samples.values()):
        found.append("ᵍ the generator was the bottleneck: the server can do more, and is not compared.")
    return found


def whole(results: Results, machine: dict[str, str], how: str) -> str:
    """Return the whole report in Markdown."""
    parts = [
        "; ".join(f"{key}: {value}" for key, value in machine.items()) + ".",
        f"Measured with `{how}`.",
        promises(results),
    ]
    for load in LOADS:
        if any(cell == load for cell, _ in results.samples):
            what = LOADS[load].what
            parts.append(f"**{what[0].upper()}{what[1:]}**\n\n{load_table(results, load)}")
    if results.idle:
        idle = [["", "KiB"], *([CONTESTANTS[name].what, f"{kib:.2f}"] for name, kib in results.idle.items())]
        parts.append(f"**Memory for each of {IDLE_CONNECTIONS:,} idle connections**\n\n{aligned(idle)}")
    if notes := remarks(results):
        parts.append("\n".join(f"* {line}" for line in notes))
    return "\n\n".join(parts)


def picture(results: Results) -> str:
    """Return the bars of all tables as SVG."""
    groups = []
    for load in LOADS:
        names = [name for cell, name in results.samples if cell == load]
        ratios = [(name, _median_ratio(results, load, name)) for name in names]
        values = [
            (_short(CONTESTANTS[name].what), ratio, CONTESTANTS[name].side is Side.OURS)
            for name, ratio in ratios
            if ratio
        ]
        if values:
            what = LOADS[load].what
            groups.append(Bars(f"{what[0].upper()}{what[1:]}; of {CONTESTANTS[LOADS[load].reference].what}", values))
    return bars(TITLE, groups, "times as many; ours in blue")


def _short(name: str) -> str:
    """Return a name without its first clause if it is too long; the last one tells servers apart."""
    return name if len(name) <= LONGEST_NAME else name.partition(", ")[2] or name


def write_json(results: Results, machine: dict[str, str], how: str, file: Path, rows: Sequence[Row] = ROWS) -> None:
    """Return every sample of every round, and the verdicts on `rows`."""
    samples = [
        {
            "load": load,
            "contestant": name,
            "rounds": [
                one and asdict(one) | {"generator_bound": one.generator_bound, "disturbed": one.disturbed}
                for one in rounds
            ],
        }
        for (load, name), rounds in results.samples.items()
    ]
    verdicts = [asdict(judge(results, row)) for row in rows]
    content = {
        "machine": machine,
        "command": how,
        "promises": verdicts,
        "samples": samples,
        "idle_kib": results.idle,
        "left_out": results.left_out,
        "notes": results.notes,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def record(text: str, page: Path, mark: str = BEGIN) -> None:
    """Insert the figures into a page between `mark` and END."""
    before, begin, rest = page.read_text().partition(mark)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"benchmarks: {page.name} has lost its place for the figures")
    page.write_text(f"{before}{mark}\n\n{text}\n\n{END}{after}")

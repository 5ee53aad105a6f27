"""The experiment of chapter 7: every server architecture with a growing number of clients. See docs/chapter-7.md."""

from __future__ import annotations

import re
from statistics import median

from benchmarks.contestants import CONTESTANTS
from benchmarks.generator import Sample
from benchmarks.loads import Load
from benchmarks.report import aligned, remarks
from benchmarks.rounds import Results
from benchmarks.svg import Panel, Point, Style, charts
from benchmarks.verdicts import kept, mostly_generator_bound

# 164 windows, each with a start, a warm-up and an end, in about four minutes.
ROUNDS, SECONDS = 1, 0.5
GATHER_SECONDS = 3.0  # `one` never answers all clients, so waiting longer is useless

CLIENTS = tuple(2**power for power in range(11))
QUICK_CLIENTS = CLIENTS[::2]  # also in the tables, which would be too wide otherwise

SERVERS = {
    "one": Style("one", "grey", "circle"),
    "threads": Style("threads", "red", "square"),
    "forks": Style("forks", "purple", "triangle"),
    "pool": Style("pool", "green", "diamond"),
    "loop": Style("loop", "blue", "wedge"),
    "stock-threads": Style("stock ThreadingTCPServer", "red", "square", dashed=True),
    "stock-forks": Style("stock ForkingTCPServer", "purple", "triangle", dashed=True),
    "asyncio": Style("asyncio Protocol", "blue", "wedge", dashed=True),
}
"""Servers in the order of a round, with their styles; equivalents in the standard library have the same color."""

MOST = {"forks": 128, "stock-forks": 128}
"""Maximum number of clients by server: `forks` as shipped has 200 children at once, not 256."""

KINDS = {
    "persistent": ("Questions on connections that stay", "questions a second"),
    "conversations": ("Conversations: connect, three questions, close", "conversations a second"),
}
"""Title and unit of each mode of the generator."""

LOADS = {
    f"{kind} {clients}": Load(
        f"{kind} {clients}", f"{kind}, {clients:,} clients", kind, clients, gather_seconds=GATHER_SECONDS
    )
    for kind in KINDS
    for clients in CLIENTS
}

BEGIN = "<!-- figures: written by `python -m benchmarks --chapter-7 --record` -->"
THROUGHPUT, LATENCY = "chapter-7-throughput", "chapter-7-latency"
TITLES = {THROUGHPUT: "Throughput, by number of clients", LATENCY: "Latency, by number of clients"}
HOLLOW = "some clients got no answer"


def cells(only: str | None, quick: bool) -> dict[str, list[str]]:
    """Return the contestants of each load. `only` is a regular expression searched for in "CONTESTANT KIND CLIENTS";
    `quick` uses every second number of clients."""
    grid = {
        load.name: [
            name
            for name in SERVERS
            if load.connections <= MOST.get(name, CLIENTS[-1])
            and (only is None or re.search(only, f"{name} {load.name}"))
        ]
        for load in LOADS.values()
        if not quick or load.connections in QUICK_CLIENTS
    }
    return {load: names for load, names in grid.items() if names}


def _samples(results: Results, kind: str, name: str) -> dict[int, list[Sample]]:
    """Return the samples by number of clients."""
    found = {clients: kept(results.samples.get((f"{kind} {clients}", name), [])) for clients in CLIENTS}
    return {clients: samples for clients, samples in found.items() if samples}


def _starved(samples: list[Sample]) -> bool:
    return median(one.measured.starved for one in samples) > 0


def _lines(results: Results, kind: str, what: str) -> dict[str, list[Point]]:
    """Return one line for each server: the rate, or a latency in ms."""

    def value(one: Sample) -> float:
        return one.rate if what == "rate" else float(getattr(one.measured, what)) / 1000

    return {
        style.name: [
            Point(clients, median(map(value, samples)), _starved(samples))
            for clients, samples in _samples(results, kind, name).items()
        ]
        for name, style in SERVERS.items()
    }


def pictures(results: Results) -> dict[str, str]:
    """Return both pictures as SVG, by file name."""
    styles = list(SERVERS.values())
    throughput = [Panel(title, unit, _lines(results, kind, "rate")) for kind, (title, unit) in KINDS.items()]
    latency = [
        Panel(f"{short}, {percentile}", "ms", _lines(results, kind, f"{percentile}_us"), logarithmic=True)
        for kind, short in (("persistent", "A question"), ("conversations", "A conversation"))
        for percentile in ("p50", "p99")
    ]
    return {
        THROUGHPUT: charts(TITLES[THROUGHPUT], styles, throughput, columns=1, height=310, hollow=HOLLOW),
        LATENCY: charts(TITLES[LATENCY], styles, latency, columns=2, height=300, hollow=HOLLOW),
    }


def _table(results: Results, kind: str) -> str:
    """Return tables of rates and latencies by server and number of clients."""
    shown = [clients for clients in QUICK_CLIENTS if any(clients in _samples(results, kind, name) for name in SERVERS)]
    table = [[KINDS[kind][1], *(f"{clients:,}" for clients in shown)]]
    for name in SERVERS:
        by_clients = _samples(results, kind, name)
        if by_clients:
            table.append([CONTESTANTS[name].what, *(_rate(by_clients.get(clients, [])) for clients in shown)])
    latencies = [["p50, p99 in ms", *table[0][1:]]]
    for name in SERVERS:
        by_clients = _samples(results, kind, name)
        if by_clients:
            latencies.append([CONTESTANTS[name].what, *(_latency(by_clients.get(clients, [])) for clients in shown)])
    return f"**{KINDS[kind][0]}**\n\n{aligned(table)}\n\n{aligned(latencies)}"


def _rate(samples: list[Sample]) -> str:
    if not samples:
        return ""
    marks = ("°" if _starved(samples) else "") + (" ᵍ" if mostly_generator_bound(samples) else "")
    return f"{median(one.rate for one in samples):,.0f}{marks}"


def _latency(samples: list[Sample]) -> str:
    if not samples:
        return ""
    middle, high = (median(getattr(one.measured, name) for one in samples) / 1000 for name in ("p50_us", "p99_us"))
    return f"{_ms(middle)}, {_ms(high)}"


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def whole(results: Results, machine: dict[str, str], how: str) -> str:
    """Return the whole report in Markdown."""
    parts = [
        "; ".join(f"{key}: {value}" for key, value in machine.items()) + ".",
        f"Measured with `{how}`.",
        *(_table(results, kind) for kind in KINDS if any(_samples(results, kind, name) for name in SERVERS)),
    ]
    notes = remarks(results, LOADS)
    for (load, name), samples in results.samples.items():
        if trouble := sum(one.measured.errors + one.measured.wrong for one in kept(samples)):
            notes.append(
                f"{CONTESTANTS[name].what}, {LOADS[load].what}: {trouble} connections or answers were lost or wrong."
            )
    if any(_starved(kept(samples)) for samples in results.samples.values() if kept(samples)):
        notes.append("° some clients got no reply in the window, to the benefit of the others.")
    return "\n\n".join([*parts, "\n".join(f"* {line}" for line in notes)]).rstrip()

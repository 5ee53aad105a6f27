"""Evaluation of samples: medians, ratios within a round, and whether targets are met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.generator import Sample
from benchmarks.loads import GATHER_SECONDS
from benchmarks.rounds import Results
from benchmarks.rows import MEMORY_BAR, Row


@dataclass(frozen=True)
class Verdict:
    """A target and its result."""

    row: Row
    ratio: float | None
    """Median over the rounds of the ratio of our rate to theirs within a round."""
    lowest: float | None
    highest: float | None
    capacity_ratio: float | None
    """The same per second of the server's CPU time."""
    word: str
    """met, missed, faulty, generator-bound or not measured."""
    reason: str = ""


def kept(samples: Sequence[Sample | None]) -> list[Sample]:
    """Return the samples that exist."""
    return [one for one in samples if one is not None]


def paired_ratios(results: Results, load: str, ours: str, *against: str) -> list[tuple[float, float]]:
    """Return the ratios of rates and of capacities for each round in which both sides were measured; of several
    contestants the best of that round is compared with."""
    mine = results.samples.get((load, ours), [])
    theirs = [results.samples.get((load, name), []) for name in against]
    ratios = []
    for turn, one in enumerate(mine):
        rivals = kept([samples[turn] for samples in theirs if turn < len(samples)])
        rate = max((each.rate for each in rivals), default=0.0)
        capacity = max((each.capacity for each in rivals), default=0.0)
        if one and rate:
            ratios.append((one.rate / rate, one.capacity / capacity if capacity else 0.0))
    return ratios


def mostly_generator_bound(samples: Sequence[Sample]) -> bool:
    """Return whether the generator was the bottleneck in at least half of the rounds."""
    return 2 * sum(one.generator_bound for one in samples) >= len(samples) > 0


def judge(results: Results, row: Row) -> Verdict:
    """Return the verdict on one target."""
    mine = kept(results.samples.get((row.load, row.ours), []))
    ratios = paired_ratios(results, row.load, row.ours, *row.rivals)
    if not ratios:
        return Verdict(row, None, None, None, None, "not measured")
    rates, capacities = [rate for rate, _ in ratios], [capacity for _, capacity in ratios]
    ratio = median(rates)

    def verdict(word: str, reason: str = "") -> Verdict:
        return Verdict(row, ratio, min(rates), max(rates), median(capacities), word, reason)

    for counted in ("wrong", "errors", *(["starved"] if row.requires_all else [])):
        if found := sum(getattr(one.measured, counted) for one in mine):
            return verdict("faulty", f"{found} {counted}")
    if row.requires_all and any(one.measured.all_answered_ms is None for one in mine):
        return verdict("faulty", f"connections without any answer after {GATHER_SECONDS:.0f} seconds")
    for name in () if row.per_cpu else (*row.rivals, row.ours):
        samples = kept(results.samples.get((row.load, name), []))
        if mostly_generator_bound(samples):
            busy = median(one.server_cpu for one in samples)
            return verdict("generator-bound", f"the generator was full, {name} used {busy:.0%} of its core")
    return verdict("met" if (median(capacities) if row.per_cpu else ratio) >= row.bar else "missed")


def judge_memory(results: Results) -> str:
    """Return the verdict on the memory of idle connections."""
    if "loop" not in results.idle:
        return "not measured"
    return "met" if results.idle["loop"] <= MEMORY_BAR else "missed"

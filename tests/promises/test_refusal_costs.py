"""CPU time before a refusal is bounded.

No input of an allowed size costs more than 20 times the CPU time of an honest one of that size.  Both are measured
here, one after the other, so the ratio does not depend on the machine; the minimum of several measurements counts."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.promises.grammars.grammar import Feed, Grammar
from tests.promises.grammars.table import GRAMMARS

#: The bound of the promise.
RATIO = 20

#: Bytes of a head that comes before an input of the largest size.
HEAD = 1024

#: Measurements of one input at most.
TRIES = 9

#: Seconds of CPU time in one measurement of the honest input, so that the steps of the clock do not matter.
LEAST = 0.01


def cost(feed: Feed, *inputs: bytes) -> float:
    """Return the seconds of CPU time for one of the inputs, on average."""
    before = time.process_time()
    for data in inputs:
        feed(data)
    return (time.process_time() - before) / len(inputs)


@contextmanager
def formatted() -> Iterator[None]:
    """Format log records as a daemon does, without writing them; other tests limit their number.  Not a fixture, since
    pytest adds its handlers after fixtures."""
    root = logging.getLogger()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        before = root.level, root.handlers[:]
        root.handlers[:] = [logging.StreamHandler(nowhere)]
        root.setLevel(logging.INFO)
        yield
        root.setLevel(before[0])
        root.handlers[:] = before[1]


def ratios_of(grammar: Grammar, folder: Path) -> dict[str, float]:
    """Return the cost of each adversarial input relative to an honest one."""
    feed = grammar.serve(folder)
    assert grammar.size * 0.9 <= len(grammar.honest(grammar.size)) <= grammar.size
    once = min(cost(feed, grammar.honest(grammar.size)) for _ in range(TRIES))
    if once < LEAST:
        times = 1 + int(LEAST / once)
        once = min(cost(feed, *[grammar.honest(grammar.size) for _ in range(times)]) for _ in range(TRIES))
    ratios: dict[str, float] = {}
    for shape, data in grammar.adversarial(grammar.size).items():
        assert len(data) <= grammar.size + HEAD, shape
        measured = (cost(feed, data) / once for _ in range(TRIES))
        ratio = next(measured)
        while ratio > RATIO and (another := next(measured, None)) is not None:
            ratio = min(ratio, another)
        ratios[shape] = ratio
    return ratios


@pytest.mark.parametrize("name", GRAMMARS)
def test_no_input_costs_more_than_twenty_honest_ones(name: str, tmp_path: Path) -> None:
    with formatted():
        ratios = ratios_of(GRAMMARS[name], tmp_path)
    assert not {shape: f"{ratio:.0f} times" for shape, ratio in ratios.items() if ratio > RATIO}

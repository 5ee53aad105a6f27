"""The parent of several workers keeps its promises in every order of events, and the simulation would find if not.

Described in docs/design.md.  ``make soak`` runs 100,000 seeds."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from daemons.serving.engines import prefork
from soak import supervision as command
from tests.simulation.faults import FAULTS, Fault, find, make_faulty
from tests.simulation.supervision import quiet, report, violated

#: Seeds within which each fault must be found.
SEEDS = 1000


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = prefork.log.logger.level
    quiet()
    yield
    prefork.log.logger.setLevel(before)


@pytest.mark.parametrize("first", range(0, 4 * SEEDS, SEEDS))
def test_no_seed_violates_a_promise(first: int) -> None:
    for seed in range(first, first + SEEDS):
        assert not violated(seed), report(seed)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_found(fault: Fault) -> None:
    assert find(fault, SEEDS) is not None


def test_failing_seed_is_reported_and_repeats() -> None:
    make = make_faulty(FAULTS[0])
    seed = find(FAULTS[0], SEEDS)
    assert seed is not None
    assert violated(seed, make) == violated(seed, make)
    text = report(seed, make)
    assert text == report(seed, make)
    assert "for the second time" in text
    assert text.endswith(f"to repeat it: python -m soak.supervision --seed {seed}")


def test_command_runs_seeds_and_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seeds", "10", "--first", "5"]) == 0
    out = capsys.readouterr().out
    assert "seeds from 5\n" in out
    assert "10 seeds in " in out
    assert command.main(["--seed", "5"]) == 0
    assert "worker 11 is forked" in capsys.readouterr().out
    assert logging.getLogger(prefork.__name__).level > logging.CRITICAL

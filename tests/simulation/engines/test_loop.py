"""The event loop over a simulated kernel: many seeds, and faults that a few hundred seeds must find."""

from __future__ import annotations

import pytest

from tests.simulation.engines.mutations import LOOP, Mutation
from tests.simulation.engines.properties import Violation
from tests.simulation.engines.world import World

#: Seeds of this test; `python -m soak.engines` runs many more.
SEEDS = range(60)

#: Number of seeds within which a fault must be found.
ENOUGH = 1000


@pytest.mark.parametrize("seed", SEEDS)
def test_every_property_holds(seed: int) -> None:
    World(seed).run()


@pytest.mark.parametrize("mutation", LOOP, ids=lambda mutation: mutation.name)
def test_fault_in_the_loop_is_found(mutation: Mutation) -> None:
    with mutation.applied():
        for seed in (mutation.seed, *range(ENOUGH)):
            try:
                World(seed).run()
            except Violation:
                return
    pytest.fail(f"{mutation.name}: not found within {ENOUGH} seeds")

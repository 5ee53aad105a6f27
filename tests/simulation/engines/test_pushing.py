"""Pushes, waits and late replies, in the loop and the pool over a simulated kernel."""

from __future__ import annotations

import pytest

from tests.simulation.engines.mutations import Mutation
from tests.simulation.engines.properties import Violation
from tests.simulation.engines.push_mutations import LOOP, POOL
from tests.simulation.engines.push_world import PushPoolWorld, PushWorld

#: Number of seeds within which a fault must be found.
ENOUGH = 1000


@pytest.mark.parametrize("seed", [*range(20), 51, 91])
def test_every_property_holds_in_the_loop(seed: int) -> None:
    PushWorld(seed).run()


@pytest.mark.parametrize("seed", [*range(15), 81, 125])
def test_every_property_holds_in_the_pool(seed: int) -> None:
    PushPoolWorld(seed).run()


@pytest.mark.parametrize(
    ("world", "mutation"),
    [(PushWorld, each) for each in LOOP] + [(PushPoolWorld, each) for each in POOL],
    ids=lambda value: value.name if isinstance(value, Mutation) else value.__name__,
)
def test_fault_in_pushes_is_found(world: type[PushWorld], mutation: Mutation) -> None:
    with mutation.applied():
        for seed in (mutation.seed, *range(ENOUGH)):
            try:
                world(seed).run()
            except Violation:
                return
    pytest.fail(f"{mutation.name}: not found within {ENOUGH} seeds")

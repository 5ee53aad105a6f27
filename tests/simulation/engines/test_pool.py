"""The pool over a simulated kernel and simulated threads."""

from __future__ import annotations

import pytest

from tests.simulation.engines.mutations import POOL, Mutation
from tests.simulation.engines.pool_world import PoolWorld
from tests.simulation.engines.properties import Violation

#: Seeds of this test; `python -m soak.engines --engine pool` runs many more.
SEEDS = range(40)

#: Number of seeds within which a fault must be found.
ENOUGH = 1000


@pytest.mark.parametrize("seed", SEEDS)
def test_every_property_holds(seed: int) -> None:
    PoolWorld(seed).run()


def test_seed_gives_the_same_run_again() -> None:
    runs = []
    for _ in range(2):
        world = PoolWorld(7)
        world.run()
        runs.append((world.waits, world.kernel.now, [bytes(client.got) for client in world.clients]))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("mutation", POOL, ids=lambda mutation: mutation.name)
def test_fault_in_the_pool_is_found(mutation: Mutation) -> None:
    with mutation.applied():
        for seed in (mutation.seed, *range(ENOUGH)):
            try:
                PoolWorld(seed).run()
            except Violation:
                return
    pytest.fail(f"{mutation.name}: not found within {ENOUGH} seeds")

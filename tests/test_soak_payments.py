"""The payments part of the soak test, for some seconds."""

from __future__ import annotations

import random

import pytest

from soak.payments import Round, play, rounds


@pytest.mark.parametrize("plan", [Round("pool", 2), Round("threads", 1)], ids=str)
def test_payments_acknowledged_before_a_kill_are_recorded(plan: Round) -> None:
    history, recorded = play(plan, 2.0, random.Random(1))
    assert history.first_violation(recorded) is None
    assert history.crashes
    assert history.acknowledged


def test_every_engine_and_number_of_processes_has_a_round() -> None:
    assert {(plan.engine, plan.processes) for plan in rounds()} == {
        (engine, processes) for engine in ("threads", "forks", "pool", "loop") for processes in (1, 2, 4)
    }

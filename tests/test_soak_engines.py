"""The part of the soak test that runs the simulation of the engines."""

from __future__ import annotations

import pytest

from soak import engines
from tests.simulation.engines.mutations import LOOP


def test_simulation_runs_both_engines_without_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert engines.run(0.2, 1) == 0
    report = capsys.readouterr().out
    assert "soak engines: loop" in report
    assert "soak engines: pool" in report
    assert report.count("no faults") == 4


def test_violation_is_reported_with_the_command_that_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    with LOOP[0].applied():
        assert engines.main(["--seeds", "30", "--events", "300"]) == 1
        first = capsys.readouterr().out.splitlines()[:2]
        assert first[0].startswith("FAULT  seed ")
        _, arguments = first[1].split("python -m soak.engines ")
        assert engines.main(arguments.split()) == 1
        assert capsys.readouterr().out.splitlines()[:2] == first

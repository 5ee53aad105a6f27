"""``--require-engines``: a skip for a missing program that could be installed is a failure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import pytest_runtest_makereport


@pytest.mark.parametrize(
    ("reason", "required", "outcome"),
    [
        ("Skipped: nc is missing: make engines", True, "failed"),
        ("Skipped: nc is missing: make engines", False, "skipped"),
        ("Skipped: needs root", True, "skipped"),
    ],
)
def test_skip_for_a_missing_program_fails_if_required(reason: str, required: bool, outcome: str) -> None:
    item: Any = SimpleNamespace(config=SimpleNamespace(getoption={"--require-engines": required}.get))
    report = pytest.TestReport("x", ("x", 1, "x"), {}, "skipped", ("x.py", 1, reason), "call")
    judging = pytest_runtest_makereport(item)
    next(judging)
    with pytest.raises(StopIteration) as done:
        judging.send(report)
    assert done.value.value.outcome == outcome

"""``--require-engines``: what is skipped for want of a program that could be installed has failed."""

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
def test_a_skip_for_want_of_a_program(reason: str, required: bool, outcome: str) -> None:
    item: Any = SimpleNamespace(config=SimpleNamespace(getoption={"--require-engines": required}.get))
    report = pytest.TestReport("x", ("x", 1, "x"), {}, "skipped", ("x.py", 1, reason), "call")
    judging = pytest_runtest_makereport(item)
    next(judging)
    with pytest.raises(StopIteration) as done:
        judging.send(report)
    assert done.value.value.outcome == outcome

"""The rate limit of tracebacks, reset for each test."""

from __future__ import annotations

import pytest

from daemons.rpc import faults
from daemons.serving.guards.limits import TokenBucket


@pytest.fixture(autouse=True)
def _tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_tracebacks", TokenBucket(faults.TRACEBACKS))

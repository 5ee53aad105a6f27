"""The detector of a blocked leader in a pool."""

from __future__ import annotations

import logging

import pytest

from daemons.serving.engines.pool_poller import PoolPoller
from daemons.serving.engines.stall_detector import StallDetector


def test_exception_in_the_stall_detector_is_logged_and_it_continues(caplog: pytest.LogCaptureFixture) -> None:
    poller = PoolPoller()
    detector = StallDetector(poller)
    looks: list[int] = []

    def failing() -> None:
        looks.append(1)
        raise RuntimeError("on purpose")

    detector.sample = failing  # type: ignore[method-assign]
    try:
        with caplog.at_level(logging.ERROR):
            detector.sample_safely()
            detector.sample_safely()
        assert len(looks) == 2
        assert [record.getMessage() for record in caplog.records] == [
            "pool: stall detector failed; it continues in 100 ms"
        ] * 2
    finally:
        poller.close()

"""The monitor of stalls, with a probe and a clock that are made up; and the watch over a pool's leader."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from daemons.serving.daemon import Daemon
from daemons.serving.engines import stream_server
from daemons.serving.engines.pool_poller import PoolPoller
from daemons.serving.engines.stall_detector import StallDetector
from daemons.serving.engines.stall_monitor import FRAMES, STACK_LIMIT, STALL, Probe, StallMonitor, stack_of
from daemons.serving.engines.stall_probes import PoolProbe
from daemons.serving.pump import Pump
from tests.serving.services import Echo


class Scripted(Probe):
    """Has been stuck since `since`."""

    since: float | None = None

    def stuck_since(self, now: float) -> float | None:
        return self.since

    def describe(self) -> str:
        return "the reason"


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with stream_server("loop")(("127.0.0.1", 0), Pump.carrying(Echo())) as server:
        made = Daemon([server])
        yield made
        made.shutdown()
        made.abandon()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_stall_is_logged_once_when_it_is_a_second_old_and_once_at_its_end(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    probe = Scripted()
    monitor = StallMonitor(daemon, probe)
    assert monitor.sample(100.0) == STALL
    probe.since = 100.0
    assert monitor.sample(100.25) == 0.75
    assert lines(caplog) == []
    for now in (101.0, 102.0, 103.0):
        assert monitor.sample(now) == STALL
    assert lines(caplog) == ["stalled for 1.0 s: the reason"]
    probe.since = None
    for now in (104.0, 105.0):
        monitor.sample(now)
    assert lines(caplog)[1:] == ["stall ended after 4.0 s"]


def test_many_short_operations_are_no_stall(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    probe = Scripted()
    monitor = StallMonitor(daemon, probe)
    now = 100.0
    for _ in range(100):
        probe.since = now - 0.9
        now += monitor.sample(now)
    assert lines(caplog) == []


def test_a_pool_is_stuck_only_while_the_same_message_waits() -> None:
    poller = PoolPoller()
    try:
        probe = PoolProbe(poller)
        assert probe.stuck_since(1.0) is None
        poller.put(None)
        poller.put(None)
        assert (probe.stuck_since(2.0), probe.stuck_since(2.5)) == (2.0, 2.0)
        # One goes and one comes: the second waits since the first look.
        poller.jobs.get()
        poller.put(None)
        assert probe.stuck_since(3.0) == 2.0
        poller.jobs.get()
        assert probe.stuck_since(4.0) == 3.0
        poller.jobs.get()
        assert probe.stuck_since(5.0) is None
    finally:
        poller.close()


def test_a_stack_is_one_line_that_is_bounded() -> None:
    def deep(levels: int) -> str:
        return deep(levels - 1) if levels else stack_of(threading.get_ident())

    stack = deep(50)
    assert "\n" not in stack
    assert len(stack) <= STACK_LIMIT
    assert stack.count(" <- ") < FRAMES
    assert stack_of(None) == "(a thread that has ended)"


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
        assert lines(caplog) == ["pool: stall detector failed; it continues in 100 ms"] * 2
    finally:
        poller.close()

"""The monitor of stalls, with a scripted probe and clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from daemons.serving.daemon import Daemon
from daemons.serving.engines import stream_server
from daemons.serving.engines.stall_monitor import FRAMES, STACK_LIMIT, STALL, Probe, StallMonitor, stack_of
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
    with stream_server("loop")(("127.0.0.1", 0), Pump.for_service(Echo())) as server:
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


def test_a_stack_is_one_line_that_is_bounded() -> None:
    def deep(levels: int) -> str:
        return deep(levels - 1) if levels else stack_of(threading.get_ident())

    stack = deep(50)
    assert "\n" not in stack
    assert len(stack) <= STACK_LIMIT
    assert stack.count(" <- ") < FRAMES
    assert stack_of(None) == "(a thread that has ended)"

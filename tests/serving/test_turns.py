"""Turns of the threads that answer pipelined messages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from daemons import Service, Until
from daemons.serving import turns
from daemons.serving.pump import Pump
from daemons.serving.turns import PIPELINED, Turns
from tests.serving.peers import DEADLINE, ask, connect
from tests.serving.running import Within


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a turn take any time, as on a busy machine."""
    monkeypatch.setattr(turns, "PATIENCE", DEADLINE)


@pytest.mark.usefixtures("patient")
def test_calls_run_one_at_a_time_and_return_their_results() -> None:
    running, most, pause = 0, 0, threading.Event()

    def call(data: bytes) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        pause.wait(0.001)
        running -= 1
        return data.upper()

    taken = Turns()
    inputs = [b"a%d" % number for number in range(100)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda data: taken.call(call, data), inputs)) == [data.upper() for data in inputs]
    assert most == 1


@pytest.mark.usefixtures("patient")
def test_turn_ends_with_an_exception() -> None:
    taken = Turns()
    with pytest.raises(ZeroDivisionError):
        taken.call(lambda data: 1 // len(data), b"")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(taken.call, len, b"abc").result(DEADLINE / 2) == 3


def test_call_that_blocks_does_not_stop_the_others() -> None:
    taken, blocked, released = Turns(), threading.Event(), threading.Event()

    def block(data: bytes) -> bytes:
        blocked.set()
        assert released.wait(DEADLINE)
        return data

    with ThreadPoolExecutor(4) as pool:
        blocking = pool.submit(taken.call, block, b"a")
        assert blocked.wait(DEADLINE)
        try:
            assert [pool.submit(taken.call, len, b"b").result(DEADLINE) for _ in range(5)] == [1] * 5
            assert not blocking.done()
        finally:
            released.set()
        assert blocking.result(DEADLINE) == b"a"


class LongEcho(Service):
    """Echo lines of up to 4,096 bytes."""

    framing = Until(b"\n", limit=4096)

    def respond(self, line: bytes) -> bytes:
        return line


class Counted(Turns):
    """Turns that record the inputs processed in them."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[bytes] = []

    def call(self, function: Callable[[bytes], turns.T], data: bytes) -> turns.T:
        self.inputs.append(data)
        return super().call(function, data)


def test_only_a_peer_that_pipelines_waits_for_turns(
    within: Callable[..., Within], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted()
    monkeypatch.setattr(turns, "PROCESS", counted)
    running = within("threads", Pump.for_service(LongEcho()))
    long = b"a" * 3000 + b"\n"
    with connect(running.address) as peer:
        for _ in range(10):
            ask(peer, long, long)
            ask(peer, b"b\n", b"b\n")
        assert counted.inputs == []
        many = b"c\n" * 1000 * PIPELINED
        for _ in range(10):
            ask(peer, many, many)
        assert counted.inputs
        ask(peer, b"b\n", b"b\n")

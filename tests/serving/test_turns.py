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


class Slow(LongEcho):
    """The same, but one line is answered only after an event."""

    def __init__(self, released: threading.Event) -> None:
        super().__init__()
        self._released = released

    def respond(self, line: bytes) -> bytes:
        if line == b"slow\n":
            assert self._released.wait(DEADLINE)
        return line


class Counted(Turns):
    """Turns that are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    def take(self) -> bool:
        self.taken += 1
        return super().take()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    made = Counted()
    monkeypatch.setattr(turns, "PROCESS", made)
    return made


LONG = b"a" * 3000 + b"\n"
MANY = b"c\n" * 1000 * PIPELINED


def test_only_a_peer_that_pipelines_waits_for_turns(within: Callable[..., Within], counted: Counted) -> None:
    running = within("threads", Pump.for_service(LongEcho()))
    with connect(running.address) as peer:
        for _ in range(10):
            ask(peer, LONG, LONG)
            ask(peer, b"b\n", b"b\n")
        assert counted.taken == 0
        for _ in range(10):
            ask(peer, MANY, MANY)
        assert counted.taken > 0
        ask(peer, b"b\n", b"b\n")


def test_workers_of_a_pool_take_turns(within: Callable[..., Within], counted: Counted) -> None:
    released = threading.Event()
    running = within("pool", Pump.for_service(Slow(released)))
    with connect(running.address) as slow, connect(running.address) as peer:
        slow.sendall(b"slow\n")  # from now on workers answer
        try:
            ask(peer, LONG, LONG)
            assert counted.taken == 0
            for _ in range(10):
                ask(peer, MANY, MANY)
            assert counted.taken > 0
            ask(peer, b"b\n", b"b\n")
        finally:
            released.set()
        ask(slow, b"", b"slow\n")

"""Limits on the number and rate of connections, and deadlines, under every engine."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from tests.serving.conftest import ENGINES, Run
from tests.serving.peers import ask, connect, converse, eventually, hear, hear_all, is_gone, name_of, queued, reset
from tests.serving.running import Process, Within, access_of
from tests.serving.services import Echo, Patient

several = pytest.mark.parametrize("way", ["threads in this process", "forks", "pool", "loop"], indirect=True)


@several
def test_connection_beyond_max_connections_waits_unaccepted(run: Run) -> None:
    running = run(Echo, max_connections="2")
    with ExitStack() as stack:
        first, second = (stack.enter_context(connect(running.address)) for _ in range(2))
        ask(first, b"a\n", b"a\n")
        ask(second, b"b\n", b"b\n")
        running.log_line("accept: limit of 2 connections reached; new ones wait in the kernel's queue")
        third = stack.enter_context(connect(running.address))
        third.sendall(b"c\n")
        ask(first, b"d\n", b"d\n")
        assert queued(running.address) == 1
        second.shutdown(socket.SHUT_WR)
        hear(third, b"c\n")
        assert queued(running.address) == 0


@pytest.mark.parametrize("way", ["one in this process", "one"], indirect=True)
def test_one_serves_one_connection_regardless_of_max_connections(run: Run) -> None:
    running = run(Echo, max_connections="9")
    with connect(running.address) as first, connect(running.address) as second, connect(running.address) as third:
        for peer in (third, second):
            peer.sendall(b"waiting\n")
        ask(first, b"a\n", b"a\n")
        assert queued(running.address) == 2
        ask(first, b"b\n", b"b\n")
        first.close()
        hear(second, b"waiting\n")
        assert queued(running.address) == 1
        second.close()
        hear(third, b"waiting\n")


@several
def test_a_peer_with_too_many_connections_is_refused_until_one_of_them_ends(run: Run) -> None:
    running = run(Echo, max_per_peer="2")
    with connect(running.address) as first, connect(running.address) as second:
        ask(first, b"a\n", b"a\n")
        ask(second, b"a\n", b"a\n")
        with connect(running.address) as third:
            assert hear_all(third) == b""
            assert access_of(running, name_of(third)) == ("refused", "0")
        ask(first, b"b\n", b"b\n")
        with socket.socket() as other:
            # Another address of this machine is another peer.
            other.bind(("127.0.0.2", 0))
            other.connect(running.address)
            ask(other, b"c\n", b"c\n")
        name = name_of(first)
        first.close()
        access_of(running, name)
        while is_refused(running.address):  # under forks, until the child's end is noticed
            pass


def is_refused(address: tuple[str, int]) -> bool:
    with connect(address) as peer:
        try:
            ask(peer, b"a\n", b"a\n")
        except (AssertionError, ConnectionError):
            return True
        return False


def test_peers_on_this_machine_are_exempt_unless_max_per_peer_is_set(within: Callable[..., Within]) -> None:
    running = within("threads", Pump.for_service(Echo()), Limits(max_connections=4))
    with ExitStack() as stack:
        peers = [stack.enter_context(connect(running.address)) for _ in range(4)]
        for peer in peers:
            ask(peer, b"a\n", b"a\n")


@pytest.mark.parametrize("engine", ENGINES)
def test_connection_beyond_max_rate_waits_unaccepted(engine: str, process: Callable[..., Process]) -> None:
    running = process("tests.serving.services:Echo", engine, "limits.max_rate=1/h", "limits.drain_timeout=400ms")
    heard, name = converse(running.address, b"a\n")
    assert heard == b"a\n"
    access_of(running, name)
    with connect(running.address) as second:
        second.sendall(b"b\n")
        assert queued(running.address) == 1
        running.signal()
        assert is_gone(second)
    assert running.wait() == 0
    assert running.all_said()[0].count(" messages=") == 1


def test_connections_within_max_rate_do_not_wait(run: Run) -> None:
    running = run(Echo, max_rate="100/s")
    for _ in range(20):
        assert converse(running.address, b"a\n")[0] == b"a\n"


# --- the service's time is not the peer's ----------------------------------------------------------


@pytest.mark.parametrize("pieces", [[b"a\n"], [b"a", b"\n"]], ids=["whole", "in two pieces"])
def test_deadline_does_not_apply_while_the_service_runs(pieces: list[bytes], within: Callable[..., Within]) -> None:
    asked, thought = threading.Event(), threading.Event()

    class Thinking(Echo):
        def respond(self, line: bytes) -> bytes:
            asked.set()
            thought.wait()
            return line

    running = within("threads", Pump.for_service(Thinking()), Limits(idle_timeout=1.0, message_timeout=1.0))
    with connect(running.address) as peer, ExitStack() as stack:
        stack.callback(thought.set)
        for piece in pieces:
            peer.sendall(piece)
        asked.wait()
        # When the later connections are closed, the first has exceeded its timeouts too.
        with connect(running.address) as idle, connect(running.address) as slow:
            slow.sendall(b"b")
            assert is_gone(idle)
            assert is_gone(slow)
        thought.set()
        hear(peer, b"a\n")


def test_long_message_may_take_all_of_message_timeout(run: Run) -> None:
    size = 8 * 1024 * 1024
    heard, _ = converse(run(Patient).address, b"a" * (size - 1) + b"\n")
    assert heard == b"%d\n" % size


@several
def test_peer_with_regular_requests_is_never_idle(run: Run) -> None:
    running = run(Echo, idle_timeout="1s", message_timeout="1s")
    with connect(running.address) as busy:
        for _ in range(2):
            with connect(running.address) as silent:
                while not select.select([silent], [], [], 0.02)[0]:
                    ask(busy, b"a\n", b"a\n")
                assert is_gone(silent)
        ask(busy, b"b\n", b"b\n")


# --- coming and going ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "count"), [("one", 500), ("threads", 5000), ("forks", 200), ("pool", 5000), ("loop", 5000)]
)
def test_immediate_resets_and_closes_leave_no_descriptor_and_no_traceback(
    engine: str, count: int, process: Callable[..., Process]
) -> None:
    """Promise 15: "RST, half-close, connect-and-leave x5,000: descriptors back to the start, no traceback"."""
    running = process("tests.serving.services:Echo", engine)

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{running.pid}/fd"))

    before = descriptors()
    for number in range(count):
        with connect(running.address) as peer:
            if number % 3 == 0:
                peer.sendall(b"a\nhalf")
            if number % 4 == 1:
                peer.shutdown(socket.SHUT_WR)
            if number % 2:
                reset(peer)
        if number % 500 == 499:  # let in, all of them: the queue of a listener is not endless
            assert converse(running.address, b"a\n")[0] == b"a\n"
    lines = running.log_lines(" messages=", count=count + count // 500)
    assert len(lines) == count + count // 500
    eventually(lambda: descriptors() == before)
    running.signal()
    assert running.wait() == 0
    log, errors = running.all_said()
    assert [line for line in log.splitlines() if " failed" in line or "Traceback" in line] == []
    assert errors == ""

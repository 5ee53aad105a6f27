"""SIGTERM: requests received before it are answered, idle connections are closed, and the daemon ends."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.serving.conftest import ENGINES
from tests.serving.peers import ask, children_of, connect, eventually, hear, hear_all, is_gone, name_of, queued
from tests.serving.running import Process, access_of
from tests.serving.without_eviction import launch

each_engine = pytest.mark.parametrize("engine", ENGINES)
crowds = pytest.mark.parametrize("engine", ["threads", "forks", "pool", "loop"])
Launch = Callable[..., Process]

ECHO = "tests.serving.services:Echo"
LOST = "tests.serving.services:Lost"


@crowds
def test_active_queued_and_idle_connections_end_properly(engine: str, process: Launch) -> None:
    """Promise 5: "50 messages in progress, 50 connections in the accept queue with a request sent, 50 idle: 100 of 100
    answered, idle ones closed, exit 0"."""
    running = process(ECHO, engine, "limits.max_connections=100", "limits.drain_timeout=1m", launch=launch)
    with ExitStack() as stack:

        def visitor() -> socket.socket:
            return stack.enter_context(connect(running.address))

        idle, busy = [visitor() for _ in range(50)], [visitor() for _ in range(50)]
        for peer in idle:
            ask(peer, b"a\n", b"a\n")
        for peer in busy:
            peer.sendall(b"ha")
        running.log_line("accept: limit of 100 connections reached")
        waiting = [visitor() for _ in range(50)]
        for peer in waiting:
            peer.sendall(b"b\n")
        assert queued(running.address) == 50
        running.signal()
        for peer in idle:
            assert hear_all(peer) == b""
        for peer in waiting:
            hear(peer, b"b\n")
        for peer in busy:
            ask(peer, b"lf\n", b"half\n")
        for peer in (*busy, *waiting):
            assert hear_all(peer) == b""
    assert running.wait() == 0
    log, errors = running.all_said()
    assert errors == ""
    assert re.findall(r" (\w+) messages=1 ", log) == ["drained"] * 150


def test_one_serves_the_whole_queue_during_a_drain(process: Launch) -> None:
    """The same of `one`, which has a single place: one message in progress, 50 in the queue with a request sent."""
    running = process(ECHO, "one", "limits.drain_timeout=1m")
    with ExitStack() as stack:
        busy, *waiting = [stack.enter_context(connect(running.address)) for _ in range(51)]
        ask(busy, b"a\nha", b"a\n")
        for peer in waiting:
            peer.sendall(b"b\n")
        running.signal()
        running.log_line("stopping")
        ask(busy, b"lf\n", b"half\n")
        for peer in waiting:
            hear(peer, b"b\n")
        for peer in (busy, *waiting):
            assert hear_all(peer) == b""
    assert running.wait() == 0
    assert len(re.findall(r" drained messages=[12] ", running.all_said()[0])) == 51


@each_engine
def test_reply_in_progress_is_sent_completely(engine: str, process: Launch) -> None:
    running = process("tests.serving.services:Loud", engine)
    with connect(running.address) as peer:
        peer.sendall(b"a\n")
        hear(peer, b"x")
        running.signal()
        running.log_line("stopping")
        assert len(hear_all(peer)) == 32 * 1024 * 1024 - 1
    assert running.wait() == 0


@each_engine
def test_complete_messages_in_the_kernel_are_answered_before_the_end(engine: str, process: Launch) -> None:
    running = process(ECHO, engine)
    with connect(running.address) as peer:
        ask(peer, b"a\n", b"a\n")
        running.process.send_signal(signal.SIGSTOP)
        peer.sendall(b"b\nc\n")
        running.signal()
        running.process.send_signal(signal.SIGCONT)
        hear(peer, b"b\nc\n")
        assert hear_all(peer) == b""
    assert running.wait() == 0


@each_engine
def test_half_a_message_is_cut_after_drain_timeout(engine: str, process: Launch) -> None:
    running = process(ECHO, engine, "limits.drain_timeout=200ms")
    with connect(running.address) as peer:
        ask(peer, b"a\nha", b"a\n")
        running.signal()
        assert is_gone(peer)
        assert access_of(running, name_of(peer)) == ("stopped", "1")
    assert running.wait() == 0


@each_engine
def test_second_sigterm_ends_the_daemon_at_once(engine: str, process: Launch) -> None:
    running = process(ECHO, engine, "limits.drain_timeout=1h")
    with connect(running.address) as peer:
        ask(peer, b"a\nha", b"a\n")
        running.signal()
        running.log_line("stopping")
        running.insist()
        assert is_gone(peer)
        assert access_of(running, name_of(peer)) == ("stopped", "1")
    assert running.wait() == 0


@each_engine
def test_second_sigterm_ends_the_daemon_at_once_with_a_full_queue(engine: str, process: Launch) -> None:
    running = process(ECHO, engine, "limits.drain_timeout=1h", "limits.max_connections=1")
    with connect(running.address) as peer, connect(running.address) as waiting:
        ask(peer, b"a\nha", b"a\n")
        assert queued(running.address) == 1
        running.signal()
        running.log_line("stopping")
        running.insist()
        assert is_gone(peer)
        assert is_gone(waiting)
    assert running.wait() == 0


@pytest.mark.parametrize(
    ("engine", "again"), [("one", False), ("threads", False), ("forks", False), ("threads", True), ("forks", True)]
)
def test_service_that_never_returns_does_not_keep_the_daemon_from_ending(
    engine: str, again: bool, process: Launch
) -> None:
    running = process(LOST, engine, f"limits.drain_timeout={'1h' if again else '200ms'}")
    with connect(running.address) as peer:
        peer.sendall(b"a\n")
        running.log_line("asked")
        running.signal()
        running.log_line("stopping: draining 1 connections")
        if again:
            running.insist()
        assert is_gone(peer)
    assert running.wait() == 0


@pytest.mark.parametrize(
    ("engine", "number"), [("one", signal.SIGTERM), ("threads", signal.SIGINT), ("forks", signal.SIGTERM)]
)
def test_daemon_without_connections_ends(engine: str, number: signal.Signals, process: Launch) -> None:
    running = process(ECHO, engine)
    running.signal(number)
    assert running.wait() == 0


@each_engine
def test_unused_signal_changes_nothing(engine: str, process: Launch) -> None:
    running = process(ECHO, engine)
    with connect(running.address) as peer:
        ask(peer, b"a\n", b"a\n")
        running.signal(signal.SIGHUP)
        ask(peer, b"b\n", b"b\n")
        for child in children_of(running.pid):
            assert engine == "forks"
            assert child != running.pid
    with connect(running.address) as peer:
        ask(peer, b"a\n", b"a\n")


@crowds
def test_connection_after_the_signal_is_refused(engine: str, process: Launch) -> None:
    running = process(ECHO, engine)
    with connect(running.address) as busy:
        ask(busy, b"a\nha", b"a\n")
        running.signal()
        running.log_line("stopping")
        eventually(lambda: is_refused(running.address))  # the listener is closed a moment after the line
        ask(busy, b"lf\n", b"half\n")
    assert running.wait() == 0


def is_refused(address: tuple[str, int]) -> bool:
    try:
        connect(address).close()
    except ConnectionResetError:
        return False  # in the queue of a listener that closes at this moment
    except ConnectionRefusedError:
        return True
    return False

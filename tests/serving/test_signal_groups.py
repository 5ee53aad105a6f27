"""A signal that arrives twice by two ways, as to the process group and then from the parent, means the same as once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from daemons.serving import signals
from tests.serving.peers import ask, children_of, connect, eventually, is_gone
from tests.serving.running import Process

Launch = Callable[..., Process]
ECHO = "tests.serving.services:Echo"

each_engine = pytest.mark.parametrize("engine", ["one", "threads", "forks", "pool", "loop"])
one_or_several = pytest.mark.parametrize("processes", [1, 2])


def session(command: list[str]) -> list[str]:
    """Start it as the leader of a process group of its own."""
    return ["setsid", *command]


@each_engine
@one_or_several
@pytest.mark.parametrize("number", signals.STOPPING)
def test_a_stop_of_the_process_group_drains(
    engine: str, processes: int, number: signal.Signals, process: Launch
) -> None:
    running = process(ECHO, engine, processes=processes, launch=session)
    with connect(running.address) as peer:
        ask(peer, b"a\nha", b"a\n")
        os.killpg(running.pid, number)
        running.log_line("stopping: draining 1 connections")
        ask(peer, b"lf\n", b"half\n")
        assert is_gone(peer)
    assert running.wait() == 0
    assert running.all_said()[0].count(" drained messages=2 ") == 1


@one_or_several
@pytest.mark.parametrize("engine", ["threads", "forks"])
def test_a_stop_of_the_process_and_then_of_its_group_drains(engine: str, processes: int, process: Launch) -> None:
    """As timeout(1) does it."""
    running = process(ECHO, engine, processes=processes, launch=session)
    with connect(running.address) as peer:
        ask(peer, b"a\nha", b"a\n")
        running.signal()
        os.killpg(running.pid, signal.SIGTERM)
        ask(peer, b"lf\n", b"half\n")
        assert is_gone(peer)
    assert running.wait() == 0
    assert " drained messages=2 " in running.all_said()[0]


@one_or_several
@each_engine
def test_the_signal_to_cut_ends_everything_at_once_also_to_the_group(
    engine: str, processes: int, process: Launch
) -> None:
    running = process(ECHO, engine, "limits.drain_timeout=1h", processes=processes, launch=session)
    with connect(running.address) as peer:
        ask(peer, b"a\nha", b"a\n")
        os.killpg(running.pid, signals.CUT)
        assert is_gone(peer)
    assert running.wait() == 0
    assert " stopped messages=1 " in running.all_said()[0]


@one_or_several
@each_engine
def test_signals_that_mean_nothing_to_a_daemon_change_nothing(engine: str, processes: int, process: Launch) -> None:
    running = process(ECHO, engine, processes=processes, launch=session)
    with connect(running.address) as peer:
        ask(peer, b"a\nha", b"a\n")
        for number in (signals.REOPEN, signal.SIGUSR2, signal.SIGALRM):
            os.killpg(running.pid, number)
        ask(peer, b"lf\n", b"half\n")


@pytest.mark.parametrize("engine", ["threads", "loop", "forks"])
def test_sighup_then_sigterm_lets_the_retired_workers_drain(engine: str, process: Launch) -> None:
    running = process(ECHO, engine, processes=2)
    old = set(children_of(running.pid))
    with ExitStack() as stack:
        peers = [stack.enter_context(connect(running.address)) for _ in range(6)]
        for peer in peers:
            ask(peer, b"a\nha", b"a\n")
        running.signal(signal.SIGHUP)
        # All the old ones drain for their successors.
        eventually(lambda: len(set(children_of(running.pid)) - old) == 2)
        for pid in old:
            running.log_line(f"[{pid}] stopping")
        running.signal()
        for pid in set(children_of(running.pid)) - old:
            running.log_line(f"[{pid}] stopping")
        for peer in peers:
            ask(peer, b"lf\n", b"half\n")
            assert is_gone(peer)
    assert running.wait() == 0
    assert running.all_said()[0].count(" drained messages=2 ") == 6


def test_worker_that_gets_sigterm_itself_drains_and_is_replaced(process: Launch) -> None:
    running = process(ECHO, "threads", processes=2)
    with ExitStack() as stack:
        peers = [stack.enter_context(connect(running.address)) for _ in range(4)]
        for peer in peers:
            ask(peer, b"a\nha", b"a\n")
        old = children_of(running.pid)
        for pid in (*old, *old):
            os.kill(pid, signal.SIGTERM)
        for pid in old:
            running.log_line(f"[{pid}] stopping")
        for peer in peers:
            ask(peer, b"lf\n", b"half\n")
            assert is_gone(peer)
        eventually(lambda: len(now := children_of(running.pid)) == 2 and not set(now) & set(old))

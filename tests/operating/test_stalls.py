"""A stall of more than a second is one log line with the stack, and a counter."""

from __future__ import annotations

import json
import re
import signal
import socket
from contextlib import ExitStack

import pytest

from daemons.operating.metrics import stats
from daemons.serving import signals
from tests.operating.folder import Folder
from tests.operating.live import Live, alive, children, daemons, see_turns, until

#: Answers at once; or, when asked to, as soon as there is a file ``go``: waiting or computing until then.
#: `os.access` is in C: the innermost frame stays that of the service.
SLOW = """
    import ctypes
    import os
    import time
    import daemons

    class Service(daemons.Service):
        framing = daemons.Until(b"?", limit=64)

        def respond(self, message):
            if message == b"sleep?":
                while not os.access("go", os.F_OK):
                    time.sleep(0.02)
            if message == b"compute?":
                while not os.access("go", os.F_OK):
                    pass
            if message == b"hold?":
                ctypes.PyDLL(None).sleep(3)  # with the interpreter, which no other thread then gets
            if message == b"forever?":
                while True:
                    pass
            return b"."
"""

INI = "[daemon]\nservice = slow:Service\nport = 0\n[limits]\ndrain_timeout = 100ms\n"

BEGUN = re.compile(r" WARNING \S+ stalled for \d+\.\d s: (?P<what>.*)")
OVER = re.compile(r" WARNING \S+ stall ended after \d+\.\d s$", re.MULTILINE)


@pytest.fixture
def slow(folder: Folder) -> Folder:
    folder.module("slow", SLOW)
    folder.write("x", INI)
    return folder


def figures(folder: Folder) -> stats.Figures:
    return stats.read(folder.path / "run" / "x.metrics")


def expect_one_stall(folder: Folder) -> None:
    """Wait for the stall in the metrics: the file is a copy, made up to a second after the log line."""
    until(lambda: figures(folder).stalls, "the stall in the metrics")
    assert figures(folder).stalls == 1


def go(folder: Folder) -> None:
    """Let the slow calls return."""
    (folder.path / "go").touch()


def stall(daemon: Live) -> str:
    """Wait for the log line of a stall; return it."""
    found = until(lambda: BEGUN.search(daemon.out), "the line")
    assert found
    return found["what"]


def asked(stack: ExitStack, daemon: Live, message: bytes) -> socket.socket:
    peer = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 20.0))
    peer.sendall(message)
    return peer


@pytest.mark.parametrize("message", [b"sleep?", b"compute?"])
@pytest.mark.parametrize(
    ("engine", "processes"), [("loop", "1"), ("loop", "2"), ("one", "1"), ("one", "2"), ("forks", "1")]
)
def test_a_slow_call_is_one_line_with_its_stack_and_one_when_it_is_over(
    slow: Folder, engine: str, processes: str, message: bytes
) -> None:
    with Live(slow.path, "x", "--engine", engine, "--processes", processes) as daemon, ExitStack() as stack:
        peer = asked(stack, daemon, message)
        what = stall(daemon)
        assert re.search(r"at slow\.py:\d+ Service\.respond <- ", what)
        # With several processes, the one that was started copies the figures once a second.
        until(lambda: figures(slow).stalled is not None, "the stall in the metrics")
        go(slow)
        assert peer.recv(1) == b"."
        until(lambda: OVER.search(daemon.out), "its end")
        until(lambda: figures(slow).stalled is None, "the end in the metrics")
        expect_one_stall(slow)
        peer.close()
        assert daemon.stop() == 0
        assert (len(BEGUN.findall(daemon.out)), len(OVER.findall(daemon.out))) == (1, 1)


def test_a_pool_without_a_free_thread_is_a_line_if_messages_wait(slow: Folder) -> None:
    with Live(slow.path, "x", "--engine", "pool", "--set", "daemon.threads=3") as daemon, ExitStack() as stack:
        peers = [asked(stack, daemon, b"sleep?") for _ in range(5)]
        what = stall(daemon)
        held = r"no free thread: 3 busy, \d messages waiting; 3 of them at slow\.py:\d+ Service\.respond <- .*"
        assert re.fullmatch(held, what), what
        go(slow)
        for peer in peers:
            assert peer.recv(1) == b"."
        until(lambda: OVER.search(daemon.out), "its end")
        expect_one_stall(slow)


def test_pool_with_a_slow_call_and_no_waiting_message_is_not_stalled(slow: Folder) -> None:
    with Live(slow.path, "x", "--engine", "pool") as daemon, ExitStack() as stack:
        peers = [asked(stack, daemon, b"sleep?") for _ in range(3)]
        see_turns(lambda: figures(slow), 3)  # longer than a stall has to last to be one
        go(slow)
        for peer in peers:
            assert peer.recv(1) == b"."
        assert daemon.stop() == 0
        assert "stall" not in daemon.out


@pytest.mark.parametrize("engine", ["threads", "forks"])
def test_a_daemon_without_a_free_place_is_a_line_if_connections_wait(slow: Folder, engine: str) -> None:
    options = ["--engine", engine, "--set", "limits.max_connections=2"]
    with Live(slow.path, "x", *options) as daemon, ExitStack() as stack:
        peers = [asked(stack, daemon, b"?") for _ in range(2)]
        for peer in peers:
            assert peer.recv(1) == b"."
        waiting = asked(stack, daemon, b"?")
        what = stall(daemon)
        assert what.startswith("limit of connections reached: 2 open, and more wait")
        assert engine == "forks" or what.endswith("; all of them are waiting for their peers")
        peers.pop().close()
        assert waiting.recv(1) == b"."
        until(lambda: OVER.search(daemon.out), "its end")
        expect_one_stall(slow)


def test_the_threads_that_hold_the_places_are_shown(slow: Folder) -> None:
    options = ["--engine", "threads", "--set", "limits.max_connections=2"]
    with Live(slow.path, "x", *options) as daemon, ExitStack() as stack:
        peers = [asked(stack, daemon, b"sleep?") for _ in range(3)]
        what = stall(daemon)
        assert re.search(r"; 2 of them at slow\.py:\d+ Service\.respond <- ", what)
        go(slow)
        for peer in peers[:2]:
            assert peer.recv(1) == b"."


@pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop", "forks"])
def test_an_idle_daemon_and_an_idle_peer_are_no_stalls(slow: Folder, engine: str) -> None:
    with Live(slow.path, "x", "--engine", engine) as daemon, ExitStack() as stack:
        peer = asked(stack, daemon, b"?")
        assert peer.recv(1) == b"."
        see_turns(lambda: figures(slow), 3)  # longer than a stall has to last to be one
        assert "stall" not in daemon.out
        assert figures(slow).stalls == 0


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signals.CUT])
def test_stalled_loop_ends_at_a_stop_signal_with_a_log_line(
    slow: Folder, processes: str, number: signal.Signals
) -> None:
    with Live(slow.path, "x", "--engine", "loop", "--processes", processes) as daemon, ExitStack() as stack:
        asked(stack, daemon, b"forever?")
        until(lambda: BEGUN.search(daemon.out), "the stall")
        code = daemon.stop(number)
        assert code == (1 if processes == "1" else 0)
        last = re.search(r" ERROR \S+ stopping: the event loop is blocked; .* at slow\.py:\d+ ", daemon.out)
        assert last, daemon.out


def test_a_worker_whose_loop_never_comes_back_does_not_outlive_its_parent(slow: Folder) -> None:
    with Live(slow.path, "x", "--engine", "loop", "--processes", "2") as daemon, ExitStack() as stack:
        workers = children(daemon.process.pid)
        for _ in range(6):
            asked(stack, daemon, b"forever?")
        stall(daemon)
        daemon.stop(signal.SIGKILL)
        until(lambda: not any(map(alive, workers)), "the workers' end")


@pytest.mark.parametrize("engine", ["loop", "pool", "one", "threads"])
def test_code_in_c_that_holds_the_interpreter_is_a_line_afterwards(slow: Folder, engine: str) -> None:
    with Live(slow.path, "x", "--engine", engine) as daemon, ExitStack() as stack:
        peer = asked(stack, daemon, b"hold?")
        assert peer.recv(1) == b"."
        until(lambda: re.search(r" stalled for \d\.\d s until now: a C extension held", daemon.out), "the line")
        expect_one_stall(slow)


def test_stats_distinguishes_running_hanging_and_dead_daemons(slow: Folder) -> None:
    def code(*options: str) -> int:
        return daemons(slow.path, "stats", "x", *options).returncode

    assert code() == 4  # it has never run
    with Live(slow.path, "x", "--engine", "loop") as daemon, ExitStack() as stack:
        assert code() == 0
        asked(stack, daemon, b"sleep?")
        until(lambda: figures(slow).state == "hanging", "that it hangs")
        assert code() == code("--json") == 3
        assert json.loads(daemons(slow.path, "stats", "x", "--json").stdout)["stalled"] > 5
        assert re.search(r"x: hanging, .*, heartbeat \d+\.\d s ago", daemons(slow.path, "stats", "x").stdout)
        daemon.stop(signal.SIGKILL)
    assert figures(slow).state == "dead"
    assert code() == 4
    with Live(slow.path, "x", "--engine", "loop") as daemon:
        assert daemon.stop() == 0
    assert figures(slow).state == "stopped"
    assert code() == 4


def test_stats_without_a_name_has_a_line_for_each_daemon_and_the_worst_code(slow: Folder) -> None:
    slow.write("y", INI)
    with Live(slow.path, "x", "--engine", "loop"):
        both = daemons(slow.path, "stats")
        assert both.returncode == 4
        assert re.fullmatch(r"x +running +\d+ .*\ny +not running.*\n", both.stdout), both.stdout
        with Live(slow.path, "y", "--engine", "one"):
            assert daemons(slow.path, "stats").returncode == 0
            values = json.loads(daemons(slow.path, "stats", "--json").stdout)
            assert [each["name"] for each in values] == ["x", "y"]

"""Engine `forks`: a child process per connection; all children are reaped, and a killed child affects no other."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from daemons.serving.datagram import Datagram, DatagramConnection
from daemons.serving.engines import datagram_server
from daemons.serving.engines.forks import Child
from daemons.serving.pump import Pump
from tests.serving.peers import ask, children_of, connect, converse, ended, eventually, hear, is_gone, name_of
from tests.serving.running import Process, access_of
from tests.serving.services import Echo

Launch = Callable[..., Process]


def test_each_conversation_has_a_process_of_its_own_and_no_zombie_is_left(process: Launch) -> None:
    running = process("tests.serving.services:Process", "forks")
    with ExitStack() as stack:
        peers = [stack.enter_context(connect(running.address)) for _ in range(5)]
        found = set()
        for peer in peers:
            peer.sendall(b"pid?\n")
            found.add(int(peer.makefile().readline()))
        assert found == set(children_of(running.pid))
        assert len(found) == 5
    eventually(lambda: children_of(running.pid) == [])


def test_killed_child_ends_its_own_connection_alone(process: Launch) -> None:
    running = process("tests.serving.services:Process", "forks")
    with connect(running.address) as unlucky, connect(running.address) as other:
        for peer in (unlucky, other):
            peer.sendall(b"pid?\n")
        pid, mine = (int(peer.makefile().readline()) for peer in (unlucky, other))
        os.kill(pid, signal.SIGKILL)
        assert is_gone(unlucky)
        assert f"{name_of(unlucky)}: child {pid} was killed by signal 9" in running.log_line("child")
        ask(other, b"pid?\n", b"%d\n" % mine)
        assert children_of(running.pid) == [mine]
    assert converse(running.address, b"pid?\n")[0] not in (b"", b"%d\n" % pid)


def test_a_child_that_is_killed_gives_its_place_back(process: Launch) -> None:
    running = process("tests.serving.services:Process", "forks", "limits.max_connections=1", "limits.max_per_peer=1")
    for _ in range(3):
        with connect(running.address) as peer:
            peer.sendall(b"pid?\n")
            os.kill(int(peer.makefile().readline()), signal.SIGKILL)
            assert is_gone(peer)


def test_child_drains_on_sigterm(process: Launch) -> None:
    running = process("tests.serving.services:Echo", "forks")
    with connect(running.address) as peer:
        ask(peer, b"a\nha", b"a\n")
        (child,) = children_of(running.pid)
        os.kill(child, signal.SIGTERM)
        running.log_line("stopping", f"[{child}]")
        ask(peer, b"lf\n", b"half\n")
        assert is_gone(peer)
        assert access_of(running, name_of(peer)) == ("drained", "2")
    assert converse(running.address, b"a\n")[0] == b"a\n"


def test_children_do_not_outlive_a_parent_that_is_killed(process: Launch) -> None:
    running = process("tests.serving.services:Echo", "forks")
    with connect(running.address) as idle, connect(running.address) as busy:
        ask(idle, b"a\n", b"a\n")
        ask(busy, b"a\nha", b"a\n")
        children = children_of(running.pid)
        assert len(children) == 2
        running.signal(signal.SIGKILL)
        ended(children)
        assert is_gone(idle)
        assert is_gone(busy)
    assert running.wait() == -signal.SIGKILL


def test_child_whose_watchdog_cannot_start_logs_it_and_retries(process: Launch) -> None:
    running = process("tests.serving.services:Starving", "forks")
    with connect(running.address) as peer:
        ask(peer, b"starve\n", b"starve\n")
        (child,) = children_of(running.pid)
        os.kill(child, signal.SIGTERM)
        running.log_line(f"[{child}] deadline watchdog could not start", "Too many open files")
        ask(peer, b"feed\n", b"feed\n")
        running.log_line(f"[{child}] stopping")  # signals received meanwhile are not lost
        assert is_gone(peer)
        assert access_of(running, name_of(peer)) == ("drained", "2")


IGNORING = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.parametrize("processes", [1, 2])
def test_forks_serve_if_sigchld_is_ignored(processes: int, process: Launch) -> None:
    running = process(
        "tests.serving.services:Echo",
        "forks",
        processes=processes,
        launch=lambda command: [sys.executable, "-c", IGNORING, *command],
    )
    for _ in range(5):
        assert converse(running.address, b"a\n")[0] == b"a\n"
    with connect(running.address) as peer:
        peer.sendall(b"a\n")
        hear(peer, b"a\n")


@pytest.mark.parametrize("handler", ["Executing", "Closing"])
def test_a_handler_that_execs_or_closes_descriptors_does_not_stop_the_others(handler: str, process: Launch) -> None:
    running = process(f"tests.serving.services:{handler}", "forks", key="handler")
    with connect(running.address) as held:
        hear(held, b"held\n")
        (child,) = children_of(running.pid)
        for _ in range(3):
            with connect(running.address) as other:
                hear(other, b"held\n")
        eventually(lambda: child in children_of(running.pid))
        running.signal(signal.SIGHUP)  # it is not deaf
        running.log_line("reloaded")
    eventually(lambda: children_of(running.pid) == [])


def test_child_that_replies_to_a_datagram_is_not_asked_to_give_way() -> None:
    server: Any = datagram_server("forks")(("127.0.0.1", 0), Pump.for_service(Echo()))
    connection = DatagramConnection(Datagram((b"a", server.socket)), ("127.0.0.1", 9), 10.0)
    server.children[os.getpid()] = Child(connection, 0, -1)
    try:
        assert server.candidates(connection.opened + 100.0) == []
    finally:
        server.children.clear()
        server.server_close()

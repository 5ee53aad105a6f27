"""A daemon: several servers behind one selector, in one thread."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemons.serving.daemon import OVER, Daemon
from daemons.serving.engines import Threads
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.serving.peers import DEADLINE, ask, connect, hear, is_gone, queued
from tests.serving.services import Echo


class Server(Threads, StreamServer):
    pass


ECHO = Pump.for_service(Echo())


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def serve(stack: ExitStack, daemon: Daemon) -> threading.Thread:
    """Serve in a thread until the end of the test, or before."""
    thread = threading.Thread(target=daemon.serve_forever)
    thread.start()
    stack.callback(thread.join)
    stack.callback(daemon.shutdown)
    return thread


def tell(daemon: Daemon, number: signal.Signals) -> None:
    """As a signal would: its number goes to the waker, signal.set_wakeup_fd()."""
    daemon._waker.writer.send(bytes((number,)))


def test_all_its_servers_are_served(stack: ExitStack, tmp_path: Path) -> None:
    addresses = [("127.0.0.1", 0), ("::1", 0), str(tmp_path / "sock")]
    servers = [stack.enter_context(Server(address, ECHO)) for address in addresses]
    serve(stack, Daemon(servers))
    for server in servers:
        with connect(server.server_address) as peer:
            ask(peer, b"a\n", b"a\n")


def test_limit_of_connections_is_shared_by_all_servers(stack: ExitStack) -> None:
    servers = [stack.enter_context(Server(("127.0.0.1", 0), ECHO)) for _ in range(2)]
    for server in servers:
        server.limits = Limits(max_connections=1)
    serve(stack, Daemon(servers))
    with connect(servers[0].server_address) as first, connect(servers[1].server_address) as second:
        ask(first, b"a\n", b"a\n")
        second.sendall(b"b\n")
        ask(first, b"c\n", b"c\n")
        assert queued(servers[1].server_address) == 1  # type: ignore[arg-type]
        first.close()
        hear(second, b"b\n")


def test_connections_finish_after_a_stop(stack: ExitStack) -> None:
    server = stack.enter_context(Server(("127.0.0.1", 0), ECHO))
    daemon = Daemon([server])
    thread = serve(stack, daemon)
    with connect(server.server_address) as busy, connect(server.server_address) as idle:
        ask(idle, b"a\n", b"a\n")
        ask(busy, b"a\nha", b"a\n")
        tell(daemon, signal.SIGTERM)
        assert is_gone(idle)
        ask(busy, b"lf\n", b"half\n")
        assert is_gone(busy)
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_first_check_of_the_deadlines_follows_the_limits(stack: ExitStack) -> None:
    server = stack.enter_context(Server(("127.0.0.1", 0), ECHO))
    server.apply(Limits(idle_timeout=0.2))
    daemon = Daemon([server], parent=os.getppid())
    waits: list[float] = []

    def wait(patience: float) -> bool:
        waits.append(patience)
        daemon.state = OVER
        return True

    daemon.poller.wait = wait  # type: ignore[method-assign]
    daemon.serve_forever()
    assert waits == [0.05]


def test_other_signal_calls_on_signal_whose_exception_does_not_end_the_loop(stack: ExitStack) -> None:
    server = stack.enter_context(Server(("127.0.0.1", 0), ECHO))
    daemon = Daemon([server])
    heard, numbers = threading.Semaphore(0), list[int]()

    def on_signal(number: int) -> None:
        numbers.append(number)
        heard.release()
        raise RuntimeError("a bug in what reloads")

    daemon.on_signal = on_signal
    serve(stack, daemon)
    for _ in range(2):
        tell(daemon, signal.SIGHUP)
        assert heard.acquire(timeout=DEADLINE)
    assert numbers == [signal.SIGHUP, signal.SIGHUP]


def test_source_is_watched_until_it_is_forgotten(stack: ExitStack) -> None:
    server = stack.enter_context(Server(("127.0.0.1", 0), ECHO))
    daemon = Daemon([server])
    ours, theirs = socket.socketpair()
    seen = threading.Event()

    def see() -> None:
        theirs.recv(1)
        daemon.forget(theirs)
        seen.set()

    with ours, theirs:
        daemon.watch(theirs, see)
        serve(stack, daemon)
        ours.sendall(b"xy")
        assert seen.wait(DEADLINE)
        with connect(server.server_address) as peer:
            ask(peer, b"a\n", b"a\n")
        assert theirs.recv(10) == b"y"

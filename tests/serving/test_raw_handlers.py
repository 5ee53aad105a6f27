"""The second door: any stock request handler, under the same server, with limits of its own."""

from __future__ import annotations

import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from daemons.serving.engines import stream_server
from daemons.serving.guards.limits import Limits
from tests.serving.conftest import Run, raw, raw_once
from tests.serving.peers import DEADLINE, ask, connect, converse, eventually, hear_all, is_gone, name_of, reset
from tests.serving.running import Process, Within, access_of
from tests.serving.services import Deaf, Elsewhere, Endless, Raw


@raw
def test_a_stream_handler_is_served(run: Run) -> None:
    running = run(Raw)
    heard, name = converse(running.address, b"a\nb\n")
    assert heard == b"A\nB\n"
    assert access_of(running, name) == ("finished", "-")


@raw
def test_a_plain_handler_is_served(run: Run) -> None:
    running = run(Endless)
    heard, name = converse(running.address, b"any octets\0")
    assert heard == b"any octets\0"
    assert access_of(running, name) == ("finished", "-")


@raw
@pytest.mark.parametrize(("word", "why"), [(b"fail\n", "a secret of the handler"), (b"exit\n", "SystemExit: 3")])
def test_a_handler_that_raises_ends_its_conversation_and_nothing_else(word: bytes, why: str, run: Run) -> None:
    running = run(Raw)
    heard, name = converse(running.address, b"a\n" + word + b"b\n")
    assert heard == b"A\n"
    assert why in running.log_line(f"{name}: the conversation failed")
    assert access_of(running, name) == ("failed", "-")
    assert converse(running.address, b"a\n")[0] == b"A\n"


def test_handler_with_an_unrelated_service_attribute_is_served(within: Callable[..., Within]) -> None:
    class Named(Raw):
        service = "shouts"

    assert converse(within("pool", Named).address, b"a\n")[0] == b"A\n"


@raw_once
@pytest.mark.parametrize("kind", [Raw, Endless])
def test_silent_peer_of_a_handler_is_closed_after_idle_timeout(
    kind: type[socketserver.BaseRequestHandler], run: Run
) -> None:
    running = run(kind, idle_timeout="200ms")
    with connect(running.address) as peer:
        peer.sendall(b"half")
        hear_all(peer)
        assert access_of(running, name_of(peer)) == ("idle", "-")


@raw_once
def test_handler_that_never_ends_is_cut_after_conversation_timeout(run: Run) -> None:
    running = run(Endless, conversation_timeout="200ms")
    with connect(running.address) as peer:
        peer.settimeout(0.02)
        while True:  # never idle
            try:
                peer.sendall(b"a")
                if not peer.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert access_of(running, name_of(peer)) == ("overlong", "-")


@raw_once
def test_handler_whose_peer_does_not_read_is_cut(run: Run) -> None:
    running = run(Endless, idle_timeout="200ms")
    with connect(running.address) as peer:
        peer.settimeout(0.1)
        try:
            while True:
                peer.sendall(b"a" * 65536)
        except OSError:
            pass
        assert access_of(running, name_of(peer)) == ("idle", "-")


@raw
def test_reset_by_the_peer_is_not_logged_as_a_failure_of_the_handler(run: Run) -> None:
    running = run(Raw)
    peer = connect(running.address)
    ask(peer, b"a\n", b"A\n")
    name = name_of(peer)
    reset(peer)
    assert access_of(running, name) == ("reset", "-")


def test_os_error_of_another_file_is_a_failure_of_the_handler(within: Callable[..., Within]) -> None:
    class Careless(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with open("/nonexistent", "rb"):
                pass

    running = within("threads", Careless)
    _, name = converse(running.address, b"a\n")
    assert "FileNotFoundError" in running.log_line(f"{name}: the conversation failed")
    assert access_of(running, name) == ("failed", "-")


class Asking(socketserver.BaseRequestHandler):
    """Handler that uses another connection, closed by its peer in the way given by a word."""

    def handle(self) -> None:
        word = self.request.recv(100)
        if word == b"refused":
            with socket.socket() as unused:
                unused.bind(("127.0.0.1", 0))
                socket.create_connection(unused.getsockname(), 5.0)
        ours, theirs = socket.socketpair()
        with ours:
            theirs.close()
            ours.sendall(b"a broken pipe")


def expect_failure(running: Within, word: bytes, error: str) -> None:
    """Send a word to a handler that fails, and expect the log line of its failure."""
    with connect(running.address) as peer:
        peer.sendall(word)
        assert hear_all(peer) == b""
        name = name_of(peer)
    assert access_of(running, name) == ("failed", "-")
    running.log_line(f"{name}: the conversation failed", error)


@pytest.mark.parametrize("word", [b"refused", b"broken"])
@pytest.mark.parametrize("engine", ["one", "threads", "pool"])
def test_a_connection_error_of_another_connection_is_a_failure(
    engine: str, word: bytes, within: Callable[..., Within]
) -> None:
    expect_failure(within(engine, Asking), word, "Error")


@pytest.mark.parametrize(("word", "error"), [(b"silent", "timed out"), (b"kernel", "Errno 110"), (b"tls", "SSLError")])
@pytest.mark.parametrize("engine", ["one", "threads", "pool"])
def test_timeout_of_another_connection_is_a_failure(
    engine: str, word: bytes, error: str, within: Callable[..., Within]
) -> None:
    expect_failure(within(engine, Elsewhere), word, error)


def test_handler_that_waits_for_a_worker_is_not_cut(within: Callable[..., Within]) -> None:
    class Gated(socketserver.BaseRequestHandler):
        gate = threading.Event()
        busy = threading.Semaphore(0)

        def handle(self) -> None:
            self.busy.release()
            self.gate.wait(DEADLINE)
            self.request.sendall(b"served")

    workers = 2
    kind = type("Two", (stream_server("pool"),), {"threads": workers})
    running = within(kind, Gated, Limits(handshake_timeout=0.01))
    with ExitStack() as stack:
        stack.callback(Gated.gate.set)
        first = [stack.enter_context(connect(running.address)) for _ in range(workers)]
        for _ in first:
            assert Gated.busy.acquire(timeout=DEADLINE)
        waiting = stack.enter_context(connect(running.address))
        eventually(lambda: running.server.active == workers + 1)
        running.server.sweep(time.monotonic() + 1.0)
        Gated.gate.set()
        assert hear_all(waiting) == b"served"


@pytest.mark.parametrize("engine", ["one", "threads", "forks"])
def test_waiting_handler_is_cut_after_drain_timeout(engine: str, process: Callable[..., Process]) -> None:
    running = process("tests.serving.services:Endless", engine, "limits.drain_timeout=200ms", key="handler")
    with connect(running.address) as peer:
        ask(peer, b"a", b"a")
        running.signal(signal.SIGTERM)
        assert is_gone(peer)
        assert access_of(running, name_of(peer)) == ("stopped", "-")
    assert running.wait() == 0


@pytest.mark.parametrize("engine", ["one", "threads", "forks"])
def test_replying_handler_may_finish_during_a_drain(engine: str, process: Callable[..., Process]) -> None:
    running = process("tests.serving.services:Raw", engine, key="handler")
    with connect(running.address) as peer:
        ask(peer, b"a\n", b"A\n")
        running.signal(signal.SIGTERM)
        running.log_line("stopping")
        ask(peer, b"b\n", b"B\n")
    assert running.wait() == 0


@pytest.mark.parametrize("engine", ["threads", "forks"])
def test_handler_that_ignores_its_socket_does_not_keep_the_daemon_from_ending(
    engine: str, process: Callable[..., Process]
) -> None:
    running = process(f"{Deaf.__module__}:Deaf", engine, "limits.drain_timeout=200ms", key="handler")
    with connect(running.address) as peer:
        running.log_line("deaf")
        running.signal(signal.SIGTERM)
        assert is_gone(peer)
    assert running.wait() == 0


def test_handler_that_ignores_its_socket_does_not_delay_other_connections(within: Callable[..., Within]) -> None:
    running = within("threads", Raw, Limits(idle_timeout=1.0))
    with connect(running.address) as silent:
        for _ in range(10):
            assert converse(running.address, b"a\n")[0] == b"A\n"
        assert is_gone(silent)

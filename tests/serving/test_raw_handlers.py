"""The second door: any stock request handler, under the same server, with limits of its own."""

from __future__ import annotations

import signal
import socket
import socketserver
from collections.abc import Callable

import pytest

from daemons.serving.guards.limits import Limits
from tests.serving.conftest import Run, raw, raw_once
from tests.serving.peers import ask, connect, converse, hear_all, is_gone, name_of, reset
from tests.serving.running import Process, Within, access_of
from tests.serving.services import Deaf, Endless, Raw


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


def test_one_with_something_that_is_called_service_is_served(within: Callable[..., Within]) -> None:
    class Named(Raw):
        service = "shouts"

    assert converse(within("pool", Named).address, b"a\n")[0] == b"A\n"


@raw_once
@pytest.mark.parametrize("kind", [Raw, Endless])
def test_who_says_nothing_is_idle(kind: type[socketserver.BaseRequestHandler], run: Run) -> None:
    running = run(kind, idle_timeout="200ms")
    with connect(running.address) as peer:
        peer.sendall(b"half")
        hear_all(peer)
        assert access_of(running, name_of(peer)) == ("idle", "-")


@raw_once
def test_one_that_never_ends_is_overlong(run: Run) -> None:
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
def test_one_whose_peer_does_not_read_is_cut(run: Run) -> None:
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
def test_a_peer_that_resets_the_connection_is_no_error_of_the_handler(run: Run) -> None:
    running = run(Raw)
    peer = connect(running.address)
    ask(peer, b"a\n", b"A\n")
    name = name_of(peer)
    reset(peer)
    assert access_of(running, name) == ("reset", "-")


def test_an_error_of_another_file_than_the_peer_s_is_the_handler_s_own(within: Callable[..., Within]) -> None:
    class Careless(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with open("/nonexistent", "rb"):
                pass

    running = within("threads", Careless)
    _, name = converse(running.address, b"a\n")
    assert "FileNotFoundError" in running.log_line(f"{name}: the conversation failed")
    assert access_of(running, name) == ("failed", "-")


class Asking(socketserver.BaseRequestHandler):
    """Asks somebody else, who has gone: a word says how."""

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


@pytest.mark.parametrize("word", [b"refused", b"broken"])
@pytest.mark.parametrize("engine", ["one", "threads", "pool"])
def test_a_connection_error_of_another_connection_is_a_failure(
    engine: str, word: bytes, within: Callable[..., Within]
) -> None:
    running = within(engine, Asking)
    with connect(running.address) as peer:
        peer.sendall(word)
        assert hear_all(peer) == b""
        name = name_of(peer)
    assert access_of(running, name) == ("failed", "-")
    running.log_line(f"{name}: the conversation failed", "Error")


@pytest.mark.parametrize("engine", ["one", "threads", "forks"])
def test_told_to_stop_one_that_waits_has_the_time_to_drain(engine: str, process: Callable[..., Process]) -> None:
    running = process("tests.serving.services:Endless", engine, "limits.drain_timeout=200ms", key="handler")
    with connect(running.address) as peer:
        ask(peer, b"a", b"a")
        running.signal(signal.SIGTERM)
        assert is_gone(peer)
        assert access_of(running, name_of(peer)) == ("stopped", "-")
    assert running.wait() == 0


@pytest.mark.parametrize("engine", ["one", "threads", "forks"])
def test_told_to_stop_one_that_answers_can_finish(engine: str, process: Callable[..., Process]) -> None:
    running = process("tests.serving.services:Raw", engine, key="handler")
    with connect(running.address) as peer:
        ask(peer, b"a\n", b"A\n")
        running.signal(signal.SIGTERM)
        running.log_line("stopping")
        ask(peer, b"b\n", b"B\n")
    assert running.wait() == 0


@pytest.mark.parametrize("engine", ["threads", "forks"])
def test_one_that_hears_nothing_does_not_keep_the_daemon(engine: str, process: Callable[..., Process]) -> None:
    running = process(f"{Deaf.__module__}:Deaf", engine, "limits.drain_timeout=200ms", key="handler")
    with connect(running.address) as peer:
        running.log_line("deaf")
        running.signal(signal.SIGTERM)
        assert is_gone(peer)
    assert running.wait() == 0


def test_one_that_hears_nothing_holds_up_nobody_else(within: Callable[..., Within]) -> None:
    running = within("threads", Raw, Limits(idle_timeout=1.0))
    with connect(running.address) as silent:
        for _ in range(10):
            assert converse(running.address, b"a\n")[0] == b"A\n"
        assert is_gone(silent)

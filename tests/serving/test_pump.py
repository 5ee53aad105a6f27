"""The pump: access lines, the lingering close, and a drain within a message."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

import pytest

from daemons.serving import pump
from daemons.serving.pump import Pump
from tests.serving.conftest import ENGINES, Run
from tests.serving.peers import (
    DEADLINE,
    ask,
    children_of,
    connect,
    converse,
    eventually,
    hear,
    hear_all,
    is_gone,
    name_of,
    reset,
)
from tests.serving.running import ACCESS, Process, Within, access_of
from tests.serving.services import Echo, Failing, Polite

each_engine = pytest.mark.parametrize("engine", ENGINES)


def test_access_line_counts_messages_and_bytes_each_way(run: Run) -> None:
    running = run(Polite)
    heard, name = converse(running.address, b"a\nb\nc\n")
    match = ACCESS.search(running.log_line(f"{name} ", " messages="))
    assert match
    assert match.groups() == (name, "done", "3", "6", str(len(heard)))


@pytest.mark.parametrize("goodbye", [reset, socket.socket.close], ids=["reset", "closed"])
def test_talk_is_closed_when_the_peer_has_left(goodbye: Callable[[socket.socket], None], run: Run) -> None:
    running = run(Polite)
    peer = connect(running.address)
    hear(peer, b"hello\n")
    ask(peer, b"a\nb\n", b"1\n2\n")
    goodbye(peer)
    running.log_line("put away after 2")


def test_one_conversation_is_one_access_line(run: Run) -> None:
    running = run(Echo)
    names = [converse(running.address, b"a\n" * number)[1] for number in range(5)]
    for number, name in enumerate(names):
        assert access_of(running, name) == ("done", str(number))


# --- the long goodbye ------------------------------------------------------------------------------


def test_peer_that_stays_after_the_apology_is_closed_after_the_linger_time(
    within: Callable[..., Within], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "LINGER", 0.1)
    running = within("threads", Pump.for_service(Failing()))
    with connect(running.address) as peer:
        ask(peer, b"fail\n", b"sorry: failed\n")
        assert access_of(running, name_of(peer)) == ("failed", "1")


def test_peer_that_goes_on_sending_after_the_apology_is_closed_after_the_linger_time(
    within: Callable[..., Within], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "LINGER", 0.1)
    running = within("threads", Pump.for_service(Failing()))
    with connect(running.address) as peer:
        eventually(lambda: not can_send(peer))
        assert access_of(running, name_of(peer)) == ("oversize", "0")


def can_send(peer: socket.socket) -> bool:
    try:
        peer.sendall(b"a" * 65536)
    except ConnectionError:
        return False
    return True


def test_input_after_the_last_reply_is_not_executed(run: Run) -> None:
    running = run(Polite)
    with connect(running.address) as peer:
        hear(peer, b"hello\n")
        peer.sendall(b"bye\na\nb\n")
        assert hear_all(peer) == b"goodbye\n"
        peer.sendall(b"c\n" * 1000)
        name = name_of(peer)
    assert access_of(running, name) == ("finished", "1")


# --- drain within a message ------------------------------------------------------------------------


def stop_while_half_a_message_arrives(running: Process, peer: socket.socket) -> None:
    """SIGTERM and the first half of a message, both at once, as far as the daemon can tell."""
    pids = [running.pid, *children_of(running.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    peer.sendall(b"ha")
    running.signal()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    running.log_line("stopping")


@each_engine
def test_message_interrupted_by_a_drain_is_finished(engine: str, process: Callable[..., Process]) -> None:
    running = process("tests.serving.services:Echo", engine)
    with connect(running.address) as peer:
        ask(peer, b"a\n", b"a\n")
        stop_while_half_a_message_arrives(running, peer)
        ask(peer, b"lf\n", b"half\n")
        assert is_gone(peer)
        assert access_of(running, name_of(peer)) == ("drained", "2")
    assert running.wait() == 0


@each_engine
def test_message_interrupted_by_a_drain_and_truncated_is_not_executed(
    engine: str, process: Callable[..., Process]
) -> None:
    running = process("tests.serving.services:Echo", engine)
    with connect(running.address) as peer:
        ask(peer, b"a\n", b"a\n")
        stop_while_half_a_message_arrives(running, peer)
        name = name_of(peer)
        peer.shutdown(socket.SHUT_WR)
        assert is_gone(peer)
    assert access_of(running, name) == ("cut", "1")
    assert running.wait() == 0


class Thinking(Echo):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_answer = threading.Event(), threading.Event()

    def respond(self, line: bytes) -> bytes:
        self.asked.set()
        assert self.may_answer.wait(DEADLINE)
        return line


@pytest.mark.parametrize("finishes", [True, False], ids=["finished", "cut short"])
def test_half_a_message_received_during_a_reply_may_be_finished_in_a_drain(
    finishes: bool, within: Callable[..., Within]
) -> None:
    service = Thinking()
    running = within("threads", Pump.for_service(service))
    with connect(running.address) as peer:
        peer.sendall(b"a\n")
        assert service.asked.wait(DEADLINE)
        peer.sendall(b"ha")
        running.server.drain()
        service.may_answer.set()
        hear(peer, b"a\n")
        if finishes:
            ask(peer, b"lf\n", b"half\n")
        name = name_of(peer)
        peer.shutdown(socket.SHUT_WR)
        assert is_gone(peer)
    assert access_of(running, name) == (("drained", "2") if finishes else ("cut", "1"))

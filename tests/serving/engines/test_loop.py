"""Input that an edge-triggered loop could miss: epoll(7) reports data once, even if it is not read completely.

The tests run under each event-driven engine."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from daemons import Service, Until
from daemons.serving.conversation.reply import Reply
from daemons.serving.conversation.reply_cache import SHORT
from daemons.serving.engines import stream_server
from daemons.serving.engines.loop_poller import TURN, LoopPoller
from daemons.serving.pump import Pump
from daemons.serving.server import Server
from daemons.serving.transfer_sizes import RECEIVE
from tests.serving.peers import DEADLINE, ask, connect, hear, hear_all, name_of
from tests.serving.running import Within, access_of


class Gated(Service):
    """Says each line back; ``wait`` when it is let go, so that meanwhile all else is in the kernel's hands."""

    framing = Until(b"\n", limit=4 * RECEIVE)

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.gate = threading.Event()

    def respond(self, line: bytes) -> bytes:
        if line == b"wait\n":
            self.asked.set()
            assert self.gate.wait(DEADLINE)
        return line


@contextmanager
def held(
    engine: str | type[Server], address: Any = ("127.0.0.1", 0), kind: type[Gated] = Gated
) -> Iterator[tuple[Any, threading.Event]]:
    """A server that looks at nothing before the event is set: its address, and the event.  Under ``pool`` it looks,
    after a moment, in another thread."""
    service = kind()
    running = Within(engine, Pump.for_service(service), address=address)
    try:
        with closing(connect(running.address)) as first:
            first.sendall(b"wait\n")
            assert service.asked.wait(DEADLINE)
            yield running.address, service.gate
            hear(first, b"wait\n")
    finally:
        service.gate.set()
        running.close()


@pytest.mark.parametrize("engine", ["loop", "pool"])
def test_bytes_after_urgent_data_are_read(engine: str) -> None:
    """recv(2) stops before the urgent byte, tcp(7), as if there were no more data."""
    with held(engine) as (address, gate), closing(connect(address)) as peer:
        peer.sendall(b"one\ntw")
        peer.send(b"!", socket.MSG_OOB)
        peer.sendall(b"o\n")
        gate.set()
        hear(peer, b"one\ntwo\n")


@pytest.mark.parametrize("engine", ["loop", "pool"])
def test_bytes_after_passed_descriptors_are_read(engine: str, tmp_path: Path) -> None:
    """On a Unix socket recv(2) stops after passed descriptors, unix(7); the descriptors are ignored."""
    with held(engine, str(tmp_path / "s")) as (address, gate), closing(connect(address)) as peer:
        with open(os.devnull) as null:
            socket.send_fds(peer, [b"one\n"], [null.fileno()])
        peer.sendall(b"two\n")
        gate.set()
        hear(peer, b"one\ntwo\n")


@pytest.mark.parametrize("engine", ["loop", "pool"])
@pytest.mark.parametrize("octets", [SHORT - 1, SHORT, SHORT + 1, RECEIVE, 2 * RECEIVE, 3 * RECEIVE + 1])
def test_input_is_read_to_its_last_byte(engine: str, octets: int) -> None:
    line = b"x" * (octets - 1) + b"\n"
    with held(engine) as (address, gate), closing(connect(address)) as peer:
        peer.sendall(line)
        gate.set()
        hear(peer, line)
        ask(peer, b"again\n", b"again\n")


@pytest.mark.parametrize("engine", ["loop", "pool"])
def test_end_of_input_with_the_last_message_is_noticed(engine: str) -> None:
    with held(engine) as (address, gate), closing(connect(address)) as peer:
        peer.sendall(b"last\n")
        peer.shutdown(socket.SHUT_WR)
        gate.set()
        assert hear_all(peer) == b"last\n"


class Sure(Gated):
    """Says of the same line always the same."""

    pure = True


@pytest.mark.parametrize("engine", ["loop", "pool"])
def test_end_of_input_with_a_cached_message_is_noticed(engine: str) -> None:
    with held(engine, kind=Sure) as (address, gate), closing(connect(address)) as one, closing(connect(address)) as two:
        for peer in (one, two):
            peer.sendall(b"last\n")
            peer.shutdown(socket.SHUT_WR)
        gate.set()
        assert (hear_all(one), hear_all(two)) == (b"last\n", b"last\n")


def test_events_of_a_failed_turn_are_handled_in_the_next() -> None:
    """An override raises at the end of one connection, while another waits for its reply."""

    class Flawed(stream_server("loop")):  # type: ignore[misc]
        def shutdown_request(self, request: Any) -> None:
            super().shutdown_request(request)
            if not self.draining:
                raise RuntimeError("a bug of its own")

    with held(Flawed) as (address, gate):
        connect(address).close()
        peer = connect(address)
        peer.sendall(b"hello\n")
        gate.set()
        with closing(peer):
            hear(peer, b"hello\n")


class Moody(Service):
    """Says something else each time to the same line."""

    framing = Until(b"\n", limit=64)

    def __init__(self, *moods: Any) -> None:
        super().__init__()
        self.moods = iter((b"first", *moods))

    def respond(self, line: bytes) -> Reply:
        mood = next(self.moods)
        if isinstance(mood, BaseException):
            raise mood
        return iter(mood) if isinstance(mood, list) else mood


@pytest.mark.parametrize("engine", ["loop", "pool"])
@pytest.mark.parametrize(
    ("moods", "ending"),
    [
        ([b"second", [b"thi", b"rd"], b"fourth"], "done"),
        ([b"", b"third"], "done"),
        ([b"second", ValueError("a secret")], "failed"),
        ([SystemExit(0)], "failed"),
        ([None], "failed"),
        ([b"second", StopIteration()], "failed"),
    ],
)
def test_service_that_is_not_pure_is_called_for_every_message(engine: str, moods: list[Any], ending: str) -> None:
    """A repeated input has a code path of its own: it is not framed again, and no conversation is created for it."""
    running = Within(engine, Pump.for_service(Moody(*moods)))
    try:
        with closing(connect(running.address)) as peer:
            name = name_of(peer)
            ask(peer, b"how are you\n", b"first")
            for mood in moods:
                # One after the other: messages received together are framed together.
                heard = b"".join(mood) if isinstance(mood, list) else mood if isinstance(mood, bytes) else b""
                ask(peer, b"how are you\n", heard)
            if ending == "done":
                peer.shutdown(socket.SHUT_WR)
            assert hear_all(peer) == b""
        assert access_of(running, name) == (ending, str(1 + len(moods)))
        if ending == "failed":
            running.log_line(f"{name}: the service failed")
    finally:
        running.close()


def test_a_long_turn_makes_the_share_of_each_peer_smaller() -> None:
    poller = LoopPoller()
    try:
        poller.woke = time.monotonic() - 10 * TURN
        assert SHORT <= poller._share(RECEIVE) <= RECEIVE // 10
        poller.woke = time.monotonic() - 10_000 * TURN
        assert poller._share(RECEIVE) == SHORT
        poller.woke = time.monotonic()
        assert poller._share(SHORT) > SHORT
    finally:
        poller.close()

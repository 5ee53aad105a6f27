"""The leader of a pool: a worker that calls the service inline, until one call is slow; then the stall detector, which
offloads messages to workers."""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import threading
import time
from contextlib import ExitStack
from socketserver import BaseRequestHandler

import pytest

from daemons.serving.engines import pool_poller, stream_server
from daemons.serving.engines.loop_connection import LoopConnection
from daemons.serving.engines.stall_detector import StallDetector
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from tests.serving.engines.pools import (
    Blocking,
    BlockingTalker,
    Gated,
    Moody,
    SilentTalker,
    Start,
    Talker,
    answered_by,
    expect_on_the_spot,
    poller_of,
    pool_of,
)
from tests.serving.peers import DEADLINE, ask, connect, eventually, hear, hear_all, name_of
from tests.serving.running import access_of
from tests.serving.services import Echo, Pieces, Polite, Raw


def test_slow_reply_does_not_delay_other_connections(within: Start, moody: Moody) -> None:
    running = within("pool", Pump.for_service(moody))
    expect_on_the_spot(running, moody)
    with ExitStack() as stack:
        first, *others = [stack.enter_context(connect(running.address)) for _ in range(21)]
        for peer in (first, *others):
            ask(peer, b"a\n", b"a\n")
        first.sendall(b"wait\n")
        assert moody.asked.acquire()
        for _ in range(5):
            for number, peer in enumerate(others):
                ask(peer, b"%d\n" % number, b"%d\n" % number)
        # New connections are accepted and answered, too.
        assert answered_by(running, moody)
        assert poller_of(running).offloading
        assert poller_of(running).lease is None
        moody.go_on.set()
        hear(first, b"wait\n")
        ask(first, b"b\n", b"b\n")
        expect_on_the_spot(running, moody)
        for peer in (first, *others):
            ask(peer, b"c\n", b"c\n")
    running.expect_no_connections()


class PausedTakeover(dict[LoopConnection, None]):
    """The connections in service.  When the stall detector takes one, the service returns, and its thread gets time."""

    def __init__(self, service: Moody) -> None:
        super().__init__()
        self._service = service

    def popitem(self) -> tuple[LoopConnection, None]:
        found = super().popitem()
        if not self._service.go_on.is_set():
            answered = len(self._service.answering)
            self._service.go_on.set()
            eventually(lambda: len(self._service.answering) > answered)
        return found


def test_reply_that_is_ready_while_the_lead_passes_on_is_sent(within: Start, moody: Moody) -> None:
    running = within("pool", Pump.for_service(moody))
    expect_on_the_spot(running, moody)
    poller_of(running).in_service = PausedTakeover(moody)
    with connect(running.address) as peer:
        peer.sendall(b"wait\n")
        hear(peer, b"wait\n")
        ask(peer, b"a\n", b"a\n")
    expect_on_the_spot(running, moody)


def test_former_leader_that_returns_does_not_lead_beside_the_next(
    within: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Gated()
    running = within("pool", Pump.for_service(service))
    poller = poller_of(running)
    with connect(running.address) as first, connect(running.address) as second:
        first.sendall(b"a\n")
        assert service.asked.acquire(timeout=DEADLINE)
        eventually(lambda: poller.offloading)
        poller.last_slow = -math.inf
        poller.wake()
        eventually(lambda: not poller.offloading and poller.lease is not None)
        monkeypatch.setattr(StallDetector, "take_over", lambda detector: None)
        second.sendall(b"b\n")
        assert service.asked.acquire(timeout=DEADLINE)
        service.go_on[b"a\n"].set()
        eventually(lambda: poller.ready)  # for the leader, which is still at the other message
        service.go_on[b"b\n"].set()
        hear(second, b"b\n")
        hear(first, b"a\n")
        ask(first, b"c\n", b"c\n")
    assert not [line for line in running.lines if "iteration failed" in line]


def test_detector_does_not_sleep_while_a_message_is_received(within: Start, moody: Moody) -> None:
    running = within("pool", Pump.for_service(moody))
    expect_on_the_spot(running, moody)
    poller = poller_of(running)
    wait_for_events, waiting, late = poller._events, threading.Event(), threading.Event()

    def wait_and_pause(patience: float) -> list[tuple[int, int]]:
        waiting.set()
        events = wait_for_events(patience)
        if not late.is_set() and any(descriptor in poller.reading_connections for descriptor, _ in events):
            late.set()
            until = time.monotonic() + 0.5
            while time.monotonic() < until and not poller.detector_sleeps:
                select.select([], [], [], 0.001)
        return events

    with connect(running.address) as first, connect(running.address) as second:
        eventually(lambda: running.server.active == 2)
        poller._events = wait_and_pause  # type: ignore[method-assign]
        poller.wake()
        assert waiting.wait(DEADLINE)
        first.sendall(b"wait\n")
        assert moody.asked.acquire()
        assert late.is_set()
        ask(second, b"a\n", b"a\n")
        moody.go_on.set()
        hear(first, b"wait\n")


def test_lead_is_not_queued_behind_messages_that_may_block(within: Start, moody: Moody) -> None:
    running = within(pool_of(2), Pump.for_service(moody))
    with ExitStack() as stack:
        first, second = (stack.enter_context(connect(running.address)) for _ in range(2))
        first.sendall(b"wait\n")
        assert moody.asked.acquire()
        eventually(lambda: poller_of(running).offloading)
        poller_of(running).last_slow = -math.inf
        second.sendall(b"wait\n")
        assert moody.asked.acquire()
        # No thread is free, but connections are accepted.
        stack.enter_context(connect(running.address))
        eventually(lambda: running.server.active == 3)
        moody.go_on.set()
        hear(first, b"wait\n")
        hear(second, b"wait\n")


@pytest.mark.parametrize("handler", [Pump.for_service(Polite()), Pump.for_service(Pieces()), Raw])
def test_single_thread_serves_every_kind_of_handler(within: Start, handler: type[BaseRequestHandler]) -> None:
    running = within(pool_of(1), handler)
    many = [connect(running.address) for _ in range(3)]
    with ExitStack() as stack:
        for peer in many:
            stack.enter_context(peer)
        for peer in many:
            peer.sendall(b"some\n")
            peer.shutdown(socket.SHUT_WR)
        replies = [hear_all(peer) for peer in many]
    assert replies[0]
    assert replies == replies[:1] * 3
    running.expect_no_connections()


def test_one_worker_is_left_beside_the_leader_for_greetings(within: Start) -> None:
    service = Talker()
    running = within(pool_of(2), Pump.for_service(service))
    poller = poller_of(running)
    with connect(running.address) as first, connect(running.address) as second:
        hear(first, b"hello\n")
        hear(second, b"hello\n")
        first.sendall(b"wait\n")
        assert service.asked.acquire(timeout=DEADLINE)
        eventually(lambda: poller.offloading)
        poller.last_slow = -math.inf
        ask(second, b"a\n", b"a\n")  # at least one turn of the leader
        with connect(running.address) as third:
            hear(third, b"hello\n")
        service.go_on.set()
        hear(first, b"wait\n")


def test_blocking_end_of_a_talk_does_not_block_the_leader(within: Start) -> None:
    service = BlockingTalker()
    running = within("pool", Pump.for_service(service))
    with connect(running.address) as other:
        hear(other, b"hello\n")
        with connect(running.address) as first:
            name = name_of(first)
            hear(first, b"hello\n")
            ask(first, b"hold\n", b"hold\n")
        assert service.asked.acquire(timeout=DEADLINE)
        ask(other, b"a\n", b"a\n")
        service.go_on.set()
        assert access_of(running, name) == ("done", "1")
    running.expect_no_connections()


def test_after_a_slow_end_of_a_talk_no_other_blocks_the_leader(within: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_poller, "SLOW_CLOSING", 0.0)
    service = Talker()
    running = within("pool", Pump.for_service(service))
    poller = poller_of(running)

    def leave(line: bytes) -> None:
        with connect(running.address) as peer:
            hear(peer, b"hello\n")
            ask(peer, line, line)

    with connect(running.address) as other:
        hear(other, b"hello\n")
        eventually(lambda: not poller.offloading and poller.lease is not None)
        leave(b"a\n")
        eventually(lambda: poller.offload_closing or poller.offloading)
        leave(b"hold\n")
        assert service.asked.acquire(timeout=DEADLINE)
        ask(other, b"a\n", b"a\n")
        service.go_on.set()
    running.expect_no_connections()


def test_start_of_a_talk_without_greeting_does_not_block_the_leader(within: Start) -> None:
    service = SilentTalker()
    # With a maximum rate, connections are accepted one by one.
    running = within("pool", Pump.for_service(service), Limits(max_rate=10_000))
    with connect(running.address) as first, connect(running.address):
        first.sendall(b"a\n")
        assert service.asked.acquire(timeout=DEADLINE)
        eventually(lambda: running.server.active == 2)
        service.go_on.set()
        hear(first, b"a\n")
    running.expect_no_connections()


def test_leader_ends_after_an_exception_in_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list[threading.Thread] = []

    def interrupted(detector: StallDetector) -> None:
        workers.extend(detector._poller.workers)
        raise KeyboardInterrupt

    monkeypatch.setattr(StallDetector, "sample", interrupted)
    with stream_server("pool")(("127.0.0.1", 0), Pump.for_service(Echo())) as server, pytest.raises(KeyboardInterrupt):
        server.serve_forever()
    assert workers
    eventually(lambda: not any(worker.is_alive() for worker in workers))


def test_leader_goes_on_while_epoll_has_no_room_for_a_reply(within: Start) -> None:
    running = within("pool", Pump.for_service(Blocking()))
    poller = poller_of(running)
    register = poller.register

    def register_one(descriptor: int, events: int) -> None:
        if poller.reading_connections:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # max_user_watches, epoll_ctl(2)
        register(descriptor, events)

    with connect(running.address) as peer:
        with connect(running.address) as other:
            ask(other, b"a\n", b"a\n")
            ask(peer, b"a\n", b"a\n")
            poller.register = register_one  # type: ignore[assignment]  # of a type that is not public
            peer.sendall(b"b\n")
            eventually(lambda: poller.ready)
        # The end of the other connection is noticed, and leaves room.
        hear(peer, b"b\n")
        poller.register = register
        ask(peer, b"c\n", b"c\n")
    running.expect_no_connections()
    assert not [line for line in running.lines if "iteration failed" in line]

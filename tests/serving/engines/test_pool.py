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
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from socketserver import BaseRequestHandler

import pytest

from daemons import Peer, Service, Talk
from daemons.serving.conversation.endings import Ending
from daemons.serving.daemon import Daemon
from daemons.serving.engines import datagram_server, pool_poller, stream_server
from daemons.serving.engines.loop_connection import LoopConnection
from daemons.serving.engines.pool_poller import PoolPoller
from daemons.serving.engines.stall_detector import StallDetector
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.server import Server
from tests.serving.peers import DEADLINE, ask, connect, eventually, hear, hear_all, is_gone, name_of
from tests.serving.running import Within, access_of
from tests.serving.services import LINE, Echo, Pieces, Polite, Raw


class Moody(Echo):
    """Echo each line with the name of its thread; for ``wait``, block until released."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.answering: list[str] = []

    def respond(self, line: bytes) -> bytes:
        if line.startswith(b"wait"):
            self.asked.release()
            self.go_on.wait()
        self.answering.append(threading.current_thread().name)
        return line


class Gated(Echo):
    """Echo each line; ``a`` and ``b`` block until their event is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.go_on = {b"a\n": threading.Event(), b"b\n": threading.Event()}

    def respond(self, line: bytes) -> bytes:
        if line in self.go_on:
            self.asked.release()
            assert self.go_on[line].wait(DEADLINE)
        return line


class Talker(Service):
    """Greet, and echo each line.  ``wait`` blocks; after ``hold``, the end of the talk blocks."""

    framing = LINE

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()

    def talk(self, peer: Peer) -> Talk:
        line = b""
        try:
            line = yield b"hello\n"
            while True:
                if line == b"wait\n":
                    self.block()
                line = yield line
        finally:
            if line == b"hold\n":
                self.block()

    def block(self) -> None:
        self.asked.release()
        assert self.go_on.wait(DEADLINE)


class BlockingTalker(Talker):
    """The same with ``blocks = True``."""

    blocks = True


class SilentTalker(BlockingTalker):
    """A talk without a greeting, which blocks at its start."""

    greets = False

    def talk(self, peer: Peer) -> Talk:
        self.block()
        line = yield b""
        while True:
            line = yield line


class Blocking(Moody):
    """The same with ``blocks = True``."""

    blocks = True


Start = Callable[..., Within]


@pytest.fixture
def moody() -> Iterator[Moody]:
    service = Moody()
    yield service
    service.go_on.set()


def poller_of(running: Within) -> PoolPoller:
    eventually(lambda: running.server.daemon)
    assert running.server.daemon is not None
    poller = running.server.daemon.poller
    assert isinstance(poller, PoolPoller)
    return poller


def answered_by(running: Within, service: Moody, times: int = 10) -> set[str]:
    """Ask so many times; which threads have answered."""
    service.answering.clear()
    with connect(running.address) as peer:
        for _ in range(times):
            ask(peer, b"a\n", b"a\n")
    return set(service.answering)


def expect_on_the_spot(running: Within, service: Moody) -> None:
    """Wait until a worker leads, and see that it answers too: it alone."""
    poller = poller_of(running)
    eventually(lambda: not poller.offloading and poller.lease is not None)
    # On a busy machine an answer may seem to take long that did not, and the lead pass on once more.
    eventually(lambda: len(answered_by(running, service)) == 1 and not poller.offloading)


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


def test_slow_replies_may_occupy_all_but_one_thread(within: Start, moody: Moody) -> None:
    running = within("pool", Pump.for_service(moody))
    assert getattr(running.server, "threads", 0) == 16
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(running.address)) for _ in range(15)]
        for number, peer in enumerate(slow):
            peer.sendall(b"wait %d\n" % number)
            assert moody.asked.acquire()
        assert len(answered_by(running, moody)) == 1  # the remaining one
        late = stack.enter_context(connect(running.address))
        late.sendall(b"wait\n")
        assert moody.asked.acquire()
        later = stack.enter_context(connect(running.address))
        later.sendall(b"a\n")
        moody.go_on.set()
        for number, peer in enumerate(slow):
            hear(peer, b"wait %d\n" % number)
        hear(late, b"wait\n")
        hear(later, b"a\n")
        expect_on_the_spot(running, moody)


def test_deadline_does_not_apply_while_a_worker_serves(within: Start, moody: Moody) -> None:
    running = within("pool", Pump.for_service(moody), Limits(idle_timeout=1.0, message_timeout=1.0))
    with connect(running.address) as peer:
        peer.sendall(b"wait\n")
        assert moody.asked.acquire()
        # When the later connection is closed, the first has exceeded its timeouts too.
        with connect(running.address) as idle:
            assert is_gone(idle)
            assert access_of(running, name_of(idle)) == ("idle", "0")
        moody.go_on.set()
        hear(peer, b"wait\n")


def test_message_in_parts_has_one_message_timeout(within: Start) -> None:
    running = within("pool", Pump.for_service(Blocking()), Limits(idle_timeout=60.0, message_timeout=0.3))
    connections = poller_of(running).reading_connections
    with connect(running.address) as peer:
        peer.sendall(b"in par")
        eventually(lambda: any(connection.timeout_ending is Ending.SLOW for connection in list(connections.values())))
        # A worker looks at this part too, and may not give the message all the time there is.
        peer.sendall(b"ts")
        assert is_gone(peer)
        assert access_of(running, name_of(peer)) == ("slow", "0")


def test_peer_may_leave_while_a_worker_serves(within: Start, moody: Moody) -> None:
    running = within("pool", Pump.for_service(moody))
    for word in (b"wait\n", b"wait again\n"):  # taken from the leader's hand, and given to a worker
        with connect(running.address) as peer:
            peer.sendall(word)
            assert moody.asked.acquire()
    assert answered_by(running, moody)
    moody.go_on.set()
    running.expect_no_connections()


def test_service_that_blocks_is_never_called_inline(within: Start) -> None:
    service = Blocking()
    running = within("pool", Pump.for_service(service))
    with connect(running.address) as first:
        assert answered_by(running, service) <= {f"worker-{number}" for number in range(16)}
        first.sendall(b"wait\n")
        assert service.asked.acquire()
        assert answered_by(running, service)
        service.go_on.set()
        hear(first, b"wait\n")
    assert poller_of(running).offloading
    assert poller_of(running).lease is None


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


def pool_of(threads: int) -> type[Server]:
    """Return the class of a pool with so many threads."""
    return type("SmallPool", (stream_server("pool"),), {"threads": threads})


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


def test_end_of_the_daemon_leaves_a_message_in_service_to_its_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = Talker()
    workers: list[threading.Thread] = []

    def not_sampled(detector: StallDetector) -> None:
        workers[:] = detector._poller.workers
        select.select([], [], [], 0.001)

    monkeypatch.setattr(StallDetector, "sample", not_sampled)
    with stream_server("pool")(("127.0.0.1", 0), Pump.for_service(service)) as server:
        loop = threading.Thread(target=server.serve_forever)
        loop.start()
        with connect(server.server_address) as peer:
            hear(peer, b"hello\n")
            peer.sendall(b"wait\n")
            assert service.asked.acquire(timeout=DEADLINE)
            server.shutdown()
            loop.join()
            server.server_close()
    service.go_on.set()
    assert workers
    eventually(lambda: not any(worker.is_alive() for worker in workers))
    assert not [record.getMessage() for record in caplog.records if "failed" in record.getMessage()]


class Named(Echo):
    """Echo each line; those starting with ``u`` wait until released."""

    blocks = True

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def respond(self, line: bytes) -> bytes:
        if line.startswith(b"u"):
            assert self.go_on.wait(DEADLINE)
        return line


def test_message_that_waits_for_datagrams_is_read_once_they_are_answered() -> None:
    service = Named()
    server = pool_of(2)(("127.0.0.1", 0), Pump.for_service(service))
    datagrams = datagram_server("pool")(server.server_address, Pump.for_service(service))
    daemon = Daemon([server, datagrams])
    poller = daemon.poller
    assert isinstance(poller, PoolPoller)
    loop = threading.Thread(target=daemon.serve_forever)
    # Without a tick that would wake the leader.
    server.limits = datagrams.limits = Limits()
    daemon._interval = lambda: DEADLINE * 2  # type: ignore[method-assign]
    loop.start()
    try:
        with connect(server.server_address) as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            ask(peer, b"a\n", b"a\n")
            for _ in range(20):
                sender.sendto(b"u\n", server.server_address)
            eventually(lambda: poller.jobs.qsize() == 18)
            peer.sendall(b"b\n")
            eventually(lambda: poller.unread)
            service.go_on.set()
            hear(peer, b"b\n")
    finally:
        service.go_on.set()
        daemon.shutdown()
        loop.join()
        server.server_close()
        datagrams.server_close()


class Gate(BaseRequestHandler):
    """Raw handler: send a byte, then wait for one."""

    def handle(self) -> None:
        self.request.sendall(b".")
        self.request.recv(1)


def test_raw_handlers_may_occupy_all_threads(within: Start) -> None:
    running = within(pool_of(2), Gate)
    with connect(running.address) as first, connect(running.address) as second:
        hear(first, b".")
        hear(second, b".")
    running.expect_no_connections()


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

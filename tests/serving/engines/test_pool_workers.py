"""The workers of a pool: messages in service, their deadlines, and the number of threads they occupy."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import ExitStack
from socketserver import BaseRequestHandler

import pytest

from daemons.serving.conversation.endings import Ending
from daemons.serving.daemon import Daemon
from daemons.serving.engines import datagram_server, stream_server
from daemons.serving.engines.pool_poller import PoolPoller
from daemons.serving.engines.stall_detector import StallDetector
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from tests.serving.engines.pools import (
    Blocking,
    Moody,
    Start,
    Talker,
    answered_by,
    expect_on_the_spot,
    poller_of,
    pool_of,
)
from tests.serving.peers import DEADLINE, ask, connect, eventually, hear, is_gone, name_of
from tests.serving.running import access_of
from tests.serving.services import Echo


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

"""The leader of a pool: a worker that calls the service inline, until one call is slow; then the stall detector, which
offloads messages to workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from daemons.serving.conversation.endings import Ending
from daemons.serving.engines.pool_poller import PoolPoller
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from tests.serving.peers import ask, connect, eventually, hear, is_gone, name_of
from tests.serving.running import Within, access_of
from tests.serving.services import Echo


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
    running = within("pool", Pump.carrying(moody))
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


def test_slow_replies_may_occupy_all_but_one_thread(within: Start, moody: Moody) -> None:
    running = within("pool", Pump.carrying(moody))
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
    running = within("pool", Pump.carrying(moody), Limits(idle_timeout=1.0, message_timeout=1.0))
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
    running = within("pool", Pump.carrying(Blocking()), Limits(idle_timeout=60.0, message_timeout=0.3))
    connections = poller_of(running).reading_connections
    with connect(running.address) as peer:
        peer.sendall(b"in par")
        eventually(lambda: any(connection.overdue is Ending.SLOW for connection in list(connections.values())))
        # A worker looks at this part too, and may not give the message all the time there is.
        peer.sendall(b"ts")
        assert is_gone(peer)
        assert access_of(running, name_of(peer)) == ("slow", "0")


def test_peer_may_leave_while_a_worker_serves(within: Start, moody: Moody) -> None:
    running = within("pool", Pump.carrying(moody))
    for word in (b"wait\n", b"wait again\n"):  # taken from the leader's hand, and given to a worker
        with connect(running.address) as peer:
            peer.sendall(word)
            assert moody.asked.acquire()
    assert answered_by(running, moody)
    moody.go_on.set()
    running.expect_no_connections()


def test_service_that_blocks_is_never_called_inline(within: Start) -> None:
    service = Blocking()
    running = within("pool", Pump.carrying(service))
    with connect(running.address) as first:
        assert answered_by(running, service) <= {f"worker-{number}" for number in range(16)}
        first.sendall(b"wait\n")
        assert service.asked.acquire()
        assert answered_by(running, service)
        service.go_on.set()
        hear(first, b"wait\n")
    assert poller_of(running).offloading
    assert poller_of(running).lease is None

"""Who leads in a pool: a worker that answers on the spot, until one answer takes long; then the watchman, who hands
every message to a worker, until none has taken long for a while."""

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
    """Says each line back, and by which thread; after ``wait`` not before it is told to."""

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
    """Has said from the beginning that it does."""

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
    eventually(lambda: not poller.handing_over and poller.lease is not None)
    # On a busy machine an answer may seem to take long that did not, and the lead pass on once more.
    eventually(lambda: len(answered_by(running, service)) == 1 and not poller.handing_over)


def test_while_one_answer_takes_long_the_others_are_answered(within: Start, moody: Moody) -> None:
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
        # Who comes now is let in, too.
        assert answered_by(running, moody)
        assert poller_of(running).handing_over
        assert poller_of(running).lease is None
        moody.go_on.set()
        hear(first, b"wait\n")
        ask(first, b"b\n", b"b\n")
        expect_on_the_spot(running, moody)
        for peer in (first, *others):
            ask(peer, b"c\n", b"c\n")
    running.expect_nobody()


def test_as_many_answers_may_take_long_at_once_as_there_are_other_threads(within: Start, moody: Moody) -> None:
    running = within("pool", Pump.carrying(moody))
    assert getattr(running.server, "threads", 0) == 16
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(running.address)) for _ in range(15)]
        for number, peer in enumerate(slow):
            peer.sendall(b"wait %d\n" % number)
            assert moody.asked.acquire()
        assert len(answered_by(running, moody)) == 1  # who is left
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


def test_the_time_that_an_answer_takes_is_not_its_peer_s(within: Start, moody: Moody) -> None:
    running = within("pool", Pump.carrying(moody), Limits(idle_timeout=1.0, message_timeout=1.0))
    with connect(running.address) as peer:
        peer.sendall(b"wait\n")
        assert moody.asked.acquire()
        # Who comes later is cut, so that by then the first one's time is over too.
        with connect(running.address) as idle:
            assert is_gone(idle)
            assert access_of(running, name_of(idle)) == ("idle", "0")
        moody.go_on.set()
        hear(peer, b"wait\n")


def test_a_message_in_parts_has_the_time_of_one(within: Start) -> None:
    running = within("pool", Pump.carrying(Blocking()), Limits(idle_timeout=60.0, message_timeout=0.3))
    flows = poller_of(running).flows
    with connect(running.address) as peer:
        peer.sendall(b"in par")
        eventually(lambda: any(flow.overdue is Ending.SLOW for flow in list(flows.values())))
        # A worker looks at this part too, and may not give the message all the time there is.
        peer.sendall(b"ts")
        assert is_gone(peer)
        assert access_of(running, name_of(peer)) == ("slow", "0")


def test_a_visitor_who_leaves_while_the_answer_is_made(within: Start, moody: Moody) -> None:
    running = within("pool", Pump.carrying(moody))
    for word in (b"wait\n", b"wait again\n"):  # taken from the leader's hand, and given to a worker
        with connect(running.address) as peer:
            peer.sendall(word)
            assert moody.asked.acquire()
    assert answered_by(running, moody)
    moody.go_on.set()
    running.expect_nobody()


def test_a_service_that_says_it_blocks_is_never_answered_on_the_spot(within: Start) -> None:
    service = Blocking()
    running = within("pool", Pump.carrying(service))
    with connect(running.address) as first:
        assert answered_by(running, service) <= {f"worker-{number}" for number in range(16)}
        first.sendall(b"wait\n")
        assert service.asked.acquire()
        assert answered_by(running, service)
        service.go_on.set()
        hear(first, b"wait\n")
    assert poller_of(running).handing_over
    assert poller_of(running).lease is None

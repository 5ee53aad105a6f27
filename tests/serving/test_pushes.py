"""Pushes to peers and talks that wait, over every engine and transport."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from daemons import Lines, Peer, PeerGone, Reply, Service, Talk, Wait
from daemons.serving.conversation.tls import TLS
from daemons.serving.guards import budget
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.serving.peers import ask, connect, eventually, hear, hear_all, name_of, reset
from tests.serving.running import Within, access_of
from tests.serving.tls_client import ours, theirs

Start = Callable[..., Within]

#: Engines in which several peers are served by one process.
SHARING = pytest.mark.parametrize("engine", ["threads", "pool", "loop"])
TRANSPORTS = pytest.mark.parametrize("transport", ["tcp", "tls", "unix"])

PIECES = 50


class Room(Service):
    """Each line is pushed to all peers.  Some lines have a meaning of their own."""

    framing = Lines(limit=100_000)
    shares = True

    def __init__(self) -> None:
        super().__init__()
        self.room: dict[Peer, None] = {}

    def talk(self, peer: Peer) -> Talk:
        self.room[peer] = None
        reply: Reply | Wait | None = None
        try:
            while True:
                line = yield reply
                reply = None
                if line == b"alone":
                    peer.send(b"first")
                    peer.send(b"second")
                    reply = b"third"
                elif line == b"wait":
                    value = yield Wait(b"waiting")
                    reply = b"got %s" % value
                elif line.startswith(b"wait "):
                    value = yield Wait(timeout=float(line[5:]))
                    reply = b"timed out" if value is None else b"got %s" % value
                elif line == b"leave":
                    return b"bye"
                else:
                    self.push(line)
        finally:
            del self.room[peer]

    def push(self, line: bytes) -> None:
        for other in tuple(self.room):
            with suppress(PeerGone):
                other.send(line)


@contextmanager
def opened(running: Within, transport: str, count: int = 1) -> Iterator[list[socket.socket]]:
    """Connect `count` peers."""
    with ExitStack() as stack:
        peers: list[socket.socket] = []
        for _ in range(count):
            peer = stack.enter_context(connect(running.address))
            if transport == "tls":
                peer = stack.enter_context(
                    theirs().wrap_socket(peer, server_hostname="localhost", suppress_ragged_eofs=False)
                )
            peers.append(peer)
        yield peers


@pytest.fixture
def started(within: Start, tmp_path: Path) -> Callable[..., tuple[Within, Room]]:
    def start(engine: str, transport: str = "tcp", limits: Limits | None = None) -> tuple[Within, Room]:
        room = Room()
        address = str(tmp_path / "room.sock") if transport == "unix" else ("127.0.0.1", 0)
        running = within(engine, Pump.for_service(room), limits, address=address)
        if transport == "tls":
            assert isinstance(running.server, StreamServer)
            running.server.tls = TLS(ours())
        return running, room

    return start


Started = Callable[..., tuple[Within, Room]]


@SHARING
@TRANSPORTS
def test_line_is_pushed_to_all_peers_in_the_same_order(engine: str, transport: str, started: Started) -> None:
    running, room = started(engine, transport)
    with opened(running, transport, 8) as peers:
        eventually(lambda: len(room.room) == 8)
        for number in range(20):
            peers[number % 8].sendall(b"%d\n" % number)
            for peer in peers:
                hear(peer, b"%d\n" % number)
        lines = [b"%d of %d\n" % (line, sender) for line in range(30) for sender in range(8)]
        for sender, peer in enumerate(peers):
            peer.sendall(b"".join(b"%d of %d\n" % (line, sender) for line in range(30)))
        received = []
        for peer in peers:
            file = peer.makefile("rb")
            received.append([file.readline() for _ in lines])
            file.close()
        for each in received:
            assert sorted(each) == sorted(lines)
            for sender in range(8):
                assert [line for line in each if line.endswith(b"of %d\n" % sender)] == lines[sender::8]
    eventually(lambda: not room.room)


@pytest.mark.parametrize("engine", ["one", "threads", "forks", "pool", "loop"])
@TRANSPORTS
def test_push_to_oneself_comes_before_the_reply(engine: str, transport: str, started: Started) -> None:
    running, _ = started(engine, transport)
    with opened(running, transport) as (peer,):
        ask(peer, b"alone\nalone\n", 2 * b"first\nsecond\nthird\n")


@pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])
@TRANSPORTS
def test_another_thread_pushes_to_an_idle_peer(engine: str, transport: str, started: Started) -> None:
    running, room = started(engine, transport)
    with opened(running, transport) as (peer,):
        ask(peer, b"hello\n", b"hello\n")
        for number in range(PIECES):
            room.push(b"%d" % number)
        hear(peer, b"".join(b"%d\n" % number for number in range(PIECES)))


@pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])
@TRANSPORTS
def test_value_of_another_thread_ends_a_wait(engine: str, transport: str, started: Started) -> None:
    running, room = started(engine, transport)
    with opened(running, transport) as (peer,):
        # A message meanwhile is answered afterwards.
        ask(peer, b"wait\nafter\n", b"waiting\n")
        (other,) = room.room
        other.send(b"pushed meanwhile")
        hear(peer, b"pushed meanwhile\n")
        other.notify(b"1")
        hear(peer, b"got 1\nafter\n")
        other.notify(b"2")  # before the wait
        other.notify(b"3")
        ask(peer, b"wait 10\nwait 10\n", b"got 2\ngot 3\n")


@pytest.mark.parametrize("engine", ["one", "threads", "forks", "pool", "loop"])
def test_wait_ends_after_its_timeout(engine: str, started: Started) -> None:
    running, _ = started(engine)
    with opened(running, "tcp") as (peer,):
        ask(peer, b"wait 0.01\nwait 0\nalone\n", b"timed out\ntimed out\nfirst\nsecond\nthird\n")


@SHARING
def test_peer_that_waits_is_not_idle(engine: str, started: Started) -> None:
    running, _ = started(engine, limits=Limits(idle_timeout=0.1))
    with opened(running, "tcp") as (peer,):
        ask(peer, b"wait 0.5\n", b"timed out\n")
        assert hear_all(peer) == b""
        assert access_of(running, name_of(peer))[0] == "idle"


@SHARING
def test_push_restarts_the_idle_timeout(engine: str, started: Started) -> None:
    running, room = started(engine, limits=Limits(idle_timeout=1.0))
    with opened(running, "tcp", 2) as (peer, other):
        ask(peer, b"wait 0.5\nwait 0.5\nwait 0.5\nthere\n", 3 * b"timed out\n" + b"there\n")
        # The other peer was sent something after 1.5 s, if it was not closed before; then it is idle.
        eventually(lambda: len(room.room) in (0, 1))
        assert hear_all(other) in (b"", b"there\n")


@SHARING
@TRANSPORTS
def test_peer_that_does_not_read_is_stuck_and_delays_nobody(engine: str, transport: str, started: Started) -> None:
    running, room = started(engine, transport, Limits(outbox=300_000))
    line = b"x" * 50_000
    with opened(running, transport, 2) as (mute, peer):
        eventually(lambda: len(room.room) == 2)
        while len(room.room) == 2:
            ask(peer, line + b"\n", line + b"\n")
        if transport != "unix":  # where all peers have the same name
            assert access_of(running, name_of(mute))[0] == "stuck"
        ask(peer, b"still there\n", b"still there\n")


@SHARING
def test_push_to_a_peer_that_left_raises_peer_gone(engine: str, started: Started) -> None:
    running, room = started(engine)
    with opened(running, "tcp", 2) as (leaving, resetting):
        eventually(lambda: len(room.room) == 2)
        peers = tuple(room.room)
        ask(leaving, b"leave\n", b"bye\n")
        reset(resetting)
        eventually(lambda: not room.room)
    for other in peers:
        with pytest.raises(PeerGone):
            other.send(b"x")
        with pytest.raises(PeerGone):
            other.notify(b"x")


@SHARING
def test_reset_ends_a_wait(engine: str, started: Started) -> None:
    running, room = started(engine)
    with opened(running, "tcp") as (peer,):
        ask(peer, b"wait\n", b"waiting\n")
        name = name_of(peer)
        reset(peer)
        eventually(lambda: not room.room)
        assert access_of(running, name)[0] == "reset"


@SHARING
def test_drain_delivers_what_was_pushed_and_waits_for_a_talk(engine: str, started: Started) -> None:
    running, room = started(engine)
    with opened(running, "tcp", 2) as (peer, waiting):
        ask(waiting, b"wait 0.5\n", b"")
        eventually(lambda: len(room.room) == 2)
        ask(peer, b"here\n", b"here\n")
        room.push(b"last words")
        assert running.server.daemon is not None
        running.server.drain()
        running.server.daemon.wake()
        hear(peer, b"last words\n")
        assert hear_all(peer) == b""
        heard = hear_all(waiting)
        assert heard.endswith(b"timed out\n"), heard


@SHARING
def test_many_threads_push_at_once(engine: str, started: Started) -> None:
    running, room = started(engine)
    with opened(running, "tcp", 4) as peers:
        eventually(lambda: len(room.room) == 4)

        def push(sender: int) -> None:
            for number in range(PIECES):
                room.push(b"%d of %d" % (number, sender))

        threads = [threading.Thread(target=push, args=(sender,)) for sender in range(4)]
        for thread in threads:
            thread.start()
        for peer in peers:
            file = peer.makefile("rb")
            lines = [file.readline() for _ in range(4 * PIECES)]
            file.close()
            for sender in range(4):
                mine = [line for line in lines if line.endswith(b"of %d\n" % sender)]
                assert mine == [b"%d of %d\n" % (number, sender) for number in range(PIECES)]
        for thread in threads:
            thread.join()


@SHARING
def test_peer_that_waits_and_does_not_read_is_stuck_after_write_timeout(engine: str, started: Started) -> None:
    running, room = started(engine, limits=Limits(outbox=10**8, write_timeout=0.3))
    with opened(running, "tcp") as (peer,):
        ask(peer, b"wait\n", b"waiting\n")
        for _ in range(200):
            room.push(b"x" * 90_000)
        assert access_of(running, name_of(peer))[0] == "stuck"


@SHARING
@pytest.mark.parametrize("line", [b"wait\n", b"hello\n"])
def test_long_push_to_a_peer_with_a_spool_arrives(engine: str, line: bytes, started: Started) -> None:
    running, room = started(engine, limits=Limits(outbox=10**8, spool=10**8))
    push = b"x" * 90_000
    with opened(running, "tcp") as (peer,):
        ask(peer, line, b"waiting\n" if line == b"wait\n" else line)
        for _ in range(100):
            room.push(push)
        hear(peer, 100 * (push + b"\n"))


@SHARING
def test_long_reply_to_a_peer_with_a_spool_arrives_while_its_talk_waits(engine: str, within: Start) -> None:
    reply = b"x" * 10**7

    class Waiting(Room):
        def talk(self, peer: Peer) -> Talk:
            yield None
            yield Wait(reply)
            return None

    running = within(engine, Pump.for_service(Waiting()), Limits(spool=10**8))
    with opened(running, "tcp") as (peer,):
        ask(peer, b"\n", reply + b"\n")


@SHARING
def test_push_to_a_peer_paused_by_the_memory_budget_arrives_when_it_is_resumed(engine: str, started: Started) -> None:
    running, room = started(engine, limits=Limits(held=250_000))
    half = b"x" * 90_000
    with opened(running, "tcp", 2) as (oldest, paused):
        eventually(lambda: len(room.room) == 2)
        oldest.sendall(half)
        eventually(lambda: budget.PROCESS.held >= len(half))
        pauses = budget.PROCESS.waits
        paused.sendall(half)
        eventually(lambda: budget.PROCESS.waits > pauses)
        for other in room.room:
            other.send(b"pushed")
        oldest.sendall(b"\n")
        hear(oldest, b"pushed\n" + half + b"\n")
        hear(paused, b"pushed\n")


def test_socket_that_is_writable_at_once_is_sent_the_rest(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon's thread may handle the event while the pushing thread, which waits for it, holds the lock."""
    running, room = started("threads", limits=Limits(outbox=10**8))
    push = b"x" * 10**7
    received: list[bytes] = []
    with opened(running, "tcp") as (peer,):
        ask(peer, b"hello\n", b"hello\n")
        assert running.server.daemon is not None

        def call_at_once(source: object, action: Callable[[], None]) -> None:
            # Nothing else reports that the socket is writable again.
            received.append(peer.recv(10**6))
            event = threading.Thread(target=action)
            event.start()
            event.join()

        monkeypatch.setattr(running.server.daemon.poller, "call_when_writable", call_at_once)
        room.push(push)
        begin = b"".join(received)
        assert push.startswith(begin)
        hear(peer, push[len(begin) :] + b"\n")

"""Pushes, waits and late replies to peers that send in random cuts, read slowly or reset: every byte is checked."""

from __future__ import annotations

import random
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from daemons import Peer, PeerGone, Reply, Service, Talk, Until, Wait
from daemons.serving.conversation.tls import TLS
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.serving.peers import eventually, reset
from tests.serving.running import Within
from tests.serving.tls_client import ours, theirs

Start = Callable[..., Within]

PADDING = b"." * 1000
BIG = b"b" * 100_000
PUSHES = 150
DEEDS = (b"plain", b"own", b"wait", b"pieces", b"later", b"big")


class Stress(Service):
    """A talk that does what each line says.  Replies have numbers, and pushes begin with ``+``."""

    framing = Until(b"\n", limit=100)
    shares = True

    def __init__(self) -> None:
        super().__init__()
        self.room: dict[Peer, None] = {}

    def talk(self, peer: Peer) -> Talk:
        self.room[peer] = None
        reply: Reply | None = None
        number = own = 0
        try:
            while True:
                line = yield reply
                number += 1
                text = b"%d %s" % (number, line)
                reply = text
                if line == b"own\n":
                    for _ in range(5):
                        own += 1
                        peer.send(b"+own %d %s\n" % (own, PADDING))
                elif line == b"wait\n":
                    yield Wait(_pieces(b"%d waits\n" % number), 0.003)
                elif line == b"pieces\n":
                    reply = _pieces(text)
                elif line == b"later\n":
                    reply = self.submit(_same, text)
                elif line == b"big\n":
                    reply = _pieces(b"%d %s\n" % (number, BIG))
        finally:
            del self.room[peer]

    @staticmethod
    def expected(deeds: list[bytes]) -> Iterator[bytes]:
        for number, deed in enumerate(deeds, 1):
            if deed == b"wait":
                yield b"%d waits\n" % number
            yield b"%d %s\n" % (number, BIG if deed == b"big" else deed)


def _same(reply: bytes) -> bytes:
    return reply


def _pieces(reply: bytes) -> Iterator[bytes]:
    half = len(reply) // 2
    yield reply[:half]
    yield b""
    yield reply[half:]


class Client(threading.Thread):
    """A peer that sends its lines in random cuts, and reads slowly; every third one resets the connection midway."""

    def __init__(self, number: int, running: Within, tls: bool, receive_buffer: int) -> None:
        super().__init__()
        self.dice = random.Random(number)
        self.deeds = [self.dice.choice(DEEDS) for _ in range(25)]
        self.resets = number % 3 == 2
        self.got = bytearray()
        self.error: Exception | None = None
        self._running, self._tls, self._receive_buffer = running, tls, receive_buffer

    def run(self) -> None:
        try:
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
                sock.settimeout(60)
                sock.connect(self._running.address)
                if self._tls:
                    with theirs().wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as secured:
                        self._talk(secured)
                else:
                    self._talk(sock)
        except Exception as error:
            self.error = error

    def _talk(self, sock: socket.socket) -> None:
        data = b"".join(deed + b"\n" for deed in self.deeds)
        end = self.deeds[-1]
        while data:
            size = self.dice.choice((1, 3, 7, 20))
            sock.sendall(data[:size])
            data = data[size:]
            if self.resets and len(data) < 60:
                reset(sock)
                return
            if self.dice.random() < 0.5 and select.select([sock], [], [], 0)[0]:
                sock.settimeout(0.01)  # over TLS, what can be read may not be data
                with suppress(TimeoutError):
                    self.got += sock.recv(self.dice.choice((1, 100, 5000)))
                sock.settimeout(60)
        last = b"\n%d %s\n" % (len(self.deeds), BIG if end == b"big" else end)
        while last not in self.got:
            piece = sock.recv(self.dice.choice((100, 5000, 50_000)))
            assert piece, "the connection was closed"
            self.got += piece


def check(client: Client, pushers: int) -> None:
    """Check every byte that a client has received."""
    if client.error is not None and not (client.resets and isinstance(client.error, OSError)):
        raise client.error
    complete = bytes(client.got[: client.got.rfind(b"\n") + 1]).splitlines(True)
    replies = b"".join(line for line in complete if not line.startswith(b"+"))
    expected = b"".join(Stress.expected(client.deeds))
    assert expected.startswith(replies)
    assert client.resets or replies == expected
    numbers: dict[bytes, int] = {}
    for line in complete:
        if line.startswith(b"+"):
            source, number, padding = line[1:].split(b" ")
            assert (int(number), padding) == (numbers.get(source, 0) + 1, PADDING + b"\n")
            numbers[source] = int(number)
    if not client.resets:
        assert numbers.get(b"own", 0) == 5 * client.deeds.count(b"own")
        for pusher in range(pushers):
            assert 0 <= numbers.get(b"%d" % pusher, 0) <= PUSHES


class Pusher(threading.Thread):
    """Another thread that pushes to all peers."""

    def __init__(self, number: int, room: dict[Peer, None], begin: threading.Event) -> None:
        super().__init__()
        self._number, self._room, self._begin = number, room, begin
        self.error: Exception | None = None

    def run(self) -> None:
        numbers: dict[Peer, int] = {}
        self._begin.wait(20)
        try:
            for _ in range(PUSHES):
                for peer in tuple(self._room):
                    numbers[peer] = numbers.get(peer, 0) + 1
                    with suppress(PeerGone):
                        peer.send(b"+%d %d %s\n" % (self._number, numbers[peer], PADDING))
        except Exception as error:
            self.error = error


@pytest.mark.parametrize("transport", ["tcp", "tls", "spool"])
@pytest.mark.parametrize("engine", ["threads", "forks", "pool", "loop"])
def test_every_byte_arrives_in_order(engine: str, transport: str, within: Start) -> None:
    service = Stress()
    spool = 16 * 1024**2 if transport == "spool" else None
    running = within(engine, Pump.for_service(service), Limits(outbox=16 * 1024**2, spool=spool))
    if transport == "tls":
        assert isinstance(running.server, StreamServer)
        running.server.tls = TLS(ours())
    clients = [Client(number, running, transport == "tls", 4096 if number % 2 else 65536) for number in range(6)]
    begin = threading.Event()
    # A forked child has a room of its own, to which the threads of this process cannot push.
    pushers = [Pusher(number, service.room, begin) for number in range(0 if engine == "forks" else 2)]
    for thread in (*clients, *pushers):
        thread.start()
    if pushers:
        eventually(lambda: len(service.room) > 1)
    begin.set()
    for thread in (*clients, *pushers):
        thread.join()
    for client in clients:
        check(client, len(pushers))
    assert not [pusher.error for pusher in pushers if pusher.error]
    if pushers:
        eventually(lambda: not service.room)

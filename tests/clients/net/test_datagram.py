"""Requests over UDP: loss, late replies, replies from other addresses and closed ports."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from daemons.clients.net.datagram import send_request
from daemons.clients.net.dial import NetworkError
from daemons.serving.listening.address import Address
from daemons.udpd import Udpd

#: Called with the socket, each request, its number and the peer; sends any replies.
ResponseBuffer = Callable[[socket.socket, bytes, int, tuple[str, int]], None]

WAIT = 20.0


@contextmanager
def foreign(answer: ResponseBuffer) -> Iterator[tuple[Address, list[bytes]]]:
    """Yield the address of a server in a thread, and the requests it has received."""
    received: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(WAIT)

        def serve() -> None:
            while (datagram := server.recvfrom(65_535))[0] != b"leave":
                received.append(datagram[0])
                answer(server, datagram[0], len(received), datagram[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address("udp", "127.0.0.1", server.getsockname()[1]), received
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"leave", server.getsockname())
            thread.join(WAIT)


def test_lost_request_is_retransmitted_with_growing_intervals() -> None:
    def third_time_lucky(server: socket.socket, question: bytes, count: int, peer: tuple[str, int]) -> None:
        if count == 3:
            server.sendto(b"late, to " + question, peer)

    notes: list[str] = []
    with foreign(third_time_lucky) as (address, received):
        assert send_request(address, b"this", WAIT, note=notes.append) == b"late, to this"
    assert received[:3] == [b"this"] * 3
    named, *waits = notes
    assert named.startswith("Client has been assigned socket name ('127.0.0.1', ")
    assert waits[:3] == [f"Waiting up to {seconds} seconds for a reply" for seconds in ("0.1", "0.2", "0.4")]


def test_replies_with_another_id_are_ignored() -> None:
    def confused(server: socket.socket, question: bytes, count: int, peer: tuple[str, int]) -> None:
        for wrong in (Udpd.question(b"x"), b"Your data was 1 bytes long", b"", b"id=\xff", question[:10]):
            server.sendto(wrong, peer)
        server.sendto(question[:20] + b"Your data was 5 bytes long", peer)

    notes: list[str] = []
    with foreign(confused) as (address, _):
        answer = send_request(address, Udpd.question(b"hello"), WAIT, Udpd.matches, notes.append)
    assert Udpd.shown(answer) == b"Your data was 5 bytes long"
    assert (
        len([note for note in notes if note.startswith("Ignored a datagram that does not match the request: b")]) == 5
    )


def test_reply_from_another_address_is_not_received() -> None:
    def impostor(server: socket.socket, question: bytes, count: int, peer: tuple[str, int]) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"from another address", peer)
        server.sendto(b"from the server", peer)

    with foreign(impostor) as (address, _):
        assert send_request(address, b"request", WAIT) == b"from the server"


def test_server_without_ids_is_supported_if_any_reply_matches() -> None:
    def book(server: socket.socket, question: bytes, count: int, peer: tuple[str, int]) -> None:
        server.sendto(f"Your data was {len(question)} bytes long".encode("ascii"), peer)

    with foreign(book) as (address, received):
        assert send_request(address, b"hello", WAIT) == b"Your data was 5 bytes long"
        # A client that requires an id ignores the reply.
        with pytest.raises(NetworkError, match=r"no answer in 0\.2 s: I think the server is down, or "):
            send_request(address, Udpd.question(b"hello"), 0.2, Udpd.matches)
    assert len(set(received[1:])) == 1


def test_closed_port_is_reported_immediately() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(NetworkError) as raised:
            send_request(Address("udp", host, port), b"?", 3600.0)
        assert str(raised.value) == f"udp://{host}:{port}: connection refused: no listener on this port"
        assert isinstance(raised.value.__cause__, ConnectionRefusedError)


def test_every_address_of_a_host_is_tried() -> None:
    """localhost resolves first to ::1, which has no listener."""

    def here(server: socket.socket, question: bytes, count: int, peer: tuple[str, int]) -> None:
        server.sendto(b"here", peer)

    with foreign(here) as (address, _):
        assert send_request(address.at(host="localhost"), b"where?", WAIT) == b"here"


def test_request_longer_than_a_datagram_is_an_error() -> None:
    with foreign(lambda *_: None) as (address, received), pytest.raises(NetworkError, match=r"message too long"):
        send_request(address, bytes(65_508), WAIT)
    assert received == []


def test_request_ids_are_unpredictable() -> None:
    ids = [int(Udpd.question(b"")[3:19], 16) for _ in range(1000)]
    assert len(set(ids)) == 1000
    rising = sum(one < other for one, other in pairwise(ids))
    assert 350 < rising < 650
    assert max(ids) > 2**62

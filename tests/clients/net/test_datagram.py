"""Asking over UDP: servers that drop, that are late, that are not who they should be, and that are not there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from daemons.clients.net.datagram import inquire
from daemons.clients.net.dial import NetworkError
from daemons.serving.listening.address import Address
from daemons.udpd import Udpd

#: Is given each question, and how often it has come, and sends what it likes with the socket to the peer.
ResponseBuffer = Callable[[socket.socket, bytes, int, tuple[str, int]], None]

WAIT = 20.0


@contextmanager
def foreign(answer: ResponseBuffer) -> Iterator[tuple[Address, list[bytes]]]:
    """A server of plain sockets in a thread; yields where it is, and what it has heard."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(WAIT)

        def serve() -> None:
            while (came := server.recvfrom(65_535))[0] != b"leave":
                heard.append(came[0])
                answer(server, came[0], len(heard), came[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address("udp", "127.0.0.1", server.getsockname()[1]), heard
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"leave", server.getsockname())
            thread.join(WAIT)


def test_what_is_lost_is_asked_again_ever_more_rarely() -> None:
    def third_time_lucky(server: socket.socket, question: bytes, count: int, peer: tuple[str, int]) -> None:
        if count == 3:
            server.sendto(b"late, to " + question, peer)

    notes: list[str] = []
    with foreign(third_time_lucky) as (address, heard):
        assert inquire(address, b"this", WAIT, note=notes.append) == b"late, to this"
    assert heard[:3] == [b"this"] * 3
    named, *waits = notes
    assert named.startswith("Client has been assigned socket name ('127.0.0.1', ")
    assert waits[:3] == [f"Waiting up to {seconds} seconds for a reply" for seconds in ("0.1", "0.2", "0.4")]


def test_answers_with_another_id_are_passed_over() -> None:
    def confused(server: socket.socket, question: bytes, count: int, peer: tuple[str, int]) -> None:
        for wrong in (Udpd.question(b"x"), b"Your data was 1 bytes long", b"", b"id=\xff", question[:10]):
            server.sendto(wrong, peer)
        server.sendto(question[:20] + b"Your data was 5 bytes long", peer)

    notes: list[str] = []
    with foreign(confused) as (address, _):
        answer = inquire(address, Udpd.question(b"hello"), WAIT, Udpd.matches, notes.append)
    assert Udpd.shown(answer) == b"Your data was 5 bytes long"
    assert len([note for note in notes if note.startswith("That was no answer to this question: b")]) == 5


def test_an_answer_from_elsewhere_never_arrives() -> None:
    def impostor(server: socket.socket, question: bytes, count: int, peer: tuple[str, int]) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"from somebody else", peer)
        server.sendto(b"from whom it should be", peer)

    with foreign(impostor) as (address, _):
        assert inquire(address, b"who?", WAIT) == b"from whom it should be"


def test_the_server_of_the_book_which_knows_no_ids() -> None:
    def book(server: socket.socket, question: bytes, count: int, peer: tuple[str, int]) -> None:
        server.sendto(f"Your data was {len(question)} bytes long".encode("ascii"), peer)

    with foreign(book) as (address, heard):
        assert inquire(address, b"hello", WAIT) == b"Your data was 5 bytes long"
        # Who insists on an id does not take its answer.
        with pytest.raises(NetworkError, match=r"no answer in 0\.2 s: I think the server is down, or "):
            inquire(address, Udpd.question(b"hello"), 0.2, Udpd.matches)
    assert len(set(heard[1:])) == 1


def test_where_nobody_listens_that_is_said_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(NetworkError) as raised:
            inquire(Address("udp", host, port), b"?", 3600.0)
        assert str(raised.value) == f"udp://{host}:{port}: connection refused: nobody listens there"
        assert isinstance(raised.value.__cause__, ConnectionRefusedError)


def test_every_address_of_a_name_is_tried() -> None:
    """localhost is ::1 first, where nobody listens."""

    def here(server: socket.socket, question: bytes, count: int, peer: tuple[str, int]) -> None:
        server.sendto(b"here", peer)

    with foreign(here) as (address, _):
        assert inquire(address.at(host="localhost"), b"where?", WAIT) == b"here"


def test_a_question_that_fits_in_no_datagram_is_not_sent() -> None:
    with foreign(lambda *_: None) as (address, heard), pytest.raises(NetworkError, match=r"message too long"):
        inquire(address, bytes(65_508), WAIT)
    assert heard == []


def test_questions_have_ids_that_nobody_can_guess() -> None:
    ids = [int(Udpd.question(b"")[3:19], 16) for _ in range(1000)]
    assert len(set(ids)) == 1000
    rising = sum(one < other for one, other in pairwise(ids))
    assert 350 < rising < 650
    assert max(ids) > 2**62

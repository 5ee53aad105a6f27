"""Accepted connections: the peer's name, the first ending, muting and cutting."""

from __future__ import annotations

import logging
import os
import re
import socket

import pytest

from daemons.serving.connection import BlockingConnection, Connection
from daemons.serving.conversation.endings import Ending


@pytest.mark.parametrize(
    ("address", "peer", "host"),
    [
        (("127.0.0.1", 53412), "127.0.0.1:53412", "127.0.0.1"),
        (("::1", 53412, 0, 0), "[::1]:53412", "::1"),
        (("fe80::1%eth0", 1, 0, 2), "[fe80::1%eth0]:1", "fe80::1%eth0"),
        (("fe80::1", 1, 0, 1), "[fe80::1%lo]:1", "fe80::1%lo"),
        (("fe80::1", 1, 0, 2**31 - 1), "[fe80::1%2147483647]:1", "fe80::1%2147483647"),
    ],
)
def test_a_peer_is_its_address_and_its_host_is_shared(address: tuple[object, ...], peer: str, host: str) -> None:
    with socket.socket() as sock:
        connection = Connection(sock, address, 10.0)
        assert (connection.peer, connection.host) == (peer, host)


@pytest.mark.parametrize("address", ["", b"", None], ids=repr)
def test_a_unix_peer_is_the_process_at_the_other_end(address: object) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, address, 10.0)
        assert connection.peer == f"unix:pid={os.getpid()},uid={os.getuid()}"
        assert connection.host == "unix"


def test_unix_peer_without_credentials_is_named_unix() -> None:
    with socket.socket() as sock:
        sock.close()
        assert Connection(sock, "", 10.0).peer == "unix"


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def test_first_ending_is_final(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with ours, theirs:
        connection = Connection(ours, "", 10.0)
        connection.cut(Ending.IDLE)
        connection.cut(Ending.STOPPED)
        assert connection.ending is Ending.IDLE
        assert theirs.recv(1) == b""


def test_cutting_or_muting_a_closed_connection_is_no_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    connection = BlockingConnection(ours, "", 10.0)
    ours.close()
    connection.shut_reading()
    connection.cut(Ending.SLOW)
    assert (connection.reading_shut, connection.ending) == (True, Ending.SLOW)


def test_received_data_is_read_after_mute_before_the_end_of_input() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as peer:
        ours, address = listener.accept()
        with ours:
            peer.sendall(b"before")
            assert ours.recv(6, socket.MSG_PEEK) == b"before"
            BlockingConnection(ours, address, 10.0).shut_reading()
            assert (ours.recv(100), ours.recv(100)) == (b"before", b"")


def test_phase_has_a_deadline_and_an_ending(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with ours, theirs:
        connection = Connection(ours, "", 10.0)
        before = connection.deadline
        connection.expect(Ending.STUCK, 1000.0)
        assert connection.timeout_ending is Ending.STUCK
        assert connection.deadline > before + 900


# --- endings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", Ending)
def test_each_ending_is_one_word_a_level_and_a_sentence(ending: Ending) -> None:
    assert re.fullmatch("[a-z]+", ending.value)
    assert ending.name == ending.value.upper()
    assert ending.level in (logging.INFO, logging.WARNING, logging.ERROR)
    assert re.fullmatch(r"[^\s.].*[^.\s]", ending.text)


def test_no_two_endings_have_the_same_word_and_only_a_bug_is_an_error() -> None:
    assert len({ending.value for ending in Ending}) == len(Ending)
    assert [ending for ending in Ending if ending.level == logging.ERROR] == [Ending.FAILED]

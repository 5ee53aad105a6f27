"""Whether the peer of a connection has left."""

from __future__ import annotations

import gc
import socket
import struct
from collections.abc import Iterator

import pytest

from daemons.serving.connection import BlockingConnection
from daemons.serving.conversation.endings import Ending
from daemons.serving.peer_check import PeerCheck
from tests.serving.peers import eventually


@pytest.fixture
def pair() -> Iterator[tuple[BlockingConnection, socket.socket]]:
    """An accepted connection, and its peer's socket."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as peer,
        listener.accept()[0] as accepted,
    ):
        yield BlockingConnection(accepted, peer.getsockname(), 60.0), peer


def test_connected_peer_has_not_left(pair: tuple[BlockingConnection, socket.socket]) -> None:
    check = PeerCheck(pair[0], 60.0)
    pair[1].sendall(b"more")
    assert not check()
    assert not check.is_reset()
    assert not check.has_closed()


def test_half_closed_peer_may_have_left_and_counts_as_gone_after_the_patience(
    pair: tuple[BlockingConnection, socket.socket],
) -> None:
    pair[1].shutdown(socket.SHUT_WR)
    check = PeerCheck(pair[0], 60.0)
    eventually(check.has_closed)
    assert not check()
    assert not check.is_reset()
    assert pair[0].ending is None
    assert PeerCheck(pair[0], 0.0)()
    assert pair[0].ending is Ending.RESET


def test_peer_that_resets_is_gone(pair: tuple[BlockingConnection, socket.socket]) -> None:
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair[1].close()
    check = PeerCheck(pair[0], 60.0)
    eventually(check.is_reset)
    assert check()
    assert check.has_closed()


def test_half_that_the_daemon_has_shut_does_not_count_as_closed(
    pair: tuple[BlockingConnection, socket.socket],
) -> None:
    pair[0].shut_reading()
    check = PeerCheck(pair[0], 0.0)
    assert not check()
    assert not check.is_reset()
    assert not check.has_closed()


def test_connection_that_is_cut_or_closed_is_gone(pair: tuple[BlockingConnection, socket.socket]) -> None:
    check = PeerCheck(pair[0], 60.0)
    pair[0].cut(Ending.STUCK)
    assert check.is_reset()
    assert check()
    assert pair[0].ending is Ending.STUCK
    pair[0].socket.close()
    assert check.is_reset()
    assert check()


def test_check_does_not_keep_the_connection_alive(pair: tuple[BlockingConnection, socket.socket]) -> None:
    check = PeerCheck(BlockingConnection(pair[0].socket, ("127.0.0.1", 1), 60.0), 60.0)
    gc.collect()
    assert check.is_reset()
    assert check()

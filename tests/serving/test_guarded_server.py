"""The guards of a server on its open connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from daemons.serving.connection import BlockingConnection
from daemons.serving.conversation.endings import Ending, Refusal
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.serving.peers import DEADLINE
from tests.serving.services import Echo


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with StreamServer(("127.0.0.1", 0), Pump.for_service(Echo())) as server:
        yield server


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(DEADLINE)
        yield ours, theirs


def add(server: StreamServer, ours: socket.socket) -> BlockingConnection:
    """Add an open connection whose deadline is in ten seconds."""
    connection = BlockingConnection(ours, "", 10.0)
    server.connections[ours] = connection
    return connection


def ending_of(connection: BlockingConnection) -> Ending | None:
    return connection.ending  # in a function, since mypy would narrow the attribute


@pytest.mark.parametrize(
    ("host", "most"),
    [("127.0.0.1", 9), ("127.8.8.8", 9), ("::1", 9), ("unix", 9), ("192.0.2.1", 4), ("fe80::1%eth0", 4)],
)
def test_default_max_per_peer_of_other_hosts_is_half_of_max_connections(host: str, most: int) -> None:
    with StreamServer(("127.0.0.1", 0), Pump.for_service(Echo())) as server:
        server.limits = Limits(max_connections=9)
        assert server._most_per_peer(host) == most
        server.limits = Limits(max_connections=1)
        assert server._most_per_peer(host) == 1
        server.limits = Limits(max_connections=9, max_per_peer=3)
        assert server._most_per_peer(host) == 3


def test_only_connections_past_their_deadline_are_cut(
    server: StreamServer, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    connection = add(server, ours)
    server.sweep(connection.deadline - 1.0)
    assert ending_of(connection) is None
    connection.timed = False  # the service runs
    server.sweep(connection.deadline)
    assert ending_of(connection) is None
    connection.timed = True
    server.sweep(connection.deadline)
    assert ending_of(connection) is Ending.HANDSHAKE
    assert theirs.recv(1) == b""


def test_drain_shuts_the_reading_side_between_two_messages_only(
    server: StreamServer, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    connection = add(server, ours)
    server.drain()
    assert (server.draining, connection.reading_shut) == (True, False)
    connection.waiting = True
    server.drain()
    assert connection.reading_shut
    assert ours.recv(1) == b""
    ours.sendall(b"x")  # a reply may still be sent
    assert theirs.recv(1) == b"x"


def test_connection_of_another_server_is_not_evicted(
    server: StreamServer, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    connection = add(server, ours)
    with StreamServer(("127.0.0.1", 0), Pump.for_service(Echo())) as other:
        other.evict(connection)
    assert ending_of(connection) is None
    server.evict(connection)
    assert (ending_of(connection), connection.reason) == (Ending.REFUSED, Refusal.HELD.value)
    assert theirs.recv(1) == b""


def limited(setting: str, seconds: float, **others: Any) -> Limits:
    return Limits(**{setting: seconds, **others})


@pytest.mark.parametrize(
    ("phase", "setting"),
    [
        (Ending.HANDSHAKE, "handshake_timeout"),
        (Ending.IDLE, "idle_timeout"),
        (Ending.SLOW, "message_timeout"),
        (Ending.STUCK, "write_timeout"),
        (Ending.OVERLONG, "conversation_timeout"),
    ],
)
def test_open_connections_get_the_timeouts_of_a_reload(
    server: StreamServer, pair: tuple[socket.socket, socket.socket], phase: Ending, setting: str
) -> None:
    connection = add(server, pair[0])
    server.apply(limited(setting, 1000.0))
    connection.expect(phase, 1000.0)
    began = connection.deadline - 1000.0
    server.apply(limited(setting, 500.0))
    assert connection.deadline == pytest.approx(began + 500.0)
    server.apply(limited(setting, 2000.0, drain_timeout=1.0))
    assert connection.deadline == pytest.approx(began + 2000.0)
    # Not at once: the thread of the connection may be about to set a new deadline.
    connection.deadline -= 1000.0
    server.apply(limited(setting, 0.5))
    assert began < connection.deadline <= began + 100.0
    connection.cut(Ending.STOPPED)
    before = connection.deadline
    server.apply(limited(setting, 2000.0))
    assert connection.deadline == before


def test_connection_idle_for_longer_than_a_reduced_timeout_gives_way(
    server: StreamServer, pair: tuple[socket.socket, socket.socket]
) -> None:
    connection = add(server, pair[0])
    connection.messages = 1
    connection.expect(Ending.IDLE, server.limits.idle_timeout)
    connection.deadline -= 100.0
    now = connection.deadline - server.limits.idle_timeout + 100.0
    assert [found for *_, found in server.candidates(now)] == [connection]
    server.apply(Limits(idle_timeout=200.0))
    assert [found for *_, found in server.candidates(now)] == [connection]

"""Which connections give way to new ones at the limit, and in which order."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from daemons.serving.connection import GRACE, Connection
from daemons.serving.conversation.endings import Ending
from daemons.serving.guards import eviction
from daemons.serving.guards.eviction import (
    IDLE_GRACE,
    Eviction,
    Rank,
    first_candidates,
    has_unread_input,
    makes_progress,
    rank,
)
from daemons.serving.guards.limits import Limits
from tests.operating.live import until

LIMITS = Limits()

#: The time of each check.
NOW = 1000.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection: the server's end and the peer's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with peer, server:
            yield server, peer


def waiting(
    sock: socket.socket, opened: float, *, messages: int = 0, phase: Ending = Ending.IDLE, since: float | None = None
) -> Connection:
    """Return a connection in `phase` since the time `since`."""
    made = Connection(sock, ("127.0.0.1", 1), LIMITS.handshake_timeout, opened)
    timeouts = {
        Ending.IDLE: LIMITS.idle_timeout,
        Ending.SLOW: LIMITS.message_timeout,
        Ending.STUCK: LIMITS.write_timeout,
        Ending.OVERLONG: LIMITS.conversation_timeout,
    }
    made.messages = messages
    made.timeout_ending = phase
    made.deadline = (opened if since is None else since) + timeouts.get(phase, LIMITS.handshake_timeout)
    return made


Pair = tuple[socket.socket, socket.socket]


def test_order_of_eviction_is_new_then_partial_then_idle_and_oldest_first(pair: Pair) -> None:
    idle = waiting(pair[0], 10.0, messages=3, since=20.0)
    idler = waiting(pair[0], 11.0, messages=3, since=15.0)
    partial = waiting(pair[0], 12.0, messages=1, phase=Ending.SLOW, since=500.0)
    mute = waiting(pair[0], 900.0)
    half = waiting(pair[0], 901.0, phase=Ending.SLOW, since=990.0)
    shaking = waiting(pair[0], 902.0, phase=Ending.HANDSHAKE)
    unread = waiting(pair[0], 9.0, phase=Ending.STUCK, since=990.0)
    found = first_candidates([unread, idle, idler, partial, mute, half, shaking], LIMITS, NOW)
    assert [candidate[2] for candidate in found] == [mute, half, shaking, partial, idler, idle, unread]
    assert [candidate[0] for candidate in found] == [Rank.NEW] * 3 + [Rank.PARTIAL] + [Rank.IDLE] * 2 + [Rank.UNREAD]


def test_connection_being_served_is_no_candidate(pair: Pair) -> None:
    reading_reply = waiting(pair[0], 1.0, messages=1, phase=Ending.STUCK, since=NOW - IDLE_GRACE + 0.1)
    raw = waiting(pair[0], 1.0, phase=Ending.OVERLONG)
    ended = waiting(pair[0], 1.0)
    ended.ending = Ending.MALFORMED
    with_worker = waiting(pair[0], 1.0)
    with_worker.deadline = math.inf
    assert first_candidates([reading_reply, raw, ended, with_worker], LIMITS, NOW) == []


@pytest.mark.parametrize(
    ("messages", "phase", "grace"),
    [(0, Ending.IDLE, GRACE), (0, Ending.SLOW, GRACE), (1, Ending.SLOW, GRACE), (1, Ending.IDLE, IDLE_GRACE)],
)
def test_grace_period_is_kept(pair: Pair, messages: int, phase: Ending, grace: float) -> None:
    def ranked(since: float) -> bool:
        opened = 1.0 if messages else since
        return rank(waiting(pair[0], opened, messages=messages, phase=phase, since=since), LIMITS, NOW) is not None

    assert not ranked(NOW - grace + 0.1)
    assert ranked(NOW - grace - 0.1)


def test_input_that_was_not_processed_yet_is_noticed(pair: Pair) -> None:
    connection = waiting(pair[0], 1.0)
    assert not has_unread_input(connection)
    pair[1].sendall(b"abc")
    assert has_unread_input(connection)
    # Read, but not processed.
    assert pair[0].recv(3) == b"abc"
    assert has_unread_input(connection)
    connection.received = 3
    assert not has_unread_input(connection)


def test_reply_that_the_peer_does_not_take_is_noticed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "IDLE_GRACE", 0.3)
    connection = waiting(pair[0], 1.0, phase=Ending.STUCK)
    pair[0].setblocking(False)

    def fill() -> int:
        sent = 0
        with suppress(BlockingIOError):
            while True:
                sent += pair[0].send(bytes(65536))
        return sent

    sent = fill()
    assert makes_progress(connection)
    until(lambda: not makes_progress(connection), "no data is sent")
    # Input does not matter: the reply is not read.
    pair[1].sendall(b"abc")
    assert not makes_progress(connection)
    while sent > 0:
        sent -= len(pair[1].recv(65536))
        fill()
    assert makes_progress(connection)


def test_closed_socket_counts_as_unread_input(pair: Pair) -> None:
    connection = waiting(pair[0], 1.0)
    pair[0].close()
    assert has_unread_input(connection)
    assert makes_progress(waiting(pair[0], 1.0, phase=Ending.STUCK))


# --- the rounds of eviction ------------------------------------------------------------------------


@dataclass
class Crowd:
    """A server whose connections leave only if they are in `willing`, and then when `leave` is called."""

    connections: list[Connection]
    willing: set[Connection]
    asked: list[Connection] = field(default_factory=list)
    scans: int = 0

    def candidates(self, now: float) -> list[eviction.Candidate]:
        self.scans += 1
        never = [(Rank.NEW, each.opened, each) for each in self.connections if each not in self.asked]
        return never or [(Rank.IDLE, each.opened, each) for each in self.connections]

    def give_way(self, connection: Connection, now: float) -> float | None:
        self.asked.append(connection)
        return 0.1

    def holds(self, connection: Connection) -> bool:
        return connection in self.connections

    def leave(self) -> None:
        self.connections = [each for each in self.connections if each not in self.willing or each not in self.asked]


def rounds(crowd: Crowd) -> Eviction:
    daemon = type("Daemon", (), {"servers": [crowd]})()
    return Eviction(daemon)


def test_no_more_connections_are_evicted_while_others_are_leaving(pair: Pair) -> None:
    each = [waiting(pair[0], float(number)) for number in range(9)]
    crowd = Crowd(each, set(each))
    evicting = rounds(crowd)
    assert evicting.make_room(2, NOW) == 2
    assert evicting.make_room(2, NOW + 0.05) == 0
    assert 0 < evicting.wait(NOW + 0.05) < 0.1
    crowd.leave()
    assert evicting.wait(NOW + 0.06) == 0.0
    assert evicting.make_room(2, NOW + 0.06) == 2
    assert crowd.asked == each[:4]


def test_unwilling_children_are_passed_over_in_a_few_rounds(pair: Pair) -> None:
    each = [waiting(pair[0], float(number)) for number in range(200)]
    crowd = Crowd(each, {each[-1]})
    evicting, now, count = rounds(crowd), NOW, 0
    while each[-1] not in crowd.asked:
        evicting.make_room(1, now)
        now += max(0.01, evicting.wait(now))
        count += 1
        assert count < 20
    assert now - NOW < 3.0


def test_scans_are_limited_in_number(pair: Pair) -> None:
    crowd = Crowd([], set())
    evicting = rounds(crowd)
    for step in range(100):
        evicting.make_room(1, NOW + step / 100)
    assert 3 <= crowd.scans <= 5
    assert evicting.wait(NOW + 1.0) <= eviction.SCAN_INTERVAL

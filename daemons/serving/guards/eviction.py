"""Eviction: at the limit of connections, those that wait for their peer give way to new ones, oldest first.

Otherwise a few peers could hold all places with half messages until their deadlines.  The order is: connections that
have not sent a complete message (nothing at all, a part, or an unfinished handshake), then those with a part of a later
message, then idle ones, and last those with a peer that takes nothing of its reply.  A connection is never evicted
while its message is being answered or its input has not been processed yet.  All have a grace period.
"""

from __future__ import annotations

import math
import select
import socket
import sys
from collections import deque
from collections.abc import Iterable
from enum import IntEnum
from itertools import islice
from typing import TYPE_CHECKING

from daemons.serving import connection as connections
from daemons.serving.conversation.endings import Ending

if TYPE_CHECKING:
    from daemons.serving.connection import Connection
    from daemons.serving.guards.limits import Limits
    from daemons.serving.interfaces import Leader, Served

#: Maximum number of candidates collected by one scan of the open connections.
CANDIDATES = 1024

#: Minimum seconds between two scans.  A scan of ten thousand connections takes some milliseconds.
SCAN_INTERVAL = 0.25

#: Grace period in seconds between two messages, and for a peer that takes nothing of its reply.  A person at a terminal
#: pauses for longer than a program that sends one message.  The grace period of other connections is
#: `daemons.serving.connection.GRACE`.
IDLE_GRACE = 5.0

#: Maximum number of connections to evict at a time.
MOST = 64

#: Seconds for a thread to close a connection after it was cut, before another is evicted instead.
RELEASE = 1.0

#: Milliseconds within which a thread processes bytes that it has read.
RECENT = 250

#: tcpi_last_data_sent and tcpi_last_data_recv (milliseconds ago), and tcpi_bytes_received, in struct tcp_info,
#: linux/tcp.h.  A probe of a closed window sends no data.
_LAST_SENT, _LAST_DATA, _BYTES_RECEIVED = slice(44, 48), slice(52, 56), slice(128, 136)

#: Phases in which a connection waits for its peer.
_WAITING = frozenset((Ending.HANDSHAKE, Ending.IDLE, Ending.SLOW, Ending.STUCK))


class Rank(IntEnum):
    """Class of a candidate; the lowest is evicted first."""

    #: No complete message yet.
    NEW = 0
    #: Part of a message, after at least one complete message.
    PARTIAL = 1
    #: Between two messages.
    IDLE = 2
    #: A reply is waiting for the peer to read.
    UNREAD = 3


Candidate = tuple[Rank, float, "Connection"]


def rank(connection: Connection, limits: Limits, now: float) -> Candidate | None:
    """Return the rank of a connection, since when (monotonic) it has waited for its peer, and the connection.

    None if it may not be evicted now."""
    if not connection.timed or connection.ending is not None:
        return None
    # A connection with a raw handler is in the phase OVERLONG, except during its handshake, and is not evicted then.
    phase, deadline = connection.timeout_ending, connection.deadline
    if deadline == math.inf or phase not in _WAITING:
        return None  # infinite: a worker of a pool is serving it
    grace = connections.GRACE
    if phase is Ending.STUCK:
        found, since, grace = Rank.UNREAD, deadline - limits.write_timeout, IDLE_GRACE
    elif not connection.so_far()[0]:
        found, since = Rank.NEW, connection.opened
    elif phase is Ending.IDLE:
        found, since, grace = Rank.IDLE, deadline - limits.idle_timeout, IDLE_GRACE
    else:
        found, since = Rank.PARTIAL, deadline - limits.message_timeout
    return (found, since, connection) if since + grace <= now else None


def first_candidates(found: Iterable[Connection], limits: Limits, now: float) -> list[Candidate]:
    """Return at most `CANDIDATES` of these connections, given in the order of accept, in the order of eviction."""
    ranked = (candidate for each in found if (candidate := rank(each, limits, now)) is not None)
    new: list[Candidate] = []
    others: list[Candidate] = []
    for candidate in ranked:
        (others if candidate[0] else new).append(candidate)
        if len(new) == CANDIDATES:
            return new
    others.sort(key=_order)
    return [*new, *islice(others, CANDIDATES - len(new))]


def makes_progress(connection: Connection) -> bool:
    """Return whether input of a candidate has not been processed yet, or its peer is reading its reply."""
    return takes_reply(connection) if connection.timeout_ending is Ending.STUCK else has_unread_input(connection)


def takes_reply(connection: Connection) -> bool:
    """Return whether the kernel has sent a part of the reply in the last `IDLE_GRACE` seconds.

    It sends nothing while the peer's receive window is closed.  Unknown for a Unix socket: True."""
    sock = connection.socket
    if sock.family == socket.AF_UNIX:
        return True
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_SENT.stop)
    except (OSError, ValueError):
        return True  # closed meanwhile
    return len(info) < _LAST_SENT.stop or _number(info[_LAST_SENT]) < IDLE_GRACE * 1000


def has_unread_input(connection: Connection) -> bool:
    """Return whether bytes of the peer have arrived that were not processed yet."""
    if connection.charged and connection.timeout_ending is Ending.SLOW:
        return False  # the memory budget may have paused reading from it
    sock = connection.socket
    try:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        if poll.poll(0):
            return True
        if sock.family == socket.AF_UNIX or connection.messages is None:
            return False
        # A thread may have read them just now, and wait for the interpreter lock.  An old difference is a byte of
        # urgent data, which is never read.
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.stop)
        return len(info) == _BYTES_RECEIVED.stop and (
            _number(info[_LAST_DATA]) < RECENT and _number(info[_BYTES_RECEIVED]) > connection.received
        )
    except (OSError, ValueError):
        return True  # closed meanwhile


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, sys.byteorder)


def _order(candidate: tuple[int, float, Connection]) -> tuple[int, float]:
    return candidate[:2]


class Eviction:
    """Evicts connections of a daemon at its limit.  Leading thread only."""

    def __init__(self, daemon: Leader) -> None:
        self._daemon = daemon
        self._candidates: deque[tuple[Served, Connection]] = deque()
        self._next_scan = 0.0
        #: Evicted connections that are still open, with their server, and the time (monotonic) until which to wait.
        self._leaving: dict[Connection, tuple[Served, float]] = {}
        #: How often in a row the awaited connections did not leave in time.
        self._misses = 0

    def wait(self, now: float) -> float:
        """Return the seconds until `make_room` may succeed; 0.0: now."""
        self._update_leaving(now)
        if self._leaving:
            return min(until for _, until in self._leaving.values()) - now
        return 0.0 if self._candidates else max(0.0, self._next_scan - now)

    def make_room(self, wanted: int, now: float) -> int:
        """Evict `wanted` connections, less those that are leaving already; return the number of evicted ones."""
        self._update_leaving(now)
        # A child process does not report whether it gives way, so ask twice as many after each wait in vain.
        wanted = min(MOST, wanted << min(self._misses, 6)) - len(self._leaving)
        evicted = 0
        while evicted < wanted and (self._candidates or self._scan(now)):
            server, connection = self._candidates.popleft()
            if (seconds := server.give_way(connection, now)) is not None:
                evicted += 1
                if server.holds(connection):
                    self._leaving[connection] = server, now + seconds
        return evicted

    def _update_leaving(self, now: float) -> None:
        if not self._leaving:
            return
        before = len(self._leaving)
        self._leaving = {each: (server, until) for each, (server, until) in self._leaving.items() if server.holds(each)}
        if len(self._leaving) < before:
            self._misses = 0
        if self._leaving and all(until <= now for _, until in self._leaving.values()):
            self._leaving.clear()
            self._misses += 1

    def _scan(self, now: float) -> bool:
        """Collect candidates; return whether there are any."""
        if now < self._next_scan:
            return False
        self._next_scan = now + SCAN_INTERVAL
        found = [(server, each) for server in self._daemon.servers for each in server.candidates(now)]
        found.sort(key=lambda pair: _order(pair[1]))
        self._candidates.extend((server, candidate[2]) for server, candidate in found)
        return bool(found)

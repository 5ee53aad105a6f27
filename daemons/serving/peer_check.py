"""Whether the peer of a connection has left, for services that work for a long time without sending."""

from __future__ import annotations

import select
import time
import weakref

from daemons.serving.connection import Connection
from daemons.serving.conversation.endings import Ending


class PeerCheck:
    """Callable that returns whether nothing can be sent to the peer of `connection` any more, and then sets its ending.

    The peer is gone if it has reset the connection, or the daemon has shut the connection down.  A peer that has closed
    its sending half may still read; it counts as gone `patience` seconds after that was first observed, since most such
    peers have closed both halves.
    """

    __slots__ = ("_connection", "_half_closed", "_patience")

    def __init__(self, connection: Connection, patience: float) -> None:
        # A weak reference: the connection refers to the conversation, which refers to this.
        self._connection = weakref.ref(connection)
        self._patience = patience
        #: When (monotonic) the peer was first observed to have closed its sending half.
        self._half_closed: float | None = None

    def __call__(self) -> bool:
        events = self._events()
        if not events:
            return False
        if events == select.POLLRDHUP:
            now = time.monotonic()
            self._half_closed = self._half_closed or now
            if now < self._half_closed + self._patience:
                return False
        if (connection := self._connection()) is not None:
            connection.ending = connection.ending or Ending.RESET
        return True

    def is_reset(self) -> bool:
        """Return whether the peer has reset the connection, or the daemon has shut it down."""
        return bool(self._events() & ~select.POLLRDHUP)

    def has_closed(self) -> bool:
        """Return whether the peer has closed at least its sending half, so that it has probably left."""
        return self._events() != 0

    def _events(self) -> int:
        """Return the events of poll(2) that report an end of the connection."""
        connection = self._connection()
        if connection is None or connection.socket.fileno() < 0:
            return select.POLLHUP
        poll = select.poll()
        poll.register(connection.socket, select.POLLRDHUP)  # POLLHUP and POLLERR are always reported
        events = poll.poll(0)
        if not events:
            return 0
        # After shutdown(SHUT_RD) by the daemon, poll(2) reports the same event as after the peer's end of input.
        return events[0][1] & ~select.POLLRDHUP if connection.reading_shut else events[0][1]

"""Connections in epoll: how they are added, re-armed, and ended."""

from __future__ import annotations

import select
import socket
import time
from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from daemons.serving.conclude import LINGER, conclude, expect_next
from daemons.serving.conversation.endings import LINGERING, Ending, Refusal
from daemons.serving.conversation.states import PENDING
from daemons.serving.engines.loop_connection import LoopConnection
from daemons.serving.poller import Poller
from daemons.serving.transfer_sizes import RECEIVE
from daemons.serving.waiting import is_over

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daemons.serving.interfaces import EventDriven
    from daemons.serving.spool import SpooledSocket
    from daemons.serving.timers import Timer

DONTWAIT = socket.MSG_DONTWAIT
EPOLLIN = select.EPOLLIN

#: Events for a connection in reading state.  Edge-triggered, epoll(7): the kernel does not check for unread data at
#: each wait, which saves 2 % of the time with many peers.  So after a partial read, re-arm the descriptor.  A read that
#: returns fewer bytes than requested has read all data, unless recv(2) stopped at urgent data or the end of the input.
READING = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET

#: Endings after which buffered replies are discarded.
DISCARDING = frozenset((Ending.RESET, Ending.STUCK, Ending.IDLE, Ending.SLOW, Ending.STOPPED))


class ConnectionPoller(Poller):
    """Epoll poller for connections with a conversation.

    `reading_connections` are those in reading state.  A connection in another state (writing the rest of a reply, or
    lingering after the last one) has an action instead, like a listener.
    """

    #: Events for a TCP connection in reading state.
    reading = READING

    def __init__(self) -> None:
        super().__init__()
        self.register = self._epoll.register
        self.reading_connections: dict[int, LoopConnection] = {}
        #: Connections that ended in this turn and are not logged yet, by server.
        self._ended: defaultdict[EventDriven, list[LoopConnection]] = defaultdict(list)
        #: Connections with an unfinished message that are not read from until the memory budget has room.
        self._paused: dict[LoopConnection, None] = {}
        #: Connections with a talk that waits, and the timer of its timeout, if any.  Their action handles a reset.
        self._waits: dict[LoopConnection, Timer | None] = {}
        self.draining = False
        #: Descriptors of connections that may have unread input, since their talk went on in this turn.
        self._resumed: set[int] = set()
        #: Buffer for discarded input.
        self._discarded = bytearray(4 * RECEIVE)

    def start_reading(self, connection: LoopConnection) -> None:
        """Register a connection with epoll, in reading state."""
        self.register(connection.descriptor, self._interest(connection))
        self.reading_connections[connection.descriptor] = connection

    def _interest(self, connection: LoopConnection) -> int:
        """Return the epoll events for reading state; if the spool has unsent replies, including EPOLLOUT."""
        if (spool := connection.spool) is None:
            # Unix sockets are level-triggered: recv(2) stops at passed descriptors, which no event reports.
            return EPOLLIN if connection.socket.family == socket.AF_UNIX else self.reading
        spool.changed = partial(self._change, connection)
        return EPOLLIN | select.EPOLLOUT if spool.unsent else EPOLLIN

    def _change(self, connection: LoopConnection) -> None:
        # In another state, or while a worker serves it, its events are set when it returns to reading state.
        if connection.descriptor in self.reading_connections:
            self._epoll.modify(connection.descriptor, self._interest(connection))
        elif connection in self._waits and connection.timeout_ending is not Ending.STUCK:
            self._epoll.modify(connection.descriptor, self._interest_unread(connection))

    def _interest_unread(self, connection: LoopConnection) -> int:
        """Return the epoll events while nothing is to be read.  EPOLLERR and EPOLLHUP are always reported."""
        return select.EPOLLOUT if (spool := connection.spool) is not None and spool.unsent else 0

    def _handle_event_unread(self, connection: LoopConnection) -> None:
        """Handle an event while nothing is to be read: the connection was reset or cut, or buffered replies can be
        sent."""
        try:
            if (spool := connection.spool) is not None and spool.unsent and connection.ending is None:
                spool.flush()
                self._epoll.modify(connection.descriptor, self._interest_unread(connection))
                return
        except OSError:
            self._end(connection, Ending.RESET)
            return
        # The event may be older than this state, if a push in the same batch of events has led to it.
        if is_over(connection.socket):
            self._end(connection, Ending.RESET)

    def _rearm(self, descriptors: Iterable[int]) -> None:
        """Re-arm descriptors that are still in reading state."""
        for descriptor in descriptors:
            if (connection := self.reading_connections.get(descriptor)) is not None:
                self._epoll.modify(descriptor, self._interest(connection))

    def rearm(self) -> None:
        self._rearm(list(self.reading_connections))

    def _stop_waiting(self, connection: LoopConnection) -> None:
        """Cancel the timeout of a talk that waits."""
        if (timer := self._waits.pop(connection)) is not None:
            timer.cancel()

    # --- the end of connections --------------------------------------------------------------------

    def _close_idle(self, ready: set[int]) -> None:
        """During a drain, close idle connections without input in this turn."""
        now = time.monotonic()
        for descriptor, connection in list(self.reading_connections.items()):
            # Pushes to the peer are sent first.
            if descriptor in self._resumed:
                continue
            if connection.idle and descriptor not in ready and connection.close_after <= now and not connection.pushed:
                # For an idle conversation the end of the input gives no reply, except close_notify over TLS.
                if connection.existing_conversation is not None and (
                    goodbye := connection.existing_conversation.receive(b"")
                ):
                    with suppress(OSError):
                        connection.socket.send(goodbye, DONTWAIT)
                self._end(connection, Ending.DRAINED)
        self._resumed.clear()

    def _end(self, connection: LoopConnection, ending: Ending | None) -> None:
        """End a connection; first send buffered replies, and linger so that the last reply arrives."""
        failure: BaseException | None = None
        if connection in self._waits:
            self._stop_waiting(connection)
        if (spool := connection.spool) is not None:
            if self._flush(connection, spool, ending):
                return
            failure = connection.server.settle_spool(connection)
        if (conversation := connection.existing_conversation) is not None:
            failure = conclude(connection, conversation, ending) or failure
            conversation.messages = 0
        else:
            connection.ending = connection.ending or ending
        if failure is not None:
            connection.server.log_failure(connection, failure)
        if connection.charged:
            connection.server.hold(connection, 0)
            self._paused.pop(connection, None)
            connection.existing_conversation = None  # free its memory now; the connection lives on until it is logged
        if connection.ending in LINGERING:
            self._linger(connection)
        else:
            self._close_connection(connection)

    def evict(self, connection: LoopConnection, refusal: Refusal) -> None:
        """Close a connection because the memory budget or all places are taken."""
        connection.refuse(refusal)
        self._end(connection, Ending.REFUSED)

    def _flush(self, connection: LoopConnection, spool: SpooledSocket, ending: Ending | None) -> bool:
        """Send buffered replies before the end.  Return whether some are left; then `_end` is called again later."""
        try:
            if connection.ending is not None or ending in DISCARDING or not spool.flush():
                return False
        except OSError:
            connection.ending = Ending.RESET
            return False
        if self.reading_connections.pop(connection.descriptor, None) is not None:
            self._epoll.modify(connection.descriptor, select.EPOLLOUT)
        # EPOLLOUT is set only if much of the send buffer is free: a peer that reads single bytes does not extend the
        # deadline.
        expect_next(connection, PENDING, connection.server.limits, answered=True)
        self._actions[connection.descriptor] = partial(self._end, connection, ending)
        return True

    def _linger(self, connection: LoopConnection) -> None:
        """Shut the sending side down, then read and discard until the peer closes."""
        try:
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._close_connection(connection)
            return
        self.reading_connections.pop(connection.descriptor, None)
        self._epoll.modify(connection.descriptor, EPOLLIN)
        connection.expect(connection.ending or Ending.DONE, LINGER)
        self._actions[connection.descriptor] = partial(self._discard, connection)

    def _discard(self, connection: LoopConnection) -> None:
        try:
            if connection.socket.recv_into(self._discarded, 0, DONTWAIT):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close_connection(connection)

    def _close_connection(self, connection: LoopConnection) -> None:
        # Closing a descriptor removes it from epoll.
        if self.reading_connections.pop(connection.descriptor, None) is None:
            self._actions.pop(connection.descriptor, None)
        server = connection.server
        if server.end(connection):
            self._ended[server].append(connection)

    def _log_and_close_ended(self) -> None:
        ended, self._ended = self._ended, defaultdict(list)
        for server, connections in ended.items():
            server.log_and_close(connections)

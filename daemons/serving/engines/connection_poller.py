"""Connections in epoll: how they are added, read again, and ended."""

from __future__ import annotations

import select
import socket
import time
from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from daemons.serving.conclude import conclude, expect_next
from daemons.serving.conversation.conversation import PENDING
from daemons.serving.conversation.endings import Ending, Refusal
from daemons.serving.engines.flow import LoopConnection
from daemons.serving.poller import Poller
from daemons.serving.pump import LINGER, OURS, RECEIVE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daemons.serving.interfaces import EventDriven
    from daemons.serving.spool import SpooledSocket

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

    `flows` are the connections in reading state.  A connection in another state (writing the rest of a reply, or
    lingering after the last one) has an action instead, like a listener.
    """

    #: Events for a TCP connection in reading state.
    reading = READING

    def __init__(self) -> None:
        super().__init__()
        self.register = self._epoll.register
        self.flows: dict[int, LoopConnection] = {}
        #: Connections that ended in this turn and are not logged yet, by server.
        self._ended: defaultdict[EventDriven, list[LoopConnection]] = defaultdict(list)
        #: Connections with an unfinished message that are not read from until the memory budget has room.
        self._paused: dict[LoopConnection, None] = {}
        self.draining = False
        #: Buffer for discarded input.
        self._discarded = bytearray(4 * RECEIVE)

    def read(self, flow: LoopConnection) -> None:
        """Add a connection in reading state."""
        self.register(flow.descriptor, self._interest(flow))
        self.flows[flow.descriptor] = flow

    def _interest(self, flow: LoopConnection) -> int:
        """Return the epoll events for reading state; if the spool has unsent replies, including EPOLLOUT."""
        if (spool := flow.spool) is None:
            # Unix sockets are level-triggered: recv(2) stops at passed descriptors, which no event reports.
            return EPOLLIN if flow.socket.family == socket.AF_UNIX else self.reading
        spool.changed = partial(self._change, flow)
        return EPOLLIN | select.EPOLLOUT if spool.unsent else EPOLLIN

    def _change(self, flow: LoopConnection) -> None:
        # In another state, or while a worker serves it, its events are set when it returns to reading state.
        if flow.descriptor in self.flows:
            self._epoll.modify(flow.descriptor, self._interest(flow))

    def _rearm(self, descriptors: Iterable[int]) -> None:
        """Re-arm descriptors that are still in reading state."""
        for descriptor in descriptors:
            if (flow := self.flows.get(descriptor)) is not None:
                self._epoll.modify(descriptor, self._interest(flow))

    def rearm(self) -> None:
        self._rearm(list(self.flows))

    # --- the end of connections --------------------------------------------------------------------

    def _close_idle(self, ready: set[int]) -> None:
        """During a drain, close idle connections without input in this turn."""
        now = time.monotonic()
        for descriptor, flow in list(self.flows.items()):
            if flow.idle and descriptor not in ready and flow.close_after <= now:
                # For an idle conversation the end of the input gives no reply, except close_notify over TLS.
                if flow.made is not None and (goodbye := flow.made.receive(b"")):
                    with suppress(OSError):
                        flow.socket.send(goodbye, DONTWAIT)
                self._end(flow, Ending.DRAINED)

    def _end(self, flow: LoopConnection, ending: Ending | None) -> None:
        """End a connection; first send buffered replies, and linger so that the last reply arrives."""
        failure: BaseException | None = None
        if (spool := flow.spool) is not None:
            if self._flush(flow, spool, ending):
                return
            failure = flow.server.settle_spool(flow)
        if (conversation := flow.made) is not None:
            failure = conclude(flow, conversation, ending) or failure
            conversation.messages = 0
        else:
            flow.ending = flow.ending or ending
        if failure is not None:
            flow.server.log_failure(flow, failure)
        if flow.charged:
            flow.server.hold(flow, 0)
            self._paused.pop(flow, None)
            flow.made = None  # free its memory now; the connection lives on until it is logged
        if flow.ending in OURS:
            self._linger(flow)
        else:
            self._close_flow(flow)

    def evict(self, flow: LoopConnection) -> None:
        """Close a connection because the memory budget is exhausted."""
        flow.refuse(Refusal.HELD)
        self._end(flow, Ending.REFUSED)

    def _flush(self, flow: LoopConnection, spool: SpooledSocket, ending: Ending | None) -> bool:
        """Send buffered replies before the end.  Return whether some are left; then `_end` is called again later."""
        try:
            if flow.ending is not None or ending in DISCARDING or not spool.flush():
                return False
        except OSError:
            flow.ending = Ending.RESET
            return False
        if self.flows.pop(flow.descriptor, None) is not None:
            self._epoll.modify(flow.descriptor, select.EPOLLOUT)
        # EPOLLOUT is set only if much of the send buffer is free: a peer that reads single bytes does not extend the
        # deadline.
        expect_next(flow, PENDING, flow.server.limits, answered=True)
        self._actions[flow.descriptor] = partial(self._end, flow, ending)
        return True

    def _linger(self, flow: LoopConnection) -> None:
        """Shut the sending side down, then read and discard until the peer closes."""
        try:
            flow.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._close_flow(flow)
            return
        self.flows.pop(flow.descriptor, None)
        self._epoll.modify(flow.descriptor, EPOLLIN)
        flow.expect(flow.ending or Ending.DONE, LINGER)
        self._actions[flow.descriptor] = partial(self._discard, flow)

    def _discard(self, flow: LoopConnection) -> None:
        try:
            if flow.socket.recv_into(self._discarded, 0, DONTWAIT):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close_flow(flow)

    def _close_flow(self, flow: LoopConnection) -> None:
        # Closing a descriptor removes it from epoll.
        if self.flows.pop(flow.descriptor, None) is None:
            self._actions.pop(flow.descriptor, None)
        server = flow.server
        if server.end(flow):
            self._ended[server].append(flow)

    def _account(self) -> None:
        ended, self._ended = self._ended, defaultdict(list)
        for server, flows in ended.items():
            server.account(flows)

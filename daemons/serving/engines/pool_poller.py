"""Poller of ``engine = pool``: an event loop that can offload the service to workers."""

from __future__ import annotations

import math
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from weakref import WeakSet

from daemons.serving import turns
from daemons.serving.conclude import expect_next
from daemons.serving.conversation.conversation import DONE, Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.states import PENDING
from daemons.serving.engines.connection_poller import DONTWAIT
from daemons.serving.engines.loop_connection import LoopConnection
from daemons.serving.engines.loop_poller import LoopPoller
from daemons.serving.guards import budget
from daemons.serving.poller import MAX_EVENTS
from daemons.serving.transfer_sizes import RECEIVE

#: Seconds at one message after which another thread takes the lead: far more than computing a reply takes, far less
#: than a person notices.
TAKEOVER = 0.004

#: Seconds to close a conversation inline after which workers close all later ones: longer than `TAKEOVER`, since the
#: change is permanent and should not be caused by a thread that only waits for the processor.
SLOW_CLOSING = 10 * TAKEOVER

#: Seconds to wait for room in epoll.
RETRY = 0.1

#: Connections with pipelined messages from which the leader reads in one turn while workers answer.  At each system
#: call it waits for the interpreter lock, and other connections wait for the end of the turn.
PIPELINED_READS = 4

#: Maximum number, per worker, of messages that wait for a worker plus replies that wait for the leader.  At that limit
#: no connection is read from: otherwise ten thousand connections could hold 64 KiB each, or more in a TLS handshake,
#: before the leader charges any of it to the memory budget.
JOBS_PER_WORKER = 4


class LeadershipLost(Exception):
    """Another thread leads now, because this one took too long for a reply."""


class PoolPoller(LoopPoller):
    """A poller whose leading thread can change."""

    calls_service_directly = False
    # Level-triggered: a thread that loses the lead within a batch of events drops the rest of them, and epoll must
    # report them again to the next leader.
    reading = select.EPOLLIN

    def __init__(self) -> None:
        super().__init__()
        #: The connection whose message the leader is serving; empty between messages.  The leader pops it when it has
        #: the reply, or the stall detector does if that takes too long; the thread that has popped it leads.  The key
        #: is the connection, so that a former leader cannot pop the record of the present one.
        self.in_service: dict[LoopConnection, None] = {}
        #: Held by the stall detector while it takes the lead.
        self.handover = threading.Lock()
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        #: Number of jobs ever queued.
        self.queued = 0
        #: The worker threads.
        self.workers: list[threading.Thread] = []
        #: Whether messages are offloaded to workers instead of served inline.
        self.offloading = False
        #: Results from the workers for the leader: connection, reply, whether a message was answered.
        self.ready: deque[tuple[LoopConnection, bytes, bool]] = deque()
        #: Connections with many messages in their last input, or a whole read of input: a worker waits for a turn.
        self._pipelined: WeakSet[LoopConnection] = WeakSet()
        #: Remaining time in seconds until the deadline of each connection removed from epoll.
        self._left: dict[LoopConnection, float] = {}
        #: Readable connections, removed from epoll, that wait for room in the backlog.
        self.unread: deque[LoopConnection] = deque()
        #: Connections to end after a worker has closed their conversations, and what `_end` was called with.
        self._closed: dict[LoopConnection, Ending | None] = {}
        #: Whether workers close conversations even if the leader calls the service inline.
        self.offload_closing = False
        #: Wakes the stall detector, which sleeps while the leader is idle.
        self.detector_wakeup = threading.Event()
        self.detector_sleeps = False
        #: Whether the leader waits for events, so that no message can be in service before it has woken the detector.
        self.waiting = False
        #: Token of the thread that leads inline; replaced when the lead is taken away.
        self.lease: object = None
        #: When (monotonic) a reply was last found to be slow.
        self.last_slow = -math.inf

    def wait(self, patience: float) -> bool:
        while self.ready:
            connection, reply, answered = self.ready[0]
            if not self._return(connection):
                patience = min(patience, RETRY)
                break
            self.ready.popleft()
            if connection in self._closed:
                super()._end(connection, self._closed.pop(connection))
            else:
                self.deliver(connection, reply, answered)
        while self.unread and not self._full:
            if not self._return(self.unread[0]):
                patience = min(patience, RETRY)
                break
            self.unread.popleft()
        if self._ended:
            self._log_and_close_ended()
        if self.offloading:
            return self._wait_offloading(patience)
        try:
            return super().wait(patience)
        except LeadershipLost:
            return False

    def _receive(self, connection: LoopConnection, data: bytes, result: object) -> bytes | None:
        self.in_service[connection] = None
        return super()._receive(connection, data, result)

    def _process_reply(self, connection: LoopConnection, reply: bytes, answered: bool) -> bytes | None:
        try:
            self.in_service.pop(connection)
        except KeyError:
            with self.handover:  # the new leader must have suspended the connection before it takes it back
                self.return_to_leader(connection, reply, answered)
            raise LeadershipLost from None
        return super()._process_reply(connection, reply, answered)

    def _wait_offloading(self, patience: float) -> bool:
        events = self._events(patience)
        reads = PIPELINED_READS
        for descriptor, _ in events:
            connection = self.reading_connections.get(descriptor)
            if connection is None:
                if (action := self._actions.get(descriptor)) is not None:
                    action()
                continue
            if connection in self._pipelined:
                if not reads:
                    continue  # in a later turn: epoll is level-triggered here
                reads -= 1
            if self._full:
                self.suspend(connection)
                self.unread.append(connection)
                continue
            try:
                data = connection.socket.recv(RECEIVE, DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                self._end(connection, Ending.RESET)
                continue
            connection.received += len(data)
            if not data and (connection.existing_conversation is None or connection.ending is not None):
                self._end(connection, None if connection.existing_conversation else DONE)  # as in the loop
                continue
            if len(data) == RECEIVE:
                self._pipelined.add(connection)  # perhaps
            self.offload(connection, partial(connection.conversation.receive, data))
        if self.draining and len(events) < MAX_EVENTS:
            self._close_idle({descriptor for descriptor, _ in events})
        if self._ended:
            self._log_and_close_ended()
        return True

    def _events(self, patience: float) -> list[tuple[int, int]]:
        self.waiting = True
        events = super()._events(patience)
        self.waiting = False
        # Wake the detector after the wait, not before it: a message may be in service only from here on.
        if self.detector_sleeps:
            self.detector_sleeps = False
            self.detector_wakeup.set()
        return events

    def start_conversation(self, connection: LoopConnection) -> None:
        """Begin a conversation.  A greeting is code of the service, so a worker runs it."""
        self.start_reading(connection)
        if connection.server.greets:
            self.offload(connection, connection.conversation.open)
        else:
            self._after_reply(connection, True)  # a talk without a greeting begins with the first input

    def _after_reply(self, connection: LoopConnection, answered: bool) -> None:
        spooled = connection.spool is not None
        if connection.conversation.state == PENDING and (spooled or connection.conversation.file_slice is None):
            # After a reply in pieces, the next message begins with a new deadline.
            expect_next(connection, PENDING, connection.server.limits, answered=True)
            self.offload(connection, partial(connection.conversation.proceed, files=not spooled))
        else:
            super()._after_reply(connection, answered)

    def _end(self, connection: LoopConnection, ending: Ending | None) -> None:
        """As in the loop, except that the ``finally`` clauses of the service run in a worker if they may block."""
        conversation = connection.existing_conversation
        if conversation is None or not conversation.closable:
            super()._end(connection, ending)
        elif self.offloading or self.offload_closing:
            self._paused.pop(connection, None)
            if connection in self._waits:
                self._stop_waiting(connection)
            self._closed[connection] = ending
            self.offload(connection, partial(_close, conversation))
        else:
            begun = time.monotonic()
            super()._end(connection, ending)
            self.offload_closing = time.monotonic() - begun > SLOW_CLOSING

    def _resume_talk(self, connection: LoopConnection) -> None:
        self.offload(connection, connection.conversation.resume)

    def offload(self, connection: LoopConnection, action: Callable[[], bytes]) -> None:
        """Have a worker run `action`; until it returns, no other thread uses the connection."""
        self.suspend(connection)
        self.put(partial(self._do, connection, action))

    def put(self, job: Callable[[], None] | None) -> None:
        """Queue a job for a worker; None ends one worker."""
        self.queued += 1
        self.jobs.put(job)

    def suspend(self, connection: LoopConnection) -> None:
        """Remove a connection from epoll, and stop its deadline; the remaining time applies again afterwards."""
        self._left[connection] = connection.deadline - time.monotonic()
        if self.reading_connections.pop(connection.descriptor, None) is None:
            self._actions.pop(connection.descriptor, None)
        self._epoll.unregister(connection.descriptor)
        connection.deadline = math.inf
        if connection.charged:
            budget.PROCESS.pin(connection)

    def reclaim(self) -> None:
        """After the daemon has ended, restore the deadlines of suspended connections that no worker is serving."""
        while self.ready:
            self.unread.append(self.ready.popleft()[0])
        for connection in self.unread:
            connection.deadline = time.monotonic() + self._left.pop(connection)
        self.unread.clear()

    @property
    def _full(self) -> bool:
        """Whether the limit of waiting messages is reached."""
        return self.jobs.qsize() + len(self.ready) >= JOBS_PER_WORKER * len(self.workers)

    def _return(self, connection: LoopConnection) -> bool:
        """Read from a suspended connection again.  Return False if epoll has no room for it now.

        A message that arrives in several reads keeps its total deadline, however often a worker has handled a read."""
        try:
            self.start_reading(connection)
        except OSError:  # ENOMEM or ENOSPC, epoll_ctl(2): others must end first, and are served meanwhile
            return False
        connection.deadline = time.monotonic() + self._left.pop(connection)
        return True

    def _do(self, connection: LoopConnection, action: Callable[[], bytes]) -> None:
        """In a worker: run `action`, and return the connection to the leader."""
        messages = connection.conversation.messages
        pipelined = connection in self._pipelined
        taken = pipelined and turns.PROCESS.take()
        begun = time.monotonic()
        try:
            reply = action()
        finally:
            if taken:
                turns.PROCESS.give()
        if time.monotonic() - begun > TAKEOVER:
            self.last_slow = time.monotonic()
        answered = connection.conversation.messages - messages
        if pipelined != (answered >= turns.PIPELINED):
            (self._pipelined.discard if pipelined else self._pipelined.add)(connection)
        self.return_to_leader(connection, reply, answered != 0)

    def return_to_leader(self, connection: LoopConnection, reply: bytes, answered: bool) -> None:
        """In a worker: return a connection with its reply to the leader."""
        if len(reply) > budget.SMALL:
            # Charge it now: many replies may be ready before the leader has sent the first of them.
            connection.charged = len(reply)
            budget.PROCESS.pin(connection, len(reply))
        self.ready.append((connection, reply, answered))
        self.wake()


def _close(conversation: Conversation) -> bytes:
    conversation.close()
    return b""

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

from daemons.serving.conclude import expect_next
from daemons.serving.conversation.conversation import DONE, PENDING
from daemons.serving.conversation.endings import Ending
from daemons.serving.engines.connection_poller import DONTWAIT
from daemons.serving.engines.flow import LoopConnection
from daemons.serving.engines.loop_poller import LoopPoller
from daemons.serving.guards import budget
from daemons.serving.poller import BATCH
from daemons.serving.pump import RECEIVE

#: Seconds at one message after which another thread takes the lead: far more than computing a reply takes, far less
#: than a person notices.
STALL = 0.004

#: Maximum number, per worker, of messages that wait for a worker plus replies that wait for the leader.  At that limit
#: no connection is read from: otherwise ten thousand connections could hold 64 KiB each, or more in a TLS handshake,
#: before the leader charges any of it to the memory budget.
BACKLOG = 4


class LeadershipLost(Exception):
    """Another thread leads now, because this one took too long for a reply."""


class PoolPoller(LoopPoller):
    """A poller whose leading thread can change."""

    asks_again = False
    # Level-triggered: a thread that loses the lead within a batch of events drops the rest of them, and epoll must
    # report them again to the next leader.
    reading = select.EPOLLIN

    def __init__(self) -> None:
        super().__init__()
        #: Contains the connection whose message is in service, if any.  The thread that pops it has the lead: the
        #: leader pops it when it has the reply, or the stall detector if that takes too long.
        self.in_service: list[LoopConnection] = []
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
        #: Remaining time in seconds until the deadline of each connection removed from epoll.
        self._left: dict[LoopConnection, float] = {}
        #: Readable connections, removed from epoll, that wait for room in the backlog.
        self.unread: deque[LoopConnection] = deque()
        #: Wakes the leader.
        self.wake: Callable[[], None] = lambda: None
        #: Wakes the stall detector, which sleeps while the leader is idle.
        self.wakeup = threading.Event()
        self.detector_sleeps = False
        #: Whether the leader waits for events, so that no message can be in service before it has woken the detector.
        self.waiting = False
        #: Token of the thread that leads inline; replaced when the lead is taken away.
        self.lease: object = None
        #: When (monotonic) a reply was last found to be slow.
        self.last_slow = -math.inf

    def wait(self, patience: float) -> bool:
        while self.ready:
            flow, reply, answered = self.ready.popleft()
            self._return(flow)
            self.deliver(flow, reply, answered)
        while self.unread and not self._full:
            self._return(self.unread.popleft())
        if self._ended:
            self._account()
        if self.offloading:
            return self._wait_offloading(patience)
        try:
            return super().wait(patience)
        except LeadershipLost:
            return False

    def _receive(self, flow: LoopConnection, data: bytes, result: object) -> bytes | None:
        self.in_service.append(flow)
        return super()._receive(flow, data, result)

    def _process_reply(self, flow: LoopConnection, reply: bytes, answered: bool) -> bytes | None:
        try:
            self.in_service.pop()
        except IndexError:
            with self.handover:  # the new leader must have suspended the connection before it takes it back
                self.return_to_leader(flow, reply, answered)
            raise LeadershipLost from None
        return super()._process_reply(flow, reply, answered)

    def _wait_offloading(self, patience: float) -> bool:
        events = self._events(patience)
        for descriptor, _ in events:
            flow = self.flows.get(descriptor)
            if flow is None:
                if (action := self._actions.get(descriptor)) is not None:
                    action()
                continue
            if self._full:
                self.suspend(flow)
                self.unread.append(flow)
                continue
            try:
                data = flow.socket.recv(RECEIVE, DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                self._end(flow, Ending.RESET)
                continue
            flow.received += len(data)
            if not data and (flow.made is None or flow.ending is not None):
                self._end(flow, None if flow.made else DONE)  # as in the loop
                continue
            self.offload(flow, partial(flow.conversation.receive, data))
        if self.draining and len(events) < BATCH:
            self._close_idle({descriptor for descriptor, _ in events})
        if self._ended:
            self._account()
        return True

    def _events(self, patience: float) -> list[tuple[int, int]]:
        self.waiting = True
        events = super()._events(patience)
        self.waiting = False
        # Wake the detector after the wait, not before it: a message may be in service only from here on.
        if self.detector_sleeps:
            self.detector_sleeps = False
            self.wakeup.set()
        return events

    def take(self, flow: LoopConnection) -> None:
        """Begin a conversation.  A greeting is code of the service, so a worker runs it."""
        self.read(flow)
        if flow.server.greets:
            self.offload(flow, flow.conversation.open)
        else:
            self.deliver(flow, flow.conversation.open(), True)

    def _go_on(self, flow: LoopConnection, answered: bool) -> None:
        spooled = flow.spool is not None
        if flow.conversation.state == PENDING and (spooled or flow.conversation.span is None):
            # After a reply in parts, the next message begins with a new deadline.
            expect_next(flow, PENDING, flow.server.limits, answered=True)
            self.offload(flow, partial(flow.conversation.proceed, files=not spooled))
        else:
            super()._go_on(flow, answered)

    def offload(self, flow: LoopConnection, action: Callable[[], bytes]) -> None:
        """Have a worker run `action`; until it returns, no other thread uses the connection."""
        self.suspend(flow)
        self.put(partial(self._do, flow, action))

    def put(self, job: Callable[[], None] | None) -> None:
        """Queue a job for a worker; None ends one worker."""
        self.queued += 1
        self.jobs.put(job)

    def suspend(self, flow: LoopConnection) -> None:
        """Remove a connection from epoll, and stop its deadline; the remaining time applies again afterwards."""
        self._left[flow] = flow.deadline - time.monotonic()
        if self.flows.pop(flow.descriptor, None) is None:
            self._actions.pop(flow.descriptor, None)
        self._epoll.unregister(flow.descriptor)
        flow.deadline = math.inf
        if flow.charged:
            budget.PROCESS.pin(flow)

    def reclaim(self) -> None:
        """After the daemon has ended, restore the deadlines of suspended connections that no worker is serving."""
        while self.ready:
            self.unread.append(self.ready.popleft()[0])
        for flow in self.unread:
            flow.deadline = time.monotonic() + self._left.pop(flow)
        self.unread.clear()

    @property
    def _full(self) -> bool:
        """Whether the limit of waiting messages is reached."""
        return self.jobs.qsize() + len(self.ready) >= BACKLOG * len(self.workers)

    def _return(self, flow: LoopConnection) -> None:
        """Read from a suspended connection again.

        A message in parts keeps its total deadline, regardless of how often a worker handled a part."""
        flow.deadline = time.monotonic() + self._left.pop(flow)
        self.read(flow)

    def _do(self, flow: LoopConnection, action: Callable[[], bytes]) -> None:
        """In a worker: run `action`, and return the connection to the leader."""
        messages = flow.conversation.messages
        begun = time.monotonic()
        reply = action()
        if time.monotonic() - begun > STALL:
            self.last_slow = time.monotonic()
        self.return_to_leader(flow, reply, flow.conversation.messages != messages)

    def return_to_leader(self, flow: LoopConnection, reply: bytes, answered: bool) -> None:
        """In a worker: return a connection with its reply to the leader."""
        if len(reply) > budget.SMALL:
            # Charge it now: many replies may be ready before the leader has sent the first of them.
            flow.charged = len(reply)
            budget.PROCESS.pin(flow, len(reply))
        self.ready.append((flow, reply, answered))
        self.wake()

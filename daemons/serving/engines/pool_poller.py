"""Conversations by readiness, with workers behind: the poller of ``pool``."""

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
from daemons.serving.engines.flow import LoopConnection
from daemons.serving.engines.loop_poller import DONTWAIT, LoopPoller
from daemons.serving.guards import budget
from daemons.serving.poller import BATCH
from daemons.serving.pump import RECEIVE
from daemons.serving.spool import SpooledSocket

#: Seconds over one message after which another thread leads: far more than a reply takes that only needs computing, far
#: less than a person notices.
STALL = 0.004

#: Messages that may wait for workers, or for the leader behind them, per worker.  Beyond that no peer is read from:
#: each of ten thousand could have 64 KiB in memory, or more in a TLS handshake, before the leader charges any of it.
BACKLOG = 4


class LeadershipLost(Exception):
    """Another thread leads, since this one took too long over an answer."""


class PoolPoller(LoopPoller):
    """A poller whose lead can pass from thread to thread."""

    asks_again = False
    # Whoever loses the lead in the middle of a batch leaves the rest of it to the next, who must be told again.
    reading = select.EPOLLIN

    def __init__(self) -> None:
        super().__init__()
        #: The flow whose message is being answered, while it is.  Whoever takes it out owns what follows: the thread
        #: that leads when it has the reply, or the watchman who finds that it takes too long.
        self.hand: list[LoopConnection] = []
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        #: How many jobs were ever put into that.
        self.queued = 0
        #: The threads that do them.
        self.workers: list[threading.Thread] = []
        #: Whether each message goes to a worker, or is answered on the spot.
        self.handing_over = False
        #: Flows whose answer is ready, from the workers to the leader.
        self.ready: deque[tuple[LoopConnection, bytes, bool]] = deque()
        #: Seconds that the peers of flows out of epoll have left for what they had begun.
        self._left: dict[LoopConnection, float] = {}
        #: Connections out of epoll, with input, that wait for room in the backlog.
        self.unread: deque[LoopConnection] = deque()
        #: Wakes the leader.
        self.wake: Callable[[], None] = lambda: None
        #: Wakes the watchman, who sleeps while the leader has nothing to do.
        self.news = threading.Event()
        self.watchman_sleeps = False
        #: Held by the thread that leads and answers on the spot; another's, or None, once it was taken away.
        self.lease: object = None
        #: When (monotonic) an answer was last found to be slow.
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
        if self.handing_over:
            return self._wait_handing_over(patience)
        try:
            return super().wait(patience)
        except LeadershipLost:
            return False

    def _hear(self, flow: LoopConnection, data: bytes, said: object) -> bytes | None:
        self.hand.append(flow)
        return super()._hear(flow, data, said)

    def _heard(self, flow: LoopConnection, reply: bytes, answered: bool) -> bytes | None:
        try:
            self.hand.pop()
        except IndexError:
            self.hand_back(flow, reply, answered)
            raise LeadershipLost from None
        return super()._heard(flow, reply, answered)

    def _wait_handing_over(self, patience: float) -> bool:
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
            self.hand_to_worker(flow, partial(flow.conversation.receive, data))
        if self.draining and len(events) < BATCH:
            self._dismiss({descriptor for descriptor, _ in events})
        if self._ended:
            self._account()
        return True

    def _events(self, patience: float) -> list[tuple[int, int]]:
        events = super()._events(patience)
        # After the wait, not before it: from here on there may be something to watch.
        if self.watchman_sleeps:
            self.watchman_sleeps = False
            self.news.set()
        return events

    def take(self, flow: LoopConnection) -> None:
        """Begin with a new conversation.  A greeting is the service's own code, so a worker has it made."""
        self.read(flow)
        if flow.server.greets:
            self.hand_to_worker(flow, flow.conversation.open)
        else:
            self.deliver(flow, flow.conversation.open(), True)

    def _go_on(self, flow: LoopConnection, answered: bool) -> None:
        spooled = isinstance(flow.socket, SpooledSocket)
        if flow.conversation.state == PENDING and (spooled or flow.conversation.span is None):
            # Behind a reply in pieces a message begins anew.
            expect_next(flow, PENDING, flow.server.limits, answered=True)
            self.hand_to_worker(flow, partial(flow.conversation.proceed, files=not spooled))
        else:
            super()._go_on(flow, answered)

    def hand_to_worker(self, flow: LoopConnection, action: Callable[[], bytes]) -> None:
        """Have a worker do `action`; until it is done, nobody else touches the flow."""
        self.suspend(flow)
        self.put(partial(self._do, flow, action))

    def put(self, job: Callable[[], None] | None) -> None:
        """Have a worker do `job`; None: have one end."""
        self.queued += 1
        self.jobs.put(job)

    def suspend(self, flow: LoopConnection) -> None:
        """Take a flow out of epoll: its peer has no deadline while it waits for us, and afterwards what it had left."""
        self._left[flow] = flow.deadline - time.monotonic()
        if self.flows.pop(flow.descriptor, None) is None:
            self._actions.pop(flow.descriptor, None)
        self._epoll.unregister(flow.descriptor)
        flow.deadline = math.inf
        if flow.charged:
            budget.PROCESS.pin(flow)

    def take_back(self) -> None:
        """The daemon has ended: take back the connections that no worker has."""
        while self.ready:
            self.unread.append(self.ready.popleft()[0])
        for flow in self.unread:
            flow.deadline = time.monotonic() + self._left.pop(flow)
        self.unread.clear()

    @property
    def _full(self) -> bool:
        """Whether so many messages wait that no more are read."""
        return self.jobs.qsize() + len(self.ready) >= BACKLOG * len(self.workers)

    def _return(self, flow: LoopConnection) -> None:
        """Read from a suspended connection again.  A message in parts has the time of one, however often it was with a
        worker."""
        flow.deadline = time.monotonic() + self._left.pop(flow)
        self.read(flow)

    def _do(self, flow: LoopConnection, action: Callable[[], bytes]) -> None:
        """In a worker."""
        messages = flow.conversation.messages
        begun = time.monotonic()
        reply = action()
        if time.monotonic() - begun > STALL:
            self.last_slow = time.monotonic()
        self.hand_back(flow, reply, flow.conversation.messages != messages)

    def hand_back(self, flow: LoopConnection, reply: bytes, answered: bool) -> None:
        if len(reply) > budget.SMALL:
            # Many workers may be done before the leader has sent the first of their replies.
            flow.charged = len(reply)
            budget.PROCESS.pin(flow, len(reply))
        self.ready.append((flow, reply, answered))
        self.wake()

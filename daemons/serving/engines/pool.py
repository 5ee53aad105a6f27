"""``engine = pool``: a fixed number of threads, and nobody who is idle or slow to send holds one.

As under `loop`, one thread leads: it waits for all connections at once.  What differs is who answers.

*At first the leader answers, on the spot*: handing each message to another thread would cost more than
most answers do.  A watchman (the main thread) looks in every few milliseconds.  Finds it the leader still
at the same message, it takes the lead away: the stalled thread finishes that one message as an ordinary
worker, and for a while *every message is handed to a worker*, by a leader who answers nothing himself.
When no answer has been slow for a second, a worker is made leader again.

So a service that computes gets the speed of the loop, and one that waits (for a disk, a database, another
server) gets its threads; a service that knows it waits says ``blocks = True`` and gets them at once.

Only the leader touches epoll and closes a conversation's socket: a descriptor closed by another thread
could be somebody else's by the time the leader uses its number.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from daemons.serving.daemon import OVER, Daemon
from daemons.serving.engines.flow import LoopConnection
from daemons.serving.engines.leadership import StallDetector
from daemons.serving.engines.loop import ByReadiness, DatagramLoop, Loop
from daemons.serving.engines.pool_poller import PoolPoller
from daemons.serving.poller import Poller

log = logging.getLogger(__name__)

#: Seconds without a slow answer after which answers are given on the spot again.
HANDING_OVER = 1.0

#: Datagrams that may wait for a worker, 64 MiB at most, and seconds until it is seen whether they still do.
BACKLOG = 1024
BACKLOG_REST = 0.005

#: Seconds that a thread has to end when the daemon does; one that is lost in a service is left behind.
PARTING = 0.1


class ByThreads(ByReadiness):
    """What servers of streams and of datagrams share here: a fixed number of `threads`, one of which leads."""

    #: Enough for a service that waits on something else most of the time, and few enough to share the
    #: interpreter lock.
    threads = 16
    raw_handlers = True
    ends_in_one_thread = False

    def make_poller(self) -> Poller:
        return PoolPoller()

    def lead(self, daemon: Daemon) -> None:
        """Start the workers, make one of them leader, and be the watchman until the daemon ends."""
        poller = self._pool
        poller.wake = daemon.wake
        idle: set[int] = set()
        workers = [
            threading.Thread(target=_work, args=(poller.jobs, idle), name=f"worker-{number}", daemon=True)
            for number in range(self.threads)
        ]
        poller.workers = workers
        for worker in workers:
            worker.start()
        blocks = self.service is not None and bool(self.service.blocks)
        poller.handing_over = blocks
        watchman = StallDetector(poller)
        if not blocks:
            poller.put(partial(_lead_on_the_spot, daemon, poller))
        while daemon.state != OVER:
            if not poller.handing_over:
                watchman.look_safely()
                continue
            daemon.turn_safely()
            if not blocks and idle and time.monotonic() - poller.last_slow > HANDING_OVER:
                poller.handing_over = False
                poller.put(partial(_lead_on_the_spot, daemon, poller))
        for _ in workers:
            poller.put(None)
        until = time.monotonic() + PARTING
        for worker in workers:
            worker.join(max(0.0, until - time.monotonic()))
        poller.take_back()

    def _put(self, request: Any, client_address: Any) -> None:
        """Have a worker see this one from beginning to end."""
        self._pool.put(partial(self._handle, request, client_address))

    def _handle(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except BaseException:
            self._handle_error_safely(request, client_address)
        finally:
            self.shutdown_request(request)

    @property
    def _pool(self) -> PoolPoller:
        poller = self._poller
        assert isinstance(poller, PoolPoller)
        return poller


class DatagramPool(ByThreads, DatagramLoop):
    """Each datagram is answered by a worker."""

    def process_request(self, request: Any, client_address: Any) -> None:
        self._put(request, client_address)

    def wait(self) -> float:
        # What waits in our memory is no nearer to its answer than what waits in the kernel's, which has a bound.
        return BACKLOG_REST if self.active >= BACKLOG else super().wait()


class Pool(ByThreads, Loop):
    """A raw handler, which waits on its socket itself, holds a thread."""

    # It wants a socket with all its methods, and its connection is closed by the worker that ran it: both are
    # as in every other engine.

    def get_request(self) -> tuple[Any, Any]:
        return super().get_request() if self._carries_messages else super(Loop, self).get_request()

    def close_request(self, request: Any) -> None:
        if self._carries_messages:
            super().close_request(request)
        else:
            super(Loop, self).close_request(request)

    def drop(self, flow: LoopConnection) -> None:
        """Let go of a conversation that nobody serves any more; one that a worker is lost in is left to it."""
        if self._carries_messages and not flow.suspended:
            super().drop(flow)
        else:
            flow.socket.close()

    @property
    def _carries_messages(self) -> bool:
        return getattr(self.RequestHandlerClass, "carries_messages", False)

    @property
    def ends_in_one_thread(self) -> bool:  # type: ignore[override]
        """Not so with a raw handler."""
        return self._carries_messages

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._carries_messages:
            super().process_request(request, client_address)
        else:
            self._put(request, client_address)


def _lead_on_the_spot(daemon: Daemon, poller: PoolPoller) -> None:
    """In a worker: lead, and answer, until the lead is taken away."""
    lease = poller.lease = object()
    while daemon.state != OVER and poller.lease is lease:
        daemon.turn_safely()
    # The watchman may be asleep, and is the one to end it all.
    poller.news.set()


def _work(jobs: SimpleQueue[Callable[[], None] | None], idle: set[int]) -> None:
    """A worker's life: one job after another.  `idle` are those who wait for one."""
    me = threading.get_ident()
    while True:
        idle.add(me)
        job = jobs.get()
        idle.discard(me)
        if job is None:
            return
        try:
            job()
        except BaseException:
            log.exception("a worker failed")

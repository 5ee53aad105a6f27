"""``engine = pool``: an event loop with a fixed number of threads; idle and slow peers hold none of them.

As under `loop`, one thread leads: it waits for events of all connections.

*At first the leader calls the service itself (inline)*, because passing each message to another thread would cost more
than most replies.  The stall detector, in the main thread, samples the leader every few milliseconds.  If the leader is
still at the same message, the detector takes the lead: the blocked thread finishes that message as an ordinary worker,
and from then on *every message is offloaded to a worker*.  After a second without a slow reply, a worker becomes the
leader again.

So a service that computes has the speed of the loop, and a service that blocks (on a disk, a database, another server)
has threads.  A service that always blocks sets ``blocks = True`` and has its messages offloaded from the start.

Only the leader uses epoll and closes the sockets of conversations: if another thread closed a descriptor, its number
could already belong to a new connection when the leader uses it.
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
from daemons.serving.engines.loop import DatagramLoop, EventDriven, Loop
from daemons.serving.engines.loop_connection import LoopConnection
from daemons.serving.engines.pool_poller import PoolPoller
from daemons.serving.engines.stall_detector import StallDetector
from daemons.serving.inlinable import inlinable
from daemons.serving.poller import Poller

log = logging.getLogger(__name__)

#: Seconds without a slow reply after which the leader calls the service inline again.
INLINE_AFTER = 1.0

#: Maximum number of datagrams waiting for a worker (at most 64 MiB), and seconds between two checks at that limit.
MAX_DATAGRAMS = 1024
FULL_PAUSE = 0.005

#: Seconds to wait for the workers when the daemon ends; a worker whose service does not return by then is abandoned.
JOIN_TIMEOUT = 0.1


class WorkerPool(EventDriven):
    """Common base of the stream and datagram servers: a fixed number of `threads`, one of which leads."""

    #: Enough for a service that mostly waits, and few enough to limit contention for the interpreter lock.
    threads = 16
    raw_handlers = True
    ends_in_one_thread = False

    def make_poller(self) -> Poller:
        return PoolPoller()

    def lead(self, daemon: Daemon) -> None:
        """Start the workers, make one of them the leader, and run the stall detector until the daemon ends."""
        poller = self._pool_poller
        finished = [0] * self.threads
        workers = [
            threading.Thread(target=_work, args=(poller.jobs, finished, number), name=f"worker-{number}", daemon=True)
            for number in range(self.threads)
        ]
        poller.workers = workers = _started(workers)
        # A raw handler is never called inline.  A single worker must not lead: no thread would be left for greetings
        # and replies in pieces.
        main_leads = self.service is None or len(workers) == 1 or bool(self.service.blocks)
        poller.offloading = main_leads
        detector = StallDetector(poller)
        if not main_leads:
            poller.put(partial(_lead_inline, daemon, poller))
        try:
            while daemon.state != OVER:
                if not poller.offloading:
                    detector.sample_safely()
                    continue
                daemon.turn_safely()
                if main_leads or time.monotonic() - poller.last_slow <= INLINE_AFTER:
                    continue
                # Only if two workers are left after those for the jobs in the queue, each of which may block: one to
                # lead, and one for raw handlers, greetings and replies in parts.
                if poller.queued - sum(finished) < len(workers) - 1:
                    poller.offloading = False
                    poller.put(partial(_lead_inline, daemon, poller))
        finally:
            # Also after KeyboardInterrupt or SystemExit in this thread: a worker that leads must not continue.
            daemon.state = OVER
            daemon.wake()
            self._end_workers(detector, poller)

    def _end_workers(self, detector: StallDetector, poller: PoolPoller) -> None:
        workers = poller.workers
        for _ in workers:
            poller.put(None)
        until = time.monotonic() + JOIN_TIMEOUT
        for worker in workers:
            worker.join(max(0.0, until - time.monotonic()))
        # If the leader is still at a message, its connection belongs to it, as to any abandoned worker.
        detector.take_over()
        # Its threads would otherwise live until the garbage collector finds the cycle of daemon, poller and servers.
        poller.workers = []
        poller.reclaim()

    def _put(self, request: Any, client_address: Any) -> None:
        """Have a worker run a whole request: a raw handler, or the conversation of a datagram."""
        poller = self._pool_poller
        poller.put(partial(self._handle, poller, request, client_address))

    def _handle(self, poller: PoolPoller, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except BaseException:
            self._handle_error_safely(request, client_address)
        finally:
            self.shutdown_request(request)
            if poller.unread:
                poller.wake()  # there may be room in the backlog now

    @property
    def _pool_poller(self) -> PoolPoller:
        poller = self._poller
        assert isinstance(poller, PoolPoller)
        return poller


class DatagramPool(WorkerPool, DatagramLoop):
    """Datagram server in which a worker replies to each datagram."""

    def process_request(self, request: Any, client_address: Any) -> None:
        self._put(request, client_address)

    def wait(self) -> float:
        # Beyond the limit, leave datagrams in the kernel's receive buffer, which is bounded.
        return FULL_PAUSE if self.active >= MAX_DATAGRAMS else super().wait()


class Pool(WorkerPool, Loop):
    """Event-driven stream server with workers.  A raw handler, which blocks on its socket, occupies one of them."""

    # A raw handler needs a complete socket object, and its connection is closed by its worker, as in other engines.

    @inlinable
    def get_request(self) -> tuple[Any, Any]:
        return super().get_request() if self.carries_messages else super(Loop, self).get_request()

    @inlinable
    def close_request(self, request: Any) -> None:
        if self.carries_messages:
            super().close_request(request)
        else:
            super(Loop, self).close_request(request)

    def drop(self, connection: LoopConnection) -> None:
        """Close a connection after the loop has ended; if a worker is still serving it, close the socket only."""
        if self.carries_messages and not connection.suspended:
            super().drop(connection)
        else:
            connection.socket.close()

    @property
    def ends_in_one_thread(self) -> bool:  # type: ignore[override]
        """False with a raw handler, whose connections end in workers."""
        return self.carries_messages

    @inlinable
    def process_request(self, request: Any, client_address: Any) -> None:
        if self.carries_messages:
            super().process_request(request, client_address)
        else:
            self._put(request, client_address)


def _started(workers: list[threading.Thread]) -> list[threading.Thread]:
    """Start as many of these threads as possible, and return them.  Raises `RuntimeError` if there are none."""
    started: list[threading.Thread] = []
    failure: BaseException | None = None
    for worker in workers:
        try:
            worker.start()
        except (RuntimeError, MemoryError) as error:  # pthread_create(3): EAGAIN
            failure = error
        else:
            started.append(worker)
    if failure is not None:
        if not started:
            raise failure
        log.error("pool: only %d of %d threads could be started (%s)", len(started), len(workers), failure)
    return started


def _lead_inline(daemon: Daemon, poller: PoolPoller) -> None:
    """In a worker: lead and call the service inline, until the lead is taken away."""
    lease = poller.lease = object()
    while daemon.state != OVER and poller.lease is lease:
        daemon.turn_safely()
    # Wake the stall detector, which may be asleep: its thread, the main thread, ends the daemon.
    poller.detector_wakeup.set()


def _work(jobs: SimpleQueue[Callable[[], None] | None], finished: list[int], number: int) -> None:
    """Run jobs until one is None, as worker `number`, and count them in `finished`."""
    while (job := jobs.get()) is not None:
        try:
            job()
        except BaseException:
            log.exception("pool: worker failed; it continues with the next job")
        finished[number] += 1

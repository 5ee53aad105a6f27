"""The simulated run of a pool: a daemon with worker threads, whose steps the seed interleaves."""

from __future__ import annotations

import math
import threading
from functools import partial
from typing import Any

from daemons.serving.connection import Connection
from daemons.serving.engines import Pool
from daemons.serving.engines.pool_poller import TAKEOVER
from daemons.serving.poller import Poller
from daemons.serving.stream import StreamServer
from tests.simulation.engines import patches
from tests.simulation.engines.epoll import Epoll
from tests.simulation.engines.properties import Violation
from tests.simulation.engines.scheduler import Event, Killed, Lock, Queue, Scheduler, SharedDeque, SharedDict, Task
from tests.simulation.engines.world import World

#: Seconds within which the stall detector must have taken the lead from a blocked leader: two samples, and the pause of
#: a detector that has just woken up.  The clock may pass the end of each of the two pauses by up to 50 ms.
DETECTION = 5 * TAKEOVER + 2 * 0.05

#: Maximum number of times per event at which all threads wait.
IDLES = 10


class PoolWorld(World):
    """As `World`, with the engine ``pool``."""

    engine: type[StreamServer] = type("SimulatedPool", (Pool, StreamServer), {})

    def __init__(self, seed: int, events: int = 1000) -> None:
        super().__init__(seed, events)
        self.scheduler = Scheduler(self.rng, self.kernel.monotonic, self._idle)
        self.kernel.interval = self.rng.choice((1, 3, 10))
        #: Number of threads that wait for events: 1 while a leader sleeps.
        self._asleep = 0
        self._length = events
        self._idles = 0
        #: Number of calls of the service that block now.
        self._blocking = 0
        self._leader: Task | None = None
        self.kernel.receiving = self._check_lead
        #: The fraction of messages for which the service blocks.
        self._block_rate = self.rng.choice((0.0, 0.02, 0.2, 0.2))
        self._blocks = self.rng.random() < 0.2
        self.constants = self.constants | {
            "daemons.serving.engines.pool": {"INLINE_AFTER": self.rng.choice((0.01, 1.0))},
            "daemons.serving.engines.stall_detector": {"QUIET_SAMPLES": self.rng.choice((0, 2))},
            "daemons.serving.engines.pool_poller": {
                "JOBS_PER_WORKER": self.rng.choice((1, 4)),
                "SimpleQueue": partial(Queue, self.scheduler),
            },
        }

    def fakes(self) -> list[Any]:
        scheduler = self.scheduler
        fake = patches.fake(
            threading,
            Thread=scheduler.thread,
            Event=partial(Event, scheduler),
            Lock=self.make_lock,
            RLock=self.make_lock,
            get_ident=lambda: id(scheduler.current),
            current_thread=lambda: scheduler.current,
            main_thread=lambda: scheduler.main,
        )
        return [*super().fakes(), fake]

    def make_lock(self) -> Lock:
        """Return a new simulated lock."""
        return Lock(self.scheduler)

    def prepare(self) -> None:
        server: Any = self.server
        server.threads = self.rng.choice((1, 2, 4))
        server.service.blocks = self._blocks
        server.service.compute = self._compute
        server.make_poller = self._make_poller

    def _make_poller(self) -> Poller:
        poller: Any = type(self.server).make_poller(self.server)
        for name, kind in (("in_service", SharedDict), ("ready", SharedDeque)):
            shared = kind()
            shared.scheduler = self.scheduler
            setattr(poller, name, shared)
        return poller  # type: ignore[no-any-return]

    def serve(self) -> None:
        try:
            super().serve()
        except Killed:
            raise Violation(self.faults[0]) from None
        finally:
            self.scheduler.close()

    def fail(self, fault: str) -> None:
        super().fail(fault)
        self.scheduler.over = True

    def pause(self, seconds: float) -> None:
        if seconds == TAKEOVER:
            self.scheduler.wait(lambda: False, seconds)
        else:
            super().pause(seconds)

    def interrupt(self) -> None:
        super().interrupt()
        if not self.busy:
            self.scheduler.give_way()

    def _compute(self) -> None:
        if self.rng.random() < self._block_rate:
            self.block()

    def _check_lead(self) -> None:
        if self._leader is not self.scheduler.current:
            self.fail("a thread without the lead reads from a socket")

    def block(self) -> None:
        """Wait within a call of the service, while other threads run."""
        if self.busy:
            return
        poller: Any = self.daemon.poller
        seconds = self.rng.choice((0.001, TAKEOVER, 2 * TAKEOVER, 2 * TAKEOVER, 0.2, 0.2, 3.0))
        leading = dict(poller.in_service) if self._leader is self.scheduler.current else {}
        self._blocking += 1
        self.blocked = max(self.blocked, seconds)
        try:
            self.scheduler.wait(lambda: False, seconds)
        finally:
            self._blocking -= 1
        still = self._leader is self.scheduler.current and poller.in_service == leading
        if leading and still and seconds > DETECTION:
            self.fail("the stall detector has not noticed a blocked leader")

    def sleep(self, epoll: Epoll, timeout: float | None, most: int) -> list[tuple[int, int]]:
        self.count_wait()
        until = math.inf if timeout is None else self.kernel.now + timeout
        for _ in range(self.rng.choice((0, 0, 1, 2, 5))):
            if self.events > 0:
                self.act()
        self._leader = self.scheduler.current
        self._asleep += 1
        if self._asleep > 1:
            self.fail("two threads lead")
        try:
            while not (events := epoll.collect(most)) and self.kernel.now < until:
                self.scheduler.wait(lambda: bool(epoll.ready), until - self.kernel.now)
            return events
        finally:
            self._asleep -= 1

    def _idle(self, until: float) -> None:
        """Let clients act or time pass: all threads wait."""
        self._idles += 1
        if self._idles > IDLES * self._length:
            self.fail("all threads wait again and again, and nothing happens")
        if self._asleep:
            self.check_asleep()
        if not self.faults:
            self.pass_time(until)

    def excused(self, connection: Connection) -> bool:
        """As in `World`, or because a worker serves it, or because all of them are busy.

        While a call of the service blocks, room in the memory budget may be noticed as late as the next tick."""
        if self._blocking and (connection.deadline == math.inf or connection.charged):
            return True
        return super().excused(connection)

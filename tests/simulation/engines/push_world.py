"""The simulated run of daemons with services that push, wait, and reply later."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from daemons import Peer, PeerGone
from daemons.serving.connection import Connection
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.states import WAITING
from daemons.serving.daemon import TICK
from daemons.serving.guards.limits import Limits
from tests.simulation.engines.client import Client
from tests.simulation.engines.pool_world import PoolWorld
from tests.simulation.engines.pushing import Ledger, Pushing, PushingGreeting
from tests.simulation.engines.scheduler import Lock
from tests.simulation.engines.world import World

#: Number of the source of pushes outside all threads of the daemon.
OUTSIDE = 0


class PushWorld(World):
    """As `World`; other threads push, pass values, and finish replies."""

    #: Whether nothing can be pushed while a connection is being closed.
    exact = True

    def __init__(self, seed: int, events: int = 1000) -> None:
        super().__init__(seed, events)
        self.constants = self.constants | {"daemons.serving.safe_call": {"log": FailingLog(self)}}
        self.ledgers: dict[int, Ledger] = {}
        #: Unfinished replies.
        self._later: list[Callable[[], Any]] = []
        #: The fraction of events that are pushes, values, or the end of a reply.
        self._rate = self.rng.choice((0.05, 0.2, 0.5))

    def choose_kind(self) -> type[Pushing]:
        return self.rng.choice((Pushing, PushingGreeting))

    def limits(self) -> Limits:
        return replace(super().limits(), outbox=self.rng.choice((100, 1000, 10**6)))

    def prepare(self) -> None:
        super().prepare()
        service: Any = self.server.service
        service.clock = self.kernel.monotonic
        service.push = self._push_to_any
        service.push_to = self._push_to
        service.join = self._join
        service.later = self._reply_later
        service.fail = self.fail

    # --- called by talks -------------------------------------------------------------------------------

    def _join(self, peer: Peer) -> None:
        self.ledgers[_number_of(peer)] = Ledger(peer)

    def _push_to(self, peer: Peer) -> None:
        self.ledgers[_number_of(peer)].push(self.source(), self.rng.choice((0, 0, 10, 60)))

    def _push_to_any(self) -> None:
        if ledger := self._any():
            self._push(ledger)

    def _reply_later(self, future: Future[Any], finish: Callable[[], Any]) -> None:
        self._later.append(finish)

    # --- events ----------------------------------------------------------------------------------------

    def source(self) -> int:
        """Return the number of the present thread."""
        return 1

    def _any(self) -> Ledger | None:
        """Return the ledger of a random peer, which may have left."""
        if not self.ledgers:
            return None
        return self.rng.choice(list(self.ledgers.values())[-6:])

    def _push(self, ledger: Ledger, source: int | None = None) -> None:
        try:
            ledger.push(self.source() if source is None else source, self.rng.choice((0, 0, 10, 60)))
        except PeerGone:
            pass
        except Exception as error:
            self.fail(f"a push raised {error!r}")

    def act(self) -> bool:
        if self.ledgers and self.rng.random() < self._rate:
            self.events -= 1
            busy, self.busy = self.busy, True
            try:
                self.act_from_outside()
            finally:
                self.busy = busy
            return True
        return super().act()

    def act_from_outside(self) -> None:
        self.errand()()

    def errand(self, source: int = OUTSIDE) -> Callable[[], None]:
        """Return a random call that another thread may make."""
        draw = self.rng.random()
        ledger = self._any()
        if self._later and draw < 0.3:
            return self._later.pop(int(self.rng.random() * len(self._later)))
        if ledger is None:
            return lambda: None
        if draw < 0.5:
            return ledger.notify
        return lambda: self._push(ledger, source)

    def finish(self) -> bool:
        self.busy = True
        try:
            return self._finish_one() or super().finish()
        finally:
            self.busy = False

    def _finish_one(self) -> bool:
        """End one wait or one reply that comes later; return whether there was one."""
        if self._later:
            self._later.pop()()
            return True
        for connection in self.server.connections.values():
            conversation = getattr(connection, "existing_conversation", None)
            if conversation is not None and conversation.state == WAITING and not conversation.ready:
                ledger = self.ledgers[connection.address[1]]
                ledger.notify()
                if not ledger.peer.gone:
                    return True
        return False

    # --- properties ------------------------------------------------------------------------------------

    def talk_waits(self, connection: Connection) -> bool:
        conversation = getattr(connection, "existing_conversation", None)
        return conversation is not None and conversation.state == WAITING

    def overflowed(self, client: Client) -> bool:
        ledger = self.ledgers.get(self.clients.index(client))
        return ledger is not None and ledger.peer.overflowed

    def pushed_to(self, client: Client) -> int:
        ledger = self.ledgers.get(self.clients.index(client))
        return 0 if ledger is None or ledger.peer.gone else ledger.taken

    def left_undone(self, connection: Connection) -> str:
        fault = super().left_undone(connection)
        conversation = getattr(connection, "existing_conversation", None)
        if fault or conversation is None or self.excused(connection) or connection.ending is not None:
            return fault
        poller: Any = self.daemon.poller
        if not self.clients[connection.address[1]].endpoint.peer.writable:
            return ""
        if conversation.overflowed:
            return "more was pushed than may be buffered, and the connection is open"
        if conversation.pushed and connection not in poller._paused:
            return "a push is owed"
        if conversation.state == WAITING:
            if conversation.ready:
                return "a talk waits for a value that is there"
            end = self.clients[connection.address[1]].endpoint.peer
            until = end.sent_at + math.inf if conversation.timeout is None else end.sent_at + conversation.timeout
            if until < self.kernel.now - TICK - self.blocked and connection.timeout_ending is not Ending.STUCK:
                return "a talk waits after its timeout"
        return ""

    def check_asleep(self) -> None:
        super().check_asleep()
        heap = self.daemon.timers.heap
        if heap and heap[0][0] < self.kernel.now - TICK - self.blocked and heap[0][2].action is not None:
            self.fail("a timer was not run")

    def replies_to(self, client: Client) -> bytes:
        return b"".join(line for line in bytes(client.got).splitlines(True) if not line.startswith(b"+"))

    def faults_at_end(self, client: Client) -> list[str]:
        pushes = [line for line in bytes(client.got).splitlines(True) if line.startswith(b"+") and line.endswith(b"\n")]
        faults: list[str] = []
        if (ledger := self.ledgers.get(self.clients.index(client))) is not None:
            faults += ledger.faults_of(iter(pushes))
            if client.endings and not ledger.peer.gone and not (self.cut and self.blocked):
                faults.append("the connection was closed, and the peer has not left")
            received = sum(map(len, pushes))
            drained = client.endings == [Ending.DRAINED] and not client.left and not client.was_reset
            if drained and self.exact and received != ledger.accepted:
                faults.append(f"was drained after {received} of {ledger.accepted} bytes of pushes")
        elif pushes:
            faults.append("received pushes, but its talk did not begin")
        if Ending.STUCK in client.endings and ledger is not None and ledger.peer.overflowed:
            return [*faults, *client.faults]
        return faults + super().faults_at_end(client)


class PushPoolWorld(PushWorld, PoolWorld):
    """As `PoolWorld`, with another thread that pushes; its steps are interleaved with the others."""

    exact = False

    def __init__(self, seed: int, events: int = 1000) -> None:
        super().__init__(seed, events)
        self._errands: list[Callable[[], None]] = []

    def make_lock(self) -> Lock:
        return OpenLock(self)

    def source(self) -> int:
        current = self.scheduler.current
        return 1 + [self.scheduler.main, *self.scheduler.all].index(current)

    def act_from_outside(self) -> None:
        if self.rng.random() < 0.5 and len(self._errands) < 10:
            self._errands.append(self.errand(OUTSIDE + 1000))
        else:
            super().act_from_outside()

    def prepare(self) -> None:
        super().prepare()
        self.scheduler.thread(target=self._run_errands).start()

    def _run_errands(self) -> None:
        while True:
            self.scheduler.wait(lambda: bool(self._errands))
            self._errands.pop(0)()


class FailingLog:
    """Replaces the log of exceptions in callbacks."""

    def __init__(self, world: PushWorld) -> None:
        self._world = world

    def exception(self, text: str, *arguments: object) -> None:
        self._world.fail(f"{text % arguments}: {sys.exception()!r}")


class OpenLock(Lock):
    """A lock before and after which other threads may run."""

    def __init__(self, world: PushPoolWorld) -> None:
        super().__init__(world.scheduler)
        self._world = world

    def __enter__(self) -> None:
        if not self._world.busy:
            self._scheduler.give_way()
        super().__enter__()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        if not self._world.busy:
            self._scheduler.give_way()


def _number_of(peer: Peer) -> int:
    return int(peer.address.rpartition(":")[2])

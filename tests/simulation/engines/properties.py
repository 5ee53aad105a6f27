"""Properties of a simulated daemon that must hold when it sleeps, when it closes a connection, and at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from daemons.serving.conclude import LINGER
from daemons.serving.connection import Connection
from daemons.serving.conversation.endings import LINGERING, Ending
from daemons.serving.daemon import QUEUE, SERVING, TICK, Daemon
from daemons.serving.drain import AFTER_CUT
from daemons.serving.guards import budget
from daemons.serving.stream import StreamServer
from tests.simulation.engines.client import Client
from tests.simulation.engines.kernel import Kernel
from tests.simulation.engines.listener import Listener
from tests.simulation.engines.stream import Endpoint

#: Endings of connections whose peer has all replies.
WHOLE = frozenset((Ending.DONE, Ending.CUT, Ending.FINISHED, Ending.FAILED, Ending.OVERSIZE))

#: Endings by a deadline.
LATE = frozenset((Ending.IDLE, Ending.SLOW, Ending.STUCK, Ending.HANDSHAKE))


class Violation(Exception):
    """A property does not hold."""


@dataclass
class Accounts:
    """The access log and the metrics of the simulated server."""

    world: Properties
    accepted: int = 0
    ended: int = 0
    requests: Any = None
    first_due: float = math.inf

    def flush_all(self) -> None:
        pass

    def log(self, connection: Connection) -> None:
        self.log_all([connection], 0.0)

    def log_all(self, connections: Iterable[Connection], now: float) -> None:
        for connection in connections:
            client = self.world.clients[connection.address[1]]
            client.endings.append(connection.ending)
            client.faults += self.faults_of(connection, client.endpoint.peer)

    def faults_of(self, connection: Connection, end: Endpoint) -> Iterator[str]:
        """Yield the violations found in a connection that is being closed."""
        world, ending = self.world, connection.ending
        if connection.sent != end.taken:
            yield f"logged {connection.sent} bytes sent, not {end.taken}"
        if ending is Ending.DRAINED and end.received and not world.kernel.interval and not world.blocked:
            yield "a drain closed the connection before its input was read"
        quiet = world.kernel.now - max(end.sent_at, connection.opened)
        if ending is Ending.IDLE and not world.blocked and quiet < world.server.limits.idle_timeout - 0.5:
            yield f"ended as IDLE {quiet} s after a reply"
        if ending is Ending.DRAINED and not connection.messages and world.kernel.now < connection.grace_until:
            yield "a drain closed the connection before its grace period was over"
        if ending in (Ending.IDLE, Ending.SLOW) and world.talk_waits(connection):
            yield f"ended as {ending} while its talk waited"
        if ending in LINGERING and not world.cut and not (end.fin or end.reset or end.shut_read):
            lingered = world.kernel.now - max(end.shut_at, connection.opened) if end.shut_write else 0.0
            if lingered < LINGER - 0.001:
                yield f"lingered for {lingered} s only"

    def accept(self, connections: int = 1) -> None:
        self.accepted += connections

    def end(self, connection: Connection) -> None:
        self.ended += 1

    def end_all(self, connections: list[Connection], now: float) -> None:
        self.ended += len(connections)

    def count_open(self, connections: Iterable[Connection], *, wait: bool = True) -> None:
        pass

    def pause(self) -> None:
        pass

    def fill(self) -> None:
        pass


class Properties:
    """Base class of `World` with the checks of its properties."""

    kernel: Kernel
    daemon: Daemon
    server: StreamServer
    listener: Listener
    accounts: Accounts
    clients: list[Client]
    open: list[Client]
    faults: list[str]
    stopped: float
    blocked: float
    cut: bool
    hasty: bool

    def fail(self, fault: str) -> None:
        """Record a violation, and end the daemon."""
        raise NotImplementedError

    def check_asleep(self) -> None:
        """Check the properties that hold whenever the loop goes to sleep: it has left nothing undone."""
        server, accounts = self.server, self.accounts
        if accounts.accepted != accounts.ended + server.active:
            self.fail(f"{accounts.accepted} accepted, {accounts.ended} ended, {server.active} active")
        full = server.active >= server.max_connections
        # The loop may have computed its timeout a moment before the pause ended.
        paused = self.kernel.now < server.backoff.until + 0.2
        if self.daemon.state in (SERVING, QUEUE) and self.listener.queue and not full and not paused:
            self.fail("a connection in the queue is not accepted")
        if fault := self.inconsistency():
            self.fail(fault)
        for connection in server.connections.values():
            if fault := self.left_undone(connection):
                self.fail(f"client {connection.address[1]}: {fault}")

    def inconsistency(self) -> str:
        """Return how the tables of the poller differ from the interest list of epoll; empty if they do not."""
        poller: Any = self.daemon.poller
        polled, handled = poller._epoll.entries.keys(), poller.reading_connections.keys() | poller._actions.keys()
        return f"polled and handled descriptors differ: {polled ^ handled}" if polled != handled else ""

    def left_undone(self, connection: Connection) -> str:
        """Return the first task for a peer that the server left undone before it went to sleep, or an empty string."""
        if self.excused(connection):
            return ""
        client = self.clients[connection.address[1]]
        end = client.endpoint.peer
        if end.reset or (end.shut_read and end.shut_write):
            return "the connection is over, and the socket is open"
        if connection.deadline == math.inf:
            return "there is no deadline"
        if connection.deadline < self.kernel.now - TICK - self.blocked - 1.1:
            return "the deadline has passed long ago"
        if end.shut_write and self.kernel.now - end.shut_at > LINGER + TICK + self.blocked + 1:
            return "the server lingers for too long"
        if end.shut_write:
            return "the server lingers after the end of the input" if end.fin else ""
        if self.talk_waits(connection):
            return ""
        if end.taken < client.script.replied(client.sent) + self.pushed_to(client) and end.writable:
            return "a reply is owed"
        if client.sent >= client.script.over_at and end.writable:
            return "the end of the conversation was missed"
        if end.fin and end.writable and end.taken >= client.script.replied(client.sent):
            return "the end of the input was missed"
        return ""

    def talk_waits(self, connection: Connection) -> bool:
        """Return whether the talk of a connection waits, so that nothing is read from the peer."""
        return False

    def pushed_to(self, client: Client) -> int:
        """Return the bytes pushed to a client that its conversation has taken."""
        return 0

    def excused(self, connection: Connection) -> bool:
        """Return whether a connection may wait for room in the memory budget."""
        process = budget.PROCESS
        return connection.charged > 0 and process.oldest is not connection and process.room < 64 * len(self.open)

    def check(self) -> None:
        """Check the properties that hold at the end, and raise the first violation."""
        faults, kernel = self.faults, self.kernel
        faults += kernel.errors
        took = kernel.now - self.stopped
        # Each of several calls in one turn may have taken as long as the longest one.
        if took > self.server.limits.drain_timeout + AFTER_CUT + TICK + 10 * self.blocked + 0.1:
            faults.append(f"the drain took {took:.3f} s")
        if kernel.files:
            faults.append(f"descriptors are left: {kernel.files}")
        # The daemon may end while a call of the service blocks, which keeps its charge.
        if budget.PROCESS.held and not (self.cut and self.blocked):
            faults.append(f"{budget.PROCESS.held} bytes are charged to the memory budget")
        for number, client in enumerate(self.clients):
            while not client.done:
                if not client.finish():
                    faults.append(f"client {number}: its connection was not closed")
                    break
            faults += [f"client {number}: {fault}" for fault in self.faults_at_end(client)]
        if faults:
            raise Violation(faults[0])

    def replies_to(self, client: Client) -> bytes:
        """Return the replies that a client has received."""
        return bytes(client.got)

    def overflowed(self, client: Client) -> bool:
        """Return whether more was pushed to a client than may be buffered."""
        return False

    def faults_at_end(self, client: Client) -> list[str]:
        faults = list(client.faults)
        expected = client.script.reply[: client.script.replied(client.sent)]
        got = self.replies_to(client)
        if not expected.startswith(got):
            faults.append(f"received {got!r}, not a prefix of {expected!r}")
        if len(client.endings) > 1:
            faults.append(f"ended {len(client.endings)} times: {client.endings}")
        ending = client.endings[0] if client.endings else None
        whole = WHOLE - {Ending.FAILED} if self.cut or self.hasty else WHOLE
        if ending in whole and not client.left and got != expected and not client.was_reset:
            faults.append(f"ended as {ending}, and received {len(got)} of {len(expected)} bytes")
        if client.was_reset and not client.left and ending in WHOLE - LINGERING:
            faults.append(f"ended as {ending}, but was reset")
        if ending is Ending.RESET and not client.left:
            faults.append("ended as RESET, but has not closed the connection")
        if ending in LATE and not self.hasty and not self.overflowed(client):
            faults.append(f"ended as {ending} before any deadline")
        return faults

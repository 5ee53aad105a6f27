"""The open connections of a server, and the guards on them: access, connections per peer, memory, deadlines."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from daemons.serving.conclude import reschedule
from daemons.serving.connection import BlockingConnection, Connection
from daemons.serving.conversation.endings import Ending, Refusal
from daemons.serving.daemon import Daemon
from daemons.serving.guards import budget
from daemons.serving.guards.access import Access
from daemons.serving.guards.budget import Verdict
from daemons.serving.guards.eviction import RELEASE, Candidate, first_candidates, makes_progress, rank
from daemons.serving.guards.limits import ConnectionCounter, Limits, is_local
from daemons.serving.guards.networks import peer_network
from daemons.serving.inlinable import inlinable

if TYPE_CHECKING:
    from daemons.serving.interfaces import Metrics

    _Base = socketserver.TCPServer
else:
    _Base = socketserver.BaseServer


class GuardedServer(_Base):
    """A server with a table of its open connections, and its limits."""

    limits = Limits()
    #: Access rules, immutable: assign another instance to change them.
    access = Access()
    #: Maximum number of concurrent connections if `Limits.max_connections` is auto.
    capacity = 1000

    def __init__(
        self, server_address: Any, RequestHandlerClass: Callable[..., Any], bind_and_activate: bool = True
    ) -> None:
        #: Open connections by their socket.
        self.connections: dict[Any, Connection] = {}
        #: The daemon that runs this server, perhaps with other servers; None while it is not running.
        self.daemon: Daemon | None = None
        #: Counters of connections, messages and bytes; None: not counted.
        self.metrics: Metrics | None = None
        self.draining = False
        self._lock = threading.Lock()
        self._connections_per_peer = ConnectionCounter()
        super().__init__(server_address, RequestHandlerClass, bind_and_activate)

    def apply(self, limits: Limits) -> None:
        """Replace the limits; also while the server is running: open connections get the new timeouts."""
        now = time.monotonic()
        with self._lock:
            # First: a thread that sets its deadline meanwhile uses the old limits, and keeps them for this phase.
            for connection in self.connections.values():
                reschedule(connection, self.limits, limits, now)
        self.limits = limits

    @property
    def active(self) -> int:
        """Number of open connections."""
        return len(self.connections)

    @property
    def max_connections(self) -> int:
        return self.limits.max_connections or self.capacity

    # --- access and connections per peer -----------------------------------------------------------

    @inlinable
    def check_peer(self, connection: Connection) -> None:
        """Refuse the connection if the access rules or the limit of connections per peer forbid it."""
        host = connection.host
        refusal = self.access.refusal(host)
        limits = self.limits
        if refusal is None and (limits.max_per_peer is not None or not is_local(host)):
            with self._lock:
                count = self._connections_per_peer.enter(peer_network(host))
            connection.counted = True
            if count > self._most_per_peer(host):
                refusal = Refusal.CROWDED
        if refusal is not None:
            connection.refuse(refusal)

    def _most_per_peer(self, host: str) -> int:
        if self.limits.max_per_peer is not None:
            return self.limits.max_per_peer
        return self.max_connections if is_local(host) else max(1, self.max_connections // 2)

    @inlinable
    def uncount(self, connection: Connection) -> None:
        """Subtract an ended connection from its peer's count.  Wake the daemon if it is full or draining."""
        if connection.counted:
            with self._lock:
                self._connections_per_peer.leave(peer_network(connection.host))
        self._wake_daemon()

    def _wake_daemon(self) -> None:
        if (daemon := self.daemon) is not None and daemon.wake_on_end:
            daemon.wake()

    # --- memory ------------------------------------------------------------------------------------

    def hold(self, connection: Connection, size: int, *, writing: bool = False) -> bool:
        """Charge `size` bytes of `connection` to the memory budget of the process, in place of its previous charge.

        The bytes are an unfinished message or, if `writing`, the unsent part of a reply.  0 releases the charge.  If
        the budget is exceeded, connections are closed, perhaps including this one.  Return whether the connection may
        be read from now."""
        if size < budget.FREE:
            if connection.charged:
                connection.charged = 0
                budget.PROCESS.release(connection)
            return True
        size = budget.memory(size, budget.PROCESS.limit, writing=writing)
        connection.charged = size
        verdict, closed = budget.PROCESS.hold(connection, size, writing=writing)
        if verdict is Verdict.REFUSE:
            closed.append(connection)
        for each in closed:
            assert isinstance(each, Connection)
            for server in [self] if self.daemon is None else self.daemon.servers:
                server.evict(each)
        return verdict is Verdict.GO

    def hold_waiting(self, connection: Connection, size: int) -> None:
        """As `hold`, for a connection with a talk that waits: it has no unfinished message, and is not closed for the
        budget, since its peer has nothing to do."""
        if size < budget.FREE:
            self.hold(connection, 0)
        else:
            connection.charged = size
            budget.PROCESS.pin(connection, size)

    def holds(self, connection: Connection) -> bool:
        """Return whether a connection belongs to this server and is open."""
        return self.connections.get(connection.socket) is connection

    def evict(self, connection: Connection, refusal: Refusal = Refusal.HELD) -> None:
        """Close a connection, if it belongs to this server, because the memory budget or all places are taken."""
        with self._lock:
            if self.holds(connection):
                connection.refuse(refusal)
                connection.cut(Ending.REFUSED)

    def cut_connection(self, connection: Connection, ending: Ending) -> None:
        """Cut a connection of this server, unless it is closed already.  Thread-safe."""
        with self._lock:
            if self.holds(connection):
                connection.cut(ending)

    # --- at the limit of connections ---------------------------------------------------------------

    def candidates(self, now: float) -> list[Candidate]:
        """Return connections that may be evicted for a new one, in that order."""
        with self._lock:
            return first_candidates(self.connections.values(), self.limits, now)

    def give_way(self, connection: Connection, now: float) -> float | None:
        """Evict one of the `candidates`, unless it is not one any more.

        Return the seconds to wait until it is closed; None if it stays open."""
        if not self.holds(connection) or rank(connection, self.limits, now) is None or makes_progress(connection):
            return None
        self.evict(connection, Refusal.FULL)
        return RELEASE

    def queued(self, most: int) -> int:
        """Return the number of connections in the kernel's queue, at least 1; `most` if unknown."""
        return most

    # --- called by the daemon's thread while others serve the connections ---------------------------

    def count(self) -> None:
        """Update the metrics with the figures of open connections."""
        if self.metrics is not None:
            with self._lock:
                self.metrics.count_open(self.connections.values())

    def sweep(self, now: float) -> None:
        """Cut every connection that has exceeded its deadline."""
        with self._lock:
            for connection in self.connections.values():
                if connection.deadline <= now and connection.timed:
                    connection.cut(connection.timeout_ending)

    def drain(self) -> None:
        """Begin to drain: shut the reading side of connections between two messages.

        The others check `draining` when their current message is complete."""
        self.draining = True
        with self._lock:
            for connection in self.connections.values():
                if isinstance(connection, BlockingConnection) and connection.waiting and not connection.reading_shut:
                    connection.shut_reading()

    def cut(self) -> None:
        """Cut all open connections, with the ending STOPPED."""
        with self._lock:
            for connection in self.connections.values():
                connection.cut(Ending.STOPPED)

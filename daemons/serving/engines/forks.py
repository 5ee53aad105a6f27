"""``engine = forks``: one process per connection, like `socketserver.ForkingMixIn`."""

from __future__ import annotations

import math
import os
import select
import signal
import socketserver
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from daemons.serving import signals
from daemons.serving.connection import Connection
from daemons.serving.drain import AFTER_CUT
from daemons.serving.engines.child_watch import ChildWatchdog
from daemons.serving.guards import budget
from daemons.serving.guards.accept_backoff import NoResourcesError
from daemons.serving.guards.eviction import Candidate, Rank
from daemons.serving.guards.networks import peer_network
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from daemons.serving.server import Server as _Server
else:
    _Server = object

log = SafeLogger(__name__)

#: First slot of the scoreboard that a child may claim.  Slot 1 belongs to the parent or, with several worker processes,
#: to their supervisor.
FIRST_SLOT = 2


#: Seconds for a child to give way, before others are asked: many children may be answering a message, and stay.
RELEASE = 0.1


class Child:
    """The parent's record of a child process."""

    __slots__ = ("asked", "connection", "pidfd", "place", "signalled")

    def __init__(self, connection: Connection, place: int, pidfd: int) -> None:
        #: The connection that the child serves.
        self.connection = connection
        #: A number that no sibling uses.  The child takes the first free slot of the scoreboard from `FIRST_SLOT` plus
        #: this number on.
        self.place = place
        #: A pidfd, readable when the child has ended; -1 if the system has none.
        self.pidfd = pidfd
        #: The last signal sent to the child; 0: none.
        self.signalled = 0
        #: When (monotonic) it was last asked to give way; 0.0: never.
        self.asked = 0.0


class Forks(socketserver.ForkingMixIn, _Server):
    """One process per connection: no shared memory, all cores in use, and a crash ends one connection only.

    ForkingMixIn reaps with ``waitpid(-1)``, which also reaps children of other code in the process, and blocks the
    accept loop while there are `max_children`.  Here the loop polls a pidfd of each child, pidfd_open(2), and reaps the
    child by its pid when that is readable, without waiting.  Unlike the end of a pipe held by the child, a pidfd
    reports the end even after the child has closed all descriptors or called execve(2).

    Most of the cost of a child is the copying of memory pages that it writes to, and Python writes to every object that
    it uses (reference counts).  So a child creates few objects for a short conversation.
    """

    #: A fork takes about a millisecond, and each process takes some megabytes of memory.
    capacity = 200
    #: No limit here: the daemon limits the number of children by not accepting connections.
    max_children = 2**31
    block_on_close = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Running children by pid.
        self.children: dict[int, Child] = {}
        #: Free places below the highest one in use.
        self._places: list[int] = []
        #: In a child: the parent's records of the other children.
        self._siblings: dict[int, Child] = {}
        self._cut_since = math.inf
        super().__init__(*args, **kwargs)
        if self.service is not None:
            self.service.share_with_children()

    @property
    def active(self) -> int:
        return len(self.connections) + len(self.children)

    def process_request(self, request: Any, client_address: Any) -> None:
        connection = self.connections[request]
        place = self._places.pop() if self._places else len(self.children)
        try:
            parent = os.getpid()
            with signals.blocked():
                pid = os.fork()
                if pid == 0:
                    self._run_child(request, client_address, place, parent)
        except OSError as error:
            self._places.append(place)
            raise NoResourcesError(f"no process could be started ({error.strerror})") from error
        except BaseException:
            self._places.append(place)
            raise
        # In the parent:
        child = self.children[pid] = Child(connection, place, _pidfd(pid))
        if self.daemon is None:
            self.collect_children()  # in `handle_request`, without a loop that polls pidfds
        elif child.pidfd >= 0:
            try:
                self.daemon.watch(child.pidfd, partial(self._reap, pid))
            except OSError:  # no memory for one more entry of epoll(7); `sweep` reaps the child
                os.close(child.pidfd)
                child.pidfd = -1
        if self.metrics is not None:
            self.metrics.hand_off()
        self.close_request(request)
        # close_request has counted the peer's connection as closed, but the child still has it open.
        if connection.counted:
            self._connections_per_peer.enter(peer_network(connection.host))

    def _run_child(self, request: Any, client_address: Any, place: int, parent: int) -> NoReturn:
        """In the child: serve the connection, and exit.

        The child must not use the daemon's poller, waker or listeners, which it shares with the parent."""
        status = 1
        try:
            try:
                self._prepare_child(request, place, parent)
                self.finish_request(request, client_address)
            except BaseException:
                self.handle_error(request, client_address)
            finally:
                self.shutdown_request(request)
            self.flush_metrics()
            status = 0
        finally:
            os._exit(status)

    def _prepare_child(self, request: Any, place: int, parent: int) -> None:
        if self.daemon is not None:
            self.daemon.abandon()
        self.stop_listening()
        for deferred in self.take_deferred():
            if deferred is not request:
                deferred.close()
        budget.PROCESS.reset()
        # Kept alive: to release an object is to write to its memory page.
        self._siblings, self.children = self.children, {}
        if self.metrics is not None:
            try:
                self.metrics = self.metrics.scoreboard.claim("child", FIRST_SLOT + place)
            except OSError as error:
                log.error("%s: not counted in the statistics: %s", self.connections[request].peer, error.strerror)
                self.metrics = None
            else:
                self.metrics.take_over()
        # A raw handler may call execve(2), after which an alarm would end the process.
        ChildWatchdog(self, request, parent).install_handlers(alarm=self.service is not None)

    def flush_metrics(self) -> None:
        """In a child that is about to exit: update the metrics, in case its last access line could not be written."""
        if self.metrics is not None:
            self.metrics.beat(time.monotonic())

    def collect_children(self, *, blocking: bool = False) -> None:
        """Reap children that have ended; with `blocking`, wait for the others.

        Under a daemon do nothing: a child is reaped when its pidfd is readable, or at the next `sweep`."""
        if self.daemon is not None:
            return
        for pid in list(self.children):
            self._reap(pid, os.WNOHANG if not blocking else 0)

    #: ForkingMixIn's override is not needed; without it the loop need not wake up regularly.
    service_actions = socketserver.BaseServer.service_actions

    def drain(self) -> None:
        super().drain()
        self._signal_children(signal.SIGTERM)

    def cut(self) -> None:
        """Signal the children to cut their connections and exit; from `AFTER_CUT` / 2 seconds on, kill them."""
        super().cut()
        now = time.monotonic()
        self._cut_since = min(self._cut_since, now)
        asked = self.draining and now - self._cut_since < AFTER_CUT / 2
        self._signal_children(signals.CUT if asked else signal.SIGKILL)

    def candidates(self, now: float) -> list[Candidate]:
        """Return the connections of the children; the parent does not know which of them wait for their peers.

        A child that has been asked is asked again after all others, and then also ends if it is between two messages.
        A raw handler is never asked: it may have called execve(2), after which the signal would kill it.  Nor is a
        child that replies to a datagram, since it waits for no peer."""
        if self.service is None:
            return []
        found: list[Candidate] = [
            (Rank.IDLE if child.asked else Rank.NEW, child.asked or child.connection.opened, child.connection)
            for child in self.children.values()
            if child.connection.grace_until <= now and child.connection.timed
        ]
        return sorted(found, key=lambda candidate: candidate[:2])

    def give_way(self, connection: Connection, now: float) -> float | None:
        """Ask a child to evict its connection."""
        for pid, child in self.children.items():
            if child.connection is connection:
                number = signals.GIVE_WAY_IDLE if child.asked else signals.GIVE_WAY
                child.asked = now
                with suppress(ProcessLookupError):  # not reaped, so the pid has not been reused
                    os.kill(pid, number)
                return RELEASE
        return None

    def holds(self, connection: Connection) -> bool:
        return super().holds(connection) or any(child.connection is connection for child in self.children.values())

    def sweep(self, now: float) -> None:
        super().sweep(now)
        for pid, child in list(self.children.items()):
            if child.pidfd < 0:
                self._reap(pid)

    def _signal_children(self, number: signal.Signals) -> None:
        """Send a signal to each child that has not been sent it already."""
        for pid, child in self.children.items():
            if child.signalled != number:
                child.signalled = number
                # The child has not been reaped, so its pid has not been reused.
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def server_close(self) -> None:
        """Close the listener, and kill and reap the children; if `block_on_close`, wait for them to end first."""
        if self.block_on_close:
            self.collect_children(blocking=True)
        super().server_close()
        self._signal_children(signal.SIGKILL)
        until = time.monotonic() + AFTER_CUT
        for pid, child in list(self.children.items()):
            if child.pidfd >= 0:
                select.select([child.pidfd], [], [], max(0.0, until - time.monotonic()))
            _wait(pid, os.WNOHANG)
            self._forget(pid)

    def _reap(self, pid: int, options: int = os.WNOHANG) -> None:
        """Reap a child if it has ended."""
        if (status := _wait(pid, options)) is None:
            return
        child = self.children[pid]
        if self.daemon is not None and child.pidfd >= 0:
            self.daemon.forget(child.pidfd)
        self._forget(pid)
        # A server that is closed without draining kills its children; that is not logged.
        if os.WIFSIGNALED(status) and (self.draining or child.signalled != signal.SIGKILL):
            log.error("%s: child %d was killed by signal %d", child.connection.peer, pid, os.WTERMSIG(status))

    def _forget(self, pid: int) -> None:
        """Remove the record of a child that has ended."""
        child = self.children.pop(pid)
        if child.pidfd >= 0:
            os.close(child.pidfd)
        self._places.append(child.place)
        self.uncount(child.connection)


def _wait(pid: int, options: int) -> int | None:
    """Reap a child, and return its status, waitpid(2); None if it has not ended."""
    try:
        reaped, status = os.waitpid(pid, options)
    except ChildProcessError:
        # If SIGCHLD is ignored, the kernel reaps the children.
        return 0
    return status if reaped else None


def _pidfd(pid: int) -> int:
    """Return a descriptor that is readable when the child has ended; -1 before Linux 5.3, or out of descriptors."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1

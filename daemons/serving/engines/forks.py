"""``engine = forks``: a process for each conversation, as `socketserver.ForkingMixIn` has it."""

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
from daemons.serving.daemon import PARTING
from daemons.serving.engines.child_watch import Watch
from daemons.serving.guards import budget
from daemons.serving.guards.networks import peer_network
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from daemons.serving.server import Server as _Server
else:
    _Server = object

log = SafeLogger(__name__)

#: Where the children look for a slot to count in; the one before is their parent's, if that has no siblings.
FIRST_SLOT = 2


class Child:
    """What the parent knows of a child."""

    __slots__ = ("connection", "ended", "place", "signalled")

    def __init__(self, connection: Connection, place: int, ended: int) -> None:
        #: The connection that it serves.
        self.connection = connection
        #: A small number that none of its siblings has.
        self.place = place
        #: A pidfd, readable when the child has ended; -1 where the system had none.
        self.ended = ended
        #: The last signal that it was sent; 0: none.
        self.signalled = 0


class Forks(socketserver.ForkingMixIn, _Server):
    """Nothing is shared, all cores are used, and a crash takes one visitor with it.

    What is mended of the stock mixin: it reaps with ``waitpid(-1)``, which steals the children of
    everybody else in the process, and blocks the accept loop in it once there are `max_children`.  Here
    the loop watches a pidfd of each child, pidfd_open(2), which a handler that closes descriptors or calls
    execve(2) cannot close; when that is readable, it reaps that child, by its own pid, and nothing ever waits.

    What a child costs is mostly the pages that it writes, and Python writes to all that it looks at: so
    what a short conversation does without is not made for it.
    """

    #: A process costs about a millisecond to fork and some megabytes while it lives.
    capacity = 200
    #: The daemon bounds the children by not accepting; this must not bound them a second time.
    max_children = 2**31
    block_on_close = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: By pid.
        self.children: dict[int, Child] = {}
        #: Places that children have given back.
        self._places: list[int] = []
        #: In a child, those of its parent.
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
            with signals.held_back():
                pid = os.fork()
                if pid == 0:
                    self._live(request, client_address, place, parent)
        except BaseException:
            self._places.append(place)
            raise
        # Only the parent comes here.
        child = self.children[pid] = Child(connection, place, _pidfd(pid))
        if self.daemon is None:
            self.collect_children()  # by `handle_request`: there is no loop that watches them
        elif child.ended >= 0:
            self.daemon.watch(child.ended, partial(self._reap, pid))
        if self.metrics is not None:
            self.metrics.hand()
        self.close_request(request)
        # That has counted the peer out of this process, but its child is still here.
        if connection.counted:
            self._tally.enter(peer_network(connection.host))

    def _live(self, request: Any, client_address: Any, place: int, parent: int) -> NoReturn:
        """In the child: serve the conversation, and end.  It has the daemon's memory, but must not touch
        its selector, its waker or its listeners, which are the parent's too."""
        status = 1
        try:
            try:
                self._settle(request, place, parent)
                self.finish_request(request, client_address)
            except BaseException:
                self.handle_error(request, client_address)
            finally:
                self.shutdown_request(request)
            self.tell_last()
            status = 0
        finally:
            os._exit(status)

    def _settle(self, request: Any, place: int, parent: int) -> None:
        if self.daemon is not None:
            self.daemon.abandon()
        self.stop_listening()
        budget.PROCESS.reset()
        # Kept, since to let go of each would be to write to it.
        self._siblings, self.children = self.children, {}
        if self.metrics is not None:
            self.metrics = self.metrics.scoreboard.claim("child", FIRST_SLOT + place)
            self.metrics.take()
        # A raw handler may be one that calls execve(2), which an alarm would outlive.
        Watch(self, request, parent).hear(alarm=self.service is not None)

    def tell_last(self) -> None:
        """In a child that is about to end: the access line, the last of all, may be one that nobody took."""
        if self.metrics is not None:
            self.metrics.beat(time.monotonic())

    def collect_children(self, *, blocking: bool = False) -> None:
        """Reap the children that have ended; `blocking`: wait for the others, and reap them too.  Under a daemon
        there is nothing to do: each is reaped when its pidfd is readable, or at the next `sweep`."""
        if self.daemon is not None:
            return
        for pid in list(self.children):
            self._reap(pid, os.WNOHANG if not blocking else 0)

    #: Nothing to do, so that the loop need not wake up for it.
    service_actions = socketserver.BaseServer.service_actions

    def drain(self) -> None:
        super().drain()
        self._signal_children(signal.SIGTERM)

    def cut(self) -> None:
        """Have each child cut its conversation, write the access line, and end.  One that does not, and is still here
        when this is called again after a while, is killed."""
        super().cut()
        now = time.monotonic()
        self._cut_since = min(self._cut_since, now)
        asked = self.draining and now - self._cut_since < PARTING / 2
        self._signal_children(signals.CUT if asked else signal.SIGKILL)

    def sweep(self, now: float) -> None:
        super().sweep(now)
        for pid, child in list(self.children.items()):
            if child.ended < 0:
                self._reap(pid)

    def _signal_children(self, number: signal.Signals) -> None:
        """Send a signal to each child that has not had it already."""
        for pid, child in self.children.items():
            if child.signalled != number:
                child.signalled = number
                # It has not been reaped, so the pid is still its own.
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def server_close(self) -> None:
        """Close the listener; end the conversations still under way, and bury their children.  Where a subclass has
        set `block_on_close`, wait for their end first."""
        if self.block_on_close:
            self.collect_children(blocking=True)
        super().server_close()
        self._signal_children(signal.SIGKILL)
        until = time.monotonic() + PARTING
        for pid, child in list(self.children.items()):
            if child.ended >= 0:
                select.select([child.ended], [], [], max(0.0, until - time.monotonic()))
            _wait(pid, os.WNOHANG)
            self._forget(pid)

    def _reap(self, pid: int, options: int = os.WNOHANG) -> None:
        """Reap a child if it has ended."""
        if (status := _wait(pid, options)) is None:
            return
        child = self.children[pid]
        if self.daemon is not None and child.ended >= 0:
            self.daemon.forget(child.ended)
        self._forget(pid)
        # A server that is closed without draining kills its children: that is no news.
        if os.WIFSIGNALED(status) and (self.draining or child.signalled != signal.SIGKILL):
            log.error("%s: child %d died of signal %d", child.connection.peer, pid, os.WTERMSIG(status))

    def _forget(self, pid: int) -> None:
        """Take a child out of the books."""
        child = self.children.pop(pid)
        if child.ended >= 0:
            os.close(child.ended)
        self._places.append(child.place)
        self.leave(child.connection)


def _wait(pid: int, options: int) -> int | None:
    """The status of a child that has ended, waitpid(2); None if it has not."""
    try:
        reaped, status = os.waitpid(pid, options)
    except ChildProcessError:
        # The process was started with SIGCHLD ignored: then the kernel reaps by itself.
        return 0
    return status if reaped else None


def _pidfd(pid: int) -> int:
    """A descriptor that is readable when the child has ended; -1 if there is none to be had: before Linux 5.3, or out
    of descriptors."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1
